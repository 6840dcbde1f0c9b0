//! Envoy Gateway with its Kubernetes provider: it reads its resources from a real API server and writes the Deployment of
//! the proxy there; a stock Envoy is started as that Deployment says.

use crate::cluster::Cluster;
use crate::deploy::File;
use crate::pod::{self, Mounts};
use crate::process::{PATIENCE, Process, free_port};
use crate::programs::{Module, Version};
use crate::proxy::Proxy;
use keyward_testbed::{envoy_config, http1, wait};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Go module that Envoy Gateway is built from.
const SOURCES: &str = "github.com/envoyproxy/gateway";
/// The namespace that Envoy Gateway and the proxies run in.
const SYSTEM: &str = "envoy-gateway-system";
/// The namespace of the Gateway in the shipped files.
pub const NAMESPACE: &str = "databases";
/// Where Envoy Gateway keeps the modules that it fetches; the place is fixed.
const FETCHED: &str = "/var/lib/eg";
/// The proxy's admin interface; the port is fixed.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 19000);
/// Names that only a cluster's DNS knows. All of them are this machine.
const NAMES: [&str; 5] = [
    "envoy-gateway.envoy-gateway-system.svc.cluster.local",
    "envoy-gateway.envoy-gateway-system.svc.cluster.local.",
    "keyward.keyward.svc.cluster.local",
    "records.default.svc.cluster.local",
    "other.default.svc.cluster.local",
];

/// Envoy Gateway; it ends with the value.
pub struct EnvoyGateway {
    module: Module,
    folder: PathBuf,
    process: Option<Process>,
    kubeconfig: PathBuf,
}

impl EnvoyGateway {
    /// Installs the CRDs, makes certificates and starts Envoy Gateway with the shipped settings.
    pub fn start(module: Module, cluster: &Cluster, folder: &Path) -> Self {
        install_crds(&module, cluster);
        let mut gateway = Self { module, folder: folder.to_owned(), process: None, kubeconfig: cluster.kubeconfig() };
        let output = gateway.command(&Mounts::new()).args(["certgen", "--disable-topology-injector"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        cluster.write_secret(SYSTEM, "envoy-gateway", &folder.join("control-plane-certificates"));
        fs::create_dir_all(folder.join("fetched")).unwrap();
        gateway.restart(&[]);
        gateway
    }

    /// Starts Envoy Gateway again, with these runtime flags.
    pub fn restart(&mut self, flags: &[&str]) {
        self.process = None;
        let file = self.folder.join("envoy-gateway.json");
        let admin = free_port();
        fs::write(&file, settings(admin, flags).to_string()).unwrap();
        let mounts = vec![
            (self.folder.join("control-plane-certificates"), "/certs".to_owned()),
            (self.folder.join("fetched"), FETCHED.to_owned()),
        ];
        let mut command = self.command(&mounts);
        let process =
            Process::start("envoy-gateway", command.args(["server", "--config-path"]).arg(file), &self.folder);
        let process = self.process.insert(process);
        process.wait_for("Envoy Gateway is ready", || {
            let health = SocketAddr::from(([127, 0, 0, 1], 8081));
            http1::get(health, "/readyz", &[]).is_ok_and(|response| response.status == 200).then_some(())
        });
    }

    fn command(&self, mounts: &Mounts) -> Command {
        let mut command = pod::with_mounts(mounts);
        command
            .arg(self.module.program("envoy-gateway"))
            .env("KUBECONFIG", &self.kubeconfig)
            .env("ENVOY_GATEWAY_NAMESPACE", SYSTEM)
            .current_dir(&self.folder);
        command
    }

    /// Starts the proxy of a Gateway: with the arguments, the variables and the volumes of its Deployment.
    pub fn start_proxy(&self, cluster: &Cluster, gateway: &str, envoy: &Path) -> Proxy {
        let label = format!("gateway.envoyproxy.io/owning-gateway-name={gateway}");
        let deployment = wait::until("the proxy's Deployment", PATIENCE, || {
            let found = cluster.get(&["deployments", "--namespace", SYSTEM, "--selector", &label]);
            found["items"].get(0).cloned()
        });
        let hosts = self.folder.join("hosts");
        fs::write(&hosts, format!("127.0.0.1 localhost {}\n", NAMES.join(" "))).unwrap();
        let mounts = vec![(hosts, "/etc/hosts".to_owned())];
        let process = pod::start("proxy", cluster, &deployment, "envoy", envoy, &mounts, &self.folder);
        Proxy::ready(process, ADMIN)
    }
}

/// Installs the CRDs of the Gateway API and of Envoy Gateway, and makes the namespaces of the shipped files.
pub fn install_crds(module: &Module, cluster: &Cluster) {
    // The chart keeps them in a chart of their own since 1.8.
    let place = if module.version() < Version::new(1, 8) { "crds" } else { "charts/crds/crds" };
    let crds = module.sources(SOURCES).join("charts/gateway-helm").join(place);
    cluster.apply_file(&crds.join("gatewayapi-crds.yaml"));
    cluster.apply_file(&crds.join("generated"));
    cluster.wait_for_crds();
    for namespace in [SYSTEM, NAMESPACE, "keyward"] {
        cluster.make_namespace(namespace);
    }
}

/// The shipped settings, and what this place needs besides.
fn settings(admin: u16, flags: &[&str]) -> Value {
    let values = envoy_config::parse_yaml(File::read("envoy-gateway/install.values.yaml").text()).unwrap();
    let mut settings = values["config"]["envoyGateway"].clone();
    let besides = json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyGateway",
        "gateway": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
        "provider": {"type": "Kubernetes", "kubernetes": {
            "leaderElection": {"disable": true},
            // It changes pods, of which there are none.
            "proxyTopologyInjector": {"disabled": true},
        }},
        "admin": {"address": {"host": "127.0.0.1", "port": admin}},
        "telemetry": {"metrics": {"prometheus": {"disable": true}}},
    });
    settings.as_object_mut().unwrap().extend(besides.as_object().unwrap().clone());
    // The applications' addresses are on loopback, where only a name may lead.
    settings["extensionApis"]["enableBackend"] = json!(true);
    // The policy of a route that takes the filter's place has Lua in it.
    settings["extensionApis"]["enableLua"] = json!(true);
    if !flags.is_empty() {
        settings["runtimeFlags"] = json!({"enabled": flags});
    }
    settings
}

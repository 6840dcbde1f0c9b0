//! Istio: a real istiod, which reads its resources from a real API server, and real istio-agents, each of which
//! fetches the module from a registry and starts a stock Envoy.

use crate::cluster::Cluster;
use crate::deploy::File;
use crate::process::{Process, free_address, free_port};
use crate::programs::Module;
use crate::proxy::Proxy;
use keyward_testbed::http1;
use keyward_testbed::service::EDGE_TOKEN;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Go module that istiod and the agent are built from.
const SOURCES: &str = "istio.io/istio";
/// The agent keeps the modules that it fetches here; the place is fixed.
const FETCHED: &str = "/var/lib/istio/data";
/// The namespace of the gateways in the shipped files.
pub const NAMESPACE: &str = "istio-ingress";

/// istiod.
pub struct Istiod {
    module: Module,
    folder: PathBuf,
    mesh: PathBuf,
    discovery: u16,
    _process: Process,
}

impl Istiod {
    /// Installs Istio's CRDs and starts istiod with the shipped mesh configuration.
    pub fn start(module: Module, cluster: &Cluster, folder: &Path) -> Self {
        install_crds(&module, cluster);
        let mesh = folder.join("mesh.yaml");
        fs::write(&mesh, mesh_config()).unwrap();
        let (http, discovery, webhooks, monitoring) = (free_port(), free_port(), free_port(), free_port());
        let mut process = Process::start(
            "istiod",
            Command::new(module.program("pilot-discovery"))
                .arg("discovery")
                .arg("--kubeconfig")
                .arg(cluster.kubeconfig())
                .arg("--meshConfig")
                .arg(&mesh)
                .args(["--httpAddr", &format!("127.0.0.1:{http}"), "--grpcAddr", &format!("127.0.0.1:{discovery}")])
                .args(["--secureGRPCAddr", "", "--httpsAddr", &format!("127.0.0.1:{webhooks}")])
                .args(["--monitoringAddr", &format!("127.0.0.1:{monitoring}"), "--ctrlz_port", "0"])
                .current_dir(folder)
                .envs([("POD_NAME", "istiod"), ("POD_NAMESPACE", "istio-system"), ("CLUSTER_ID", "Kubernetes")])
                .envs([("REVISION", "default"), ("ENABLE_LEADER_ELECTION", "false")])
                // Two filters that only Istio's own build of Envoy has.
                .envs([("PILOT_ENABLE_METADATA_EXCHANGE", "false"), ("PILOT_ENABLE_ALPN_FILTER", "false")]),
            folder,
        );
        let ready = SocketAddr::from(([127, 0, 0, 1], http));
        process.wait_for("istiod is ready", || {
            http1::get(ready, "/ready", &[]).is_ok_and(|response| response.status == 200).then_some(())
        });
        Self { module, folder: folder.to_owned(), mesh, discovery, _process: process }
    }

    /// Starts an agent with its Envoy, for a pod with these labels (a JSON object).
    pub fn start_proxy(&self, name: &'static str, kind: &str, namespace: &str, labels: &Value, envoy: &Path) -> Proxy {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(FETCHED).unwrap_or_else(|error| panic!("{FETCHED}: {error}; the agent needs this folder"));
        let template = self.module.sources(SOURCES).join("tools/packaging/common/envoy_bootstrap.json");
        let admin = free_address();
        let config = serde_json::json!({
            "binaryPath": envoy, "configPath": folder.join("proxy"), "concurrency": 2,
            "discoveryAddress": format!("127.0.0.1:{}", self.discovery), "controlPlaneAuthPolicy": "NONE",
            "statusPort": free_port(), "proxyAdminPort": admin.port(), "proxyBootstrapTemplatePath": template,
            "terminationDrainDuration": "1s",
        });
        let process = Process::start(
            name,
            Command::new(self.module.program("pilot-agent"))
                .args(["proxy", kind, "--domain", &format!("{namespace}.svc.cluster.local")])
                .args([
                    "--proxyLogLevel=warning",
                    "--proxyComponentLogLevel=wasm:info",
                    "--log_output_level=default:info",
                ])
                .arg("--meshConfig")
                .arg(&self.mesh)
                .current_dir(&folder)
                .envs([("POD_NAME", name), ("POD_NAMESPACE", namespace), ("INSTANCE_IP", "127.0.0.1")])
                .envs([("SERVICE_ACCOUNT", "default"), ("ISTIO_META_NAMESPACE", namespace)])
                .envs([("ISTIO_META_CLUSTER_ID", "Kubernetes"), ("ISTIO_META_WORKLOAD_NAME", name)])
                .env("ISTIO_METAJSON_LABELS", labels.to_string())
                .env("ISTIO_BOOTSTRAP", &template)
                .env("PROXY_CONFIG", config.to_string())
                .env("ENVOY_STATUS_PORT", free_port().to_string())
                .env("ENVOY_PROMETHEUS_PORT", free_port().to_string())
                // No certificates are issued here.
                .envs([("CREDENTIAL_FETCHER_TYPE", ""), ("JWT_POLICY", "none")])
                .envs([("FILE_MOUNTED_CERTS", "true"), ("CA_PROVIDER", "none")])
                // What a kubelet would do with the Secret of edge-token.yaml.
                .env("KEYWARD_EDGE_TOKEN", EDGE_TOKEN)
                // A registry on loopback has no TLS.
                .env("WASM_INSECURE_REGISTRIES", "*"),
            &self.folder,
        );
        Proxy::ready(process, admin)
    }
}

/// Installs Istio's CRDs and those of the Gateway API, and makes the namespaces of the shipped files.
pub fn install_crds(module: &Module, cluster: &Cluster) {
    let sources = module.sources(SOURCES);
    cluster.apply_file(&sources.join("manifests/charts/base/files/crd-all.gen.yaml"));
    cluster.apply_file(&sources.join("tests/integration/pilot/testdata/gateway-api-crd.yaml"));
    cluster.wait_for_crds();
    for namespace in ["istio-system", NAMESPACE, "keyward"] {
        cluster.make_namespace(namespace);
    }
}

/// The shipped mesh configuration, and what this place needs besides.
fn mesh_config() -> String {
    let shipped = File::read("istio/mesh-config.yaml");
    let (_, values) = shipped.text().split_once("meshConfig:\n").unwrap();
    let values: String = values.lines().map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line))).collect();
    // No workload certificates are issued here: with mutual TLS the clusters of services would wait for one.
    format!("enableAutoMtls: false\ndefaultConfig: {{controlPlaneAuthPolicy: NONE}}\n{values}")
}

//! The shipped Istio files, given to Istio.

use crate::cluster::Cluster;
use crate::deploy::{self, File, only_kind};
use crate::dump::backstops;
use crate::istio::{Istiod, NAMESPACE};
use crate::process::{PATIENCE, free_port};
use crate::programs::{Module, Version};
use crate::proxy::Proxy;
use crate::record;
use crate::report::{Part, Report};
use crate::stage::{self, Door, HOST, OTHER_HOST, RECORDS, Stage, ask, wait_for_all};
use keyward_testbed::service::EDGE_TOKEN;
use keyward_testbed::{envoy, wait, workspace};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;

/// The time limit of the backstop's file, shortened so that a test can see both sides of it.
const IDLE_LIMIT: &str = "2s";
/// Longer than that limit, and shorter than that of `realtime.yaml`.
const SILENCE: Duration = Duration::from_secs(5);

/// The first release with `failStrategy: FAIL_RELOAD`.
const FAIL_RELOAD_SINCE: Version = Version::new(1, 27);

/// Everything that the checks have in hand.
pub struct Istio {
    module: Module,
    pub stage: Stage,
    proxy: Proxy,
    pub istiod: Istiod,
    pub cluster: Cluster,
    pub first: Door,
    second: Door,
    _folder: workspace::TempDir,
}

#[test]
#[ignore = "needs the control planes: cargo xtask control-planes"]
fn the_istio_files_do_what_they_say() {
    let module = Module::from_environment("KEYWARD_ISTIO");
    let mut report = Report::of_release(&module);
    let mut istio = Istio::start(module);
    report.part("schemas", |part| deploy::check_schemas(part, &istio.cluster, &istio.module, "istio"));
    report.part("Gateway API", |part| istio.check_gateway_api(part));
    report.part("gateway", |part| istio.check_gateway(part));
    report.part("failures", |part| istio.check_failures(part));
    report.part("TrafficExtension", |part| istio.check_traffic_extension(part));
    report.part("shared gateway by host", |part| istio.check_shared_by_host(part));
    report.part("shared gateway by port", |part| istio.check_shared_by_port(part));
    report.part("injected token", |part| istio.check_injected_token(part));
    report.part("module from a file", |part| istio.check_module_from_file(part));
    report.part("sidecar", |part| istio.check_sidecar(part));
    report.finish();
    record::keep_inputs(&istio.module, &["istio"]);
}

impl Istio {
    fn start(module: Module) -> Self {
        let folder = workspace::scratch("istio");
        let stage = Stage::start(SILENCE);
        let cluster = Cluster::start(folder.path());
        let istiod = Istiod::start(module.clone(), &cluster, folder.path());
        let (first, second) = (free_port(), free_port());
        cluster.apply(&surroundings(&stage, first, second));
        let labels = json!({"istio": "ingressgateway"});
        let proxy = istiod.start_proxy("gateway", "router", NAMESPACE, &labels, &envoy::binary());
        let (first, second) = (Door::plain(first), Door::plain(second));
        Self { module, stage, proxy, istiod, cluster, first, second, _folder: folder }
    }

    /// A file of the filter, which names the image and the gateway's port.
    pub fn filter(&self, name: &str) -> File {
        self.filter_of(name, &stage::digest())
    }

    /// The same with the module of another image. A release without `FAIL_RELOAD` gets the value that README.md names for it.
    fn filter_of(&self, name: &str, digest: &str) -> File {
        let file = deploy::filter(name, self.stage.registry.address(), digest);
        if self.reloads() { file } else { file.with("FAIL_RELOAD", "FAIL_CLOSE") }
    }

    /// Returns whether this release can start a VM again after a crash.
    fn reloads(&self) -> bool {
        self.module.version() >= FAIL_RELOAD_SINCE
    }

    /// Applies the files, runs the checks and deletes the files, the last one first.
    fn with_files(&mut self, part: &mut Part<'_>, files: &[&str], run: impl FnOnce(&mut Self, &mut Part<'_>)) {
        part.steps(|part| {
            files.iter().for_each(|file| self.cluster.apply(file));
            run(self, part);
        });
        files.iter().rev().for_each(|file| self.cluster.delete(file));
        // Some of the files bring the protected host's routes along.
        self.cluster.apply(&virtual_service());
        self.wait_until_unprotected();
    }

    /// Waits until the filter and its backstop have left the gateway.
    fn wait_until_unprotected(&self) {
        self.stage.wait_for_status(self.first, None, 200);
        self.stage.wait_for_status(self.second, None, 200);
    }

    /// Keeps what istiod made of these files.
    fn record(&self, case: &str, files: &[&str]) {
        let files: Vec<String> = files.iter().map(|file| format!("istio/{file}")).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let ports = [
            (self.first.port, 80),
            (self.second.port, 443),
            (self.stage.service.address().port(), 8081),
            (self.stage.records.address().port(), 8090),
            (self.stage.other.address().port(), 8090),
        ];
        let limits = [IDLE_LIMIT, "30s"].map(|limit| format!("\"stream_idle_timeout\":\"{limit}\""));
        let [short, long] = limits;
        let mut replaced: Vec<_> = ports.map(|(from, to): (u16, u16)| (from.to_string(), to.to_string())).into();
        replaced.push((short, long));
        record::keep(&self.module, case, &self.proxy.config_dump(), &files, &replaced);
    }

    fn check_gateway(&mut self, part: &mut Part<'_>) {
        let plugin = self.filter("istio/gateway.yaml");
        let backstop = File::read("istio/backstop.yaml")
            .with("stream_idle_timeout: 30s", &format!("stream_idle_timeout: {IDLE_LIMIT}"));
        let log = File::read("istio/access-log.yaml");
        let old = plugin.text().replace("  pluginConfig:", "  match: [{mode: SERVER}]\n  pluginConfig:");
        self.with_files(part, &[&old, backstop.text()], |istio, part| {
            part.check("gateway: with `mode: SERVER` the backstop answers, which these checks can tell", || {
                wait_for_all("the backstop's 403", || {
                    let response = ask(istio.first, HOST, RECORDS, &[])?;
                    (response.status == 403 && response.text().contains("RBAC")).then_some(())
                });
            });
        });
        let (id, key) = self.stage.create_key("reader");
        self.with_files(part, &[plugin.text(), log.text(), backstop.text()], |istio, part| {
            let Self { stage, proxy, first, second, .. } = istio;
            part.check("gateway: a keyless request gets 401 key_missing", || stage.assert_keyless_is_refused(*first));
            part.check("gateway: the second listener is covered", || stage.assert_keyless_is_refused(*second));
            part.check("gateway: a key passes, and the application is told whose it is", || {
                stage.assert_key_passes(*first, &id, &key);
                stage.assert_key_passes(*second, &id, &key);
            });
            part.check("gateway: every VM polls the cluster of a service, the main thread's too", || {
                stage.assert_every_vm_polls();
            });
            part.check("gateway: the edge token is not in Envoy's configuration", || {
                assert!(!proxy.config_dump().to_string().contains(EDGE_TOKEN));
            });
            part.check("gateway: the backstop is right before the router of each listener", || {
                assert_eq!(backstops(&proxy.config_dump()), 2);
            });
            istio.record("gateway", &["gateway.yaml", "backstop.yaml", "access-log.yaml", "mesh-config.yaml"]);
            let Self { stage, proxy, first, cluster, .. } = istio;
            part.check("gateway: the access log has the decision", || {
                wait::until("an entry", PATIENCE, || {
                    let log = proxy.log();
                    let entry = log.lines().find(|line| line.contains("keyward_key_missing"))?.to_owned();
                    entry.contains("\"decision\":\"key_missing\"").then_some(())
                });
            });
            part.check("gateway: a stream that is silent for too long is ended without realtime.yaml", || {
                assert_ne!(ask(*first, HOST, "/api/realtime", &[("x-api-key", &key)]).unwrap().status, 200);
            });
            let realtime = File::read("istio/realtime.yaml");
            cluster.apply(realtime.text());
            part.check("gateway: a silent stream stays open with realtime.yaml", || {
                wait::until("a silent stream that is answered", PATIENCE, || {
                    let response = ask(*first, HOST, "/api/realtime", &[("x-api-key", &key)])?;
                    (response.status == 200).then_some(())
                });
            });
            if std::env::var_os("KEYWARD_LONG_SILENCE").is_some() {
                part.check("gateway: a stream that is silent for almost 300 s stays open with realtime.yaml", || {
                    stage.assert_long_silence_stays_open(*first, &key);
                });
            }
            cluster.apply(&virtual_service());
            cluster.delete(&only_kind(realtime.text(), "EnvoyFilter"));
            part.check("gateway: a deleted key is refused", || stage.assert_deletion_holds(*first, &id, &key));
            cluster.delete(plugin.text());
            part.check("gateway: without the filter the backstop refuses, and counts it", || {
                stage.wait_for_status(*first, None, 403);
                let stats = proxy.stats("keyward_backstop_rbac.denied");
                assert!(stats.contains("rbac.keyward_backstop_rbac.denied"), "{stats}");
            });
        });
    }

    fn check_failures(&mut self, part: &mut Part<'_>) {
        let backstop = File::read("istio/backstop.yaml");
        let crashing = self.filter_of("istio/gateway.yaml", &stage::failpoint_digest());
        let missing = self.filter_of("istio/gateway.yaml", &"f".repeat(64));
        let reloads = self.reloads();
        let (id, key) = self.stage.create_key("survivor");
        self.with_files(part, &[crashing.text(), backstop.text()], |istio, part| {
            let Self { stage, first, cluster, .. } = istio;
            stage.assert_key_passes(*first, &id, &key);
            let next = if reloads { "the next one serves" } else { "its worker refuses from then on" };
            part.check(&format!("gateway: a VM that traps refuses, and {next}"), || {
                let crash = [("x-api-key", key.as_str()), ("x-keyward-failpoint", "1")];
                // Until the agent has fetched it, the module of the checks before may still be there.
                wait::until("the module that crashes", PATIENCE, || {
                    (ask(*first, HOST, RECORDS, &crash)?.status == 503).then_some(())
                });
                for _ in 0..16 {
                    assert_eq!(ask(*first, HOST, RECORDS, &crash).unwrap().status, 503);
                    assert!(matches!(ask(*first, HOST, RECORDS, &[]).unwrap().status, 401 | 503));
                }
                if reloads {
                    stage.assert_key_passes(*first, &id, &key);
                } else {
                    stage.wait_for_status(*first, Some(&key), 503);
                }
            });
            cluster.apply(missing.text());
            part.check(
                "gateway: when the module is replaced by one that cannot be fetched, nothing passes unchecked",
                || {
                    stage.assert_nothing_passes(*first, None, 50);
                },
            );
        });
        self.with_files(part, &[missing.text()], |istio, part| {
            part.check(
                "gateway: a module that cannot be fetched at all: 403, never 200, even without the backstop",
                || {
                    istio.stage.wait_for_status(istio.first, Some(&key), 403);
                    istio.stage.assert_nothing_passes(istio.first, Some(&key), 20);
                },
            );
        });
    }

    fn check_traffic_extension(&mut self, part: &mut Part<'_>) {
        let reason = "TrafficExtension came with 1.30";
        if !part.holds_since(Version::new(1, 30), "traffic-extension.yaml", reason) {
            return;
        }
        let extension = self.filter("istio/traffic-extension.yaml");
        let backstop = File::read("istio/backstop.yaml");
        let (id, key) = self.stage.create_key("extension");
        self.with_files(part, &[extension.text(), backstop.text()], |istio, part| {
            part.check("traffic-extension.yaml does what gateway.yaml does", || {
                istio.stage.assert_keyless_is_refused(istio.first);
                istio.stage.assert_keyless_is_refused(istio.second);
                istio.stage.assert_key_passes(istio.first, &id, &key);
            });
        });
    }

    fn check_shared_by_host(&mut self, part: &mut Part<'_>) {
        let plugin = self.filter("istio/shared-gateway-host.yaml");
        let port = format!("records.example.com:{}", self.first.port);
        let backstop = File::read("istio/shared-gateway-host-backstop.yaml")
            .with("records.example.com:8080", &port)
            .with("idle_timeout: 30s", &format!("idle_timeout: {IDLE_LIMIT}"));
        let (id, key) = self.stage.create_key("by host");
        self.with_files(part, &[plugin.text(), backstop.text()], |istio, part| {
            let Self { stage, first, .. } = istio;
            part.check("shared gateway by host: the host is protected", || {
                stage.assert_keyless_is_refused(*first);
                stage.assert_key_passes(*first, &id, &key);
                let denied = ask(*first, HOST, "/somewhere", &[("x-api-key", &key)]).unwrap();
                assert_eq!((denied.status, denied.json()["code"].as_str()), (403, Some("route_denied")));
            });
            part.check("shared gateway by host: another host is untouched, and keeps its own keys", || {
                stage.other.take();
                let response = ask(*first, OTHER_HOST, "/", &[("x-api-key", "its-own")]).unwrap();
                assert_eq!(response.status, 200, "{}", response.text());
                assert_eq!(stage.other.take().first().unwrap().header("x-api-key"), ["its-own"]);
            });
            part.check("shared gateway by host: the time limit is on the host's routes", || {
                assert_ne!(ask(*first, HOST, "/api/realtime", &[("x-api-key", &key)]).unwrap().status, 200);
            });
        });
    }

    fn check_shared_by_port(&mut self, part: &mut Part<'_>) {
        let port = self.second.port.to_string();
        let plugin = self.filter("istio/shared-gateway-port.yaml").with("number: 8443", &format!("number: {port}"));
        let backstop = File::read("istio/shared-gateway-port-backstop.yaml")
            .with("portNumber: 8443", &format!("portNumber: {port}"));
        let (id, key) = self.stage.create_key("by port");
        self.with_files(part, &[plugin.text(), backstop.text()], |istio, part| {
            let Self { stage, first, second, proxy, .. } = istio;
            part.check("shared gateway by port: the port is protected", || {
                stage.assert_keyless_is_refused(*second);
                stage.assert_key_passes(*second, &id, &key);
            });
            part.check("shared gateway by port: another port is untouched", || {
                stage.other.take();
                let odd = [("x-api-key", "its-own"), ("x_odd", "1")];
                let response = ask(*first, OTHER_HOST, "/a%2f%2e%2e", &odd).unwrap();
                assert_eq!(response.status, 200, "{}", response.text());
                assert_eq!(stage.other.take().first().unwrap().header("x-api-key"), ["its-own"]);
                assert_eq!(backstops(&proxy.config_dump()), 1);
            });
        });
    }

    fn check_injected_token(&mut self, part: &mut Part<'_>) {
        let folder = workspace::scratch("edge-token");
        let place = folder.path().display().to_string();
        let address = self.stage.service.address();
        let files = File::read("istio/edge-token-injector.yaml")
            .with("REPLACE-WITH-AN-EDGE-TOKEN", EDGE_TOKEN)
            .with("/etc/keyward", &place)
            .with(
                "address: keyward.keyward.svc.cluster.local, port_value: 8081",
                &format!("address: 127.0.0.1, port_value: {}", address.port()),
            );
        // What a kubelet would do with the Secret.
        let secret = keyward_testbed::envoy_config::parse_yaml(&only_kind(files.text(), "Secret")).unwrap();
        for (name, text) in secret["stringData"].as_object().unwrap() {
            std::fs::write(folder.path().join(name), text.as_str().unwrap()).unwrap();
        }
        let plugin = self
            .filter("istio/gateway.yaml")
            .with("cluster: outbound|8081||keyward.keyward.svc.cluster.local", "cluster: keyward_admin")
            .with("      token_env: KEYWARD_EDGE_TOKEN\n", "");
        let (id, key) = self.stage.create_key("injected");
        self.with_files(part, &[files.text(), plugin.text()], |istio, part| {
            part.check("edge-token-injector.yaml: Envoy adds the token, and keys arrive", || {
                istio.stage.assert_keyless_is_refused(istio.first);
                istio.stage.assert_key_passes(istio.first, &id, &key);
            });
            part.check("edge-token-injector.yaml: the token is not in Envoy's configuration", || {
                assert!(!istio.proxy.config_dump().to_string().contains(EDGE_TOKEN));
            });
        });
    }

    fn check_module_from_file(&mut self, part: &mut Part<'_>) {
        let module = workspace::root().join("target/dist/keyward.wasm");
        let shipped = "oci://registry.example.com/keyward@sha256:0000000000000000000000000000000000000000000000000000000000000000";
        let plugin = File::read("istio/gateway.yaml").with(shipped, &format!("file://{}", module.display()));
        let plugin = if self.reloads() { plugin } else { plugin.with("FAIL_RELOAD", "FAIL_CLOSE") };
        let (id, key) = self.stage.create_key("from a file");
        self.with_files(part, &[plugin.text()], |istio, part| {
            part.check("a module by file:// needs no registry", || {
                istio.stage.assert_keyless_is_refused(istio.first);
                istio.stage.assert_key_passes(istio.first, &id, &key);
            });
        });
    }

    fn check_sidecar(&mut self, part: &mut Part<'_>) {
        let port = free_port();
        let application = self.stage.records.address().port();
        // No iptables lead traffic into this sidecar, and no certificates are issued for it.
        self.cluster.apply(&format!(
            "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: records, namespace: default}}
spec:
  workloadSelector: {{labels: {{app: records}}}}
  ingress:
  - port: {{number: {port}, protocol: HTTP, name: http}}
    bind: 127.0.0.1
    captureMode: NONE
    defaultEndpoint: 127.0.0.1:{application}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: default}}
spec: {{mtls: {{mode: DISABLE}}}}
"
        ));
        let door = Door::plain(port);
        let plugin = self.filter("istio/sidecar.yaml");
        let backstop = File::read("istio/sidecar-backstop.yaml");
        part.steps(|part| {
            let proxy =
                self.istiod.start_proxy("records", "sidecar", "default", &json!({"app": "records"}), &envoy::binary());
            let (id, key) = self.stage.create_key("sidecar");
            self.stage.wait_for_status(door, None, 200);
            self.cluster.apply(plugin.text());
            self.cluster.apply(backstop.text());
            part.check("sidecar: a keyless request gets 401 key_missing", || {
                self.stage.assert_keyless_is_refused(door)
            });
            part.check("sidecar: a key passes, and the application is told whose it is", || {
                self.stage.assert_key_passes(door, &id, &key);
            });
            part.check("sidecar: every VM polls, the main thread's too", || {
                self.stage.assert_every_vm_of_node_polls("sidecar~");
            });
            part.check("sidecar: the backstop is in the inbound listeners", || {
                assert!(backstops(&proxy.config_dump()) > 0);
            });
            part.check("sidecar: a deleted key is refused", || self.stage.assert_deletion_holds(door, &id, &key));
            self.cluster.delete(plugin.text());
            part.check("sidecar: without the filter the backstop refuses", || {
                self.stage.wait_for_status(door, None, 403);
            });
        });
        self.cluster.delete(backstop.text());
        self.cluster.delete(plugin.text());
    }
}

/// The services, a gateway with two listeners, and the routes that the shipped files change.
fn surroundings(stage: &Stage, first: u16, second: u16) -> String {
    let service = |name: &str, namespace: &str, port: u16, address: SocketAddr| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  hosts: [{name}.{namespace}.svc.cluster.local]
  ports: [{{number: {port}, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: {}, ports: {{http: {}}}}}]
---
",
            address.ip(),
            address.port()
        )
    };
    [
        service("keyward", "keyward", 8081, stage.service.address()),
        service("records", "default", 8090, stage.records.address()),
        service("other", "default", 8090, stage.other.address()),
        format!(
            "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: databases, namespace: {NAMESPACE}}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - {{port: {{number: {first}, name: first, protocol: HTTP}}, hosts: ['*']}}
  - {{port: {{number: {second}, name: second, protocol: HTTP}}, hosts: ['*']}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: other, namespace: {NAMESPACE}}}
spec:
  hosts: [{OTHER_HOST}]
  gateways: [databases]
  http: [{{route: [{{destination: {{host: other.default.svc.cluster.local, port: {{number: 8090}}}}}}]}}]
---
"
        ),
        virtual_service(),
    ]
    .concat()
}

/// The protected host's routes as they are before the shipped files change them.
fn virtual_service() -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: records, namespace: {NAMESPACE}}}
spec:
  hosts: [{HOST}]
  gateways: [databases]
  http: [{{route: [{{destination: {{host: records.default.svc.cluster.local, port: {{number: 8090}}}}}}]}}]
"
    )
}

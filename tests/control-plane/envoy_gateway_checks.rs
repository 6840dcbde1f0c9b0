//! The shipped Envoy Gateway files, given to Envoy Gateway.

use crate::cluster::Cluster;
use crate::deploy::{self, File};
use crate::dump::{backstops, chains, find_all};
use crate::envoy_gateway::{EnvoyGateway, NAMESPACE};
use crate::process::{PATIENCE, free_port};
use crate::programs::{Module, Version};
use crate::proxy::Proxy;
use crate::record;
use crate::report::{Part, Report};
use crate::stage::{self, Door, HOST, OTHER_HOST, RECORDS, Stage, ask, wait_for_all};
use keyward_testbed::service::EDGE_TOKEN;
use keyward_testbed::{envoy, wait, workspace};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// The time limit of gateway.yaml, shortened so that a test can see both sides of it.
const IDLE_LIMIT: &str = "2s";
/// Longer than that limit, and shorter than that of `realtime.yaml`.
const SILENCE: Duration = Duration::from_secs(5);
/// How many listeners the Gateway has.
const LISTENERS: usize = 2;
/// The application in the shipped files, and the same where only a name may lead to loopback.
const SERVICE: &str = "{name: records, port: 8090}";
const BACKEND: &str = "{group: gateway.envoyproxy.io, kind: Backend, name: records}";

/// Everything that the checks have in hand.
struct Checks {
    module: Module,
    stage: Stage,
    proxy: Proxy,
    gateway: EnvoyGateway,
    cluster: Cluster,
    https: Door,
    http: Door,
    folder: workspace::TempDir,
}

#[test]
#[ignore = "needs the control planes: cargo xtask control-planes"]
fn the_envoy_gateway_files_do_what_they_say() {
    let module = Module::from_environment("KEYWARD_ENVOY_GATEWAY");
    let mut report = Report::of_release(&module);
    let mut checks = Checks::start(module);
    report.part("schemas", |part| {
        deploy::check_schemas(part, &checks.cluster, &checks.module, "envoy-gateway");
    });
    report.part("gateway", |part| checks.check_gateway(part));
    report.part("failures", |part| checks.check_failures(part));
    report.part("limits", |part| checks.check_limits(part));
    report.part("shared gateway", |part| checks.check_shared(part));
    report.part("a policy of a route", |part| checks.check_policy_of_a_route(part));
    report.part("HTTP/3", |part| checks.check_http3(part));
    report.part("XDSNameSchemeV2", |part| checks.check_names_by_port(part));
    report.finish();
    record::keep_inputs(&checks.module, &["envoy-gateway"]);
}

impl Checks {
    fn start(module: Module) -> Self {
        let folder = workspace::scratch("envoy-gateway");
        let stage = Stage::start(SILENCE);
        let cluster = Cluster::start(folder.path());
        let gateway = EnvoyGateway::start(module.clone(), &cluster, folder.path());
        let (https, http) = (Door::tls(free_port()), Door::plain(free_port()));
        cluster.apply(&surroundings(&stage, &folder, https.port, http.port));
        let proxy = File::read("envoy-gateway/envoy-proxy.yaml")
            .with("REPLACE-WITH-AN-EDGE-TOKEN", EDGE_TOKEN)
            .with("spec:\n  provider:", "spec:\n  concurrency: 2\n  provider:");
        cluster.apply(proxy.text());
        let proxy = gateway.start_proxy(&cluster, "databases", &envoy::binary());
        let checks = Self { module, stage, proxy, gateway, cluster, https, http, folder };
        checks.cluster.apply(checks.admin().text());
        checks.wait_until_unprotected();
        checks
    }

    /// The way to the admin service, as it is on this machine.
    fn admin(&self) -> File {
        let port = self.stage.service.address().port();
        File::read("envoy-gateway/admin.yaml").with("port_value: 8081", &format!("port_value: {port}"))
    }

    /// A file of the filter, which names the image.
    fn filter(&self, name: &str, digest: &str) -> File {
        deploy::filter(name, self.stage.registry.address(), digest)
    }

    /// Applies the files, runs the checks and deletes the files, the last one first.
    fn with_files(&mut self, part: &mut Part<'_>, files: &[&str], run: impl FnOnce(&mut Self, &mut Part<'_>)) {
        part.steps(|part| {
            files.iter().for_each(|file| self.cluster.apply(file));
            run(self, part);
        });
        files.iter().rev().for_each(|file| self.cluster.delete(file));
        // Some of the files bring the protected host's routes along.
        self.cluster.apply(&routes());
        self.wait_until_unprotected();
    }

    /// Waits until filter and backstop have left the gateway.
    fn wait_until_unprotected(&self) {
        self.stage.wait_for_status(self.http, None, 200);
        self.stage.wait_for_status(self.https, None, 200);
    }

    /// Keeps what Envoy Gateway made of these files.
    fn record(&self, case: &str, files: &[&str]) {
        let files: Vec<String> = files.iter().map(|file| format!("envoy-gateway/{file}")).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let ports = [
            (self.https.port, 443),
            (self.http.port, 80),
            (self.stage.service.address().port(), 8081),
            (self.stage.records.address().port(), 8090),
            (self.stage.other.address().port(), 8090),
        ];
        let replaced = ports.map(|(from, to): (u16, u16)| (from.to_string(), to.to_string()));
        record::keep(&self.module, case, &self.proxy.config_dump(), &files, &replaced);
    }

    fn check_gateway(&mut self, part: &mut Part<'_>) {
        let filter = self.filter("envoy-gateway/gateway.yaml", &stage::digest());
        let backstop = File::read("envoy-gateway/backstop.yaml");
        self.with_files(part, &[backstop.text()], |checks, part| {
            part.check("gateway: without the filter the backstop refuses, and counts it", || {
                for door in [checks.http, checks.https] {
                    wait_for_all("the backstop's 403", || {
                        let response = ask(door, HOST, RECORDS, &[])?;
                        (response.status == 403 && response.text().contains("RBAC")).then_some(())
                    });
                }
                let stats = checks.proxy.stats("keyward_backstop_rbac.denied");
                assert!(stats.contains("rbac.keyward_backstop_rbac.denied"), "{stats}");
            });
        });
        let (id, key) = self.stage.create_key("reader");
        self.with_files(part, &[filter.text(), backstop.text()], |checks, part| {
            let Self { stage, proxy, https, http, cluster, .. } = checks;
            part.check("gateway: a keyless request gets 401 key_missing", || stage.assert_keyless_is_refused(*https));
            part.check("gateway: the second listener is covered", || stage.assert_keyless_is_refused(*http));
            part.check("gateway: a key passes, and the application is told whose it is", || {
                stage.assert_key_passes(*https, &id, &key);
                stage.assert_key_passes(*http, &id, &key);
            });
            part.check("gateway: every VM polls, the main thread's too", || stage.assert_every_vm_polls());
            part.check("gateway: each listener has the backstop right before the router, and FAIL_RELOAD", || {
                let dump = proxy.config_dump();
                assert_eq!((backstops(&dump), reloading(&dump)), (LISTENERS, LISTENERS));
            });
            part.check("gateway: the policies of both listeners are programmed", || {
                assert_eq!(status(cluster, "keyward-admin"), "True");
                assert_eq!(status(cluster, "keyward-backstop-https"), "True");
                assert_eq!(status(cluster, "keyward-backstop-http"), "True");
            });
            part.check("gateway: the status of a policy says that its listener does not exist", || {
                let policy = File::read("envoy-gateway/backstop-quic.yaml");
                cluster.apply(policy.text());
                wait::until("a status", PATIENCE, || {
                    (status(cluster, "keyward-backstop-quic") == "False").then_some(())
                });
                cluster.delete(policy.text());
            });
            part.check("gateway: the edge token is not in Envoy's configuration", || {
                assert!(!proxy.config_dump().to_string().contains(EDGE_TOKEN));
            });
            checks.record("gateway", &["gateway.yaml", "backstop.yaml", "admin.yaml", "envoy-proxy.yaml"]);
            let Self { stage, proxy, https, .. } = checks;
            part.check("gateway: the access log has the decision", || {
                wait::until("an entry", PATIENCE, || {
                    let log = proxy.log();
                    let entry = log.lines().find(|line| line.contains("keyward_key_missing"))?.to_owned();
                    entry.contains("\"decision\":\"key_missing\"").then_some(())
                });
            });
            part.check("gateway: a deleted key is refused", || stage.assert_deletion_holds(*https, &id, &key));
        });
    }

    fn check_failures(&mut self, part: &mut Part<'_>) {
        let backstop = File::read("envoy-gateway/backstop.yaml");
        let crashing = self.filter("envoy-gateway/gateway.yaml", &stage::failpoint_digest());
        let missing = self.filter("envoy-gateway/gateway.yaml", &"f".repeat(64));
        let (id, key) = self.stage.create_key("survivor");
        // In one step, as nobody should: the listeners then change once, and Envoy fetches the module for that change.
        let both = format!("{}---\n{}", crashing.text(), backstop.text());
        let changed = self.filter("envoy-gateway/gateway.yaml", &stage::failpoint_digest());
        let changed = changed.with("realm: databases", "realm: changed");
        self.with_files(part, &[&both], |checks, part| {
            let Self { stage, http, cluster, proxy, .. } = checks;
            part.check("gateway: while the files arrive, a request passes only where no backstop is", || {
                wait::until("the filter answers", PATIENCE, || {
                    let covered = backstops(&proxy.config_dump()) == LISTENERS;
                    let status = ask(*http, HOST, RECORDS, &[])?.status;
                    assert!(!covered || status != 200, "a request passed a listener with its backstop");
                    (covered && status == 401).then_some(())
                });
            });
            stage.assert_key_passes(*http, &id, &key);
            let crash = [("x-api-key", key.as_str()), ("x-keyward-failpoint", "1")];
            part.check("gateway: a new image runs from the next change of the listeners at the latest", || {
                cluster.apply(changed.text());
                wait_for_all("the module that crashes", || {
                    (ask(*http, HOST, RECORDS, &crash)?.status == 503).then_some(())
                });
            });
            part.check("gateway: a VM that traps refuses, and the next one serves", || {
                for _ in 0..16 {
                    assert_eq!(ask(*http, HOST, RECORDS, &crash).unwrap().status, 503);
                    assert!(matches!(ask(*http, HOST, RECORDS, &[]).unwrap().status, 401 | 503));
                }
                stage.assert_key_passes(*http, &id, &key);
            });
            cluster.apply(missing.text());
            part.check("gateway: a module is replaced by one that cannot be fetched: nothing passes unchecked", || {
                stage.assert_nothing_passes(*http, None, 50);
            });
        });
        self.with_files(part, &[missing.text()], |checks, part| {
            part.check("gateway: a module that cannot be fetched at all: never 200, even without the backstop", || {
                wait_for_all("a refusal", || (ask(checks.http, HOST, RECORDS, &[])?.status != 200).then_some(()));
                checks.stage.assert_nothing_passes(checks.http, Some(&key), 20);
                checks.stage.assert_nothing_passes(checks.https, Some(&key), 20);
            });
        });
        let filter = self.filter("envoy-gateway/gateway.yaml", &stage::digest());
        part.check("gateway: from the first moment that the filter answers, nothing passes without a key", || {
            self.cluster.apply(backstop.text());
            self.stage.wait_for_status(self.http, None, 403);
            self.cluster.apply(filter.text());
            self.stage.assert_nothing_passes(self.http, None, 50);
            self.stage.assert_keyless_is_refused(self.http);
        });
        self.cluster.delete(backstop.text());
        self.cluster.delete(filter.text());
        self.wait_until_unprotected();
    }

    fn check_limits(&mut self, part: &mut Part<'_>) {
        let filter = self
            .filter("envoy-gateway/gateway.yaml", &stage::digest())
            .with("streamIdleTimeout: 30s", &format!("streamIdleTimeout: {IDLE_LIMIT}"));
        let backstop = File::read("envoy-gateway/backstop.yaml");
        let realtime = File::read("envoy-gateway/realtime.yaml").with(SERVICE, BACKEND);
        let (id, key) = self.stage.create_key("limited");
        let (_, other) = self.stage.create_key("its neighbour");
        self.with_files(part, &[filter.text(), backstop.text()], |checks, part| {
            let Self { stage, http, .. } = checks;
            stage.assert_key_passes(*http, &id, &key);
            part.check("a stream that is silent for too long is ended without realtime.yaml", || {
                assert_ne!(ask(*http, HOST, "/api/realtime", &[("x-api-key", &key)]).unwrap().status, 200);
            });
        });
        let reason = "BackendTrafficPolicy has streamIdleTimeout since 1.8";
        let (filter, realtime) = if part.holds_since(Version::new(1, 8), "streamIdleTimeout of realtime.yaml", reason) {
            (filter, realtime)
        } else {
            // What its first lines say for an older release.
            let filter = self.filter("envoy-gateway/gateway.yaml", &stage::digest());
            let filter = filter.with("streamIdleTimeout: 30s", "streamIdleTimeout: 300s");
            (filter, realtime.with("      streamIdleTimeout: 300s\n", ""))
        };
        self.with_files(part, &[filter.text(), backstop.text(), realtime.text()], |checks, part| {
            let Self { stage, http, .. } = checks;
            stage.assert_key_passes(*http, &id, &key);
            part.check("a silent stream stays open with realtime.yaml, and needs a key", || {
                wait::until("a silent stream that is answered", PATIENCE, || {
                    let response = ask(*http, HOST, "/api/realtime", &[("x-api-key", &key)])?;
                    (response.status == 200).then_some(())
                });
                assert_eq!(ask(*http, HOST, "/api/realtime", &[]).unwrap().status, 401);
            });
            if std::env::var_os("KEYWARD_LONG_SILENCE").is_some() {
                part.check("a stream that is silent for almost 300 s stays open with realtime.yaml", || {
                    stage.assert_long_silence_stays_open(*http, &key);
                });
            }
        });
        if deploy::is_refused(&self.module, "envoy-gateway/rate-limit.yaml") {
            part.leave_out("rate-limit.yaml", "its CRD refuses every rate limit");
            return;
        }
        self.with_files(part, &[filter.text(), backstop.text()], |checks, part| {
            let Self { stage, http, cluster, .. } = checks;
            stage.assert_key_passes(*http, &id, &key);
            let limit = File::read("envoy-gateway/rate-limit.yaml")
                .with("{requests: 600, unit: Minute}", "{requests: 3, unit: Hour}");
            cluster.apply(limit.text());
            part.check("rate-limit.yaml: each key has a limit of its own, and the public has none", || {
                let status = |key: &str| Some(ask(*http, HOST, RECORDS, &[("x-api-key", key)])?.status);
                wait::until("the limit", PATIENCE, || (status(&key)? == 429).then_some(()));
                let answers: Vec<_> = (0..4).map(|_| status(&other).unwrap()).collect();
                assert_eq!(answers, [200, 200, 200, 429], "the neighbour");
                for _ in 0..5 {
                    assert_eq!(ask(*http, HOST, "/api/health", &[]).unwrap().status, 200);
                    assert_eq!(ask(*http, HOST, RECORDS, &[("x-api-key-id", &id)]).unwrap().status, 401);
                }
            });
            cluster.delete(limit.text());
        });
    }

    fn check_shared(&mut self, part: &mut Part<'_>) {
        let backstop = File::read("envoy-gateway/backstop.yaml");
        let by_host = self.filter("envoy-gateway/shared-gateway.yaml", &stage::digest()).with(SERVICE, BACKEND);
        let (id, key) = self.stage.create_key("by host");
        self.with_files(part, &[by_host.text(), backstop.text()], |checks, part| {
            let Self { stage, http, .. } = checks;
            part.check("shared gateway by host: the host is protected", || {
                stage.assert_keyless_is_refused(*http);
                stage.assert_key_passes(*http, &id, &key);
                let denied = ask(*http, HOST, "/somewhere", &[("x-api-key", &key)]).unwrap();
                assert_eq!((denied.status, denied.json()["code"].as_str()), (403, Some("route_denied")));
            });
            part.check("shared gateway by host: another host is untouched, and keeps its own keys", || {
                assert_untouched(stage, *http);
            });
            checks
                .record("shared-gateway", &["shared-gateway.yaml", "backstop.yaml", "admin.yaml", "envoy-proxy.yaml"]);
        });
        // README.md: "a listener of its own".
        let section = "{group: gateway.networking.k8s.io, kind: Gateway, name: databases";
        let by_listener = self
            .filter("envoy-gateway/gateway.yaml", &stage::digest())
            .with(&format!("{section}}}"), &format!("{section}, sectionName: http}}"));
        let http_only = backstop.text().split("---\n").nth(1).unwrap().to_owned();
        let (id, key) = self.stage.create_key("by listener");
        self.with_files(part, &[by_listener.text(), &http_only], |checks, part| {
            let Self { stage, http, https, proxy, .. } = checks;
            part.check("shared gateway by listener: the listener is protected, the other one is untouched", || {
                stage.assert_keyless_is_refused(*http);
                stage.assert_key_passes(*http, &id, &key);
                assert_untouched(stage, *https);
                assert_eq!(backstops(&proxy.config_dump()), 1);
            });
        });
    }

    fn check_policy_of_a_route(&mut self, part: &mut Part<'_>) {
        let filter = self.filter("envoy-gateway/gateway.yaml", &stage::digest());
        let backstop = File::read("envoy-gateway/backstop.yaml");
        let of_route = "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyExtensionPolicy
metadata: {name: of-the-route, namespace: databases}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: records}]
  lua: [{type: Inline, inline: 'function envoy_on_response(handle) end'}]
";
        let merged = of_route.replace("spec:\n", "spec:\n  mergeType: StrategicMerge\n");
        self.with_files(part, &[filter.text(), backstop.text()], |checks, part| {
            checks.stage.assert_keyless_is_refused(checks.http);
            part.check("a policy of a route takes the filter's place there: the backstop refuses", || {
                checks.cluster.apply(of_route);
                checks.stage.wait_for_status(checks.http, None, 403);
            });
            let reason = "EnvoyExtensionPolicy has mergeType since 1.9";
            if part.holds_since(Version::new(1, 9), "a policy of a route that is merged", reason) {
                part.check("a policy of a route that is merged leaves the filter in place", || {
                    checks.cluster.apply(&merged);
                    checks.stage.assert_keyless_is_refused(checks.http);
                });
            }
            checks.cluster.delete(of_route);
        });
    }

    fn check_http3(&mut self, part: &mut Part<'_>) {
        let filter = self
            .filter("envoy-gateway/gateway.yaml", &stage::digest())
            .with("  timeout:\n    http:", "  http3: {}\n  timeout:\n    http:");
        let backstops_of = ["envoy-gateway/backstop.yaml", "envoy-gateway/backstop-quic.yaml"].map(File::read);
        let files: Vec<&str> = [&filter, &backstops_of[0], &backstops_of[1]].map(File::text).to_vec();
        self.with_files(part, &files, |checks, part| {
            part.check("HTTP/3: the listener has filter, FAIL_RELOAD and backstop", || {
                wait::until("three chains with a backstop", PATIENCE, || {
                    let dump = checks.proxy.config_dump();
                    ((backstops(&dump), reloading(&dump)) == (3, 3)).then_some(())
                });
                checks.stage.assert_keyless_is_refused(checks.https);
                assert_eq!(status(&checks.cluster, "keyward-backstop-quic"), "True");
            });
        });
    }

    fn check_names_by_port(&mut self, part: &mut Part<'_>) {
        self.gateway.restart(&["XDSNameSchemeV2"]);
        let filter = self
            .filter("envoy-gateway/gateway.yaml", &stage::digest())
            .with("  timeout:\n    http:", "  http3: {}\n  timeout:\n    http:");
        let backstop = File::read("envoy-gateway/backstop-v2.yaml")
            .with("tcp-443", &format!("tcp-{}", self.https.port))
            .with("udp-443", &format!("udp-{}", self.https.port))
            .with("tcp-80", &format!("tcp-{}", self.http.port));
        let (id, key) = self.stage.create_key("by port");
        self.with_files(part, &[filter.text(), backstop.text()], |checks, part| {
            part.check("XDSNameSchemeV2: backstop-v2.yaml covers each listener", || {
                checks.stage.assert_keyless_is_refused(checks.https);
                checks.stage.assert_keyless_is_refused(checks.http);
                checks.stage.assert_key_passes(checks.http, &id, &key);
                wait::until("three chains with a backstop", PATIENCE, || {
                    let dump = checks.proxy.config_dump();
                    ((backstops(&dump), reloading(&dump)) == (3, 3)).then_some(())
                });
            });
        });
        assert!(self.folder.path().is_dir());
    }
}

/// How many chains have a filter that is started again after a crash.
fn reloading(dump: &Value) -> usize {
    let reloads = |filters: &&Value| find_all(filters, "failure_policy").iter().any(|policy| **policy == "FAIL_RELOAD");
    chains(dump).into_iter().filter(reloads).count()
}

/// The condition `Programmed` of an EnvoyPatchPolicy.
fn status(cluster: &Cluster, policy: &str) -> String {
    let policy = cluster.get(&["envoypatchpolicy", policy, "--namespace", NAMESPACE]);
    let conditions = policy["status"]["ancestors"][0]["conditions"].as_array().cloned().unwrap_or_default();
    let programmed = conditions.iter().find(|condition| condition["type"] == "Programmed");
    programmed.and_then(|condition| condition["status"].as_str()).unwrap_or_default().to_owned()
}

/// Another host's request arrives as it was sent.
fn assert_untouched(stage: &Stage, door: Door) {
    stage.other.take();
    let response = ask(door, OTHER_HOST, "/", &[("x-api-key", "its-own")]).unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(stage.other.take().first().unwrap().header("x-api-key"), ["its-own"]);
}

/// The applications and a Gateway with two listeners.
fn surroundings(stage: &Stage, folder: &workspace::TempDir, https: u16, http: u16) -> String {
    let (certificate, key) = (folder.path().join("listener.crt"), folder.path().join("listener.key"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=records.example.com"]);
    let output = command.arg("-keyout").arg(&key).arg("-out").arg(&certificate).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let indented = |file| {
        let text = std::fs::read_to_string(file).unwrap();
        text.lines().map(|line| format!("    {line}\n")).collect::<String>()
    };
    let backend = |name: &str, port: u16| {
        format!(
            "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec: {{endpoints: [{{fqdn: {{hostname: {name}.default.svc.cluster.local, port: {port}}}}}]}}
---
"
        )
    };
    [
        backend("records", stage.records.address().port()),
        backend("other", stage.other.address().port()),
        format!(
            "apiVersion: v1
kind: Secret
metadata: {{name: listener, namespace: {NAMESPACE}}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
{}  tls.key: |
{}---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: eg}}
spec: {{controllerName: gateway.envoyproxy.io/gatewayclass-controller}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: databases, namespace: {NAMESPACE}}}
spec:
  gatewayClassName: eg
  infrastructure:
    parametersRef: {{group: gateway.envoyproxy.io, kind: EnvoyProxy, name: keyward}}
  listeners:
  - {{name: https, protocol: HTTPS, port: {https}, tls: {{certificateRefs: [{{name: listener}}]}}}}
  - {{name: http, protocol: HTTP, port: {http}}}
---
",
            indented(&certificate),
            indented(&key)
        ),
        routes(),
    ]
    .concat()
}

/// The routes of both hosts, as they are before the shipped files change them.
fn routes() -> String {
    let route = |name: &str, host: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  parentRefs: [{{name: databases}}]
  hostnames: [{host}]
  rules: [{{backendRefs: [{{group: gateway.envoyproxy.io, kind: Backend, name: {name}}}]}}]
---
"
        )
    };
    [route("records", HOST), route("other", OTHER_HOST)].concat()
}

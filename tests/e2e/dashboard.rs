//! The dashboard and the alerts of `deploy/observability`, asked of a real Prometheus that scrapes a real service and the
//! shipped Envoy configuration: every panel shows something, and no expression names a metric that does not exist.

use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::{Shipped, parse_yaml};
use keyward_testbed::service::{EDGE_TOKEN, Restartable};
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{http1, wait, workspace};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const LISTENER: &str = "databases_api";
/// What Grafana puts in place of `$__rate_interval`: four times the interval of scraping, which is a second here.
const RATE_INTERVAL: &str = "15s";

struct Prometheus {
    process: Child,
    address: SocketAddr,
}

impl Prometheus {
    fn start(folder: &Path, service: SocketAddr, envoy: SocketAddr) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // What docker-compose.yml starts Prometheus with, with the addresses of this run and without a wait.
        let mut config = parse_yaml(&read("prometheus.yaml")).unwrap();
        config["global"]["scrape_interval"] = json!("1s");
        config["rule_files"] = json!([workspace::root().join("deploy/observability/alerts.yaml")]);
        for (number, (name, target)) in [("keyward", service), ("envoy", envoy)].into_iter().enumerate() {
            let job = &mut config["scrape_configs"][number];
            assert_eq!(job["job_name"], name);
            job["static_configs"] = json!([{"targets": [target.to_string()]}]);
        }
        let file = folder.join("prometheus.yaml");
        fs::write(&file, config.to_string()).unwrap();
        let log = File::create(folder.join("prometheus.log")).unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("prometheus (Debian's package of that name, which `cargo xtask test` installs)");
        let prometheus = Self { process, address };
        wait::until("Prometheus is ready", PATIENCE, || {
            http1::get(address, "/-/ready", &[]).ok().filter(|response| response.status == 200).map(|_| ())
        });
        prometheus
    }

    /// Returns the values of an expression, now. Values that are no numbers are left out.
    fn query(&self, expression: &str) -> Vec<Value> {
        let target = format!("/api/v1/query?query={}", utf8_percent_encode(expression, NON_ALPHANUMERIC));
        let answer = http1::get(self.address, &target, &[]).unwrap().json();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let results = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        results.into_iter().filter(|result| result["value"][1] != "NaN").collect()
    }

    /// Returns the names of all metrics.
    fn names(&self) -> BTreeSet<String> {
        let answer = http1::get(self.address, "/api/v1/label/__name__/values", &[]).unwrap().json();
        serde_json::from_value(answer["data"].clone()).unwrap()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns what a panel is called and what it asks.
fn panels(dashboard: &Value) -> Vec<(String, Vec<String>)> {
    let mut panels = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().into_iter().flatten();
        let expressions: Vec<String> = targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
        if panel["type"] != "row" {
            panels.push((panel["title"].as_str().unwrap().to_owned(), expressions));
        }
    }
    panels
}

/// Returns what the rules of `alerts.yaml` ask, by the name of the alert.
fn alerts() -> Vec<(String, Vec<String>)> {
    let rules = parse_yaml(&read("alerts.yaml")).unwrap();
    let rules = rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    rules.map(|rule| (text(&rule["alert"]), vec![text(&rule["expr"])])).collect()
}

fn read(name: &str) -> String {
    fs::read_to_string(workspace::root().join("deploy/observability").join(name)).unwrap()
}

/// Returns the names of metrics in an expression: those of the service and of the filter. Patterns of names, in quotes, are
/// left out.
fn metrics(expression: &str) -> BTreeSet<String> {
    let unquoted = expression.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let words = unquoted.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let is_metric = |word: &&str| word.starts_with("keyward_") || word.starts_with("process_");
    words.filter(is_metric).map(str::to_owned).collect()
}

#[test]
fn compose_starts_prometheus_and_grafana_only_when_asked_and_with_these_files() {
    let root = workspace::root();
    let compose = parse_yaml(&fs::read_to_string(root.join("docker-compose.yml")).unwrap()).unwrap();
    let services = compose["services"].as_object().unwrap();
    let mut mounted = BTreeSet::new();
    for (name, service) in services {
        let observes = ["prometheus", "grafana"].contains(&name.as_str());
        assert_eq!(service["profiles"] == json!(["observability"]), observes, "{name}");
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name} is reached from other machines: {port}");
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let (file, place) = volume.as_str().unwrap().split_once(':').unwrap();
            if let Some(file) = file.strip_prefix("./") {
                assert!(root.join(file).is_file(), "{name} mounts {file}, which does not exist");
                mounted.insert((file.to_owned(), place.trim_end_matches(":ro").to_owned()));
            }
        }
    }
    let place = |file: &str| {
        let file = format!("deploy/observability/{file}");
        let found = mounted.iter().find(|(mounted, _)| *mounted == file);
        Path::new(&found.unwrap_or_else(|| panic!("{file} is not mounted")).1).to_owned()
    };
    // Each file is where the one that names it says.
    let config = parse_yaml(&read("prometheus.yaml")).unwrap();
    let rules = config["rule_files"][0].as_str().unwrap();
    assert_eq!(place("prometheus.yaml").with_file_name(rules), place("alerts.yaml"));
    let command = services["prometheus"]["command"].to_string();
    assert!(command.contains(&format!("--config.file={}", place("prometheus.yaml").display())), "{command}");
    let providers = parse_yaml(&read("grafana/dashboards.yaml")).unwrap();
    let folder = providers["providers"][0]["options"]["path"].as_str().unwrap();
    assert_eq!(place("dashboard.json").parent(), Some(Path::new(folder)));
    // Prometheus' own check of its configuration, with the rules that it names.
    let mut check = Command::new("promtool");
    check.args(["check", "config", "deploy/observability/prometheus.yaml"]).current_dir(root);
    let output = check.output().expect("promtool (Debian's package prometheus)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_panel_shows_something_and_every_metric_exists() {
    let (mut service, upstream) = (Restartable::new(), Upstream::start());
    service.start();
    let folder = workspace::scratch("dashboard");
    let envoy = Envoy::start(
        &Shipped::new(upstream.address()).with_admin(service.address(), EDGE_TOKEN, folder.path()).build(),
    );
    let address = envoy.listener(LISTENER);
    let prometheus = Prometheus::start(folder.path(), service.address(), envoy.admin_address());
    let panels = panels(&serde_json::from_str(&read("dashboard.json")).unwrap());
    assert!(panels.len() > 20, "{panels:?}");
    // An incident: polls that fail are a panel, too.
    service.kill();
    wait::until("a poll fails", PATIENCE, || envoy.prometheus().contains("keyward_sync_failures{").then_some(()));
    service.start();

    let shown =
        |expression: &String| !prometheus.query(&expression.replace("$__rate_interval", RATE_INTERVAL)).is_empty();
    let deadline = Instant::now() + PATIENCE;
    // Rates need two scrapes between which something happens.
    for number in 0.. {
        let mut admin = service.service().admin().unwrap();
        let (id, key) = admin.create(&format!("dashboard {number}")).unwrap();
        for _ in 0..8 {
            http1::get(address, "/api/collections/posts/records", &[("x-api-key", &key)]).unwrap();
            http1::get(address, "/api/collections/posts/records", &[]).unwrap();
        }
        admin.delete(&id, "5s").unwrap();
        let empty: Vec<&String> =
            panels.iter().filter(|(_, asked)| !asked.iter().any(shown)).map(|(title, _)| title).collect();
        if empty.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "these panels stay empty: {empty:?}");
    }

    let known = prometheus.names();
    // The one that the pattern of the alert about the backstop is for.
    assert!(known.contains("envoy_http_rbac_denied"), "{known:?}");
    for (title, asked) in panels.iter().chain(&alerts()) {
        for metric in asked.iter().flat_map(|expression| metrics(expression)) {
            assert!(known.contains(&metric), "{title}: nothing exports {metric}");
        }
    }
}

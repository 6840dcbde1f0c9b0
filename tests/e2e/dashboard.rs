//! The dashboard and the alerts of `deploy/observability`, asked of a real Prometheus that scrapes a real service and the
//! shipped Envoy configuration: every expression of every panel shows something, and no expression names a metric that does
//! not exist. And the files of `deploy/observability` fit together and to docker-compose.yml.

use keyward_testbed::artifacts::Edition;
use keyward_testbed::envoy::{Envoy, version};
use keyward_testbed::envoy_config::{Shipped, parse_yaml};
use keyward_testbed::service::{EDGE_TOKEN, Restartable};
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{documents, http1, wait, workspace};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const LISTENER: &str = "databases_api";
/// What Grafana puts in place of `$__rate_interval` at least: four times the interval of scraping, which is a second here.
const RATE_INTERVAL: &str = "15s";
/// What a run of the shipped `prometheus.yaml` has in its own way: the two addresses, and an interval that a test can wait for.
const SERVICE_TARGET: &str = "keyward:8081";
const ENVOY_TARGET: &str = "127.0.0.1:9901";
const SCRAPE_INTERVAL: &str = "scrape_interval: 15s";
/// The fields that Grafana reads in its provisioning files. It ignores others without a word.
const DATA_SOURCE_FIELDS: &[&str] = &["name", "type", "uid", "access", "url", "isDefault", "jsonData", "editable"];
const PROVIDER_FIELDS: &[&str] =
    &["name", "type", "folder", "folderUid", "disableDeletion", "updateIntervalSeconds", "allowUiUpdates", "options"];
/// Who can do what in Grafana. Hiding the form leaves passwords valid in its API, so they are refused as well.
const LOOK_ONLY: &[(&str, &str)] = &[
    ("GF_AUTH_ANONYMOUS_ENABLED", "true"),
    ("GF_AUTH_ANONYMOUS_ORG_ROLE", "Viewer"),
    ("GF_AUTH_BASIC_ENABLED", "false"),
    ("GF_AUTH_DISABLE_LOGIN_FORM", "true"),
    ("GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION", "true"),
];
/// What Grafana asks of its maker's servers unless it is told not to: each of these settings covers one such request only.
/// The plugins are fetched and then run.
const NO_CALLS_HOME: &[(&str, &str)] = &[
    ("GF_ANALYTICS_REPORTING_ENABLED", "false"),
    ("GF_ANALYTICS_CHECK_FOR_UPDATES", "false"),
    ("GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES", "false"),
    ("GF_NEWS_NEWS_FEED_ENABLED", "false"),
    ("GF_PLUGINS_PREINSTALL_DISABLED", "true"),
    ("GF_PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED", "true"),
];

struct Prometheus {
    process: Child,
    address: SocketAddr,
}

impl Prometheus {
    fn start(folder: &Path, service: SocketAddr, envoy: SocketAddr) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // The file that docker-compose.yml starts Prometheus with, beside the alerts as there.
        let mut config = read("prometheus.yaml");
        for (shipped, here) in [
            (SERVICE_TARGET, service.to_string()),
            (ENVOY_TARGET, envoy.to_string()),
            (SCRAPE_INTERVAL, "scrape_interval: 1s".to_owned()),
        ] {
            assert_eq!(config.matches(shipped).count(), 1, "{shipped}");
            config = config.replace(shipped, &here);
        }
        if Edition::of_this_run() == Edition::Native && version() < (1, 40) {
            // Its last job is the one that scrapes Envoy.
            config.push_str(&relabeling().lines().map(|line| format!("  {line}\n")).collect::<String>());
        }
        let file = folder.join("prometheus.yaml");
        fs::write(&file, config).unwrap();
        fs::write(folder.join("alerts.yaml"), read("alerts.yaml")).unwrap();
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

    /// Returns the states of the targets by the name of their job.
    fn targets(&self) -> Vec<(String, String)> {
        let answer = http1::get(self.address, "/api/v1/targets", &[]).unwrap().json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let targets = answer["data"]["activeTargets"].as_array().unwrap();
        targets.iter().map(|target| (text(&target["labels"]["job"]), text(&target["health"]))).collect()
    }

    /// Returns the names of the alerts that it evaluates.
    fn alerts(&self) -> BTreeSet<String> {
        let answer = http1::get(self.address, "/api/v1/rules?type=alert", &[]).unwrap().json();
        let groups = answer["data"]["groups"].as_array().unwrap();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        rules.map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()
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

/// Returns the labels that a legend names, such as `reason` in `{{reason}}`.
fn legend_labels(legend: &str) -> Vec<&str> {
    legend.split("{{").skip(1).map(|rest| rest.split_once("}}").unwrap().0.trim()).collect()
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

/// Returns what `docs/native.md` tells users of Envoy 1.39, which has no flag for the names of the native edition's metrics.
fn relabeling() -> String {
    let mut blocks = documents::blocks("docs/native.md", "## Install it", "yaml").into_iter();
    blocks.find(|block| block.starts_with("metric_relabel_configs:")).unwrap()
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

/// What Prometheus scrapes in compose is there under these names: the service's port on a network that both are in, and Envoy's
/// admin interface, whose network Prometheus shares.
#[test]
fn compose_has_what_prometheus_and_grafana_ask_for() {
    let root = workspace::root();
    let compose = parse_yaml(&fs::read_to_string(root.join("docker-compose.yml")).unwrap()).unwrap();
    let services = &compose["services"];
    let networks = |name: &str| -> BTreeSet<String> {
        let shared = services[name]["network_mode"].as_str().and_then(|mode| mode.strip_prefix("service:"));
        serde_json::from_value(services[shared.unwrap_or(name)]["networks"].clone()).unwrap()
    };
    let reach =
        |from: &str, to: &str| assert!(!networks(from).is_disjoint(&networks(to)), "{from} does not reach {to}");
    let config = parse_yaml(&read("prometheus.yaml")).unwrap();
    let targets: Vec<&str> = config["scrape_configs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["static_configs"][0]["targets"][0].as_str().unwrap())
        .collect();
    assert_eq!(targets, [SERVICE_TARGET, ENVOY_TARGET]);
    let (host, port) = SERVICE_TARGET.split_once(':').unwrap();
    reach("prometheus", host);
    assert_eq!(services[host]["environment"]["KEYWARD_LISTEN"], format!("0.0.0.0:{port}"));
    assert_eq!(services["prometheus"]["network_mode"], "service:envoy");
    let envoy = parse_yaml(&fs::read_to_string(root.join("envoy.yaml")).unwrap()).unwrap();
    let admin = &envoy["admin"]["address"]["socket_address"];
    assert_eq!(ENVOY_TARGET, format!("{}:{}", admin["address"].as_str().unwrap(), admin["port_value"]));
    // Prometheus has no name of its own in the networks: it is reached by that of the container whose network it shares.
    let source = &parse_yaml(&read("grafana/datasources.yaml")).unwrap()["datasources"][0];
    assert_eq!(source["url"], "http://envoy:9090");
    reach("grafana", "envoy");
    // Grafana computes the time over which rates are taken from it.
    assert_eq!(source["jsonData"]["timeInterval"], config["global"]["scrape_interval"]);
    for (file, folder) in [("datasources", "datasources"), ("dashboards", "dashboards")] {
        let mount = format!("./deploy/observability/grafana/{file}.yaml:/etc/grafana/provisioning/{folder}/");
        let mounts = services["grafana"]["volumes"].as_array().unwrap();
        assert!(mounts.iter().any(|volume| volume.as_str().unwrap().starts_with(&mount)), "{mount} in {mounts:?}");
    }
}

/// Grafana ignores a setting that it does not know, so the names are compared with a list, and there is nothing beside it.
#[test]
fn grafana_lets_visitors_look_and_asks_nothing_of_other_servers() {
    let compose = fs::read_to_string(workspace::root().join("docker-compose.yml")).unwrap();
    let compose = parse_yaml(&compose).unwrap();
    let environment = &compose["services"]["grafana"]["environment"];
    let set: BTreeMap<String, String> = serde_json::from_value(environment.clone()).unwrap();
    let wanted = LOOK_ONLY.iter().chain(NO_CALLS_HOME).map(|&(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(set, wanted.collect());
}

#[test]
fn grafana_finds_the_dashboard_and_its_data() {
    let source = parse_yaml(&read("grafana/datasources.yaml")).unwrap();
    let providers = parse_yaml(&read("grafana/dashboards.yaml")).unwrap();
    let known = |entries: &Value, fields: &[&str]| {
        let entries = entries.as_array().unwrap();
        assert_eq!(entries.len(), 1);
        for name in entries[0].as_object().unwrap().keys() {
            assert!(fields.contains(&name.as_str()), "Grafana reads no field `{name}`");
        }
    };
    known(&source["datasources"], DATA_SOURCE_FIELDS);
    known(&providers["providers"], PROVIDER_FIELDS);
    assert_eq!((&source["apiVersion"], &providers["apiVersion"]), (&json!(1), &json!(1)));
    let (source, provider) = (&source["datasources"][0], &providers["providers"][0]);
    assert_eq!(
        (&source["access"], &source["isDefault"], &source["uid"]),
        (&json!("proxy"), &json!(true), &json!("prometheus"))
    );
    assert_eq!(provider["type"], "file");
    assert_eq!(provider["options"].as_object().unwrap().keys().collect::<Vec<_>>(), ["path"]);

    // Panels ask the data source that is chosen above them, and the choice is among sources of the type that is there.
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let variable = variables.iter().find(|variable| variable["type"] == "datasource").unwrap();
    assert_eq!(variable["query"], source["type"]);
    let asked = json!({"type": source["type"], "uid": format!("${{{}}}", variable["name"].as_str().unwrap())});
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = &panel["title"];
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is there twice");
        let place = |field: &str| panel["gridPos"][field].as_u64().unwrap();
        let (left, top) = (place("x"), place("y"));
        assert!(left + place("w") <= 24, "{title} is wider than the page");
        for cell in (left..left + place("w")).flat_map(|x| (top..top + place("h")).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "{title} covers another panel at {cell:?}");
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"], asked, "{title}");
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{title}");
            let names: BTreeSet<&str> = targets.iter().map(|target| target["refId"].as_str().unwrap()).collect();
            assert_eq!(names.len(), targets.len(), "{title}: two queries have one name");
            assert!(targets.iter().all(|target| target["datasource"] == asked), "{title}");
        }
    }
    // The address that docker-compose.yml and the documentation name.
    let compose = fs::read_to_string(workspace::root().join("docker-compose.yml")).unwrap();
    assert!(compose.contains(&format!("http://127.0.0.1:3000/d/{}:\n", dashboard["uid"].as_str().unwrap())));
}

#[test]
fn every_expression_of_every_panel_shows_something_and_every_metric_exists() {
    let (mut service, upstream) = (Restartable::new(), Upstream::start());
    service.start();
    let folder = workspace::scratch("dashboard");
    let envoy = Envoy::start(
        &Shipped::new(upstream.address()).with_admin(service.address(), EDGE_TOKEN, folder.path()).build(),
    );
    let address = envoy.listener(LISTENER);
    let prometheus = Prometheus::start(folder.path(), service.address(), envoy.admin_address());
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let panels = panels(&dashboard);
    assert!(panels.len() > 20, "{panels:?}");

    // A key that is known and not allowed is told to the service, which names it.
    let body = json!({"name": "denied", "permissions": ["files:read"], "expires_in": "7d"});
    let (_, made) = service.service().admin().unwrap().send("POST", "/v1/keys", &body.to_string()).unwrap();
    let denied = made["key"].as_str().unwrap();
    let shown =
        |expression: &String| !prometheus.query(&expression.replace("$__rate_interval", RATE_INTERVAL)).is_empty();
    // Filters report uses from time to time, and the service counts what they report every half minute.
    let deadline = Instant::now() + 3 * PATIENCE;
    // While all is well, no panel is empty. After an incident, polls that failed are shown, too.
    let mut incident = false;
    // Rates need two scrapes between which something happens.
    for number in 0.. {
        let mut admin = service.service().admin().unwrap();
        let (id, key) = admin.create(&format!("dashboard {number}")).unwrap();
        for _ in 0..8 {
            http1::get(address, "/api/collections/posts/records", &[("x-api-key", &key)]).unwrap();
            http1::get(address, "/api/collections/posts/records", &[]).unwrap();
            http1::get(address, "/api/collections/posts/records", &[("x-api-key", denied)]).unwrap();
        }
        admin.delete(&id, "5s").unwrap();
        let empty: Vec<_> = if incident {
            let asked =
                panels.iter().flat_map(|(title, asked)| asked.iter().map(move |expression| (title, expression)));
            asked
                .filter(|(_, expression)| !shown(expression))
                .map(|(title, expression)| format!("{title}: {expression}"))
                .collect()
        } else {
            panels.iter().filter(|(_, asked)| !asked.iter().any(shown)).map(|(title, _)| title.clone()).collect()
        };
        assert!(empty.is_empty() || Instant::now() < deadline, "these stay empty: {empty:#?}");
        if empty.is_empty() && incident {
            break;
        }
        if empty.is_empty() {
            incident = true;
            service.kill();
            wait::until("a poll fails", PATIENCE, || {
                envoy.prometheus().contains("keyward_sync_failures{").then_some(())
            });
            service.start();
        }
    }

    // Grafana shows a line as `Value` whose legend names a label that the line has not.
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let (expression, legend) = (target["expr"].as_str().unwrap(), target["legendFormat"].as_str().unwrap());
            for result in prometheus.query(&expression.replace("$__rate_interval", RATE_INTERVAL)) {
                for label in legend_labels(legend) {
                    assert!(result["metric"][label].is_string(), "{}: a line has no {label}: {result}", panel["title"]);
                }
            }
        }
    }

    let up = |name: &str| (name.to_owned(), "up".to_owned());
    let mut targets = prometheus.targets();
    targets.sort();
    assert_eq!(targets, [up("envoy"), up("keyward")]);
    assert_eq!(prometheus.alerts(), alerts().into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>());
    let known = prometheus.names();
    // The one that the pattern of the alert about the backstop is for.
    assert!(known.contains("envoy_http_rbac_denied"), "{known:?}");
    for (title, asked) in panels.iter().chain(&alerts()) {
        for expression in asked {
            // Prometheus takes it, or this fails: an alert whose expression is an error never fires.
            let _: bool = shown(expression);
        }
        for metric in asked.iter().flat_map(|expression| metrics(expression)) {
            assert!(known.contains(&metric), "{title}: nothing exports {metric}");
        }
    }
}

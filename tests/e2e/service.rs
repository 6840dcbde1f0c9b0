//! The real admin service behind a real Envoy with two workers: receipts that tell the truth, and a service that comes
//! late, is killed and comes again.

use crate::setup::LISTENER;
use crate::traffic::Traffic;
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::{self, Encoding, Listener};
use keyward_testbed::http1::{self, Response};
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{artifacts, wait, workspace};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const ADMIN: &str = "admin-token-of-the-test";
const EDGE: &str = "edge-token-of-the-test";
/// Two workers and the main thread. Envoy's canary is none of them.
const VMS: u64 = 3;

/// A place for the service, whether it runs or not.
struct Service {
    address: SocketAddr,
    folder: workspace::TempDir,
    child: Option<Child>,
}

impl Service {
    /// Not running yet.
    fn new() -> Self {
        // Free a moment ago: the service wants the same port each time it comes back.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { address, folder: workspace::scratch("service"), child: None }
    }

    fn start(&mut self) {
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let child = Command::new(artifacts::keyward())
            .arg("serve")
            .current_dir(self.folder.path())
            .env("KEYWARD_LISTEN", self.address.to_string())
            .env("KEYWARD_ADMIN_TOKEN", ADMIN)
            .env("KEYWARD_EDGE_TOKEN", EDGE)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        wait::until("the service is ready", PATIENCE, || {
            http1::get(self.address, "/readyz", &[]).is_ok_and(|response| response.status == 200).then_some(())
        });
    }

    fn kill_9(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Response {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: admin\r\nauthorization: Bearer {ADMIN}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let mut client = http1::Client::connect(self.address).unwrap();
        client.send(request.as_bytes()).unwrap();
        client.receive(method).unwrap()
    }

    /// Its id and its text.
    fn create(&self, name: &str) -> (String, String) {
        let body = json!({"name": name, "permissions": ["records:read"], "expires_in": "never"}).to_string();
        let response = self.ask("POST", "/v1/keys", &body);
        assert_eq!(response.status, 201, "{}", response.text());
        let made = response.json();
        (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
    }

    /// The receipt.
    fn delete(&self, id: &str) -> Value {
        let response = self.ask("DELETE", &format!("/v1/keys/{id}?wait=10s"), "");
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["applied"].clone()
    }

    fn states(&self) -> Vec<String> {
        let nodes = self.ask("GET", "/v1/proxies", "").json();
        let mut states = Vec::new();
        collect_states(&nodes, &mut states);
        states
    }
}

fn collect_states(value: &Value, states: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            states.extend(fields.get("state").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|inner| collect_states(inner, states));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect_states(inner, states)),
        _ => {}
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill_9();
        }
        if std::thread::panicking() {
            eprintln!(
                "--- the service\n{}",
                std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
            );
        }
    }
}

fn envoy(service: &Service, upstream: &Upstream) -> (Envoy, SocketAddr) {
    let plugin = json!({
        "admin": {"cluster": "keyward_admin", "token": EDGE, "max_staleness": "10m"},
        "rules": [{"path": "/a", "require": ["records:read"]}],
        "readiness_path": "/ready",
    });
    let listener = Listener::new(LISTENER, &plugin, Encoding::Struct, upstream.address());
    let clusters = vec![envoy_config::cluster("keyward_admin", service.address)];
    let envoy = Envoy::start(&envoy_config::bootstrap(&[listener], clusters));
    let address = envoy.listener(LISTENER);
    (envoy, address)
}

fn status(address: SocketAddr, key: &str) -> u16 {
    http1::get(address, "/a", &[("x-api-key", key)]).unwrap().status
}

fn wait_for(address: SocketAddr, key: &str, wanted: u16) {
    let mut in_a_row = 0;
    wait::until(&format!("{wanted} from every worker"), PATIENCE, || {
        in_a_row = if status(address, key) == wanted { in_a_row + 1 } else { 0 };
        (in_a_row == 16).then_some(())
    });
}

#[test]
fn a_receipt_that_says_all_means_all() {
    let (mut service, upstream) = (Service::new(), Upstream::start());
    service.start();
    let (envoy, address) = envoy(&service, &upstream);
    let (_, kept) = service.create("kept");
    wait_for(address, &kept, 200);
    for number in 0..20 {
        let (id, key) = service.create(&format!("goes {number}"));
        wait_for(address, &key, 200);
        let receipt = service.delete(&id);
        assert_eq!((&receipt["vms"], &receipt["of"], &receipt["unreachable"]), (&json!(VMS), &json!(VMS), &json!(0)));
        // Not waited for: the receipt was for this.
        (0..16).for_each(|_| assert_eq!(status(address, &key), 401, "after {receipt}"));
    }
    let (id, old) = service.create("regenerated");
    wait_for(address, &old, 200);
    let response = service.ask("POST", &format!("/v1/keys/{id}/regenerate?wait=10s"), "").json();
    assert_eq!(response["applied"]["vms"], VMS, "{response}");
    (0..16).for_each(|_| assert_eq!(status(address, &old), 401));
    let new = response["key"].as_str().unwrap();
    (0..16).for_each(|_| assert_eq!(status(address, new), 200));
    drop(envoy);
}

#[test]
fn a_service_that_comes_late_is_killed_and_comes_again_costs_no_request() {
    let (mut service, upstream) = (Service::new(), Upstream::start());
    let (envoy, address) = envoy(&service, &upstream);
    // Down from the start: nothing is known of any key, and it is said so.
    let response = http1::get(address, "/a", &[("x-api-key", "kw_any")]).unwrap();
    assert_eq!((response.status, response.json()["code"].as_str()), (503, Some("manifest_unavailable")));
    assert_eq!(http1::get(address, "/ready", &[]).unwrap().status, 503);
    assert!(envoy.log().contains("cannot fetch keys"), "{}", envoy.log());

    service.start();
    let (_, key) = service.create("kept");
    wait_for(address, &key, 200);
    assert_eq!(http1::get(address, "/ready", &[]).unwrap().status, 200);
    let (id, goes) = service.create("goes");
    wait_for(address, &goes, 200);

    let key: &'static str = key.leak();
    let expected = vec![("/a", Some(key), 200), ("/a", Some("kw_nobody"), 401)].leak();
    let traffic = Traffic::start(address, expected);
    for round in 0..3 {
        service.kill_9();
        let failures = || envoy.stat("wasmcustom.keyward_sync_failures.reason.status");
        let before = failures();
        wait::until("every VM has missed the service", PATIENCE, || (failures() >= before + VMS).then_some(()));
        service.start();
        let (_, new) = service.create(&format!("after {round}"));
        wait_for(address, &new, 200);
    }
    let receipt = wait::until("every VM is in contact again", PATIENCE, || {
        (service.states().iter().filter(|state| *state == "in_contact").count() as u64 >= VMS)
            .then(|| service.delete(&id))
    });
    assert_eq!((&receipt["vms"], &receipt["of"]), (&json!(VMS), &json!(VMS)), "{receipt}");
    (0..16).for_each(|_| assert_eq!(status(address, &goes), 401));
    println!("{} requests, each answered as it should be", traffic.stop());
}

#[test]
fn a_proxy_that_is_gone_leaves_the_count_and_is_not_forgotten() {
    let (mut service, upstream) = (Service::new(), Upstream::start());
    service.start();
    let (first, address) = envoy(&service, &upstream);
    let (second, _) = envoy(&service, &upstream);
    let (_, key) = service.create("kept");
    wait_for(address, &key, 200);
    let delete = |name: &str| service.delete(&service.create(name).0);
    wait::until("both are counted", PATIENCE, || (delete("both")["of"] == 2 * VMS).then_some(()));
    // Killed, not stopped: its connections just close.
    drop(second);
    let receipt = wait::until("one has left the count", PATIENCE, || {
        let receipt = delete("one");
        (receipt["of"] == VMS).then_some(receipt)
    });
    assert_eq!((&receipt["vms"], &receipt["unreachable"]), (&json!(VMS), &json!(VMS)), "{receipt}");
    assert!(receipt["refused_everywhere_by"].is_string(), "{receipt}");
    drop(first);
    let receipt = wait::until("and the other", PATIENCE, || {
        let receipt = delete("none");
        (receipt["of"] == 0).then_some(receipt)
    });
    assert_eq!((&receipt["vms"], &receipt["unreachable"]), (&json!(0), &json!(2 * VMS)), "{receipt}");
}

//! Changes of the plugin configuration and reloads of a VM, under traffic and without the admin service: no request is
//! wrongly refused or allowed, and every VM keeps receiving changes.

use crate::setup::LISTENER;
use crate::traffic::Traffic;
use keyward_testbed::admin_stand_in::{AdminStandIn, Fault};
use keyward_testbed::artifacts::WasmOnly;
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::{self, Encoding, Listener};
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{artifacts, http1, wait, workspace};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// With each configuration, so that there is traffic before the next one comes.
const REQUESTS_OF_A_VERSION: usize = 50;
const FIRST: &str = "kw_first_0123456789abcdefghijklmnopqrstuvwx";
const SECOND: &str = "kw_second_0123456789abcdefghijklmnopqrstuvw";

/// The way in which a new configuration reaches Envoy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// By replacing the whole listener, as with plain Envoy.
    Lds,
    /// By replacing the filter alone, as with Istio.
    Ecds,
}

struct Edge {
    by: By,
    envoy: Envoy,
    admin: AdminStandIn,
    upstream: Upstream,
    address: SocketAddr,
    file: PathBuf,
    _folder: workspace::TempDir,
}

fn plugin(version: u32) -> Value {
    json!({
        "realm": "tests",
        "admin": {"cluster": "keyward_admin", "token": "kwt_edge", "max_staleness": "1h"},
        "rules": [
            {"path": "/a", "require": ["a:read"]},
            {"path": format!("/version/{version}"), "access": "public"},
        ],
    })
}

impl Edge {
    fn start(by: By) -> Self {
        let (admin, upstream) = (AdminStandIn::start(), Upstream::start());
        admin.put("key_first", FIRST);
        (0..10).for_each(|n| admin.put(&format!("key_{n}"), &format!("kw_{n}")));
        let folder = workspace::scratch("takeover");
        let file = folder.path().join("pushed.json");
        let mut listener = listener(1, upstream.address());
        let clusters = vec![envoy_config::cluster("keyward_admin", admin.address())];
        let bootstrap = match by {
            By::Lds => {
                envoy_config::write_lds(&file, "1", std::slice::from_ref(&listener));
                let mut bootstrap = envoy_config::bootstrap_with_lds(&file, &[listener]);
                bootstrap["static_resources"]["clusters"].as_array_mut().unwrap().extend(clusters);
                bootstrap
            }
            By::Ecds => {
                listener.write_ecds(&file, "1");
                listener.discover_filter(&file);
                envoy_config::bootstrap(&[listener], clusters)
            }
        };
        let envoy = Envoy::start(&bootstrap);
        let address = wait::until("the listener", PATIENCE, || envoy.find_listener(LISTENER));
        let edge = Self { by, envoy, admin, upstream, address, file, _folder: folder };
        edge.wait_for(FIRST, 200);
        edge
    }

    /// Pushes a configuration and waits until it is in use.
    fn push(&self, version: u32) {
        let listener = listener(version, self.upstream.address());
        match self.by {
            By::Lds => envoy_config::write_lds(&self.file, &version.to_string(), &[listener]),
            By::Ecds => listener.write_ecds(&self.file, &version.to_string()),
        }
        let target = format!("/version/{version}");
        let mut in_a_row = 0;
        wait::until(&format!("version {version} counts in every worker"), PATIENCE, || {
            let counts = http1::get(self.address, &target, &[]).is_ok_and(|response| response.status == 200);
            in_a_row = if counts { in_a_row + 1 } else { 0 };
            (in_a_row == 16).then_some(())
        });
    }

    fn status(&self, key: &str) -> Option<u16> {
        http1::get(self.address, "/a", &[("x-api-key", key)]).ok().map(|response| response.status)
    }

    fn wait_for(&self, key: &str, status: u16) {
        let mut in_a_row = 0;
        wait::until(&format!("{status} from every worker"), PATIENCE, || {
            in_a_row = if self.status(key) == Some(status) { in_a_row + 1 } else { 0 };
            (in_a_row == 16).then_some(())
        });
    }
}

fn listener(version: u32, upstream: SocketAddr) -> Listener {
    Listener::new(LISTENER, &plugin(version), Encoding::StringValue, upstream)
}

fn configurations_change_under_traffic(by: By) {
    let edge = Edge::start(by);
    let traffic =
        Traffic::start(edge.address, &[("/a", Some(FIRST), 200), ("/a", Some("kw_nobody"), 401), ("/a", None, 401)]);
    // Polls of the old root contexts end with them.
    (2..6).for_each(|version| {
        edge.push(version);
        traffic.wait_for(REQUESTS_OF_A_VERSION);
    });
    edge.admin.put("key_second", SECOND);
    edge.wait_for(SECOND, 200);
    edge.admin.fail(Some(Fault::Status(503)));
    (6..10).for_each(|version| {
        edge.push(version);
        traffic.wait_for(REQUESTS_OF_A_VERSION);
    });
    edge.wait_for(SECOND, 200);
    edge.admin.fail(None);
    edge.admin.delete("key_second");
    edge.wait_for(SECOND, 401);
    let asked = traffic.stop();
    println!("{asked} requests, each answered as it should be");
    assert_eq!(edge.envoy.stat("wasm.keyward.vm_reload"), 0);
}

#[test]
fn listeners_change_under_traffic() {
    configurations_change_under_traffic(By::Lds);
}

#[test]
fn filters_change_under_traffic() {
    configurations_change_under_traffic(By::Ecds);
}

#[test]
fn a_refused_filter_leaves_the_old_one_at_work() {
    let edge = Edge::start(By::Ecds);
    let mut bad = plugin(2);
    bad["rulez"] = json!([]);
    let listener = Listener::new(LISTENER, &bad, Encoding::StringValue, edge.upstream.address());
    listener.write_ecds(&edge.file, "2");
    wait::until("the refusal is in the log", PATIENCE, || {
        edge.envoy.log().contains("rulez: unknown field").then_some(())
    });
    edge.wait_for(FIRST, 200);
    edge.push(3);
    edge.admin.delete("key_first");
    edge.wait_for(FIRST, 401);
}

#[test]
fn a_vm_that_traps_serves_again_and_hears_of_changes() {
    if WasmOnly::Trap.applies() {
        return;
    }
    let (admin, upstream) = (AdminStandIn::start(), Upstream::start());
    admin.put("key_first", FIRST);
    let mut listener = listener(1, upstream.address());
    listener.vm_config()["code"] = json!({"local": {"filename": artifacts::failpoint_module()}});
    // The shipped value, which is the longest part of a recovery.
    *listener.connection_manager().pointer_mut("/http_filters/0/typed_config/config/reload_config").unwrap() =
        json!({"backoff": {"base_interval": "1s"}});
    let clusters = vec![envoy_config::cluster("keyward_admin", admin.address())];
    let envoy = Envoy::start(&envoy_config::bootstrap(&[listener], clusters));
    let address = envoy.listener(LISTENER);
    let ask = |headers: &[(&str, &str)]| http1::get(address, "/a", headers).unwrap().status;
    let served = |status: u16, key: &str| {
        let mut in_a_row = 0;
        wait::until(&format!("{status} from every worker"), PATIENCE, || {
            let now = ask(&[("x-api-key", key)]);
            // A new VM holds requests that it cannot judge yet, so that no good key is refused.
            assert!(now == status || now == if status == 200 { 503 } else { 200 }, "{now}");
            in_a_row = if now == status { in_a_row + 1 } else { 0 };
            (in_a_row == 16).then_some(())
        });
    };
    served(200, FIRST);
    for _ in 0..3 {
        upstream.take();
        for _ in 0..16 {
            assert_eq!(ask(&[("x-api-key", FIRST), ("x-keyward-failpoint", "1")]), 503);
        }
        assert_eq!(upstream.count(), 0);
        let trapped = Instant::now();
        served(200, FIRST);
        println!("every worker serves again after {} ms", trapped.elapsed().as_millis());
    }
    assert!(envoy.stat("wasm.keyward.vm_reload_success") >= 4);
    admin.delete("key_first");
    served(401, FIRST);
}

//! The real admin service behind a real Envoy with two workers: receipts are true, also while the service starts late,
//! is killed and starts again.

use crate::setup::LISTENER;
use crate::traffic::Traffic;
use keyward_testbed::artifacts::Edition;
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::{self, Encoding, Listener};
use keyward_testbed::service::{Caller, EDGE_TOKEN, Restartable};
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{http1, wait};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
/// The time that a deletion waits for its receipt.
const WAIT: &str = "10s";
/// Returns the number of instances of one proxy. Envoy's canary VM does not count.
fn vms() -> u64 {
    Edition::of_this_run().instances()
}

fn envoy(service: &Restartable, upstream: &Upstream) -> (Envoy, SocketAddr) {
    let plugin = json!({
        "admin": {"cluster": "keyward_admin", "token": EDGE_TOKEN, "max_staleness": "10m"},
        "rules": [{"path": "/a", "require": ["records:read"]}],
        "readiness_path": "/ready",
    });
    let listener = Listener::new(LISTENER, &plugin, Encoding::Struct, upstream.address());
    let clusters = vec![envoy_config::cluster("keyward_admin", service.address())];
    let envoy = Envoy::start(&envoy_config::bootstrap(&[listener], clusters));
    let address = envoy.listener(LISTENER);
    (envoy, address)
}

fn admin(service: &Restartable) -> Caller {
    service.service().admin().unwrap()
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
    let (mut service, upstream) = (Restartable::new(), Upstream::start());
    service.start();
    let (envoy, address) = envoy(&service, &upstream);
    let (_, kept) = admin(&service).create("kept").unwrap();
    wait_for(address, &kept, 200);
    for number in 0..20 {
        let (id, key) = admin(&service).create(&format!("goes {number}")).unwrap();
        wait_for(address, &key, 200);
        let receipt = admin(&service).delete(&id, WAIT).unwrap();
        assert_eq!(
            (&receipt["vms"], &receipt["of"], &receipt["unreachable"]),
            (&json!(vms()), &json!(vms()), &json!(0))
        );
        // There is no wait, because the receipt promises it.
        (0..16).for_each(|_| assert_eq!(status(address, &key), 401, "after {receipt}"));
    }
    let (id, old) = admin(&service).create("regenerated").unwrap();
    wait_for(address, &old, 200);
    let (new, receipt) = admin(&service).regenerate(&id, WAIT).unwrap();
    assert_eq!(receipt["vms"], vms(), "{receipt}");
    (0..16).for_each(|_| assert_eq!(status(address, &old), 401));
    (0..16).for_each(|_| assert_eq!(status(address, &new), 200));
    drop(envoy);
}

#[test]
fn a_service_that_comes_late_is_killed_and_comes_again_costs_no_request() {
    let (mut service, upstream) = (Restartable::new(), Upstream::start());
    let (envoy, address) = envoy(&service, &upstream);
    // The service is down from the start, so no key is known, and the answer says so.
    let response = http1::get(address, "/a", &[("x-api-key", "kw_any")]).unwrap();
    assert_eq!((response.status, response.json()["code"].as_str()), (503, Some("manifest_unavailable")));
    assert_eq!(http1::get(address, "/ready", &[]).unwrap().status, 503);
    assert!(envoy.log().contains("cannot fetch keys"), "{}", envoy.log());

    service.start();
    let (_, key) = admin(&service).create("kept").unwrap();
    wait_for(address, &key, 200);
    assert_eq!(http1::get(address, "/ready", &[]).unwrap().status, 200);
    let (id, goes) = admin(&service).create("goes").unwrap();
    wait_for(address, &goes, 200);

    let key: &'static str = key.leak();
    let expected = vec![("/a", Some(key), 200), ("/a", Some("kw_nobody"), 401)].leak();
    let traffic = Traffic::start(address, expected);
    for round in 0..3 {
        service.kill();
        let failures = || envoy.stat("wasmcustom.keyward_sync_failures.reason.status");
        let before = failures();
        wait::until("every VM has missed the service", PATIENCE, || (failures() >= before + vms()).then_some(()));
        service.start();
        let (_, new) = admin(&service).create(&format!("after {round}")).unwrap();
        wait_for(address, &new, 200);
    }
    let receipt = wait::until("every VM is in contact again", PATIENCE, || {
        (service.service().vms_up_to_date().unwrap() as u64 >= vms())
            .then(|| admin(&service).delete(&id, WAIT).unwrap())
    });
    assert_eq!((&receipt["vms"], &receipt["of"]), (&json!(vms()), &json!(vms())), "{receipt}");
    (0..16).for_each(|_| assert_eq!(status(address, &goes), 401));
    println!("{} requests, each answered as it should be", traffic.stop());
}

#[test]
fn a_proxy_that_is_gone_leaves_the_count_and_is_not_forgotten() {
    let (mut service, upstream) = (Restartable::new(), Upstream::start());
    service.start();
    let (first, address) = envoy(&service, &upstream);
    let (second, _) = envoy(&service, &upstream);
    let (_, key) = admin(&service).create("kept").unwrap();
    wait_for(address, &key, 200);
    let delete = |name: &str| admin(&service).delete(&admin(&service).create(name).unwrap().0, WAIT).unwrap();
    wait::until("both are counted", PATIENCE, || (delete("both")["of"] == 2 * vms()).then_some(()));
    // The service is killed, not stopped: its connections close without notice.
    drop(second);
    let receipt = wait::until("one has left the count", PATIENCE, || {
        let receipt = delete("one");
        (receipt["of"] == vms()).then_some(receipt)
    });
    assert_eq!((&receipt["vms"], &receipt["unreachable"]), (&json!(vms()), &json!(vms())), "{receipt}");
    assert!(receipt["refused_everywhere_by"].is_string(), "{receipt}");
    drop(first);
    let receipt = wait::until("and the other", PATIENCE, || {
        let receipt = delete("none");
        (receipt["of"] == 0).then_some(receipt)
    });
    assert_eq!((&receipt["vms"], &receipt["unreachable"]), (&json!(0), &json!(2 * vms())), "{receipt}");
}

#[test]
fn what_a_key_was_used_and_refused_for_is_reported_by_day() {
    let (mut service, upstream) = (Restartable::new(), Upstream::start());
    service.start();
    let (_envoy, address) = envoy(&service, &upstream);
    let (id, key) = admin(&service).create("counted").unwrap();
    let (off, disabled) = admin(&service).create("switched off").unwrap();
    wait_for(address, &key, 200);
    wait_for(address, &disabled, 200);
    admin(&service).send("PATCH", &format!("/v1/keys/{off}"), r#"{"disabled": true}"#).unwrap();
    wait_for(address, &disabled, 401);
    for _ in 0..5 {
        let unmatched = http1::get(address, "/nothing", &[("x-api-key", &key)]).unwrap();
        assert_eq!(unmatched.json()["code"], "route_denied");
    }
    let usage = |id: &str| admin(&service).get(&format!("/v1/keys/{id}/usage?days=2")).unwrap();
    wait::until("the filters report", PATIENCE, || {
        let (counted, refused) = (usage(&id), usage(&off));
        let all = admin(&service).get("/v1/usage?days=2").unwrap();
        (counted["denied"] == json!({"route_denied": 5})
            && counted["allowed"].as_u64()? >= 16
            && refused["denied"]["key_disabled"].as_u64()? >= 16
            && all["denied"]["route_denied"] == 5)
            .then_some(())
    });
    assert_eq!(usage(&id)["days"].as_array().map(Vec::len), Some(2));
}

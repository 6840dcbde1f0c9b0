//! Protection while the filter fails: the backstop, and the reload of a VM.

use crate::setup::{Edge, LISTENER, READER, plugin};
use keyward_testbed::artifacts::WasmOnly;
use keyward_testbed::envoy_config::Listener;
use keyward_testbed::{artifacts, http1, wait};
use serde_json::json;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

fn use_failpoint_module(listener: &mut Listener) {
    listener.vm_config()["code"] = json!({"local": {"filename": artifacts::failpoint_module()}});
}

#[test]
fn without_the_filter_nothing_passes() {
    let edge = Edge::with(&plugin(), Listener::remove_filter);
    for target in ["/a", "/public/x", "/any"] {
        let (response, received) = edge.ask("GET", target, &[("x-api-key", READER)]);
        assert_eq!((response.status, received.len()), (403, 0), "{target}: {}", response.text());
    }
    // A client cannot set filter state by any header.
    let spoof = [("wasm.keyward.decision", "allowed"), ("keyward.decision", "allowed"), ("x-api-key-id", "key_admin")];
    let (response, received) = edge.ask("GET", "/a", &spoof);
    assert_eq!((response.status, received.len()), (403, 0));
}

#[test]
fn a_filter_that_is_switched_off_on_a_route_lets_nothing_pass() {
    let edge = Edge::with(&plugin(), |listener| {
        let route = listener.connection_manager().pointer_mut("/route_config/virtual_hosts/0/routes/0").unwrap();
        route["typed_per_filter_config"] = json!({"keyward": {
            "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true}});
    });
    let (response, received) = edge.ask("GET", "/a", &[("x-api-key", READER)]);
    assert_eq!((response.status, received.len()), (403, 0));
}

#[test]
fn a_crash_refuses_and_the_next_vm_serves() {
    if WasmOnly::Trap.applies() {
        return;
    }
    let edge = Edge::with(&plugin(), use_failpoint_module);
    let crash = [("x-api-key", READER), ("x-keyward-failpoint", "1")];
    // These requests are more than enough to trap every worker's VM.
    for _ in 0..16 {
        let (response, received) = edge.ask("GET", "/a", &crash);
        assert_eq!((response.status, received.len()), (503, 0), "{}", response.text());
        // No request without a key passes, in any state of the VM.
        let (response, received) = edge.ask("GET", "/a", &[]);
        assert!(matches!(response.status, 401 | 503), "{}", response.status);
        assert!(received.is_empty());
    }
    // FAIL_RELOAD starts a new VM on a later request, in each worker.
    let mut served = 0;
    wait::until("both workers serve again", PATIENCE, || {
        let ok = http1::get(edge.address, "/a", &[("x-api-key", READER)]).is_ok_and(|response| response.status == 200);
        served = if ok { served + 1 } else { 0 };
        (served == 16).then_some(())
    });
    assert!(edge.envoy.stat("wasm.keyward.vm_reload_success") > 0, "{}", edge.envoy.admin("/stats?filter=wasm").text());
}

#[test]
fn a_filter_that_fails_in_the_workers_alone_lets_nothing_pass() {
    if WasmOnly::Trap.applies() {
        return;
    }
    // The canary and the main thread accept the configuration, but the workers do not. Envoy then runs the workers
    // without the filter and logs nothing.
    let edge = Edge::with(&plugin(), |listener| {
        use_failpoint_module(listener);
        listener.vm_config()["configuration"] =
            json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "workers-fail"});
    });
    for response in edge.ask_both_workers("/a", &[("x-api-key", READER)]) {
        assert_eq!(response.status, 403, "{}", response.text());
        assert!(response.text().contains("RBAC"), "answered by somebody else: {}", response.text());
    }
    for response in edge.ask_both_workers("/public/x", &[]) {
        assert_eq!(response.status, 403);
    }
    assert_eq!(edge.upstream.count(), 0);
    assert_eq!(edge.envoy.find_listener(LISTENER), Some(edge.address));
}

#[test]
fn the_shipped_module_has_no_failpoint() {
    let edge = Edge::start();
    let (response, received) = edge.ask("GET", "/a", &[("x-api-key", READER), ("x-keyward-failpoint", "1")]);
    assert_eq!((response.status, received.len()), (200, 1));
}

//! The readiness path, in every state that a VM can be in.

use crate::plugin::*;
use keyward_testbed::wasm_host::WasmVm;
use serde_json::{Value, json};

fn ready(plugin: &Value) -> WasmVm {
    let mut plugin = plugin.clone();
    plugin["readiness_path"] = json!("/ready");
    start(&plugin)
}

#[track_caller]
fn assert_ready(vm: &mut WasmVm, status: u32) {
    for path in ["/ready", "/ready?probe=1"] {
        let outcome = ask(vm, path, None);
        let reply = outcome.reply.expect("the filter answers by itself");
        assert_eq!((outcome.paused, reply.status), (true, status), "{path}");
        assert!(reply.headers.contains(&(b"cache-control".to_vec(), b"no-store".to_vec())));
        assert_eq!(reply.details, "keyward_readiness");
    }
}

#[test]
fn a_vm_is_ready_once_it_has_keys_and_while_they_are_fresh() {
    let mut plugin = with_admin();
    plugin["admin"]["max_staleness"] = json!("3s");
    let mut vm = ready(&plugin);
    assert_ready(&mut vm, 503);
    load(&mut vm);
    assert_ready(&mut vm, 200);
    vm.tick(2_999 * MS);
    assert_ready(&mut vm, 200);
    vm.tick(MS);
    assert_ready(&mut vm, 503);
}

#[test]
fn keys_of_the_configuration_make_it_ready_where_they_are_all_that_counts() {
    let mut vm = ready(&with_both("fallback"));
    assert_ready(&mut vm, 200);
    // Beside the fetched ones they are a part.
    let mut vm = ready(&with_both("always"));
    assert_ready(&mut vm, 503);
    load(&mut vm);
    assert_ready(&mut vm, 200);
    let mut plugin = with_both("always");
    plugin.as_object_mut().unwrap().remove("admin");
    assert_ready(&mut ready(&plugin), 200);
}

#[test]
fn what_needs_no_keys_is_ready_without() {
    assert_ready(&mut ready(&json!({"rules": [{"path": "/**", "access": "public"}]})), 200);
}

#[test]
fn only_the_very_path_is_answered() {
    let mut vm = ready(&with_admin());
    for path in ["/ready/", "/Ready", "/read%79", "/ready/x"] {
        assert_refused(&ask(&mut vm, path, None), 401, "key_missing");
    }
    assert_refused(&ask(&mut vm, "//ready", None), 400, "path_ambiguous");
}

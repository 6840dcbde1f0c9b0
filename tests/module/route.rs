//! Route metadata that cannot be had, and what is removed before it is read.

use crate::plugin::*;
use keyward_testbed::wasm_host::WasmVm;
use serde_json::json;

const METADATA: &[u8] = b"xds\0route_metadata";

fn vm(more: serde_json::Value) -> WasmVm {
    let mut plugin = with_both("always");
    plugin.as_object_mut().unwrap().remove("admin");
    plugin["route_metadata"] = json!(true);
    plugin.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    start(&plugin)
}

#[test]
fn metadata_that_cannot_be_read_denies_and_is_told_once() {
    for status in [2, 3, 10, 12, u32::MAX] {
        let mut vm = vm(json!({}));
        vm.state_mut().property_errors.insert(METADATA.to_vec(), status);
        for _ in 0..3 {
            assert_refused(&ask(&mut vm, "/a", Some(INLINE)), 403, "route_denied");
        }
        assert_refused(&ask(&mut vm, "/public", None), 401, "key_missing");
        assert_eq!(vm.state().metric("keyward_route_metadata_invalid"), 4);
        assert_eq!(vm.state().logs.len(), 1, "{}", vm.state().log_text());
    }
}

#[test]
fn bytes_that_are_no_metadata_deny() {
    for bytes in [&b"\xff"[..], b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\x0a", &[0x0a; 300]] {
        let mut vm = vm(json!({}));
        vm.state_mut().properties.insert(METADATA.to_vec(), bytes.to_vec());
        assert_refused(&ask(&mut vm, "/a", Some(INLINE)), 403, "route_denied");
    }
}

#[test]
fn the_route_is_chosen_anew_where_something_was_removed_and_stays_where_nothing_was() {
    for (more, key, clears) in [
        (json!({}), Some(INLINE), 1),
        (json!({}), None, 0),
        (json!({"hide_key": false, "identity_headers": null}), Some(INLINE), 0),
    ] {
        let mut vm = vm(more);
        let outcome = ask(&mut vm, "/a", key);
        let expected = if key.is_some() { "allowed" } else { "key_missing" };
        assert_eq!(told(&outcome).0.as_deref(), Some(expected));
        assert_eq!(vm.state().route_cache_clears, clears);
    }
    let mut vm = vm(json!({"hide_key": false}));
    vm.request(head("/a", &[("x-api-key-id", "root")]), true);
    assert_eq!(vm.state().route_cache_clears, 1);
}

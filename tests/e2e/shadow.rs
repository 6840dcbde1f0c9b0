//! Shadow mode changes nothing for live traffic, except that only the filter sets identity headers.

use crate::setup::{ADMIN, EXPIRED, Edge, READER, assert_passed, manifest, plugin};
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::{Shipped, shipped, shipped_shadow};
use keyward_testbed::http1;
use keyward_testbed::upstream::Upstream;
use serde_json::{Value, json};

fn edge() -> Edge {
    let mut plugin = plugin();
    plugin["mode"] = json!("shadow");
    Edge::with(&plugin, |listener| {
        let backstop = listener.connection_manager().pointer_mut("/http_filters/1/typed_config").unwrap();
        let backstop = backstop.as_object_mut().unwrap();
        let rules = backstop.remove("rules").unwrap();
        backstop.insert("shadow_rules".to_owned(), rules);
    })
}

#[test]
fn nothing_is_refused_and_everything_is_counted() {
    let edge = edge();
    for (id, target, key, reason, told) in [
        ("s1", "/a", Some(READER), "allowed", Some("key_reader")),
        ("s2", "/a", None, "key_missing", None),
        ("s3", "/a", Some(EXPIRED), "key_expired", None),
        ("s4", "/denied/x", Some(ADMIN), "route_denied", None),
        ("s5", "//a", None, "path_ambiguous", None),
        ("s6", "/public/x", None, "public", None),
        ("s7", "/write", Some(READER), "route_denied", None),
    ] {
        let mut headers = vec![("host", id), ("x-api-key-id", "key_root"), ("x-api-key-name", "root")];
        headers.extend(key.map(|key| ("x-api-key", key)));
        let (response, received) = edge.ask("GET", target, &headers);
        let arrived = assert_passed(&response, received);
        assert_eq!(arrived.target(), target);
        let told: Vec<String> = told.map(str::to_owned).into_iter().collect();
        assert_eq!(arrived.header("x-api-key-id"), told, "{target}");
        // The credential stays in the request, because the upstream may still check it.
        let key: Vec<String> = key.map(str::to_owned).into_iter().collect();
        assert_eq!(arrived.header("x-api-key"), key);
        assert_eq!(edge.envoy.access_log_entry("host", id)["decision"], reason);
    }
    let metrics = edge.envoy.prometheus();
    assert!(metrics.contains(r#"keyward_decisions{outcome="shadow",reason="key_missing"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"keyward_decisions{outcome="shadow",reason="route_denied"} 2"#), "{metrics}");
    assert!(!metrics.contains(r#"outcome="deny",reason="key_missing"} 1"#), "{metrics}");
}

#[test]
fn the_shipped_shadow_configuration_changes_nothing_for_the_upstream() {
    let upstream = Upstream::start();
    let envoy = Envoy::start(&Shipped::shadow(upstream.address()).with_manifest(manifest()).build());
    let records = "/api/collections/posts/records";
    for (id, target, key, reason, key_id) in [
        ("s1", records, Some(ADMIN), "allowed", Some("key_admin")),
        ("s2", records, None, "key_missing", None),
        ("s3", records, Some("kw_nobody"), "key_unknown", None),
        ("s4", records, Some(EXPIRED), "key_expired", Some("key_expired")),
        ("s5", records, Some(READER), "permission_missing", Some("key_reader")),
        ("s6", "/api/settings", Some(ADMIN), "route_denied", Some("key_admin")),
        ("s7", "/api/health", Some(ADMIN), "public", None),
    ] {
        let mut headers = vec![("host", id), ("x-api-key-id", "key_root"), ("x-api-key-name", "root")];
        headers.extend(key.map(|key| ("x-api-key", key)));
        let response = http1::exchange(envoy.listener("databases_api"), "GET", target, &headers).unwrap();
        let arrived = assert_passed(&response, upstream.take());
        // An upstream that checks keys itself still receives them.
        assert_eq!(arrived.header("x-api-key"), key.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{id}");
        // A key that would be refused gives no identity, but the access log names it.
        let identity: Vec<_> = key_id.filter(|_| reason == "allowed").map(str::to_owned).into_iter().collect();
        assert_eq!(arrived.header("x-api-key-id"), identity, "{id}");
        assert_eq!(arrived.header("x-api-key-name").len(), identity.len(), "{id}");
        let entry = envoy.access_log_entry("host", id);
        assert_eq!((entry["decision"].as_str(), entry["key_id"].as_str()), (Some(reason), key_id), "{id}");
    }
    assert_eq!(envoy.stat("http.databases_api.rbac.shadow_denied"), 5);
    assert_eq!(envoy.stat("http.databases_api.rbac.shadow_allowed"), 2);
}

/// Without this test a change that is made to `envoy.yaml` but not to its sibling would be found in production.
#[test]
fn the_shipped_shadow_configuration_is_envoy_yaml_but_for_three_things() {
    let mut enforcing = shipped();
    let manager =
        enforcing.pointer_mut("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config").unwrap();
    manager.pointer_mut("/http_filters/0/typed_config/config/configuration/value").unwrap()["mode"] = json!("shadow");
    let backstop = manager.pointer_mut("/http_filters/1/typed_config").and_then(Value::as_object_mut).unwrap();
    let rules = backstop.remove("rules").unwrap();
    backstop.insert("shadow_rules".to_owned(), rules);
    let removed = manager.pointer_mut("/route_config/request_headers_to_remove").and_then(Value::as_array_mut).unwrap();
    removed.retain(|header| header != "x-api-key");
    assert_eq!(shipped_shadow(), enforcing);
}

//! Shadow mode: in front of live traffic, nothing changes but who may say who called.

use crate::setup::{ADMIN, EXPIRED, Edge, READER, assert_passed, plugin};
use serde_json::json;

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
        // The credential stays: the upstream may still be the one that checks it.
        let key: Vec<String> = key.map(str::to_owned).into_iter().collect();
        assert_eq!(arrived.header("x-api-key"), key);
        assert_eq!(edge.envoy.access_log_entry("host", id)["decision"], reason);
    }
    let metrics = edge.envoy.prometheus();
    assert!(metrics.contains(r#"keyward_decisions{outcome="shadow",reason="key_missing"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"keyward_decisions{outcome="shadow",reason="route_denied"} 2"#), "{metrics}");
    assert!(!metrics.contains(r#"outcome="deny",reason="key_missing"} 1"#), "{metrics}");
}

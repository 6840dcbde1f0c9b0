//! The access log and the metrics, neither of which ever holds a key.

use crate::setup::{ADMIN, EXPIRED, Edge, READER};
use keyward_policy::digest::Digest;

#[test]
fn the_access_log_tells_key_decision_and_details() {
    let edge = Edge::start();
    for (id, target, key, status, decision, key_id, details) in [
        ("r1", "/a?secret=1", Some(READER), 200, "allowed", Some("key_reader"), "via_upstream"),
        ("r2", "/public/x", None, 200, "public", None, "via_upstream"),
        ("r3", "/a", None, 401, "key_missing", None, "keyward_key_missing"),
        ("r4", "/a", Some(EXPIRED), 401, "key_expired", Some("key_expired"), "keyward_key_expired"),
        ("r5", "/denied/x", Some(ADMIN), 403, "route_denied", Some("key_admin"), "keyward_route_denied"),
        ("r6", "//a", Some(ADMIN), 400, "path_ambiguous", None, "keyward_path_ambiguous"),
        ("r7", "/a", Some("kw_nobody"), 401, "key_unknown", None, "keyward_key_unknown"),
    ] {
        let mut headers = vec![("host", id)];
        headers.extend(key.map(|key| ("x-api-key", key)));
        let (response, _) = edge.ask("GET", target, &headers);
        assert_eq!(response.status, status);
        let entry = edge.envoy.access_log_entry("host", id);
        assert_eq!(entry["decision"], decision, "{entry}");
        assert_eq!(entry["key_id"].as_str(), key_id, "{entry}");
        assert_eq!(entry["details"], details, "{entry}");
        assert_eq!(entry["status"], status, "{entry}");
        assert_eq!(entry["path"], target.split('?').next().unwrap(), "{entry}");
    }
}

#[test]
fn the_counters_have_labels_in_prometheus() {
    let edge = Edge::start();
    for _ in 0..3 {
        edge.ask("GET", "/a", &[("x-api-key", READER)]);
    }
    for _ in 0..2 {
        edge.ask("GET", "/a", &[]);
    }
    edge.ask("POST", "/write", &[("x-api-key", READER)]);
    edge.ask("GET", "/public/x", &[]);
    let metrics = edge.envoy.prometheus();
    for line in [
        r#"keyward_decisions{outcome="allow",reason="allowed"} 3"#,
        r#"keyward_decisions{outcome="deny",reason="key_missing"} 2"#,
        r#"keyward_decisions{outcome="deny",reason="permission_missing"} 1"#,
        r#"keyward_decisions{outcome="allow",reason="public"} 1"#,
        "# TYPE keyward_decisions counter",
    ] {
        assert_eq!(metrics.lines().filter(|have| *have == line).count(), 1, "{line} in\n{metrics}");
    }
}

#[test]
fn no_key_and_no_digest_in_anything_that_is_written() {
    let edge = Edge::start();
    let bad = ["kw_nobody_secret", "a kw_reader_ b", "kw_reader_,kw_admin_"];
    for key in [READER, ADMIN, EXPIRED].iter().chain(&bad) {
        for target in ["/a", "/denied/x", "//a", "/public/x", "/nothing"] {
            let (response, _) = edge.ask("GET", target, &[("x-api-key", key), ("host", "last")]);
            let text = format!("{response:?} {}", response.text());
            assert!(!text.contains("kw_"), "{text}");
        }
    }
    edge.envoy.access_log_entry("host", "last");
    let written = [edge.envoy.log(), edge.envoy.access_log(), edge.envoy.prometheus()].concat();
    assert!(!written.contains("kw_"), "{written}");
    for key in [READER, ADMIN, EXPIRED] {
        let digest = Digest::of_key(key.as_bytes()).to_hex();
        assert!(!written.contains(&digest[..16]), "a digest in\n{written}");
    }
}

#[test]
fn a_denial_explains_itself() {
    let edge = Edge::start();
    let (response, _) = edge.ask("POST", "/write", &[("x-api-key", READER)]);
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let problem = response.json();
    assert_eq!(problem["type"], "urn:keyward:permission_missing");
    assert_eq!(problem["status"], 403);
    assert_eq!(problem["required"], serde_json::json!(["a:write"]));
    assert_eq!(problem["missing"], serde_json::json!(["a:write"]));
    assert!(problem["title"].is_string() && problem["detail"].is_string());
    let (response, _) = edge.ask("GET", "/a", &[]);
    assert_eq!(response.header("www-authenticate"), Some(r#"ApiKey realm="tests", header="X-Api-Key""#));
}

//! Encoded slashes and dots, with and without Envoy's normalization: no spelling passes a rule that denies the path.

use crate::setup::{ADMIN, Edge, assert_denied, manifest};
use keyward_testbed::envoy_config::Listener;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

/// Spellings of `/denied/x`, which is denied to everyone. Many of them begin with a public path.
const SPELLINGS: &[&str] = &[
    "/denied/x",
    "//denied/x",
    "/denied//x",
    "/./denied/x",
    "/public/../denied/x",
    "/public/..//denied/x",
    "/public/%2e%2e/denied/x",
    "/public/%2E%2E/denied/x",
    "/public/.%2e/denied/x",
    "/public/..%2fdenied/x",
    "/public/..%2Fdenied%2Fx",
    "/public%2f..%2fdenied%2fx",
    "/public/..%5cdenied/x",
    "/public/..\\denied/x",
    "/public\\..\\denied\\x",
    "/public/..;/denied/x",
    "/public/..;a=b/denied/x",
    "/public/%2e%2e;/denied/x",
    "/public/..%3b/denied/x",
    "/%64enied/x",
    "/denie%64/x",
    "/%2564enied/x",
    "/%252fdenied/x",
    "/public/%252e%252e/denied/x",
    "/public/%c0%ae%c0%ae/denied/x",
    "/public/%00/../denied/x",
    "/denied/%2e/x",
    "/denied/.",
    "/denied/..",
    "/public/x/../../denied/x",
    "/public/..%00/denied/x",
    "/denied;/x",
    "/denied%2fx",
    "/public/%2e%2e%2fdenied/x",
    "/public/....//denied/x",
    "/public/.%00./denied/x",
];

fn plugin() -> Value {
    json!({
        "manifest": manifest(),
        "rules": [{"path": "/denied/**", "access": "deny"}, {"path": "/public/**", "access": "public"}],
        "unmatched": "public",
    })
}

/// Returns the path that an upstream serves if it decodes and resolves a target as eagerly as possible.
fn eager(target: &str) -> String {
    let mut path = target.split('?').next().unwrap().to_owned();
    for _ in 0..3 {
        path = percent_decode_str(&path).decode_utf8_lossy().replace('\\', "/");
        path = path.split('/').map(|segment| segment.split(';').next().unwrap()).collect::<Vec<_>>().join("/");
        path = path.replace('\0', "");
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

fn no_spelling_gets_through(change: impl FnOnce(&mut Listener)) {
    let edge = Edge::with(&plugin(), change);
    for spelling in SPELLINGS {
        let (response, received) = edge.ask("GET", spelling, &[("x-api-key", ADMIN)]);
        for request in &received {
            let read = eager(&request.target());
            assert!(
                !read.starts_with("/denied"),
                "{spelling} arrived as {} and may be read as {read}",
                request.target()
            );
        }
        if received.is_empty() {
            assert!(
                matches!(response.status, 307 | 400 | 403 | 404),
                "{spelling}: {} {}",
                response.status,
                response.text()
            );
        }
    }
    // The denied path is denied by its rule, not by a failure.
    let (response, received) = edge.ask("GET", "/denied/x", &[("x-api-key", ADMIN)]);
    assert_denied(&response, &received, 403, "route_denied");
    // The public path really is public.
    let (response, received) = edge.ask("GET", "/public/x", &[]);
    assert_eq!((response.status, received.len()), (200, 1));
}

/// The spellings with a single reading, which is a denied path.
const PLAINLY_DENIED: &[&str] = &["/denied/x", "/%64enied/x", "/denie%64/x"];

#[test]
fn no_spelling_gets_through_without_normalisation() {
    no_spelling_gets_through(|_| {});
    // The filter itself refuses each of them with the right code.
    let edge = Edge::with(&plugin(), |_| {});
    for spelling in SPELLINGS {
        let (response, received) = edge.ask("GET", spelling, &[("x-api-key", ADMIN)]);
        if PLAINLY_DENIED.contains(spelling) {
            assert_denied(&response, &received, 403, "route_denied");
        } else {
            assert_denied(&response, &received, 400, "path_ambiguous");
        }
    }
}

#[test]
fn no_spelling_gets_through_with_the_shipped_normalisation() {
    let shipped = keyward_testbed::envoy_config::shipped();
    let place = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let shipped = shipped.pointer(place).unwrap().clone();
    no_spelling_gets_through(|listener| {
        for field in ["normalize_path", "merge_slashes", "path_with_escaped_slashes_action"] {
            listener.connection_manager()[field] = shipped[field].clone();
        }
    });
}

#[test]
fn no_spelling_gets_through_with_every_other_normalisation() {
    for action in ["KEEP_UNCHANGED", "REJECT_REQUEST", "UNESCAPE_AND_FORWARD"] {
        no_spelling_gets_through(|listener| {
            let manager = listener.connection_manager();
            manager["normalize_path"] = json!(true);
            manager["merge_slashes"] = json!(true);
            manager["path_with_escaped_slashes_action"] = json!(action);
        });
    }
}

#[test]
fn what_is_ambiguous_is_said_so() {
    let edge = Edge::start();
    for target in ["//a", "/a%2f", "/a/../a", "/a;x", "/a%00", "/%zz", "/a%ff", "/%2561"] {
        let (response, received) = edge.ask("GET", target, &[("x-api-key", ADMIN)]);
        assert_denied(&response, &received, 400, "path_ambiguous");
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
    }
}

//! Metadata of the route that a request really takes, not of the one that it seemed to take with what the client sent.

use crate::setup::{Edge, LISTENER, READER, assert_denied, assert_passed, plugin};
use serde_json::{Value, json};

/// Routes that a client could choose by what the filter removes: each lets everybody through.
fn edge(more: Value) -> Edge {
    let mut plugin = plugin();
    plugin["route_metadata"] = json!(true);
    plugin["key_sources"] = json!([{"header": "x-api-key"}, {"query": "k"}, {"cookie": "k"}]);
    plugin.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Edge::with(&plugin, |listener| {
        let routes = listener.connection_manager().pointer_mut("/route_config/virtual_hosts/0/routes").unwrap();
        let route = |condition: Value, keyward: Value| {
            let mut matching = json!({"prefix": "/"});
            matching.as_object_mut().unwrap().extend(condition.as_object().unwrap().clone());
            json!({"match": matching, "route": {"cluster": LISTENER}, "metadata": {"filter_metadata": {"keyward": keyward}}})
        };
        let header = |name: &str| json!({"headers": [{"name": name, "present_match": true}]});
        let open = json!({"access": "public"});
        *routes = json!([
            route(header("x-api-key"), open.clone()),
            route(header("x-api-key-name"), open.clone()),
            route(header("cookie"), open.clone()),
            route(json!({"query_parameters": [{"name": "k", "present_match": true}]}), open),
            route(json!({"headers": [{"name": "x-two", "present_match": true}]}), json!({"require": "a:read,a:write"})),
            route(json!({"headers": [{"name": "x-odd", "present_match": true}]}), json!({"require": 1})),
            route(json!({}), json!({"require": "a:read"})),
        ]);
    })
}

#[test]
fn a_client_cannot_choose_the_route_by_what_is_removed() {
    let edge = edge(json!({}));
    for (target, header) in
        [("/x", ("x-api-key", "kw_nobody")), ("/x?k=kw_nobody", ("x-a", "1")), ("/x", ("cookie", "k=kw_nobody"))]
    {
        let (response, received) = edge.ask("GET", target, &[header]);
        assert_denied(&response, &received, 401, "key_unknown");
    }
    let (response, received) = edge.ask("GET", "/x", &[("x-api-key-name", "root")]);
    assert_denied(&response, &received, 401, "key_missing");
    let (response, received) = edge.ask("GET", "/x", &[]);
    assert_denied(&response, &received, 401, "key_missing");
    let (response, received) = edge.ask("GET", "/x", &[("x-api-key", READER)]);
    assert!(assert_passed(&response, received).header("x-api-key").is_empty());
    let (response, received) = edge.ask("GET", &format!("/x?a=1&k={READER}"), &[]);
    assert_eq!(assert_passed(&response, received).target(), "/x?a=1");
}

#[test]
fn the_route_says_what_is_asked_and_a_deny_rule_wins() {
    let edge = edge(json!({}));
    let (response, received) = edge.ask("GET", "/x", &[("x-api-key", READER), ("x-two", "1")]);
    assert_denied(&response, &received, 403, "permission_missing");
    assert_eq!(response.json()["missing"], json!(["a:write"]));
    for _ in 0..2 {
        let (response, received) = edge.ask("GET", "/x", &[("x-api-key", READER), ("x-odd", "1")]);
        assert_denied(&response, &received, 403, "route_denied");
    }
    assert_eq!(edge.envoy.stat("wasmcustom.keyward_route_metadata_invalid"), 2);
    let (response, received) = edge.ask("GET", "/denied/x", &[("x-api-key", READER)]);
    assert_denied(&response, &received, 403, "route_denied");
}

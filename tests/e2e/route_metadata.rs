//! Metadata of routes in a real Envoy: the permissions that a route requires are required on that route.

use crate::setup::{Edge, LISTENER, READER, assert_denied, assert_passed, plugin};
use serde_json::{Value, json};

/// Returns a route with metadata, which sends its name to the upstream.
fn route(name: &str, condition: Value, keyward: Value) -> Value {
    let mut matching = json!({"prefix": "/"});
    matching.as_object_mut().unwrap().extend(condition.as_object().unwrap().clone());
    json!({
        "name": name, "match": matching, "route": {"cluster": LISTENER},
        "metadata": {"filter_metadata": {"keyward": keyward}},
        "request_headers_to_add": [{"header": {"key": "x-route", "value": name}}],
    })
}

fn header(name: &str) -> Value {
    json!({"headers": [{"name": name, "present_match": true}]})
}

fn edge(more: Value, routes: Value) -> Edge {
    let mut plugin = plugin();
    plugin["route_metadata"] = json!(true);
    plugin["key_sources"] = json!([{"header": "x-api-key"}, {"query": "k"}, {"cookie": "k"}]);
    plugin.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Edge::with(&plugin, |listener| {
        *listener.connection_manager().pointer_mut("/route_config/virtual_hosts/0/routes").unwrap() = routes;
    })
}

#[test]
fn a_request_takes_the_route_that_it_was_decided_by() {
    // A route that matches on the credential is sound only if the filter leaves the credential in the request.
    let by_query = json!({"query_parameters": [{"name": "k", "present_match": true}]});
    let open = json!({"access": "public"});
    let routes = json!([
        route("by_key", header("x-api-key"), open.clone()),
        route("by_name", header("x-api-key-name"), open.clone()),
        route("by_cookie", header("cookie"), open.clone()),
        route("by_query", by_query, open),
        route("closed", json!({}), json!({"require": "a:write"})),
    ]);
    let edge = edge(json!({"hide_key": false, "identity_headers": null}), routes);
    for (target, header, taken) in [
        ("/x", ("x-api-key", "kw_nobody"), "by_key"),
        ("/x", ("x-api-key-name", "root"), "by_name"),
        ("/x", ("cookie", "k=kw_nobody"), "by_cookie"),
        ("/x?k=kw_nobody", ("x-a", "1"), "by_query"),
    ] {
        let (response, received) = edge.ask("GET", target, &[header]);
        assert_eq!(assert_passed(&response, received).header("x-route"), [taken]);
    }
    let (response, received) = edge.ask("GET", "/x", &[]);
    assert_denied(&response, &received, 401, "key_missing");
}

#[test]
fn the_route_says_what_is_asked_and_a_deny_rule_wins() {
    let edge = edge(
        json!({}),
        json!([
            route("two", header("x-two"), json!({"require": "a:read,a:write"})),
            route("odd", header("x-odd"), json!({"require": 1})),
            route("open", header("x-open"), json!({"access": "public"})),
            route("one", json!({}), json!({"require": "a:read"})),
        ]),
    );
    let (response, received) = edge.ask("GET", "/x", &[]);
    assert_denied(&response, &received, 401, "key_missing");
    let query = format!("/x?a=1&k={READER}");
    let cookie = format!("k={READER}; a=b");
    for (target, key) in
        [("/x?a=1", ("x-api-key", READER)), (query.as_str(), ("x-a", "1")), ("/x?a=1", ("cookie", &cookie))]
    {
        let (response, received) = edge.ask("GET", target, &[key, ("x-api-key-id", "root")]);
        let arrived = assert_passed(&response, received);
        assert_eq!((arrived.target().as_str(), arrived.header("x-route")), ("/x?a=1", vec!["one".to_owned()]));
        assert!(!arrived.headers.iter().any(|(_, value)| value.windows(3).any(|part| part == b"kw_")));
        assert_eq!(arrived.header("x-api-key-id"), ["key_reader"]);
    }
    let (response, received) = edge.ask("GET", "/x", &[("x-api-key", "kw_nobody"), ("x-open", "1")]);
    assert_eq!(assert_passed(&response, received).header("x-route"), ["open"]);
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

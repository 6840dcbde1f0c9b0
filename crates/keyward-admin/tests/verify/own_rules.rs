//! What each listener does with the request that needs a key.

use crate::dump::{OFF, backstop, covered, dump, listener, manager, one, router, to, wasm};
use crate::listeners::{Case, all, case};
use crate::{Proxy, http, plugin, verify};
use keyward_testbed::upstream::Upstream;
use serde_json::{Value, json};

/// Each listener has a configuration of its own: what one refuses, another may let pass.
#[test]
fn a_listener_whose_own_rules_make_the_request_public_is_not_covered() {
    let edge = || listener("edge", 8080, &[covered(json!({}))]);
    let with_rules = |rules: Value, cluster: &str, domain: &str| {
        let filters = [wasm("apikeys", &plugin(rules)), backstop(), router()];
        let mut routes = to(cluster);
        routes["virtual_hosts"][0]["domains"] = json!([domain]);
        listener("second", 9000, &[manager(&filters, json!({"route_config": routes}))])
    };
    let public = || json!({"rules": [{"path": "/**", "access": "public"}]});
    let unmatched = json!({"rules": [{"path": "/b", "require": ["a:read"]}], "unmatched": "public"});
    let by_route = json!({"rules": [{"path": "/**", "access": "public"}], "route_metadata": true});
    let two = |rules, cluster, domain| dump(&[edge(), with_rules(rules, cluster, domain)], &[]);
    let named = |name, dump, exit, says| Case { name, dump, args: &["--listener", "edge"], exit, says };
    all(vec![
        case(
            "a rule",
            two(public(), "records", "*"),
            1,
            &[
                "✗ listener   second",
                "GET /a passes here without a key: rules[0] makes it public",
                "the cluster `records`",
            ],
        ),
        case("`unmatched`", two(unmatched, "records", "*"), 1, &["✗ listener   second", "`unmatched` is `public`"]),
        case("the same address", two(public(), "records_tcp", "*"), 1, &["✗ listener   second", "10.0.0.7:8090"]),
        case("a listener that is not said to be another's", two(public(), "other", "*"), 1, &["✗ listener   second"]),
        case("another host", two(public(), "other", "b.example.com"), 0, &["✓ listener   second"]),
        case("metadata of routes", two(by_route, "records", "*"), 1, &["? listener   second", "metadata of routes"]),
        named("not named, the same cluster", two(public(), "records", "*"), 1, &["✗ listener   second"]),
        named("not named, another cluster", two(public(), "other", "*"), 0, &["- listener second", "other rules"]),
    ]);
}

/// What the proxy answers itself may be worth a key.
#[test]
fn a_direct_response_without_the_filter_is_seen() {
    let off = json!({"apikeys": {"@type": OFF, "disabled": true}, "behind": {"@type": OFF, "disabled": true}});
    let with_route = |action: &str, value: Value| {
        let mut routes = to("records");
        let route = json!({"match": {"path": "/secret"}, action: value, "typed_per_filter_config": off.clone()});
        routes["virtual_hosts"][0]["routes"].as_array_mut().unwrap().insert(0, route);
        one(covered(json!({"route_config": routes})), &[])
    };
    all(vec![
        case(
            "a direct response",
            with_route("direct_response", json!({"status": 200, "body": {"inline_string": "secret"}})),
            1,
            &["✗ listener", "routes[0].typed_per_filter_config.apikeys", "routes[0].typed_per_filter_config.behind"],
        ),
        case("a redirect", with_route("redirect", json!({"https_redirect": true})), 0, &["✓ listener"]),
    ]);
}

/// What the code of other filters does is not in the dump, and is said not to be looked at.
#[test]
fn filters_that_run_code_beside_keyward_are_named() {
    let lua = json!({"name": "script", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
    }});
    let mut statistics = wasm("stats", &json!({}));
    statistics["typed_config"]["config"]["vm_config"]["runtime"] = "envoy.wasm.runtime.null".into();
    let other = wasm("other", &json!({"a": 1}));
    let filters = |filters: &[Value]| one(manager(filters, json!({"route_config": to("records")})), &[]);
    all(vec![
        case(
            "in front",
            filters(&[lua.clone(), wasm("apikeys", &plugin(json!({}))), backstop(), router()]),
            0,
            &[
                "- listener edge (0.0.0.0:8080): `script` (Lua) runs in front of Keyward and can answer without a key; what",
            ],
        ),
        case(
            "behind",
            filters(&[wasm("apikeys", &plugin(json!({}))), backstop(), other, router()]),
            0,
            &[
                "`other` (Wasm) runs behind Keyward and can change what was checked: path, method, identity; what it does",
            ],
        ),
    ]);
    let dump = filters(&[statistics, wasm("apikeys", &plugin(json!({}))), backstop(), router()]);
    let proxy = Proxy::default();
    let admin = proxy.admin(&dump);
    let admin = format!("http://{}", admin.address());
    let (exit, said) = verify(&proxy.gateway(), &["--path", "/a", "--envoy-admin", &admin]);
    assert!(exit == 0 && !said.contains("stats"), "{said}");
}

/// The dump of a proxy says nothing about another one that answered.
#[test]
fn a_proxy_that_did_not_count_the_requests_is_not_the_one_that_answered() {
    let dump = one(covered(json!({})), &[]);
    let (one, other) = (Proxy::default(), Proxy::default());
    let run = |admin: &Upstream| {
        let admin = format!("http://{}", admin.address());
        verify(&one.gateway(), &["--path", "/a", "--envoy-admin", &admin])
    };
    let (exit, said) = run(&one.admin(&dump));
    assert!(exit == 0 && said.contains("✓ proxy      it counted the requests"), "{said}");
    let (exit, said) = run(&other.admin(&dump));
    assert!(exit == 1 && said.contains("? proxy      this proxy did not count the requests: another pod"), "{said}");
    let body = dump.to_string();
    let (exit, said) = run(&Upstream::answering(move |_| http("200 OK", "", &body)));
    assert!(exit == 1 && said.contains("? proxy      its statistics do not show Keyward's decisions"), "{said}");
}

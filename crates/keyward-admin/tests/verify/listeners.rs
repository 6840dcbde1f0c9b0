//! What is seen in the configuration dump of a proxy.

use crate::dump::{
    OFF, WASM, backstop, bootstrap, config, covered, discovered, dump, ecds, keyward, listener, manager, one, router,
    tcp, to, wasm, with,
};
use crate::{Proxy, plugin, verify};
use keyward_testbed::{fixture, workspace};
use serde_json::{Value, json};

/// Runs the command with an admin interface that shows this dump.
pub(crate) fn verify_dump(dump: &Value, more: &[&str]) -> (i32, String) {
    let proxy = Proxy::default();
    let (gateway, admin) = (proxy.gateway(), proxy.admin(dump));
    let admin = format!("http://{}", admin.address());
    verify(&gateway, &[&["--path", "/a", "--envoy-admin", &admin], more].concat())
}

pub(crate) struct Case {
    pub name: &'static str,
    pub dump: Value,
    pub args: &'static [&'static str],
    pub exit: i32,
    pub says: &'static [&'static str],
}

pub(crate) fn case(name: &'static str, dump: Value, exit: i32, says: &'static [&'static str]) -> Case {
    Case { name, dump, args: &[], exit, says }
}

/// Runs every case, and names all that fail.
#[track_caller]
pub(crate) fn all(cases: Vec<Case>) {
    let mut wrong = Vec::new();
    for case in cases {
        let (exit, said) = verify_dump(&case.dump, case.args);
        let missing: Vec<_> = case.says.iter().filter(|text| !said.contains(**text)).collect();
        if exit != case.exit || !missing.is_empty() {
            wrong.push(format!("{}: exit {exit} for {}, missing {missing:?}:\n{said}", case.name, case.exit));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn ways_past_the_filter_are_seen_wherever_the_dump_shows_them() {
    let upgrade =
        |filters: Value| covered(json!({"upgrade_configs": [{"upgrade_type": "websocket", "filters": filters}]}));
    let off = |name: &str| json!({name: {"@type": OFF, "disabled": true}});
    let route = |more: Value| {
        let mut route = json!({"match": {"prefix": "/"}, "route": {"cluster": "records"}});
        route.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]}})
    };
    let weighted = json!({"route": {"weighted_clusters": {"clusters": [
        {"name": "records", "weight": 1}, {"name": "records", "weight": 1, "typed_per_filter_config": off("behind")},
    ]}}});
    let in_matcher = json!({"route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "matcher": {
        "on_no_match": {"action": {"name": "route", "typed_config": {
            "match": {"prefix": "/"}, "route": {"cluster": "records"}, "typed_per_filter_config": off("apikeys"),
        }}},
    }}]}});
    let opener = json!({"name": "opener", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
        "on_request_headers": [{"object_key": "wasm.keyward.decision", "format_string": {}}],
    }});
    let shadow = wasm("apikeys", &plugin(json!({"mode": "shadow"})));
    let counting = {
        let mut backstop = backstop();
        let rules = backstop["typed_config"]["rules"].take();
        backstop["typed_config"] = json!({"@type": backstop["typed_config"]["@type"], "shadow_rules": rules});
        backstop
    };
    let bad = wasm("keyward", &json!({"rules": "none", "manifest": {"keys": []}}));
    all(vec![
        case("complete", one(covered(json!({})), &[]), 0, &["✓ listener", "Keyward, and a backstop behind it"]),
        case(
            "an upgrade without Keyward",
            one(upgrade(json!([router()])), &[]),
            1,
            &["upgrade_configs[0].filters", "`websocket`", "Keyward and its backstop are not among them"],
        ),
        case(
            "an upgrade without a backstop",
            one(upgrade(json!([keyward(), router()])), &[]),
            1,
            &["the backstop is not among them"],
        ),
        case("a complete upgrade", one(upgrade(json!([keyward(), backstop(), router()])), &[]), 0, &["✓ listener"]),
        case("an upgrade that takes the filters of all", one(upgrade(json!([])), &[]), 0, &["✓ listener"]),
        case(
            "a cluster of several switches the backstop off",
            one(covered(route(weighted)), &[]),
            1,
            &["weighted_clusters.clusters[1].typed_per_filter_config.behind"],
        ),
        case(
            "a route in a matcher",
            one(covered(in_matcher), &[]),
            1,
            &["matcher.on_no_match", "`apikeys` is off here"],
        ),
        case(
            "a filter that sets the decision",
            one(manager(&[keyward(), opener, backstop(), router()], json!({"route_config": to("records")})), &[]),
            1,
            &["http_filters[1]", "sets the filter state"],
        ),
        case(
            "shadow mode with a backstop in force",
            one(manager(&[shadow, backstop(), router()], json!({"route_config": to("records")})), &[]),
            1,
            &["the mode is `shadow`, and the backstop refuses what shadow mode lets pass", "shadow_rules"],
        ),
        case(
            "a backstop that only counts",
            one(manager(&[keyward(), counting, router()], json!({"route_config": to("records")})), &[]),
            1,
            &["Keyward without a sound backstop", "http_filters[1].typed_config: there are no `rules`"],
        ),
        case(
            "a configuration that the filter does not take",
            one(manager(&[bad, backstop(), router()], json!({"route_config": to("records")})), &[]),
            1,
            &["does not take the configuration"],
        ),
    ]);
}

#[test]
fn what_the_dump_does_not_show_is_never_ok() {
    let rds = |name: &str| json!({"rds": {"route_config_name": name}});
    let without_routes = |more: Value| manager(&[keyward(), backstop(), router()], more);
    let routes = |routes: Value| config("RoutesConfigDump", "dynamic_route_configs", json!([{"route_config": routes}]));
    let named = |name: &str, inner: Value| with(inner, "name", name.into());
    let scope = |scope: Value| {
        json!({"scoped_routes": {"name": "scopes", "scoped_route_configurations_list": {
            "scoped_route_configurations": [scope],
        }}})
    };
    let off = json!({"apikeys": {"@type": OFF, "disabled": true}});
    let off_in_scope = with(to("records"), "typed_per_filter_config", off);
    let vhds = with(named("edge", to("records")), "vhds", json!({"config_source": {"ads": {}}}));
    let scoped_by_name = config(
        "ScopedRoutesConfigDump",
        "dynamic_scoped_route_configs",
        json!([{"name": "scopes", "scoped_route_configs": [{"name": "one", "route_configuration_name": "edge"}]}]),
    );
    let warming = {
        let mut dump = one(covered(json!({})), &[]);
        let entry = json!({"name": "new", "warming_state": {"listener": listener("new", 1, &[tcp("records")])}});
        dump["configs"][1]["dynamic_listeners"].as_array_mut().unwrap().push(entry);
        dump
    };
    let refused = {
        let mut dump = one(tcp("other"), &[]);
        dump["configs"][1]["dynamic_listeners"][0]["error_state"] = json!({"details": "no such module"});
        dump
    };
    all(vec![
        case("RDS", one(without_routes(rds("edge")), &[routes(named("edge", to("records")))]), 0, &["✓ listener"]),
        case(
            "RDS that has not come",
            one(without_routes(rds("edge")), &[routes(named("others", to("records")))]),
            1,
            &["? listener", "the routes `edge`", "failed: not everything could be looked at"],
        ),
        case("VHDS", one(without_routes(rds("edge")), &[routes(vhds)]), 1, &["? listener", "by VHDS"]),
        case(
            "inline scoped routes",
            one(without_routes(scope(json!({"name": "one", "route_configuration": off_in_scope}))), &[]),
            1,
            &["✗ listener", "scoped_routes[0].route_configuration.typed_per_filter_config.apikeys"],
        ),
        case(
            "scoped routes by name",
            one(
                without_routes(json!({"scoped_routes": {"name": "scopes", "scoped_rds": {}}})),
                &[scoped_by_name.clone(), routes(named("edge", to("records")))],
            ),
            0,
            &["✓ listener"],
        ),
        case(
            "scoped routes whose routes have not come",
            one(without_routes(json!({"scoped_routes": {"name": "scopes", "scoped_rds": {}}})), &[scoped_by_name]),
            1,
            &["? listener", "the routes `edge`"],
        ),
        case(
            "scoped routes that have not come",
            one(without_routes(json!({"scoped_routes": {"name": "scopes", "scoped_rds": {}}})), &[]),
            1,
            &["? listener", "the scoped routes `scopes`"],
        ),
        case(
            "a scope on demand",
            one(
                without_routes(scope(json!({"name": "one", "on_demand": true, "route_configuration": to("records")}))),
                &[],
            ),
            1,
            &["? listener", "on demand"],
        ),
        case(
            "a filter by ECDS that has not come",
            one(manager(&[discovered("keyward"), backstop(), router()], json!({"route_config": to("records")})), &[]),
            1,
            &["✗ listener", "the filter `keyward`, which the proxy has not got yet"],
        ),
        case("a listener that is not in use", warming, 0, &["- listener new: not looked at"]),
        case("a listener whose change was refused", refused, 1, &["refused the last change", "no such module"]),
    ]);
}

/// The names of filters are the user's: what a filter was given says what it is.
#[test]
fn keyward_is_known_by_what_it_was_given() {
    let other = wasm("keyward.other", &json!({"header": "x-a"}));
    let by = |filter: Value| manager(&[filter, backstop(), router()], json!({"route_config": to("records")}));
    let ecds_name = "extensions.istio.io/wasmplugin/istio-ingress.apikeys";
    let in_namespace = "extensions.istio.io/wasmplugin/keyward.other";
    let struct_config = {
        let mut filter = keyward();
        filter["typed_config"]["config"]["configuration"] =
            json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": plugin(json!({}))});
        filter
    };
    let wrapped = json!({"name": "a", "typed_config": {
        "@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": WASM,
        "value": keyward()["typed_config"].clone(),
    }});
    let native = json!({"name": "a", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
        "dynamic_module_config": {"name": "auth-1"}, "filter_name": "auth",
        "filter_config": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": plugin(json!({})).to_string()},
    }});
    all(vec![
        case(
            "a WasmPlugin of another name",
            one(by(discovered(ecds_name)), &[ecds(with(keyward(), "name", ecds_name.into()))]),
            0,
            &["✓ listener"],
        ),
        case(
            "another WasmPlugin in the namespace `keyward`",
            one(by(discovered(in_namespace)), &[ecds(with(other.clone(), "name", in_namespace.into()))]),
            1,
            &["✗ listener", "a backstop without Keyward"],
        ),
        case("another filter of that name", one(by(other), &[]), 1, &["a backstop without Keyward"]),
        case("a configuration as a Struct", one(by(struct_config), &[]), 0, &["✓ listener"]),
        case("a TypedStruct", one(by(wrapped), &[]), 0, &["✓ listener"]),
        case("the native edition", one(by(native), &[]), 0, &["✓ listener"]),
    ]);
}

#[test]
fn a_chain_that_leads_around_keyward_is_seen() {
    let edge = || listener("edge", 8080, &[covered(json!({}))]);
    let open = |cluster: &str| manager(&[router()], json!({"route_config": to(cluster)}));
    let shared = {
        let rules = json!({"unmatched": "public", "rules": [{"hosts": ["records.example.com"], "path": "/**", "access": "deny"}]});
        let host = |domain: &str, cluster: &str| {
            let mut host = to(cluster)["virtual_hosts"][0].clone();
            host["domains"] = json!([domain]);
            host
        };
        let hosts = json!([host("records.example.com", "records"), host("other.example.com", "other")]);
        let filters = [wasm("apikeys", &plugin(rules)), backstop(), router()];
        listener("edge", 8080, &[manager(&filters, json!({"route_config": {"virtual_hosts": hosts}}))])
    };
    let chain = |name: &str, server: &str, chain: Value| {
        let chain = with(chain, "filter_chain_match", json!({"server_names": [server]}));
        if name.is_empty() { chain } else { with(chain, "name", name.into()) }
    };
    let two = listener(
        "edge",
        8443,
        &[chain("", "a.example.com", covered(json!({}))), chain("", "b.example.com", open("records"))],
    );
    let named = listener("edge", 8443, &[chain("one", "a", covered(json!({}))), chain("two", "b", open("records"))]);
    let default = with(edge(), "default_filter_chain", tcp("records"));
    let mut cases = vec![
        case(
            "TCP to the same cluster",
            dump(&[edge(), listener("raw", 9000, &[tcp("records")])], &[]),
            1,
            &["raw (0.0.0.0:9000)", "takes no HTTP", "the cluster `records`, which Keyward protects elsewhere"],
        ),
        case(
            "TCP to the same address",
            dump(&[edge(), listener("raw", 9000, &[tcp("records_tcp")])], &[]),
            1,
            &["it leads to 10.0.0.7:8090, which Keyward protects"],
        ),
        case(
            "HTTP to the same cluster",
            dump(&[edge(), listener("open", 9000, &[open("records")])], &[]),
            1,
            &["open (0.0.0.0:9000)", "requests get around it here"],
        ),
        case("a default chain", dump(&[default], &[]), 1, &["✓ listener", "the default chain", "takes no HTTP"]),
        case(
            "two chains",
            dump(&[two], &[]),
            1,
            &["chain 1 for a.example.com: Keyward", "chain 2 for b.example.com: neither"],
        ),
        case("two chains with names", dump(&[named], &[]), 1, &["chain one: Keyward", "chain two: neither"]),
        case(
            "another application",
            dump(&[edge(), listener("open", 9000, &[open("other")])], &[]),
            1,
            &["✗ listener   open (0.0.0.0:9000): neither Keyward nor a backstop", "--listener"],
        ),
    ];
    let with_flag = |name, dump, args, exit, says| Case { name, dump, args, exit, says };
    let others = || dump(&[edge(), listener("open", 9000, &[open("other")])], &[]);
    let around = || dump(&[edge(), listener("open", 9000, &[open("records")])], &[]);
    cases.extend([
        with_flag(
            "another application on a shared gateway",
            others(),
            &["--listener", "edge"],
            0,
            &["✓ listener", "- listener open (0.0.0.0:9000): neither", "nothing that Keyward protects"],
        ),
        with_flag("by port", others(), &["--listener", "8080"], 0, &["✓ listener"]),
        with_flag("by address", others(), &["--listener", "0.0.0.0:8080"], 0, &["✓ listener"]),
        with_flag("a listener that is not covered", others(), &["--listener", "open"], 1, &["✗ listener   open"]),
        with_flag(
            "no such listener",
            others(),
            &["--listener", "https"],
            1,
            &["https: the proxy has no such listener; it has edge"],
        ),
        with_flag("around it, and not named", around(), &["--listener", "edge"], 1, &["requests get around it here"]),
        with_flag(
            "a host that is public elsewhere",
            dump(&[shared.clone(), listener("open", 9000, &[open("other")])], &[]),
            &["--listener", "edge", "--host", "records.example.com"],
            0,
            &["✓ listener", "- listener open"],
        ),
        with_flag(
            "a host that is protected elsewhere",
            dump(&[shared, listener("open", 9000, &[open("records")])], &[]),
            &["--listener", "edge", "--host", "records.example.com"],
            1,
            &["requests get around it here"],
        ),
    ]);
    all(cases);
}

/// A listener that is not named need not be covered, as long as it is known to lead elsewhere.
#[test]
fn a_chain_that_may_lead_anywhere_is_not_taken_as_another_application() {
    let edge = || listener("edge", 8080, &[covered(json!({}))]);
    let open = |action: Value| {
        let routes = json!([{"match": {"prefix": "/"}, "route": action}]);
        let routes = json!({"route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]}});
        listener("open", 9000, &[manager(&[router()], routes)])
    };
    let clusters = || {
        let forward = json!({"name": "envoy.clusters.dynamic_forward_proxy"});
        let aggregate = json!({"name": "envoy.clusters.aggregate", "typed_config": {"clusters": ["other", "records"]}});
        config(
            "ClustersConfigDump",
            "dynamic_active_clusters",
            json!([
                {"cluster": {"name": "passthrough", "type": "ORIGINAL_DST"}},
                {"cluster": {"name": "forward", "cluster_type": forward}},
                {"cluster": {"name": "both", "cluster_type": aggregate}},
            ]),
        )
    };
    let for_port = |chain: Value, port: u16| with(chain, "filter_chain_match", json!({"destination_port": port}));
    let inbound = listener("virtualInbound", 15006, &[for_port(covered(json!({})), 8090), tcp("passthrough")]);
    let by_name = listener(
        "virtualInbound",
        15006,
        &[with(covered(json!({})), "filter_chain_match", json!({"server_names": ["a"]})), tcp("passthrough")],
    );
    let outbound =
        with(listener("virtualOutbound", 15001, &[tcp("passthrough")]), "traffic_direction", "OUTBOUND".into());
    let node = |dump: Value, id: &str| {
        let mut dump = dump;
        dump["configs"][0]["bootstrap"]["node"]["id"] = id.into();
        dump
    };
    let udp = json!({"name": "quic", "address": {"socket_address": {"address": "0.0.0.0", "port_value": 443}},
    "listener_filters": [{"name": "udp", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig",
        "matcher": {"on_no_match": {"action": {"typed_config": {"cluster": "records"}}}},
    }}]});
    let named = |name, dump, exit, says| Case { name, dump, args: &["--listener", "edge"], exit, says };
    let two = |action: Value| dump(&[edge(), open(action)], &[clusters()]);
    all(vec![
        named("a header", two(json!({"cluster_header": "x-to"})), 1, &["? listener   open", "each request chooses"]),
        named(
            "a plugin",
            two(json!({"cluster_specifier_plugin": "p"})),
            1,
            &["? listener   open", "each request chooses"],
        ),
        named("a forward proxy", two(json!({"cluster": "forward"})), 1, &["? listener   open", "each request chooses"]),
        named(
            "no such cluster",
            two(json!({"cluster": "missing"})),
            1,
            &["? listener   open", "does not have its cluster"],
        ),
        named(
            "a mirror",
            two(json!({"cluster": "other", "request_mirror_policies": [{"cluster": "records"}]})),
            1,
            &["✗ listener   open", "the cluster `records`"],
        ),
        named("an aggregate", two(json!({"cluster": "both"})), 1, &["✗ listener   open", "the cluster `records`"]),
        named("a passthrough", two(json!({"cluster": "passthrough"})), 1, &["? listener   open", "was going before"]),
        named("UDP", dump(&[edge(), udp], &[]), 1, &["✗ listener   quic (0.0.0.0:443)", "requests get around it here"]),
        case("a named passthrough", two(json!({"cluster": "passthrough"})), 1, &["✗ listener   open"]),
        Case {
            args: &["--listener", "edge", "--listener", "8080"],
            ..named("twice", two(json!({"cluster": "other"})), 0, &["✓ listener", "- listener open"])
        },
        named(
            "a passthrough beside a port",
            dump(&[edge(), inbound], &[clusters()]),
            0,
            &["- listener virtualInbound"],
        ),
        named(
            "a passthrough beside a name",
            dump(&[edge(), by_name], &[clusters()]),
            1,
            &["? listener   virtualInbound"],
        ),
        case(
            "a sidecar's outbound",
            node(dump(&[edge(), outbound.clone()], &[clusters()]), "sidecar~10.0.0.1~a~b"),
            0,
            &["- listener virtualOutbound"],
        ),
        case(
            "a gateway's outbound",
            node(dump(&[edge(), outbound], &[clusters()]), "router~10.0.0.1~a~b"),
            1,
            &["✗ listener   virtualOutbound"],
        ),
    ]);
}

#[test]
fn what_serves_only_the_proxy_itself_needs_no_key() {
    let edge = || listener("edge", 8080, &[covered(json!({}))]);
    let own = |path: &str, cluster: &str| {
        let routes = json!([{"match": {"prefix": path}, "route": {"cluster": cluster}}]);
        let routes =
            json!({"route_config": {"virtual_hosts": [{"name": "backend", "domains": ["*"], "routes": routes}]}});
        listener("own", 15090, &[manager(&[router()], routes)])
    };
    let ready = {
        let routes = json!([{"match": {"prefix": "/"}, "direct_response": {"status": 500}}]);
        let routes =
            json!({"route_config": {"virtual_hosts": [{"name": "ready", "domains": ["*"], "routes": routes}]}});
        listener("ready", 19003, &[manager(&[router()], routes)])
    };
    let rewriting = {
        let mut listener = own("/stats", "prometheus_stats");
        let route = "/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes/0/route";
        listener.pointer_mut(route).unwrap()["prefix_rewrite"] = "/".into();
        listener
    };
    let without_istio = |dump: Value| {
        let mut dump = dump;
        dump["configs"][0] = bootstrap(json!({}));
        dump
    };
    all(vec![
        case(
            "Istio's statistics",
            dump(&[edge(), own("/stats/prometheus", "prometheus_stats")], &[]),
            0,
            &["- listener own (0.0.0.0:15090): needs no key"],
        ),
        case(
            "Istio's health",
            dump(&[edge(), own("/healthz/ready", "agent")], &[]),
            0,
            &["- listener own (0.0.0.0:15090): needs no key"],
        ),
        case(
            "Envoy Gateway's health",
            dump(&[edge(), ready], &[]),
            0,
            &["- listener ready (0.0.0.0:19003): needs no key"],
        ),
        case("the whole admin interface", dump(&[edge(), own("/", "prometheus_stats")], &[]), 1, &["✗ listener   own"]),
        case("the admin interface by another path", dump(&[edge(), rewriting], &[]), 1, &["✗ listener   own"]),
        case(
            "something else on this machine",
            without_istio(dump(&[edge(), own("/", "agent")], &[])),
            1,
            &["✗ listener   own"],
        ),
        case(
            "something else on that port",
            dump(&[edge(), own("/stats/prometheus", "other")], &[]),
            1,
            &["✗ listener   own"],
        ),
        case(
            "nothing but such listeners",
            dump(&[own("/healthz/ready", "agent")], &[]),
            1,
            &["no listener leads to an application"],
        ),
    ]);
}

/// What the control planes made of the shipped files, with their own listeners beside it.
#[test]
fn the_recorded_gateways_are_covered() {
    let files = fixture::all();
    assert!(files.len() >= 3, "{files:?}");
    let list = |fixture: &Value, field: &str, name: &str| -> Vec<Value> {
        fixture[field].as_array().unwrap().iter().map(|item| json!({name: item})).collect()
    };
    for file in files {
        let fixture = fixture::read(&file);
        let place = file.strip_prefix(workspace::root()).unwrap().display().to_string();
        let dump = dump(
            fixture["listeners"].as_array().unwrap(),
            &[
                config("RoutesConfigDump", "dynamic_route_configs", list(&fixture, "routes", "route_config").into()),
                config("EcdsConfigDump", "ecds_filters", list(&fixture, "filters", "ecds_filter").into()),
                config("ClustersConfigDump", "dynamic_active_clusters", list(&fixture, "clusters", "cluster").into()),
            ],
        );
        let (exit, said) = verify_dump(&dump, &[]);
        assert_eq!(exit, 0, "{place}: {said}");
        // A route that no longer switches the filter on, and a filter that is missing.
        let text = dump.to_string();
        let changed = if place.contains("envoy-gateway") {
            text.replace("typed_per_filter_config", "typed_per_filter_config_of_others")
        } else {
            text.replace(r#"\"rules\""#, r#"\"ruled\""#)
        };
        assert!(changed != text, "{place}");
        let (exit, said) = verify_dump(&serde_json::from_str(&changed).unwrap(), &[]);
        assert_eq!(exit, 1, "{place}: {said}");
        let says = if place.contains("envoy-gateway") { "unless a route switches it on" } else { "does not take" };
        assert!(said.contains(says), "{place}: {said}");
    }
}

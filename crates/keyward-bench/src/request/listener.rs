//! Listeners as `envoy.yaml` ships them, with the filters of a variant.

use keyward_testbed::envoy_config;
use serde_json::{Value, json};

/// Which part of the proxy removes the key from the request and adds the identity headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderChanges {
    /// The route does, as in `envoy.yaml`.
    Route,
    /// The filter does, or no part of the proxy.
    Filter,
}

/// What answers requests that pass the filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Upstream {
    /// Envoy's direct response, so that little but the filters is measured. Envoy does not make the route's header
    /// changes in this case.
    Direct,
    /// A server on the other core, reached by the shipped routes.
    Local,
}

/// Returns a listener with the shipped connection manager. It has no access log, because that costs more than all
/// filters together.
pub fn listener(name: &str, filters: &[Value], changes: HeaderChanges, upstream: Upstream) -> Value {
    let shipped = envoy_config::shipped();
    let place = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let mut manager = shipped.pointer(place).cloned().unwrap_or_default();
    manager["stat_prefix"] = json!(name);
    manager["access_log"] = json!([]);
    let router = manager.pointer("/http_filters/2").cloned().unwrap_or_default();
    manager["http_filters"] = filters.iter().cloned().chain([router]).collect();
    if changes == HeaderChanges::Filter
        && let Some(routes) = manager.get_mut("route_config").and_then(Value::as_object_mut)
    {
        routes.remove("request_headers_to_remove");
        routes.remove("request_headers_to_add");
    }
    if upstream == Upstream::Direct {
        let answer = json!({"status": 200, "body": {"inline_string": "0123456789"}});
        manager["route_config"]["virtual_hosts"][0]["routes"] =
            json!([{"match": {"prefix": "/"}, "direct_response": answer}]);
    }
    json!({
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager},
        ]}],
    })
}

/// Returns the shipped backstop.
pub fn backstop() -> Value {
    let place = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/1";
    envoy_config::shipped().pointer(place).cloned().unwrap_or_default()
}

/// Returns the shipped backstop for variants that set no decision: it looks for a decision and then lets the request
/// pass.
pub fn open_backstop() -> Value {
    let mut backstop = backstop();
    let place = "/typed_config/rules/policies/allowed_by_keyward/principals";
    if let Some(principals) = backstop.pointer_mut(place).and_then(Value::as_array_mut) {
        principals.push(json!({"any": true}));
    }
    backstop
}

/// Returns an Envoy configuration with these listeners.
pub fn bootstrap(listeners: Vec<Value>, clusters: Vec<Value>) -> Value {
    let shipped = envoy_config::shipped();
    json!({
        "node": {"id": "bench", "cluster": "bench"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "stats_config": shipped.get("stats_config").cloned().unwrap_or_default(),
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

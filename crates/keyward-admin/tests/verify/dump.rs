//! Configuration dumps of Envoy, made of their parts.

use crate::plugin;
use serde_json::{Value, json};

pub(crate) const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
pub(crate) const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";
pub(crate) const OFF: &str = "type.googleapis.com/envoy.config.route.v3.FilterConfig";
pub(crate) const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
pub(crate) const TCP_PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

/// A Wasm filter as the user has named it everywhere.
pub(crate) fn wasm(name: &str, config: &Value) -> Value {
    json!({"name": name, "typed_config": {"@type": WASM, "config": {
        "name": name, "root_id": name, "failure_policy": "FAIL_RELOAD",
        "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": "/var/lib/plugin.wasm"}}},
        "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": config.to_string()},
    }}})
}

pub(crate) fn keyward() -> Value {
    wasm("apikeys", &plugin(json!({})))
}

pub(crate) fn backstop() -> Value {
    let decided =
        |word: &str| json!({"filter_state": {"key": "wasm.keyward.decision", "string_match": {"exact": word}}});
    json!({"name": "behind", "typed_config": {"@type": RBAC, "rules": {"policies": {"decided": {
        "permissions": [{"any": true}], "principals": [decided("allowed"), decided("public")],
    }}}}})
}

pub(crate) fn router() -> Value {
    json!({"name": "envoy.filters.http.router"})
}

pub(crate) fn discovered(name: &str) -> Value {
    json!({"name": name, "config_discovery": {"config_source": {"ads": {}}, "type_urls": [WASM]}})
}

/// The routes of one host to one cluster.
pub(crate) fn to(cluster: &str) -> Value {
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]);
    json!({"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]})
}

pub(crate) fn manager(filters: &[Value], more: Value) -> Value {
    let mut manager = json!({"@type": MANAGER, "http_filters": filters});
    manager.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"filters": [{"name": "http", "typed_config": manager}]})
}

/// A chain with everything that belongs into it.
pub(crate) fn covered(more: Value) -> Value {
    let mut with_routes = json!({"route_config": to("records")});
    with_routes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    manager(&[keyward(), backstop(), router()], with_routes)
}

pub(crate) fn tcp(cluster: &str) -> Value {
    json!({"filters": [{"name": "tcp", "typed_config": {"@type": TCP_PROXY, "cluster": cluster}}]})
}

pub(crate) fn with(mut value: Value, field: &str, inner: Value) -> Value {
    value[field] = inner;
    value
}

pub(crate) fn listener(name: &str, port: u16, chains: &[Value]) -> Value {
    let address = json!({"socket_address": {"address": "0.0.0.0", "port_value": port}});
    json!({"name": name, "address": address, "filter_chains": chains})
}

pub(crate) fn config(kind: &str, field: &str, entries: Value) -> Value {
    json!({"@type": format!("type.googleapis.com/envoy.admin.v3.{kind}"), field: entries})
}

pub(crate) fn cluster(name: &str, address: &str, port: u16) -> Value {
    let address = json!({"socket_address": {"address": address, "port_value": port}});
    let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}]);
    json!({"cluster": {"name": name, "load_assignment": {"cluster_name": name, "endpoints": endpoints}}})
}

pub(crate) fn bootstrap(metadata: Value) -> Value {
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": 15000}});
    let bootstrap = json!({"node": {"metadata": metadata}, "admin": {"address": address}});
    json!({"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump", "bootstrap": bootstrap})
}

/// A dump with these listeners, and with whatever else is given.
pub(crate) fn dump(listeners: &[Value], others: &[Value]) -> Value {
    let entry = |listener: &Value| json!({"name": listener["name"], "active_state": {"listener": listener}});
    let listeners: Vec<Value> = listeners.iter().map(entry).collect();
    let clusters = json!([
        cluster("records", "10.0.0.7", 8090),
        cluster("records_tcp", "10.0.0.7", 8090),
        cluster("other", "10.0.0.8", 8090),
        cluster("prometheus_stats", "127.0.0.1", 15000),
        cluster("agent", "127.0.0.1", 15020),
    ]);
    let ours = [
        bootstrap(json!({"ISTIO_VERSION": "1.31.0"})),
        config("ListenersConfigDump", "dynamic_listeners", listeners.into()),
        config("ClustersConfigDump", "static_clusters", clusters),
    ];
    let configs = [&ours[..], others].concat();
    json!({"configs": configs})
}

/// A dump of one listener with one chain.
pub(crate) fn one(chain: Value, others: &[Value]) -> Value {
    dump(&[listener("edge", 8080, &[chain])], others)
}

pub(crate) fn ecds(filter: Value) -> Value {
    config("EcdsConfigDump", "ecds_filters", json!([{"ecds_filter": filter}]))
}

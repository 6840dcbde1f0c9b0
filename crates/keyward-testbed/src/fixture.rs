//! What a control plane made of the files in `deploy/`, kept so that Envoy can run it without the control plane.
//!
//! `cargo xtask control-planes` records fixtures; the end-to-end tests replay them. A fixture holds the digests of the files
//! that it was made from, and belongs to them alone.

use crate::{artifacts, envoy_config, workspace};
use keyward_policy::digest::Digest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where fixtures are kept, a folder for each version of a control plane.
pub const FOLDER: &str = "tests/control-plane/fixtures";
/// How the name of the listener begins by which Envoy Gateway asks whether a proxy is ready.
const READINESS: &str = "envoy-gateway-proxy-ready";
/// What is recorded in place of the module.
const MODULE: &str = "keyward.wasm";

/// The SHA-256 of each of these files of the repository.
///
/// # Panics
/// Panics when a file cannot be read.
pub fn digests(files: &[String]) -> BTreeMap<String, String> {
    let digest = |file: &String| {
        let bytes = std::fs::read(workspace::root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        (file.clone(), Digest::of_key(&bytes).to_hex())
    };
    files.iter().map(digest).collect()
}

/// Every fixture that is kept.
pub fn all() -> Vec<PathBuf> {
    let folders = std::fs::read_dir(workspace::root().join(FOLDER)).into_iter().flatten().flatten();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten().flatten());
    let mut files: Vec<PathBuf> = files.map(|file| file.path()).collect();
    files.retain(|file| file.file_name().is_some_and(|name| name != "inputs.json"));
    files.sort();
    files
}

/// Reads a fixture or a list of inputs.
///
/// # Panics
/// Panics when it cannot be read.
pub fn read(file: &Path) -> Value {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Makes a fixture of what Envoy says of its configuration. `replaced` are values of one run, such as ports, and what is
/// recorded in their place.
///
/// # Panics
/// Panics when the dump is not one of Envoy's.
pub fn from_dump(dump: &Value, files: &[String], replaced: &[(String, String)]) -> Value {
    let text = replaced.iter().fold(dump.to_string(), |text, (from, to)| text.replace(from, to));
    let dump: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("not a dump: {error}"));
    let every = |field: &str| {
        let mut found = Vec::new();
        collect(&dump, field, &mut found);
        found
    };
    let mut listeners: Vec<Value> =
        every("active_state").iter().filter_map(|state| state.get("listener").cloned()).filter(has_filters).collect();
    listeners.retain(|listener| !text_of(listener, "name").starts_with(READINESS));
    let mut named = Vec::new();
    listeners.iter().for_each(|listener| collect(listener, "route_config_name", &mut named));
    let routes =
        every("route_config").into_iter().filter(|routes| routes.get("name").is_some_and(|name| named.contains(name)));
    let routes = routes.collect();
    let named: Vec<Value> = ["cluster", "ecds_filter"].iter().flat_map(|field| every(field)).collect();
    let (clusters, filters): (Vec<Value>, Vec<Value>) =
        named.into_iter().filter(Value::is_object).partition(|item| text_of(item, "@type").ends_with("v3.Cluster"));
    // Routes name the clusters of applications; the filter that of the admin service.
    let clusters = clusters.into_iter().filter(|cluster| role(text_of(cluster, "name")).is_some()).collect();
    let mut fixture = json!({
        "inputs": digests(files),
        "listeners": sorted(listeners), "routes": sorted(routes), "filters": sorted(filters), "clusters": sorted(clusters),
    });
    walk(&mut fixture, &mut |fields| {
        if let Some(code) = fields.get_mut("code") {
            *code = json!({"local": {"filename": MODULE}});
        }
        fields.remove("last_updated");
    });
    fixture
}

/// The application behind a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The admin service.
    Admin,
    /// The protected application.
    Records,
    /// Somebody else's.
    Other,
}

/// The application behind a cluster, by the cluster's name.
fn role(cluster: &str) -> Option<Role> {
    [("keyward", Role::Admin), ("records", Role::Records), ("other", Role::Other)]
        .into_iter()
        .find_map(|(word, role)| cluster.contains(word).then_some(role))
}

/// Makes a configuration of a fixture that Envoy runs by itself: with the module under test, free ports, and `address` for
/// each application. The variables of the VM get the edge token.
///
/// # Panics
/// Panics when the fixture is not complete.
pub fn replayed(fixture: &Value, token: &str, address: impl Fn(Role) -> SocketAddr) -> Value {
    let list = |name: &str| fixture.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let find = |items: &[Value], name: &str| {
        let found = items.iter().find(|item| text_of(item, "name") == name).cloned();
        found.unwrap_or_else(|| panic!("the fixture has no {name}"))
    };
    let (routes, filters) = (list("routes"), list("filters"));
    let mut listeners = list("listeners");
    // A listener of HTTP/3 takes certificates.
    listeners.retain(|listener| listener.get("udp_listener_config").is_none());
    for listener in &mut listeners {
        walk(listener, &mut |fields| {
            // Certificates came from the control plane.
            fields.remove("transport_socket");
            fields.remove("filter_chain_match");
            fields.remove("listener_filters");
            if let Some(rds) = fields.remove("rds") {
                let mut routes = find(&routes, text_of(&rds, "route_config_name"));
                if let Some(fields) = routes.as_object_mut() {
                    fields.remove("@type");
                }
                fields.insert("route_config".to_owned(), routes);
            }
            if fields.remove("config_discovery").is_some() {
                let name = fields.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
                fields.insert("typed_config".to_owned(), find(&filters, &name)["typed_config"].clone());
            }
        });
        walk(listener, &mut |fields| {
            if let Some(code) = fields.get_mut("code") {
                *code = json!({"local": {"filename": artifacts::module()}});
            }
            if let Some(keys) = fields.remove("host_env_keys") {
                let names = keys.as_array().cloned().unwrap_or_default();
                let values = names.iter().filter_map(Value::as_str).map(|name| (name.to_owned(), json!(token)));
                fields.insert("key_values".to_owned(), Value::Object(values.collect()));
            }
        });
        if let Some(fields) = listener.as_object_mut() {
            fields.remove("@type");
            fields.insert("address".to_owned(), json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}}));
        }
    }
    let clusters = list("clusters").into_iter().map(|cluster| {
        let name = text_of(&cluster, "name");
        let role = role(name).unwrap_or_else(|| panic!("nobody knows the cluster {name}"));
        envoy_config::cluster(name, address(role))
    });
    let clusters: Vec<Value> = clusters.collect();
    envoy_config::of_resources(listeners, clusters)
}

fn has_filters(listener: &Value) -> bool {
    let mut found = Vec::new();
    collect(listener, "http_filters", &mut found);
    !found.is_empty()
}

fn text_of<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn sorted(mut items: Vec<Value>) -> Vec<Value> {
    items.sort_by_key(|item| text_of(item, "name").to_owned());
    items.dedup();
    items
}

/// Every value under a field of that name, however deep.
fn collect(value: &Value, field: &str, found: &mut Vec<Value>) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                if name == field {
                    found.push(inner.clone());
                } else {
                    collect(inner, field, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, field, found)),
        _ => {}
    }
}

/// Calls `change` with every object, the outer ones first.
fn walk(value: &mut Value, change: &mut impl FnMut(&mut serde_json::Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            change(fields);
            fields.iter_mut().for_each(|(_, inner)| walk(inner, change));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, change)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_by_another_service_is_put_where_it_is_used() {
        let manager = json!({
            "rds": {"route_config_name": "http.80"},
            "http_filters": [{"name": "plugin", "config_discovery": {"type_urls": []}}],
        });
        let plugin = json!({"vm_config": {
            "code": {"remote": {"sha256": "ab"}}, "environment_variables": {"host_env_keys": ["TOKEN"]},
        }});
        let dump = json!([
            {"active_state": {"last_updated": "now", "listener": {
                "name": "l", "address": {"port_value": 41234}, "filter_chains": [{"transport_socket": {}, "filters": [manager]}],
            }}},
            {"active_state": {"listener": {"name": "without filters"}}},
            {"route_config": {"@type": "x/envoy.config.route.v3.RouteConfiguration", "name": "http.80", "virtual_hosts": [{"name": "h:41234"}]}},
            {"route_config": {"name": "of nobody"}},
            {"ecds_filter": {"name": "plugin", "typed_config": plugin}},
            {"cluster": {"@type": "x/envoy.config.cluster.v3.Cluster", "name": "outbound|80||records"}},
            {"cluster": {"@type": "x/envoy.config.cluster.v3.Cluster", "name": "of nobody"}},
        ]);
        let fixture = from_dump(&dump, &[], &[("41234".to_owned(), "80".to_owned())]);
        let names = |field: &str| -> Vec<String> {
            let items = fixture.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
            items.iter().map(|item| text_of(item, "name").to_owned()).collect()
        };
        assert_eq!(
            [names("listeners"), names("routes"), names("filters"), names("clusters")].concat(),
            ["l", "http.80", "plugin", "outbound|80||records"]
        );
        assert!(!fixture.to_string().contains("41234") && !fixture.to_string().contains("sha256"));
        let config = replayed(&fixture, "kwt_edge", |_| SocketAddr::from(([127, 0, 0, 1], 1)));
        let chain = config.pointer("/static_resources/listeners/0/filter_chains/0").cloned().unwrap_or_default();
        assert_eq!(chain.get("transport_socket"), None);
        let manager = chain.pointer("/filters/0").cloned().unwrap_or_default();
        // As a message of its own it has a type; as a field it has none.
        assert_eq!(
            manager.pointer("/route_config"),
            Some(&json!({"name": "http.80", "virtual_hosts": [{"name": "h:80"}]}))
        );
        let vm = manager.pointer("/http_filters/0/typed_config/vm_config").cloned().unwrap_or_default();
        assert_eq!(vm.pointer("/environment_variables/key_values/TOKEN"), Some(&json!("kwt_edge")));
        assert!(vm.pointer("/code/local/filename").is_some());
    }
}

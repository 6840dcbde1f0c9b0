//! The configuration dump of a running proxy: its listeners, and what they refer to by name.

use super::finding::{list, text};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// A listener that is in use.
#[derive(Debug, Clone, Copy)]
pub(super) struct InUse<'v> {
    /// The listener.
    pub listener: &'v Value,
    /// Why the proxy refused the last change of the listener. Empty: it has not refused one.
    pub refused: &'v str,
}

/// The answer of Envoy's `/config_dump`, with what is looked up in it.
#[derive(Debug)]
pub(super) struct Dump<'v> {
    value: &'v Value,
    /// Route configurations by name. Those that are part of a listener are not among them.
    routes: HashMap<&'v str, &'v Value>,
    clusters: HashMap<&'v str, Cluster<'v>>,
    /// The addresses behind each name of EDS.
    endpoints: HashMap<&'v str, BTreeSet<String>>,
}

#[derive(Debug)]
struct Cluster<'v> {
    cluster: &'v Value,
    is_static: bool,
}

impl<'v> Dump<'v> {
    /// Reads a dump.
    pub fn new(value: &'v Value) -> Self {
        let mut dump = Self { value, routes: HashMap::new(), clusters: HashMap::new(), endpoints: HashMap::new() };
        for entry in dump.entries("RoutesConfigDump", "dynamic_route_configs") {
            let routes = &entry["route_config"];
            dump.routes.insert(text(&routes["name"]), routes);
        }
        for (field, is_static) in [("static_clusters", true), ("dynamic_active_clusters", false)] {
            for entry in dump.entries("ClustersConfigDump", field) {
                let cluster = &entry["cluster"];
                dump.clusters.insert(text(&cluster["name"]), Cluster { cluster, is_static });
            }
        }
        for field in ["static_endpoint_configs", "dynamic_endpoint_configs"] {
            for entry in dump.entries("EndpointsConfigDump", field) {
                let assignment = &entry["endpoint_config"];
                dump.endpoints.entry(text(&assignment["cluster_name"])).or_default().extend(addresses(assignment));
            }
        }
        dump
    }

    fn entries(&self, kind: &'static str, field: &'static str) -> impl Iterator<Item = &'v Value> + use<'v> {
        let configs = list(&self.value["configs"]).iter();
        configs
            .filter(move |config| text(&config["@type"]).ends_with(&format!(".{kind}")))
            .flat_map(move |config| list(&config[field]))
    }

    /// Returns whether this is an answer of Envoy's `/config_dump` with the listeners in it.
    pub fn is_one(&self) -> bool {
        list(&self.value["configs"]).iter().any(|config| text(&config["@type"]).ends_with(".ListenersConfigDump"))
    }

    /// Returns the listeners in use, and the names of those that are not in use yet.
    pub fn listeners(&self) -> (Vec<InUse<'v>>, Vec<&'v str>) {
        let fixed = self.entries("ListenersConfigDump", "static_listeners");
        let mut in_use: Vec<_> = fixed.map(|entry| InUse { listener: &entry["listener"], refused: "" }).collect();
        let mut others = Vec::new();
        for entry in self.entries("ListenersConfigDump", "dynamic_listeners") {
            let listener = &entry["active_state"]["listener"];
            if listener.is_object() {
                in_use.push(InUse { listener, refused: text(&entry["error_state"]["details"]) });
            } else if entry["warming_state"].is_object() || entry["error_state"].is_object() {
                others.push(text(&entry["name"]));
            }
        }
        (in_use, others)
    }

    /// Returns a filter with the settings that the proxy got for it by ECDS, if it gets them so. `None` means that the
    /// dump does not have them.
    pub fn resolved(&self, filter: &Value) -> Option<Value> {
        let mut filter = filter.clone();
        if !filter["config_discovery"].is_null() {
            let mut entries = self.entries("EcdsConfigDump", "ecds_filters").map(|entry| &entry["ecds_filter"]);
            let found = entries.find(|found| found["name"] == filter["name"])?;
            filter["typed_config"] = found["typed_config"].clone();
        }
        Some(filter)
    }

    /// Returns the route configurations that an HTTP connection manager uses, with a name for each, and what of them the
    /// dump does not show.
    pub fn routes(&self, manager: &'v Value) -> (Vec<(String, &'v Value)>, Vec<String>) {
        let mut found = Vec::new();
        let mut unseen = Vec::new();
        let mut names = Vec::new();
        if manager["route_config"].is_object() {
            found.push(("route_config".to_owned(), &manager["route_config"]));
        }
        if manager["rds"].is_object() {
            names.push(text(&manager["rds"]["route_config_name"]));
        }
        let scoped = &manager["scoped_routes"];
        if scoped.is_object() {
            let name = &scoped["name"];
            let inline = list(&scoped["scoped_route_configurations_list"]["scoped_route_configurations"]).iter();
            let discovered = ["inline_scoped_route_configs", "dynamic_scoped_route_configs"]
                .into_iter()
                .flat_map(|field| self.entries("ScopedRoutesConfigDump", field))
                .filter(|entry| entry["name"] == *name)
                .flat_map(|entry| list(&entry["scoped_route_configs"]));
            let scopes: Vec<&Value> = inline.chain(discovered).collect();
            if scopes.is_empty() {
                unseen.push(format!("the scoped routes `{}`, of which the dump has none", text(name)));
            }
            for (index, scope) in scopes.into_iter().enumerate() {
                if scope["on_demand"] == true {
                    unseen.push(format!("the scope `{}`, which is loaded on demand", text(&scope["name"])));
                }
                match &scope["route_configuration"] {
                    Value::Object(_) => found
                        .push((format!("scoped_routes[{index}].route_configuration"), &scope["route_configuration"])),
                    _ => names.push(text(&scope["route_configuration_name"])),
                }
            }
        }
        names.sort_unstable();
        names.dedup();
        for name in names {
            match self.routes.get(name) {
                Some(routes) => found.push((format!("routes[{name}]"), routes)),
                None => unseen.push(format!("the routes `{name}`, which the proxy has not got yet")),
            }
        }
        for (name, routes) in &found {
            if !routes["vhds"].is_null() {
                unseen.push(format!("the virtual hosts of `{name}` that the proxy gets by VHDS"));
            }
        }
        (found, unseen)
    }

    /// Returns what a cluster leads to: its own name, its name in EDS, and the addresses behind it.
    pub fn targets(&self, name: &str) -> Vec<String> {
        let cluster = self.clusters.get(name).map_or(&Value::Null, |found| found.cluster);
        // An aggregate leads to other clusters.
        let parts = list(&cluster["cluster_type"]["typed_config"]["clusters"]).iter().map(text);
        let of_parts: Vec<String> =
            parts.filter(|part| *part != name).flat_map(|part| self.own_targets(part)).collect();
        self.own_targets(name).into_iter().chain(of_parts).collect()
    }

    fn own_targets(&self, name: &str) -> Vec<String> {
        let cluster = self.clusters.get(name).map_or(&Value::Null, |found| found.cluster);
        let service = text(&cluster["eds_cluster_config"]["service_name"]);
        let names = if service.is_empty() || service == name { vec![name] } else { vec![name, service] };
        let by_name = names.iter().map(|name| format!("the cluster `{name}`"));
        let by_discovery = names.iter().filter_map(|name| self.endpoints.get(name)).flatten().cloned();
        by_name.chain(by_discovery).chain(addresses(&cluster["load_assignment"])).collect()
    }

    fn bootstrap(&self) -> &'v Value {
        let mut configs = list(&self.value["configs"]).iter();
        configs.find_map(|config| config.get("bootstrap")).unwrap_or(&Value::Null)
    }

    fn is_by_istio(&self) -> bool {
        !self.bootstrap()["node"]["metadata"]["ISTIO_VERSION"].is_null()
    }

    /// Returns whether the proxy is a sidecar of Istio: its outbound listeners are for what the application itself asks.
    pub fn is_sidecar(&self) -> bool {
        self.is_by_istio() && text(&self.bootstrap()["node"]["id"]).starts_with("sidecar~")
    }

    /// Returns what a cluster is to the proxy that it belongs to.
    pub fn kind(&self, name: &str) -> Kind {
        let Some(Cluster { cluster, is_static }) = self.clusters.get(name) else { return Kind::Unknown };
        let kind = &cluster["type"];
        if kind == "ORIGINAL_DST" {
            return Kind::OriginalDestination;
        }
        if text(&cluster["cluster_type"]["name"]).contains("dynamic_forward_proxy") {
            return Kind::Unknown;
        }
        // STATIC is the default, which a dump leaves out.
        let is_fixed = cluster["cluster_type"].is_null() && (kind.is_null() || kind == "STATIC");
        if !is_fixed {
            return Kind::Other;
        }
        let endpoints: Vec<&Value> = endpoints(&cluster["load_assignment"]).collect();
        if endpoints.is_empty() {
            return Kind::Nowhere;
        }
        let admin = &self.bootstrap()["admin"]["address"];
        let (admin, port) = (&admin["pipe"], &admin["socket_address"]["port_value"]);
        let is_admin = |address: &&Value| {
            (!admin.is_null() && address["pipe"] == *admin)
                || (!port.is_null() && is_loopback(address) && address["socket_address"]["port_value"] == *port)
        };
        if endpoints.iter().all(is_admin) {
            return Kind::Admin;
        }
        if self.is_by_istio() && *is_static && name == "agent" && endpoints.iter().all(is_loopback) {
            return Kind::Agent;
        }
        Kind::Other
    }
}

/// What a cluster is to the proxy that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It has no endpoint.
    Nowhere,
    /// The admin interface of the proxy.
    Admin,
    /// The agent that Istio runs beside the proxy, and asks about its health.
    Agent,
    /// Wherever the connection was going before it was redirected to the proxy.
    OriginalDestination,
    /// An address that each request chooses, or a cluster that the dump does not have.
    Unknown,
    /// Anything else.
    Other,
}

fn endpoints(assignment: &Value) -> impl Iterator<Item = &Value> {
    let localities = list(&assignment["endpoints"]).iter();
    localities
        .flat_map(|locality| list(&locality["lb_endpoints"]))
        .map(|endpoint| &endpoint["endpoint"]["address"])
        .filter(|address| address.is_object())
}

fn addresses(assignment: &Value) -> impl Iterator<Item = String> {
    endpoints(assignment).filter_map(|address| {
        let socket = &address["socket_address"];
        let path = text(&address["pipe"]["path"]);
        if socket.is_object() {
            Some(format!("{}:{}", text(&socket["address"]), socket["port_value"]))
        } else {
            (!path.is_empty()).then(|| path.to_owned())
        }
    })
}

fn is_loopback(address: &&Value) -> bool {
    let host = text(&address["socket_address"]["address"]);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

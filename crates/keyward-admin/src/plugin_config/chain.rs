//! The HTTP filters of a running proxy's listeners, read from its configuration dump.

use super::around::is_keyward;
use super::backstop::{self, Fault};
use super::finding::{join, list, text};
use super::past;
use serde_json::Value;

/// The filters of one HTTP connection manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The name of the listener, and its address.
    pub listener: String,
    /// Whether Keyward is among the filters.
    pub keyward: bool,
    /// Whether there is a backstop that lets only requests pass that Keyward has allowed: behind Keyward, if Keyward is
    /// there.
    pub backstop: bool,
    /// By what requests get past Keyward or the backstop, although they are there.
    pub faults: Vec<Fault>,
}

/// Returns the filters of every HTTP connection manager in the answer of Envoy's `/config_dump`.
pub fn chains(dump: &Value) -> Vec<Chain> {
    let mut chains = Vec::new();
    for config in of_kind(dump, "ListenersConfigDump") {
        let fixed = list(&config["static_listeners"]).iter().map(|state| &state["listener"]);
        let dynamic = list(&config["dynamic_listeners"]).iter().map(|state| &state["active_state"]["listener"]);
        for listener in fixed.chain(dynamic) {
            let address = &listener["address"]["socket_address"];
            let name = format!("{} ({}:{})", text(&listener["name"]), text(&address["address"]), address["port_value"]);
            collect(listener, &name, dump, &mut chains);
        }
    }
    chains
}

fn of_kind<'v>(dump: &'v Value, kind: &'static str) -> impl Iterator<Item = &'v Value> {
    list(&dump["configs"]).iter().filter(move |config| text(&config["@type"]).ends_with(kind))
}

fn collect(value: &Value, listener: &str, dump: &Value, chains: &mut Vec<Chain>) {
    match value {
        Value::Object(fields) => {
            if fields.contains_key("http_filters") {
                chains.push(chain(value, listener, dump));
                return;
            }
            fields.values().for_each(|inner| collect(inner, listener, dump, chains));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect(inner, listener, dump, chains)),
        _ => {}
    }
}

/// Judges one HTTP connection manager.
fn chain(manager: &Value, listener: &str, dump: &Value) -> Chain {
    let filters: Vec<Value> =
        list(&manager["http_filters"]).iter().map(|filter| with_discovered(filter, dump)).collect();
    let ours = filters.iter().position(is_keyward);
    let behind: Vec<(usize, &Value)> = filters
        .iter()
        .enumerate()
        .skip(ours.map_or(0, |at| at + 1))
        .filter(|(_, filter)| backstop::is_sound(filter))
        .collect();
    let mut faults = Vec::new();
    let mut note = |place: String, fault: Fault| faults.push(Fault { path: join(&place, &fault.path), ..fault });
    if let Some(at) = ours {
        for fault in past::off(&filters[at], "filter").into_iter().chain(past::fails_open(&filters[at])) {
            note(format!("http_filters[{at}]"), fault);
        }
    }
    // One backstop that is on is enough.
    let on: Vec<_> = behind.iter().filter(|(_, filter)| past::off(filter, "backstop").is_none()).collect();
    if on.is_empty() {
        for (at, fault) in behind.iter().filter_map(|(at, filter)| Some((at, past::off(filter, "backstop")?))) {
            note(format!("http_filters[{at}]"), fault);
        }
    }
    let names: Vec<&str> = ours
        .map(|at| &filters[at])
        .into_iter()
        .chain(behind.iter().map(|(_, f)| *f))
        .map(|f| text(&f["name"]))
        .collect();
    for (place, routes) in routes(manager, dump) {
        changed(routes, &place, &names, &mut note);
    }
    Chain { listener: listener.to_owned(), keyward: ours.is_some(), backstop: !behind.is_empty(), faults }
}

/// Returns a filter with the settings that the proxy got for it by ECDS, if it gets them so.
fn with_discovered(filter: &Value, dump: &Value) -> Value {
    let mut filter = filter.clone();
    if !filter["config_discovery"].is_null() {
        let found = of_kind(dump, "EcdsConfigDump")
            .flat_map(|config| list(&config["ecds_filters"]))
            .map(|entry| &entry["ecds_filter"])
            .find(|found| found["name"] == filter["name"]);
        if let Some(found) = found {
            filter["typed_config"] = found["typed_config"].clone();
        }
    }
    filter
}

/// Returns the route configurations that an HTTP connection manager uses, with a name for each.
fn routes<'v>(manager: &'v Value, dump: &'v Value) -> Vec<(String, &'v Value)> {
    let name = text(&manager["rds"]["route_config_name"]);
    let is_scoped = !manager["scoped_routes"].is_null();
    let discovered = of_kind(dump, "RoutesConfigDump")
        .flat_map(|config| list(&config["dynamic_route_configs"]))
        .map(|entry| &entry["route_config"])
        .filter(move |routes| is_scoped || (!name.is_empty() && routes["name"] == name))
        .map(|routes| (format!("routes[{}]", text(&routes["name"])), routes));
    let inline = [("route_config".to_owned(), &manager["route_config"])].into_iter();
    inline.chain(discovered).collect()
}

/// Notes where routes, virtual hosts or clusters change the filters with these names.
fn changed(value: &Value, path: &str, names: &[&str], note: &mut impl FnMut(String, Fault)) {
    match value {
        Value::Object(fields) => {
            for (name, config) in value["typed_per_filter_config"].as_object().into_iter().flatten() {
                if names.contains(&name.as_str())
                    && let Some(fault) = past::changed_here(name, config, true)
                {
                    note(path.to_owned(), fault);
                }
            }
            for (name, inner) in fields {
                changed(inner, &join(path, name), names, note);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                changed(inner, &format!("{path}[{index}]"), names, note);
            }
        }
        _ => {}
    }
}

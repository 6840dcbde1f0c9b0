//! The words by which listeners and their filter chains are told apart.

use super::finding::{list, text};
use serde_json::Value;

/// Returns the address of a listener.
pub(super) fn address(listener: &Value) -> String {
    let address = &listener["address"];
    let socket = &address["socket_address"];
    let path = text(&address["pipe"]["path"]);
    if socket.is_object() {
        let host = text(&socket["address"]);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        format!("{host}:{}", socket["port_value"])
    } else if !path.is_empty() {
        path.to_owned()
    } else if listener["internal_listener"].is_object() {
        "internal".to_owned()
    } else {
        "no address".to_owned()
    }
}

/// Returns what tells the chains of one listener apart. A chain that is alone has an empty label.
pub(super) fn labels(chains: &[(Value, bool)]) -> Vec<String> {
    if chains.len() == 1 {
        return vec![String::new()];
    }
    let names: Vec<&str> = chains.iter().map(|(chain, _)| text(&chain["name"])).collect();
    let label = |(index, (chain, is_default)): (usize, &(Value, bool))| {
        let name = names[index];
        let is_only = names.iter().filter(|other| **other == name).count() == 1;
        if !name.is_empty() && is_only {
            return format!("chain {name}");
        }
        if *is_default {
            return "the default chain".to_owned();
        }
        let found = matched(&chain["filter_chain_match"]);
        if found.is_empty() {
            format!("chain {}", index + 1)
        } else {
            format!("chain {} for {}", index + 1, found.join(", "))
        }
    };
    chains.iter().enumerate().map(label).collect()
}

/// Returns what a chain is for, in words of its match.
fn matched(filter_chain_match: &Value) -> Vec<String> {
    let mut found: Vec<String> =
        list(&filter_chain_match["server_names"]).iter().map(|name| text(name).to_owned()).collect();
    if !filter_chain_match["destination_port"].is_null() {
        found.push(format!("port {}", filter_chain_match["destination_port"]));
    }
    for field in ["prefix_ranges", "source_prefix_ranges", "direct_source_prefix_ranges"] {
        let ranges = list(&filter_chain_match[field]).iter();
        found.extend(ranges.map(|range| format!("{}/{}", text(&range["address_prefix"]), range["prefix_len"])));
    }
    let protocol = text(&filter_chain_match["transport_protocol"]);
    found.extend((!protocol.is_empty()).then(|| protocol.to_owned()));
    found.extend(list(&filter_chain_match["application_protocols"]).iter().map(|name| text(name).to_owned()));
    found
}

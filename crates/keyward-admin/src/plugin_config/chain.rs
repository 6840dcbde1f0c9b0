//! The HTTP filters of a running proxy's listeners, read from its configuration dump.

use super::around::is_keyward;
use super::backstop;
use super::finding::{list, text};
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
}

/// Returns the filters of every HTTP connection manager in the answer of Envoy's `/config_dump`.
pub fn chains(dump: &Value) -> Vec<Chain> {
    let mut chains = Vec::new();
    for config in list(&dump["configs"]).iter().filter(|c| text(&c["@type"]).ends_with("ListenersConfigDump")) {
        let fixed = list(&config["static_listeners"]).iter().map(|state| &state["listener"]);
        let dynamic = list(&config["dynamic_listeners"]).iter().map(|state| &state["active_state"]["listener"]);
        for listener in fixed.chain(dynamic) {
            let address = &listener["address"]["socket_address"];
            let name = format!("{} ({}:{})", text(&listener["name"]), text(&address["address"]), address["port_value"]);
            collect(listener, &name, &mut chains);
        }
    }
    chains
}

fn collect(value: &Value, listener: &str, chains: &mut Vec<Chain>) {
    match value {
        Value::Object(fields) => {
            if let Some(filters) = fields.get("http_filters") {
                let filters = list(filters);
                let ours = filters.iter().position(is_keyward);
                let backstop = filters.iter().skip(ours.map_or(0, |at| at + 1)).any(backstop::is_sound);
                chains.push(Chain { listener: listener.to_owned(), keyward: ours.is_some(), backstop });
                return;
            }
            fields.values().for_each(|inner| collect(inner, listener, chains));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect(inner, listener, chains)),
        _ => {}
    }
}

//! The filters in front of Keyward and behind it that run the user's code: what they do is not in a configuration dump.

use super::find::{dynamic_module, wasm_plugin};
use super::finding::text;
use serde_json::Value;

/// The ends of the types of filters that run the user's code, and their names.
const CODE: [(&str, &str); 3] = [
    ("http.lua.v3.Lua", "Lua"),
    ("http.ext_proc.v3.ExternalProcessor", "ext_proc"),
    ("http.golang.v3alpha.Config", "Go"),
];

/// The runtime of the plugins that are compiled into the proxy, such as those of older versions of Istio.
const BUILT_IN: &str = "envoy.wasm.runtime.null";

/// Returns the name of the kind of a filter that runs the user's code.
fn code(filter: &Value) -> Option<&'static str> {
    let config = &filter["typed_config"];
    if let Some(plugin) = wasm_plugin(config) {
        return (plugin["vm_config"]["runtime"] != BUILT_IN).then_some("Wasm");
    }
    if dynamic_module(config).is_some() {
        return Some("dynamic module");
    }
    let kinds = [text(&config["@type"]), text(&config["type_url"])];
    CODE.iter().find(|(end, _)| kinds.iter().any(|kind| kind.ends_with(end))).map(|(_, name)| *name)
}

/// Says which filters can answer before Keyward, whose place is given, or change the request behind it.
pub(super) fn beside(filters: &[Value], ours: usize) -> Vec<String> {
    let others = filters.iter().enumerate().filter(|(at, _)| *at != ours);
    others
        .filter_map(|(at, filter)| {
            let (kind, name) = (code(filter)?, text(&filter["name"]));
            Some(if at < ours {
                format!("`{name}` ({kind}) runs in front of Keyward and can answer without a key")
            } else {
                format!("`{name}` ({kind}) runs behind Keyward and can change what was checked: path, method, identity")
            })
        })
        .collect()
}

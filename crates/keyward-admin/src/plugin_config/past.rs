//! Settings by which requests get past Keyward or its backstop although both are there. `check` reads them in a file, and
//! `verify` in the configuration dump of a proxy.

use super::backstop::Fault;
use super::find::wasm_plugin;
use super::finding::text;
use serde_json::Value;

pub(super) const FAILS_OPEN: &str = "requests pass unchecked when the filter fails";

/// Returns what is wrong with a filter, or a backstop, that is off unless a route switches it on. `what` names it.
pub fn off(filter: &Value, what: &str) -> Option<Fault> {
    (filter["disabled"] == true).then(|| Fault {
        path: "disabled".to_owned(),
        message: format!("the {what} is off unless a route switches it on"),
        help: "remove `disabled`",
    })
}

/// Returns what is wrong with a filter that lets requests pass when it fails.
pub fn fails_open(filter: &Value) -> Option<Fault> {
    let plugin = wasm_plugin(&filter["typed_config"])?;
    (plugin["failure_policy"] == "FAIL_OPEN" || plugin["fail_open"] == true).then(|| Fault {
        path: "typed_config.config".to_owned(),
        message: FAILS_OPEN.to_owned(),
        help: "use `failure_policy: FAIL_RELOAD`",
    })
}

/// Returns what is wrong with an entry of `typed_per_filter_config`. `is_ours` says whether its filter is known to be Keyward
/// or its backstop.
pub fn changed_here(name: &str, config: &Value, is_ours: bool) -> Option<Fault> {
    let fault = |message, help| Some(Fault { path: format!("typed_per_filter_config.{name}"), message, help });
    if config["disabled"] == true {
        fault(
            format!("the filter `{name}` is off here"),
            "for Keyward use a rule with `access: public` instead, and leave its backstop on",
        )
    // A `FilterConfig` has the settings for the filter inside it.
    } else if is_ours && [config, &config["config"]].iter().any(|c| text(&c["@type"]).ends_with("RBACPerRoute")) {
        fault(format!("`{name}` has other rules here"), "leave the backstop as it is everywhere")
    } else {
        None
    }
}

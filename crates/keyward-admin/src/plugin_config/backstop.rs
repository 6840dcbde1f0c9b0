//! The backstop: an RBAC filter that lets only requests pass that Keyward has allowed. Its shape is judged here.

use super::finding::{join, list, text};
use serde_json::Value;

const DECISION: &str = "wasm.keyward.decision";

/// Something about a backstop by which it lets other requests pass, or refuses those that Keyward has allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The field, as a path from the filter.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: &'static str,
}

/// Returns whether an HTTP filter is meant as the backstop, in force or as `shadow_rules`.
pub fn is_backstop(filter: &Value) -> bool {
    let config = &filter["typed_config"];
    is_rbac(filter)
        && (names_decision(&config["rules"])
            || names_decision(&config["shadow_rules"])
            || text(&filter["name"]).to_ascii_lowercase().contains("keyward"))
}

/// Returns the filters of a document that are where they have an effect: in the patches of a control plane's resource. `None`
/// means that the document is none of these resources.
pub fn patched(document: &Value) -> Option<Vec<&Value>> {
    let spec = &document["spec"];
    match text(&document["kind"]) {
        "EnvoyFilter" => Some(list(&spec["configPatches"]).iter().map(|patch| &patch["patch"]["value"]).collect()),
        "EnvoyPatchPolicy" => {
            Some(list(&spec["jsonPatches"]).iter().map(|patch| &patch["operation"]["value"]).collect())
        }
        // A resource without a kind, or of a kind that nobody knows.
        _ if document["metadata"].is_object() || document["apiVersion"].is_string() => Some(Vec::new()),
        _ => None,
    }
}

/// Returns whether a backstop is in force: it has `rules` and not only `shadow_rules`.
pub fn is_in_force(filter: &Value) -> bool {
    is_backstop(filter) && filter["typed_config"]["rules"].is_object()
}

/// Returns whether a backstop is in force and lets only requests pass that Keyward has allowed.
pub fn is_sound(filter: &Value) -> bool {
    is_in_force(filter) && faults(filter).is_empty()
}

/// Returns what is wrong with a backstop that is in force.
pub fn faults(filter: &Value) -> Vec<Fault> {
    const ONLY: &str = "name only the filter state `wasm.keyward.decision`, with `string_match: {exact: allowed}` and \
                        `{exact: public}`, as envoy.yaml does";
    let rules = &filter["typed_config"]["rules"];
    let mut faults = Vec::new();
    let mut fault = |path: &str, message: String, help| {
        faults.push(Fault { path: join("typed_config.rules", path), message, help });
    };
    match &rules["action"] {
        Value::Null => {}
        action if action == "ALLOW" || *action == 0 => {}
        action if action == "LOG" || *action == 2 => {
            fault("action", "`LOG` refuses nothing: the backstop has no effect".into(), "use `action: ALLOW`");
        }
        action => {
            let message = format!("`{}` refuses what Keyward has allowed, and lets the rest pass", text(action));
            fault("action", message, "use `action: ALLOW`");
        }
    }
    let policies = rules["policies"].as_object();
    if policies.is_none_or(serde_json::Map::is_empty) {
        fault("policies", "there is no policy, so every request is refused".into(), ONLY);
    }
    for (name, policy) in policies.into_iter().flatten() {
        let principals = list(&policy["principals"]);
        for (index, principal) in principals.iter().enumerate() {
            if let Err(why) = narrows(principal) {
                let message = format!("{why}, so requests pass that Keyward has not allowed");
                fault(&format!("policies.{name}.principals[{index}]"), message, ONLY);
            }
        }
    }
    faults
}

/// Returns the field of a filter that would be a backstop if it were of the right type.
pub fn misnamed(filter: &Value) -> Option<&'static str> {
    let asks = |config: &Value| names_decision(&config["rules"]) || names_decision(&config["shadow_rules"]);
    ["typed_config", "typedConfig"].into_iter().find(|field| asks(&filter[*field])).filter(|_| !is_rbac(filter))
}

/// Returns by what a backstop refuses requests that Keyward has allowed. `has_public` says whether the configuration makes
/// any request public.
pub fn narrow(filter: &Value, has_public: bool) -> Vec<Fault> {
    let policies = filter["typed_config"]["rules"]["policies"].as_object();
    let whole = |policy: &Value| {
        let is_any = |permission: &Value| permission["any"] == true;
        policy["condition"].is_null() && list(&policy["permissions"]).iter().any(is_any)
    };
    let admits = |decision: &str| {
        let of_policy =
            |policy: &Value| list(&policy["principals"]).iter().any(|principal| admits(principal, decision));
        policies.into_iter().flatten().any(|(_, policy)| whole(policy) && of_policy(policy))
    };
    let wanted = [("allowed", true), ("public", has_public)];
    let missing = wanted.into_iter().filter(|(decision, is_wanted)| *is_wanted && !admits(decision));
    missing
        .map(|(decision, _)| Fault {
            path: "typed_config.rules.policies".to_owned(),
            message: format!("the backstop refuses requests with the decision `{decision}`, all of them or some"),
            help: "give one policy `permissions: [{any: true}]`, and principals with `exact: allowed` and `exact: public`, as \
                   envoy.yaml does",
        })
        .collect()
}

/// Whether a principal matches every request with this decision.
fn admits(principal: &Value, decision: &str) -> bool {
    let state = &principal["filter_state"];
    (text(&state["key"]) == DECISION && state["string_match"]["exact"] == *decision)
        || list(&principal["or_ids"]["ids"]).iter().any(|id| admits(id, decision))
}

/// Whether a principal matches only requests that Keyward has allowed.
fn narrows(principal: &Value) -> Result<(), String> {
    let fields: Vec<&String> = principal.as_object().into_iter().flat_map(|fields| fields.keys()).collect();
    let [kind] = &fields[..] else { return Err("this principal cannot be judged".into()) };
    match kind.as_str() {
        "filter_state" => {
            let state = &principal["filter_state"];
            if text(&state["key"]) != DECISION {
                return Err(format!("the filter state `{}` is not Keyward's decision", text(&state["key"])));
            }
            match text(&state["string_match"]["exact"]) {
                "allowed" | "public" => Ok(()),
                "" => Err("the decision is not compared by `exact`".into()),
                other => Err(format!("the decision `{other}` is one that refuses")),
            }
        }
        "or_ids" => {
            let ids = list(&principal["or_ids"]["ids"]);
            if ids.is_empty() {
                Err("an empty `or_ids` cannot be judged".into())
            } else {
                ids.iter().try_for_each(narrows)
            }
        }
        "and_ids" => {
            let narrow = list(&principal["and_ids"]["ids"]).iter().any(|id| narrows(id).is_ok());
            if narrow { Ok(()) } else { Err("nothing in `and_ids` asks for Keyward's decision".into()) }
        }
        other => Err(format!("`{other}` does not ask for Keyward's decision")),
    }
}

fn is_rbac(filter: &Value) -> bool {
    text(&filter["typed_config"]["@type"]).ends_with("filters.http.rbac.v3.RBAC")
}

/// Whether a filter state with the name of Keyward's decision is matched anywhere in a value.
fn names_decision(value: &Value) -> bool {
    match value {
        Value::Object(fields) => text(&value["filter_state"]["key"]) == DECISION || fields.values().any(names_decision),
        Value::Array(items) => items.iter().any(names_decision),
        _ => false,
    }
}

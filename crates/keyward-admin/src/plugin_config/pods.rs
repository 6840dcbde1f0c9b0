//! The pods that one of Istio's resources is for.

use super::finding::{list, text};
use serde_json::{Value, json};

/// The label that the pods of a Gateway API's gateway have. Istio finds the pods of `targetRefs` by it, too.
pub(super) const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// How the pods of a backstop are related to those of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Relation {
    /// They are the same.
    Same,
    /// They may be the same, or more.
    Unsure,
    /// The backstop misses pods of the filter.
    Other,
}

/// Compares the pods of an EnvoyFilter with those of a WasmPlugin or a TrafficExtension.
pub(super) fn relation(filter: &Value, backstop: &Value) -> Relation {
    let (namespace, of_backstop) = (namespace(filter), namespace(backstop));
    let (labels, theirs) = (labels(filter), labels(backstop));
    let (targets, their_targets) = (&filter["spec"]["targetRefs"], &backstop["spec"]["targetRefs"]);
    let is_same = labels == theirs && targets == their_targets || has_label_of(targets, theirs);
    let is_wider = their_targets.is_null() && is_subset(theirs, labels);
    if is_same && namespace == of_backstop {
        Relation::Same
    } else if (is_same || is_wider) && (namespace == of_backstop || namespace.is_empty() || of_backstop.is_empty()) {
        Relation::Unsure
    } else {
        Relation::Other
    }
}

/// Whether two plugins may be on the same pods.
pub(super) fn overlap(one: &Value, other: &Value) -> bool {
    let is_one_namespace =
        namespace(one) == namespace(other) || namespace(one).is_empty() || namespace(other).is_empty();
    let targets = |resource: &Value| resource["spec"]["targetRefs"].clone();
    is_one_namespace
        && targets(one) == targets(other)
        && (is_subset(labels(one), labels(other)) || is_subset(labels(other), labels(one)))
}

/// Names the pods of a resource, for people.
pub(super) fn shown(resource: &Value) -> String {
    let mut pods = match labels(resource).as_object() {
        Some(labels) => {
            labels.iter().map(|(name, value)| format!("`{name}: {}`", text(value))).collect::<Vec<_>>().join(" ")
        }
        None => list(&resource["spec"]["targetRefs"])
            .iter()
            .map(|target| format!("{} `{}`", text(&target["kind"]), text(&target["name"])))
            .collect::<Vec<_>>()
            .join(", "),
    };
    if pods.is_empty() {
        pods.push_str("all pods");
    }
    match namespace(resource) {
        "" => format!("{pods}, no namespace"),
        namespace => format!("{pods}, namespace `{namespace}`"),
    }
}

fn namespace(resource: &Value) -> &str {
    text(&resource["metadata"]["namespace"])
}

fn labels(resource: &Value) -> &Value {
    let spec = &resource["spec"];
    if resource["kind"] == "EnvoyFilter" {
        &spec["workloadSelector"]["labels"]
    } else {
        &spec["selector"]["matchLabels"]
    }
}

/// Whether every label of the one is a label of the other.
fn is_subset(one: &Value, other: &Value) -> bool {
    one.as_object().into_iter().flatten().all(|(name, value)| other[name] == *value)
}

/// Returns whether labels choose the pods of the one Gateway that `targetRefs` name.
fn has_label_of(targets: &Value, labels: &Value) -> bool {
    let [target] = list(targets) else { return false };
    let names_gateway = target["kind"] == "Gateway" && target["group"] == "gateway.networking.k8s.io";
    names_gateway && *labels == json!({GATEWAY_NAME: target["name"]})
}

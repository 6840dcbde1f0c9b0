//! Resources that get into each other's way: the same one twice, the filter twice, other plugins beside it.

use super::around::Lint;
use super::find::looks_like_ours;
use super::finding::{join, list, text};
use super::pods;
use serde_json::Value;

const TWICE: &str = "the filter runs twice: the first removes the key, and the second refuses the request";
const BEHIND: &str = "runs behind Keyward and can change what was checked: path, method, identity";

/// The plugin of one of Istio's resources, if it is one.
fn istio_plugin(resource: &Value) -> Option<&Value> {
    match text(&resource["kind"]) {
        "WasmPlugin" => Some(&resource["spec"]),
        "TrafficExtension" => Some(&resource["spec"]["wasm"]),
        _ => None,
    }
}

/// The place of a plugin in Istio's chain: what comes first is smaller.
fn order(spec: &Value) -> (usize, i64) {
    let phase = text(&spec["phase"]);
    let phase = ["AUTHN", "AUTHZ", "STATS"].iter().position(|known| *known == phase).unwrap_or(3);
    (phase, -spec["priority"].as_i64().unwrap_or_default())
}

/// Whether two resources are for a port that both have. One without ports is for all.
fn share_a_port(one: &Value, other: &Value) -> bool {
    let ports = |spec: &Value| -> Vec<u64> {
        let conditions = list(&spec["match"]).iter().flat_map(|condition| list(&condition["ports"]));
        conditions.filter_map(|port| port["number"].as_u64()).collect()
    };
    let (one, other) = (ports(one), ports(other));
    one.is_empty() || other.is_empty() || one.iter().any(|port| other.contains(port))
}

impl Lint<'_> {
    /// Checks whether another resource has the same kind, namespace and name.
    pub(super) fn repeated(&mut self, resource: &Value, path: &str) {
        let name = text(&resource["metadata"]["name"]);
        let is_same = |other: &&Value| {
            ["kind", "apiVersion"].iter().all(|field| other[*field] == resource[*field])
                && ["name", "namespace"].iter().all(|field| other["metadata"][*field] == resource["metadata"][*field])
        };
        let count = self.all.iter().filter(is_same).count();
        if count > 1 && !name.is_empty() {
            self.findings.error(
                join(path, "metadata.name"),
                format!(
                    "{count} of the resources that were given are a {} `{name}` of this namespace: the one that is applied last \
                     replaces the others",
                    text(&resource["kind"])
                ),
                "give each a name of its own, or remove those that are not meant",
            );
        }
    }

    /// Checks the other plugins on the pods of the filter. `path` is that of the filter's `spec`.
    pub(super) fn other_plugins(&mut self, resource: &Value, path: &str) {
        let spec = &resource["spec"];
        for other in self.all {
            let Some(plugin) = istio_plugin(other).filter(|_| other != resource && pods::overlap(resource, other))
            else {
                continue;
            };
            let name = text(&other["metadata"]["name"]);
            if looks_like_ours(plugin, &plugin["pluginConfig"]) {
                if share_a_port(spec, &other["spec"]) {
                    let message = format!("`{name}` has the filter on these pods, too: {TWICE}");
                    self.findings.error(path, message, "remove one of the two, or name different ports in `match`");
                }
            } else if order(spec) == order(&other["spec"]) {
                self.findings.warn(
                    join(path, "priority"),
                    format!("`{name}` has the same phase and priority: which of the two runs first is not settled"),
                    "give one of them a higher `priority`: it runs first",
                );
            } else if order(spec) < order(&other["spec"]) {
                self.findings.warn(
                    join(path, "priority"),
                    format!("the plugin `{name}` {BEHIND}"),
                    "give it a higher `priority` in the phase AUTHN, or make sure that it changes none of them",
                );
            }
        }
    }

    /// Checks the other plugins of an EnvoyExtensionPolicy with the filter.
    pub(super) fn plugins_of_policy(&mut self, spec: &Value, path: &str) {
        let plugins = list(&spec["wasm"]);
        let is_ours = |wasm: &Value| looks_like_ours(wasm, &wasm["config"]);
        let Some(first) = plugins.iter().position(is_ours) else { return };
        for (index, wasm) in plugins.iter().enumerate().skip(first + 1) {
            let place = join(path, &format!("wasm[{index}]"));
            if is_ours(wasm) {
                self.findings.error(place, TWICE, "remove one of the two");
            } else {
                let message = format!("the plugin `{}` {BEHIND}", text(&wasm["name"]));
                self.findings.warn(
                    place,
                    message,
                    "put it in front of Keyward, or make sure that it changes none of them",
                );
            }
        }
    }
}

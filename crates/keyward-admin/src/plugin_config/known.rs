//! The fields by which a resource is known to reach the listeners that Keyward's filter is on.
//!
//! Control planes accept a patch that reaches only some listeners, or none. The tables here name what is known to reach
//! them all; every other field and every other value is a mistake, so that one that nobody thought of is one, too.

use super::around::{Lint, any};
use super::backstop;
use super::find::looks_like_ours;
use super::finding::{join, text};
use crate::suggest::nearest;
use serde_json::Value;

/// What a field may hold. A field that is not there is always accepted, except for `Needed`.
pub(super) enum Known {
    /// Anything: other checks look at it, or it does not matter here.
    Anything,
    /// `false`.
    Off,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// This text, which has to be there.
    Needed(&'static str),
    /// These fields, and no others.
    Fields(&'static [(&'static str, Known)]),
    /// A list of such values.
    Each(&'static Known),
}
use Known::{Anything, Each, Fields, Needed, Off, OneOf};

/// The backstop that a patch adds.
pub(super) const BACKSTOP: Known = Fields(&[
    ("name", Anything),
    ("disabled", Off),
    (
        "typed_config",
        Fields(&[
            ("@type", Anything),
            ("rules", Anything),
            ("rules_stat_prefix", Anything),
            ("shadow_rules", Anything),
            ("shadow_rules_stat_prefix", Anything),
            ("track_per_rule_stats", Anything),
        ]),
    ),
]);

/// An EnvoyFilter with a backstop, without its patches.
pub(super) const ENVOY_FILTER: Known = Fields(&[
    ("workloadSelector", Fields(&[("labels", Anything)])),
    ("targetRefs", Anything),
    ("priority", Anything),
    ("configPatches", Anything),
]);

/// A patch of an EnvoyFilter that adds the backstop.
pub(super) const ENVOY_FILTER_PATCH: Known = Fields(&[
    ("applyTo", OneOf(&["HTTP_FILTER"])),
    (
        "match",
        Fields(&[
            ("context", OneOf(&["GATEWAY", "SIDECAR_INBOUND", "ANY"])),
            (
                "listener",
                Fields(&[
                    ("portNumber", Anything),
                    (
                        "filterChain",
                        Fields(&[(
                            "filter",
                            Fields(&[
                                ("name", OneOf(&["envoy.filters.network.http_connection_manager"])),
                                ("subFilter", Fields(&[("name", Anything)])),
                            ]),
                        )]),
                    ),
                ]),
            ),
        ]),
    ),
    ("patch", Fields(&[("operation", Anything), ("value", BACKSTOP)])),
]);

/// An EnvoyPatchPolicy with a patch for the filter or the backstop, without its patches.
pub(super) const PATCH_POLICY: Known = Fields(&[
    (
        "targetRef",
        Fields(&[
            ("group", Needed("gateway.networking.k8s.io")),
            ("kind", OneOf(&["Gateway", "GatewayClass"])),
            ("name", Anything),
        ]),
    ),
    ("priority", Anything),
    ("type", OneOf(&["JSONPatch"])),
    ("jsonPatches", Anything),
]);

/// A patch for the filter or the backstop in an EnvoyPatchPolicy, without the value that it adds.
pub(super) const JSON_PATCH: Known = Fields(&[
    ("type", OneOf(&["type.googleapis.com/envoy.config.listener.v3.Listener"])),
    ("name", Anything),
    (
        "operation",
        Fields(&[("op", OneOf(&["add", "replace"])), ("jsonPath", Anything), ("path", Anything), ("value", Anything)]),
    ),
]);

const TARGET: Known = Fields(&[
    ("group", Needed("gateway.networking.k8s.io")),
    ("kind", OneOf(&["Gateway"])),
    ("name", Anything),
    ("sectionName", Anything),
]);

/// The EnvoyExtensionPolicy with the filter.
pub(super) const EXTENSION_POLICY: Known = Fields(&[
    ("targetRef", TARGET),
    ("targetRefs", Each(&TARGET)),
    ("targetSelectors", Anything),
    ("mergeType", Anything),
    ("wasm", Anything),
    ("dynamicModule", Anything),
    ("extProc", Anything),
    ("lua", Anything),
]);

/// The kinds that are looked at, and the versions of their APIs that exist.
const KINDS: [(&str, &[&str]); 12] = [
    ("WasmPlugin", &["extensions.istio.io/v1alpha1"]),
    ("TrafficExtension", &["extensions.istio.io/v1alpha1"]),
    ("EnvoyFilter", &["networking.istio.io/v1alpha3"]),
    ("EnvoyExtensionPolicy", &["gateway.envoyproxy.io/v1alpha1"]),
    ("EnvoyPatchPolicy", &["gateway.envoyproxy.io/v1alpha1"]),
    ("EnvoyProxy", &["gateway.envoyproxy.io/v1alpha1"]),
    ("ClientTrafficPolicy", &["gateway.envoyproxy.io/v1alpha1"]),
    ("BackendTrafficPolicy", &["gateway.envoyproxy.io/v1alpha1"]),
    // Other projects have kinds of these names, too: their versions are not known.
    ("Gateway", &[]),
    ("VirtualService", &[]),
    ("HTTPRoute", &[]),
    ("GRPCRoute", &[]),
];

impl Lint<'_> {
    /// Reports each field that is not known to leave a resource in effect on every listener of the filter.
    pub(super) fn expect_known(&mut self, value: &Value, known: &Known, path: &str) {
        match known {
            Needed(wanted) => {
                if text(value) != *wanted {
                    self.findings.error(
                        path,
                        format!(
                            "{} instead of `{wanted}`: the API server or the control plane does not take it",
                            shown(value)
                        ),
                        format!("write `{wanted}`"),
                    );
                }
            }
            _ if value.is_null() => {}
            Anything => {}
            Off => {
                if *value != false {
                    self.findings.gap(path, "the filter is added switched off: it checks nothing", "remove this field");
                }
            }
            OneOf(texts) => {
                if !texts.contains(&text(value)) {
                    self.findings.gap(
                        path,
                        format!("with {} here, this is not known to reach the listeners of the filter", shown(value)),
                        format!("use `{}`", texts.join("` or `")),
                    );
                }
            }
            Each(item) => match value.as_array() {
                Some(values) => {
                    for (index, value) in values.iter().enumerate() {
                        self.expect_known(value, item, &format!("{path}[{index}]"));
                    }
                }
                None => self.findings.error(path, "this is not a list: the API server refuses it", "write a list"),
            },
            Fields(fields) => {
                let Some(values) = value.as_object() else {
                    self.findings.error(path, "this is not an object: the API server refuses it", "write its fields");
                    return;
                };
                for name in values.keys().filter(|name| !fields.iter().any(|(known, _)| known == name)) {
                    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
                    self.findings.gap(
                        join(path, name),
                        format!("with `{name}` here, this is not known to reach every listener of the filter"),
                        format!("remove it; the fields that do are `{}`", names.join("`, `")),
                    );
                }
                for (name, known) in *fields {
                    self.expect_known(&value[*name], known, &join(path, name));
                }
            }
        }
    }

    /// Checks that a resource with the filter or the backstop has a kind and a version that exist.
    pub(super) fn kind_and_version(&mut self, resource: &Value, path: &str) {
        let (kind, version) = (text(&resource["kind"]), text(&resource["apiVersion"]));
        let known = KINDS.iter().find(|(name, _)| *name == kind);
        if let Some((_, versions)) = known {
            if !version.is_empty() && !versions.is_empty() && !versions.contains(&version) {
                self.findings.error(
                    join(path, "apiVersion"),
                    format!("{kind} does not exist in `{version}`: the API server refuses this resource"),
                    format!("use `{}`", versions.join("` or `")),
                );
            }
            return;
        }
        let names = || KINDS.iter().map(|(name, _)| *name);
        let same = names().find(|name| name.eq_ignore_ascii_case(kind));
        let spec = &resource["spec"];
        let is_ours = kind != "List"
            && (any(spec, &backstop::is_backstop) || looks_like_ours(&Value::Null, &spec["pluginConfig"]));
        if same.is_some() || is_ours {
            let near = same.or_else(|| nearest(kind, names()));
            self.findings.gap(
                join(path, "kind"),
                format!(
                    "`{kind}` is not a kind of Istio or Envoy Gateway that adds a filter: this resource has no effect"
                ),
                near.map_or("use an EnvoyFilter or an EnvoyPatchPolicy".to_owned(), |near| format!("use `{near}`")),
            );
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::String(text) => format!("`{text}`"),
        _ => "another value".into(),
    }
}

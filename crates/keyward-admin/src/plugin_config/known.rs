//! The fields by which a resource is known to reach the listeners that Keyward's filter is on.
//!
//! Control planes accept a patch that reaches only some listeners, or none. The tables here name what is known to reach
//! them all; every other field and every other value is a mistake, so that one that nobody thought of is one, too.

use super::around::{Lint, any};
use super::backstop;
use super::find::looks_like_ours;
use super::finding::{Findings, join, text};
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
    /// A text of any kind, which has to be there.
    Given,
    /// One of these texts; with another one the API server refuses the resource.
    Values(&'static [&'static str]),
    /// One of these texts; why another one means that requests are not checked.
    Only(&'static [&'static str], &'static str),
    /// A whole number.
    Number,
    /// A duration of the Gateway API, such as `30s`.
    Duration,
    /// These fields, and no others: with another one, the resource may be in effect on some listeners only.
    Fields(&'static [(&'static str, Known)]),
    /// The fields that the API has. Others are dropped, or the API server refuses the resource.
    Whole(&'static [(&'static str, Known)]),
    /// An object with such values under any names.
    Map(&'static Known),
    /// A list of such values.
    Each(&'static Known),
}
use Known::{Anything, Duration, Each, Fields, Given, Map, Needed, Number, Off, OneOf, Only, Values, Whole};

/// The rules of a backstop; what policies hold is judged with the backstop.
const RULES: Known = Fields(&[
    ("action", Anything),
    ("policies", Map(&Fields(&[("permissions", Anything), ("principals", Anything), ("condition", Anything)]))),
]);

/// The backstop that a patch adds.
pub(super) const BACKSTOP: Known = Fields(&[
    ("name", Given),
    ("disabled", Off),
    (
        "typed_config",
        Fields(&[
            ("@type", Anything),
            ("rules", RULES),
            ("rules_stat_prefix", Anything),
            ("shadow_rules", RULES),
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
    ("applyTo", Needed("HTTP_FILTER")),
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
                                ("name", Needed("envoy.filters.network.http_connection_manager")),
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

pub(super) const TARGET: Known = Fields(&[
    ("group", Needed("gateway.networking.k8s.io")),
    ("kind", Needed("Gateway")),
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

/// The fields of the filter's configuration, which are often written at the wrong depth.
const OF_CONFIGURATION: [&str; 14] = [
    "realm",
    "key_sources",
    "manifest",
    "admin",
    "paths",
    "rules",
    "unmatched",
    "route_metadata",
    "identity_headers",
    "hide_key",
    "cors_preflight",
    "startup_wait",
    "readiness_path",
    "mode",
];

/// Returns the kind that a mistyped one was probably meant as.
pub(super) fn nearest_kind(kind: &str) -> Option<&'static str> {
    nearest(kind, KINDS.iter().map(|(name, _)| *name)).filter(|near| *near != kind)
}

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

/// Kinds of the same APIs that are not looked at.
const OTHER_KINDS: [&str; 3] = ["SecurityPolicy", "Backend", "HTTPRouteFilter"];

impl Lint<'_> {
    /// Reports each field that is not known to leave a resource in effect on every listener of the filter.
    pub(super) fn expect_known(&mut self, value: &Value, known: &Known, path: &str) {
        expect(&mut self.findings, value, known, path);
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
            return;
        }
        let is_theirs = KINDS.iter().flat_map(|(_, versions)| *versions).any(|known| version == *known);
        if let Some(near) = nearest_kind(kind).filter(|_| is_theirs && !OTHER_KINDS.contains(&kind)) {
            self.findings.error(
                join(path, "kind"),
                format!("`{version}` has no kind `{kind}`: the API server refuses this resource"),
                format!("use `{near}`"),
            );
        }
    }
}

/// Reports each field that is not as it is known to be.
pub(super) fn expect(findings: &mut Findings, value: &Value, known: &Known, path: &str) {
    match known {
        Needed(wanted) => {
            if text(value) != *wanted {
                findings.gap(
                    path,
                    format!(
                        "{} instead of `{wanted}`: the API server or the control plane does not take it",
                        shown(value)
                    ),
                    format!("write `{wanted}`"),
                );
            }
        }
        Given => {
            if text(value).is_empty() {
                findings.gap(path, "this field is missing: Envoy does not take the filter", "name the filter");
            }
        }
        _ if value.is_null() => {}
        Anything => {}
        Off => {
            if *value != false {
                findings.gap(path, "the filter is added switched off: it checks nothing", "remove this field");
            }
        }
        OneOf(texts) => {
            if !texts.contains(&text(value)) {
                findings.gap(
                    path,
                    format!("with {} here, this is not known to reach the listeners of the filter", shown(value)),
                    format!("use `{}`", texts.join("` or `")),
                );
            }
        }
        Values(texts) => {
            if !texts.contains(&text(value)) {
                let near = nearest(text(value), texts.iter().copied());
                findings.error(
                    path,
                    format!("{} is not a value of this field: the API server refuses the resource", shown(value)),
                    near.map_or(format!("use `{}`", texts.join("`, `")), |near| format!("did you mean `{near}`?")),
                );
            }
        }
        Only(texts, why) => {
            if !texts.contains(&text(value)) {
                findings.gap(path, *why, format!("use `{}`, or remove this field", texts.first().unwrap_or(&"")));
            }
        }
        Number => {
            if !value.is_u64() && !value.is_i64() {
                findings.error(
                    path,
                    format!("{} is not a number: the API server refuses the resource", shown(value)),
                    "write a number, without quotation marks",
                );
            }
        }
        Duration => {
            let digits = text(value).trim_end_matches(['h', 'm', 's']);
            let is_duration =
                digits.len() < text(value).len() && digits.starts_with(|first: char| first.is_ascii_digit());
            if !is_duration {
                findings.error(
                    path,
                    format!("{} is not a duration: the API server refuses the resource", shown(value)),
                    "write one like `30s`",
                );
            }
        }
        Whole(fields) => {
            let Some(values) = value.as_object() else {
                findings.error(path, "this is not an object: the API server refuses it", "write its fields");
                return;
            };
            for name in values.keys().filter(|name| !fields.iter().any(|(known, _)| known == name)) {
                findings.error(
                    join(path, name),
                    format!("`{name}` is not a field here: the API server drops it, or refuses the resource"),
                    mend(name, fields),
                );
            }
            for (name, known) in *fields {
                expect(findings, &value[*name], known, &join(path, name));
            }
        }
        Map(known) => {
            for (name, value) in value.as_object().into_iter().flatten() {
                expect(findings, value, known, &join(path, name));
            }
        }
        Each(item) => match value.as_array() {
            Some(values) => {
                for (index, value) in values.iter().enumerate() {
                    expect(findings, value, item, &format!("{path}[{index}]"));
                }
            }
            None => findings.error(path, "this is not a list: the API server refuses it", "write a list"),
        },
        Fields(fields) => {
            let Some(values) = value.as_object() else {
                findings.error(path, "this is not an object: the API server refuses it", "write its fields");
                return;
            };
            for name in values.keys().filter(|name| !fields.iter().any(|(known, _)| known == name)) {
                let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
                findings.gap(
                    join(path, name),
                    format!("with `{name}` here, this is not known to reach every listener of the filter"),
                    format!("remove it; the fields that do are `{}`", names.join("`, `")),
                );
            }
            for (name, known) in *fields {
                expect(findings, &value[*name], known, &join(path, name));
            }
        }
    }
}

/// Says what to do about a field that does not exist.
fn mend(name: &str, fields: &[(&str, Known)]) -> String {
    let names = || fields.iter().map(|(name, _)| *name);
    let carrier = names().find(|name| matches!(*name, "pluginConfig" | "config" | "wasm"));
    if let Some(near) = nearest(name, names()) {
        format!("did you mean `{near}`?")
    } else if let Some(carrier) = carrier.filter(|_| OF_CONFIGURATION.contains(&name)) {
        let carrier = if carrier == "wasm" { "wasm.pluginConfig" } else { carrier };
        format!("it is a field of the filter's configuration: move it below `{carrier}`")
    } else {
        format!("remove it; the fields are `{}`", names().collect::<Vec<_>>().join("`, `"))
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::String(text) => format!("`{text}`"),
        _ => "another value".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_policy::config::Config;

    #[test]
    fn the_fields_of_the_configuration_are_those_of_the_filter() {
        for name in OF_CONFIGURATION {
            let parsed = Config::parse(format!("{{\"{name}\":[]}}").as_bytes());
            let problems = parsed.as_ref().err().map(|errors| errors.problems()).unwrap_or_default();
            let is_unknown = problems.iter().any(|problem| problem.message.contains("unknown field"));
            assert!(!is_unknown, "{name}");
        }
    }
}

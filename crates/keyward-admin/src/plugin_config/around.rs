//! Checks the documents around a configuration: whether requests can get past the filter, and whether the control plane
//! installs it as it is meant.
//!
//! This file walks through the documents; [`envoy`](super::envoy), [`istio`](super::istio) and
//! [`gateway`](super::gateway) hold what is known of each kind.

use super::backstop::{self, Fault};
use super::find::{dynamic_module, looks_like_ours, wasm_plugin};
use super::finding::{Findings, join, list, text};
use super::past;
use super::versions::{self, Versions};
use keyward_policy::config::{Config, Mode, Unmatched};
use keyward_policy::credential::KeySource;
use keyward_policy::rule::{Access, Rule};
use serde_json::Value;

pub(super) const NO_BACKSTOP: &str =
    "there is no RBAC backstop behind the filter: should a worker run without the filter, every request passes";
pub(super) const ADD_BACKSTOP: &str =
    "add an RBAC filter that asks for `allowed` or `public` in the filter state `wasm.keyward.decision`";

/// Kinds that nobody gives without what belongs to them: with one of them, the files are a whole set.
const AROUND: [&str; 3] = ["EnvoyFilter", "EnvoyPatchPolicy", "Gateway"];

/// The checks of one document, which holds the configuration or is beside it.
pub(super) struct Lint<'c> {
    /// The configuration.
    pub config: &'c Config,
    /// The versions of the control planes.
    pub versions: &'c Versions,
    /// Every document of the files, and every item of a `List`.
    pub all: &'c [Value],
    /// Whether the files show all that is around the filter, so that what they lack is missing.
    pub is_set: bool,
    /// The headers that routes of any document remove.
    removed: &'c [&'c str],
    /// The names of the filters in this document that are Keyward or its backstop.
    ours: Vec<String>,
    /// What was found.
    pub findings: Findings,
}

/// Checks all documents: returns what they together have or have not, and what was found in each of them, in their order.
/// `files` is how many files they are from.
pub fn lint(documents: &[Value], files: usize, config: &Config, versions: &Versions) -> (Findings, Vec<Findings>) {
    let all: Vec<Value> = documents.iter().flat_map(items).cloned().collect();
    let all = &all[..];
    let removed = removed_headers(all);
    let is_set = files > 1 || all.iter().any(|document| AROUND.contains(&text(&document["kind"])));
    let findings = Findings::default;
    let new = || Lint { config, versions, all, is_set, removed: &removed, ours: Vec::new(), findings: findings() };
    let each = documents.iter().map(|document| {
        let mut lint = new();
        collect_names(document, &mut lint.ours);
        lint.misplaced(document, "");
        lint.walk(document, "");
        lint.findings
    });
    (lint_together(new()), each.collect())
}

/// The resources of a document: the items of a `List`, or the document itself.
fn items(document: &Value) -> &[Value] {
    if document["kind"] == "List" { list(&document["items"]) } else { std::slice::from_ref(document) }
}

fn lint_together(mut lint: Lint<'_>) -> Findings {
    let (all, config) = (lint.all, lint.config);
    let is_carrier = |kind: &str| matches!(kind, "WasmPlugin" | "TrafficExtension" | "EnvoyExtensionPolicy");
    let is_envoy = all.iter().any(|document| {
        is_carrier(text(&document["kind"])) || any(document, &|value| value.get("http_filters").is_some())
    });
    lint.escaped_slashes_by_default();
    for (plane, version, first, last) in versions::untested(lint.versions) {
        lint.findings.warn(
            "",
            format!("{plane} {version} is not among the tested versions, {first} to {last}: what it does to these files is not known"),
            "read what has changed in it, and try the files before they matter",
        );
    }
    if is_envoy && !config.hide_key && config.mode == Mode::Enforce {
        for source in &config.key_sources {
            let KeySource::Header { name, .. } = source else {
                let message = "a key in a query or a cookie is sent to the upstream";
                lint.findings.warn("hide_key", message, "use `hide_key: true`");
                continue;
            };
            if !lint.removed.iter().any(|have| have.eq_ignore_ascii_case(name)) {
                let message = format!("nothing removes `{name}`: the key is sent to the upstream");
                lint.findings.warn(
                    "hide_key",
                    message,
                    "add it to `request_headers_to_remove`, or use `hide_key: true`",
                );
            }
        }
    }
    lint.findings
}

impl Lint<'_> {
    /// Notes something by which requests get past the filter. In shadow mode they all pass, so it is a warning there.
    pub(super) fn gap(&mut self, path: impl Into<String>, message: impl Into<String>, help: impl Into<String>) {
        match self.config.mode {
            Mode::Enforce => self.findings.gap(path, message, help),
            Mode::Shadow => self.findings.possible_gap(path, message, help),
        }
    }

    /// Returns by what a backstop refuses requests that this configuration allows.
    pub(super) fn narrow(&self, filter: &Value) -> Vec<Fault> {
        let config = self.config;
        let is_public = |rule: &Rule| rule.access == Access::Public;
        let has_public = config.unmatched == Unmatched::Public || config.routes.rules().iter().any(is_public);
        if backstop::is_sound(filter) { backstop::narrow(filter, has_public) } else { Vec::new() }
    }

    /// Checks that the files have a backstop at all. `place` is that of the filter, and `is_needed` says whether requests pass
    /// without one when the filter cannot start.
    pub(super) fn has_backstop(&mut self, place: &str, is_needed: bool) {
        // One that is not in force, or at another place, is reported where it is.
        if self.config.mode == Mode::Shadow || self.all.iter().any(|document| any(document, &backstop::is_backstop)) {
            return;
        }
        if self.is_set && is_needed {
            self.findings.gap(
                place,
                NO_BACKSTOP,
                "add an EnvoyFilter or an EnvoyPatchPolicy with one, as deploy/ does",
            );
        } else {
            self.findings.possible_gap(
                place,
                NO_BACKSTOP,
                "add one by an EnvoyFilter or an EnvoyPatchPolicy, as the files in deploy/ do; where it is in a file of its \
                 own, check both files together: `keyward check FILTER BACKSTOP`",
            );
        }
    }

    fn walk(&mut self, value: &Value, path: &str) {
        match value {
            Value::Object(fields) => {
                // The `http_filters` of a cluster see what goes to the upstream, not what clients ask for.
                let of_cluster = text(&value["@type"]).ends_with("upstreams.http.v3.HttpProtocolOptions");
                if fields.contains_key("http_filters") && !of_cluster {
                    self.connection_manager(value, path);
                }
                if fields.contains_key("match") && has_action(value) {
                    self.route(value, path);
                }
                self.header_changes(value, path);
                self.escaped_slashes(value, path);
                self.hardening(value, path);
                self.misnamed_backstop(value, path);
                self.per_filter(value, path);
                let spec = &value["spec"];
                let place = join(path, "spec");
                if value["kind"].is_string() && value.get("spec").is_some() {
                    self.kind_and_version(value, path);
                    self.repeated(value, path);
                }
                match text(&value["kind"]) {
                    "WasmPlugin" => self.wasm_plugin(value, spec, &place),
                    "TrafficExtension" => self.traffic_extension(value, spec, &place),
                    "EnvoyFilter" => self.envoy_filter(value, spec, &place),
                    "VirtualService" => self.virtual_service(spec, &place),
                    "EnvoyExtensionPolicy" => self.extension_policy(value, spec, &place),
                    "EnvoyProxy" => self.envoy_proxy(spec, &place),
                    "EnvoyPatchPolicy" => self.patch_policy(value, spec, &place),
                    "Gateway" => self.gateway(value, spec, &place),
                    "BackendTrafficPolicy" => self.backend_traffic_policy(spec, &place),
                    "ClientTrafficPolicy" => self.client_traffic_policy(value, spec, &place),
                    "HTTPRoute" | "GRPCRoute" => self.http_route(spec, &place),
                    _ => {}
                }
                for (name, inner) in fields {
                    self.walk(inner, &join(path, name));
                }
            }
            Value::Array(items) => {
                for (index, inner) in items.iter().enumerate() {
                    self.walk(inner, &format!("{path}[{index}]"));
                }
            }
            _ => {}
        }
    }

    /// Notes a backstop in a resource at a place where no control plane looks for it.
    fn misplaced(&mut self, document: &Value, path: &str) {
        if document["kind"] == "List" {
            for (index, item) in list(&document["items"]).iter().enumerate() {
                self.misplaced(item, &join(path, &format!("items[{index}]")));
            }
            return;
        }
        let Some(patched) = backstop::patched(document) else { return };
        if any(document, &backstop::is_backstop) && !patched.into_iter().any(backstop::is_backstop) {
            let field = ["kind", "metadata", "apiVersion"].into_iter().find(|field| !document[*field].is_null());
            self.gap(
                join(path, field.unwrap_or_default()),
                "the backstop in this resource is not where the control plane looks for one: it has no effect",
                "write it at `spec.configPatches[].patch.value` of an EnvoyFilter, or at `spec.jsonPatches[].operation.value` of \
                 an EnvoyPatchPolicy",
            );
        }
    }

    /// Notes a filter that was meant as the backstop and is not the RBAC filter for HTTP.
    fn misnamed_backstop(&mut self, filter: &Value, path: &str) {
        if let Some(field) = backstop::misnamed(filter) {
            self.gap(
                join(path, field),
                format!("`{}` is not the RBAC filter of HTTP: this is no backstop", text(&filter[field]["@type"])),
                "use `typed_config` with the type `type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC`",
            );
        }
    }

    /// Headers that a route configuration, a virtual host or a route changes.
    fn header_changes(&mut self, value: &Value, path: &str) {
        for (index, name) in list(&value["request_headers_to_remove"]).iter().enumerate() {
            self.removed_header(text(name), &join(path, &format!("request_headers_to_remove[{index}]")));
        }
        for (index, added) in list(&value["request_headers_to_add"]).iter().enumerate() {
            let place = join(path, &format!("request_headers_to_add[{index}].header"));
            let (name, stamp) = (text(&added["header"]["key"]), text(&added["header"]["value"]));
            if !stamp.contains("FILTER_STATE(wasm.keyward.") {
                continue;
            }
            let identity = &self.config.identity_headers;
            let by_filter =
                [&identity.id, &identity.name].into_iter().flatten().any(|own| own.eq_ignore_ascii_case(name));
            if !by_filter && !self.removed.iter().any(|have| have.eq_ignore_ascii_case(name)) {
                self.findings.warn(
                    join(&place, "key"),
                    format!(
                        "nothing removes `{name}` that a client sends: without a key it reaches the upstream as it is"
                    ),
                    "add it to `request_headers_to_remove`",
                );
            }
            if self.config.mode == Mode::Shadow
                && (stamp.contains("keyward.key_id") || stamp.contains("keyward.key_name"))
            {
                self.findings.error(
                    join(&place, "value"),
                    "in shadow mode this names the key of requests that would be refused",
                    "use `wasm.keyward.identity_id` and `wasm.keyward.identity_name`, which exist only for allowed ones",
                );
            }
        }
    }

    /// Notes a header that a route removes from requests.
    pub(super) fn removed_header(&mut self, name: &str, place: &str) {
        let is_key = |source: &KeySource| matches!(source, KeySource::Header { name: have, .. } if have.eq_ignore_ascii_case(name));
        if self.config.mode == Mode::Shadow && self.config.key_sources.iter().any(is_key) {
            self.findings.error(
                place,
                format!("in shadow mode the upstream still needs the key, and this removes `{name}`"),
                "leave the header in until the mode is `enforce`",
            );
        }
    }

    /// Checks the settings of filters on a route, a virtual host, a route configuration or one of several clusters.
    fn per_filter(&mut self, value: &Value, path: &str) {
        for (name, config) in value["typed_per_filter_config"].as_object().into_iter().flatten() {
            // Routes may be in another document than the listener that they belong to.
            let is_ours = self.ours.iter().any(|ours| ours == name) || name.to_ascii_lowercase().contains("keyward");
            if !is_ours && !self.ours.is_empty() {
                continue;
            }
            if let Some(fault) = past::changed_here(name, config, is_ours) {
                self.gap(join(path, &fault.path), fault.message, fault.help);
            }
        }
    }

    /// Notes that a route is chosen by a header.
    pub(super) fn matched_header(&mut self, name: &str, place: &str) {
        let name = name.to_ascii_lowercase();
        let identity = &self.config.identity_headers;
        let is_identity = [&identity.id, &identity.name].into_iter().flatten().any(|have| **have == *name);
        let is_source = |source: &KeySource| match source {
            KeySource::Header { name: have, .. } => **have == *name,
            KeySource::Cookie { .. } => name == "cookie",
            KeySource::Query { .. } => false,
        };
        if is_identity || self.config.key_sources.iter().any(is_source) {
            self.warn_of_match(&name, place);
        }
    }

    /// Notes that a route is chosen by a query parameter.
    pub(super) fn matched_parameter(&mut self, name: &str, place: &str) {
        let is_source = |source: &KeySource| matches!(source, KeySource::Query { name: have } if **have == *name);
        if self.config.key_sources.iter().any(is_source) {
            self.warn_of_match(name, place);
        }
    }

    fn warn_of_match(&mut self, name: &str, place: &str) {
        let message = format!("the filter changes `{name}`, and then Envoy chooses the route again");
        self.findings.warn(place, message, "match on something else");
    }

    /// Notes that a route sends another path to the upstream than the one that was checked.
    pub(super) fn rewritten(&mut self, place: &str) {
        self.findings.warn(
            place,
            "the upstream gets another path than the one that Keyward checks",
            "write the rules for the paths that clients send, and make sure that no two of them with different rules lead to \
             the same path of the upstream",
        );
    }
}

fn has_action(route: &Value) -> bool {
    ["route", "direct_response", "redirect", "non_forwarding_action"].iter().any(|action| !route[*action].is_null())
}

/// Returns whether an HTTP filter is Keyward, or gets its configuration by ECDS under its name.
pub(super) fn is_keyward(filter: &Value) -> bool {
    let discovered =
        !filter["config_discovery"].is_null() && text(&filter["name"]).to_ascii_lowercase().contains("keyward");
    let config = &filter["typed_config"];
    discovered
        || wasm_plugin(config).is_some_and(|plugin| looks_like_ours(plugin, &plugin["configuration"]["value"]))
        || dynamic_module(config).is_some_and(|(_, module)| looks_like_ours(module, &module["filter_config"]["value"]))
}

/// Returns whether a value, or any value in it, passes a test.
pub(super) fn any(value: &Value, test: &dyn Fn(&Value) -> bool) -> bool {
    test(value)
        || match value {
            Value::Object(fields) => fields.values().any(|inner| any(inner, test)),
            Value::Array(items) => items.iter().any(|inner| any(inner, test)),
            _ => false,
        }
}

fn collect_names(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if is_keyward(value) || backstop::is_in_force(value) {
                names.extend(fields.get("name").and_then(Value::as_str).map(str::to_owned));
            }
            fields.values().for_each(|inner| collect_names(inner, names));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect_names(inner, names)),
        _ => {}
    }
}

/// The headers that routes remove anywhere.
fn removed_headers(all: &[Value]) -> Vec<&str> {
    fn collect<'v>(value: &'v Value, names: &mut Vec<&'v str>) {
        match value {
            Value::Object(fields) => {
                // Those of Envoy, of a VirtualService and of an HTTPRoute.
                let places = [
                    &value["request_headers_to_remove"],
                    &value["headers"]["request"]["remove"],
                    &value["requestHeaderModifier"]["remove"],
                ];
                names.extend(places.into_iter().flat_map(list).filter_map(Value::as_str));
                fields.values().for_each(|inner| collect(inner, names));
            }
            Value::Array(items) => items.iter().for_each(|inner| collect(inner, names)),
            _ => {}
        }
    }
    let mut names = Vec::new();
    all.iter().for_each(|document| collect(document, &mut names));
    names
}

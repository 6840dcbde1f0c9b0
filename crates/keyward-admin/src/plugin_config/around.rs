//! What is worth a look around the configuration: in the Envoy configuration, or the Kubernetes resources, that carry it.

use super::find::{looks_like_ours, wasm_plugin};
use keyward_policy::config::{Config, Mode, Problem};
use keyward_policy::credential::KeySource;
use serde_json::Value;

const NO_BACKSTOP: &str =
    "no RBAC backstop behind the filter: should a worker run without the filter, everything passes";
const ADD_BACKSTOP: &str =
    "add an RBAC filter that asks for `allowed` or `public` in the filter state `wasm.keyward.decision`";
const FAILS_OPEN: &str = "requests pass unchecked when the filter fails";

/// Warnings about one document, which has `config` somewhere in it or beside it in the same file.
pub fn lint_document(document: &Value, config: &Config) -> Vec<Problem> {
    let mut lint = Lint { config, ours: Vec::new(), warnings: Vec::new() };
    collect_names(document, &mut lint.ours);
    lint.walk(document, "");
    lint.warnings
}

/// Warnings about a whole file.
pub fn lint_file(documents: &[Value], config: &Config) -> Vec<Problem> {
    let mut lint = Lint { config, ours: Vec::new(), warnings: Vec::new() };
    let kind = |document: &Value| document["kind"].as_str().unwrap_or_default().to_owned();
    let carrier = documents.iter().map(kind).find(|kind| kind == "WasmPlugin" || kind == "EnvoyExtensionPolicy");
    if carrier.is_some() && config.mode == Mode::Enforce && !documents.iter().any(holds_backstop) {
        let help = "add one by an EnvoyFilter or an EnvoyPatchPolicy, as the files in deploy/ do";
        lint.warn("", NO_BACKSTOP, help);
    }
    let is_envoy = documents.iter().any(|document| has_field(document, "http_filters"));
    if is_envoy && !config.hide_key {
        let mut removed = Vec::new();
        documents.iter().for_each(|document| collect_removed(document, &mut removed));
        for source in &config.key_sources {
            let KeySource::Header { name, .. } = source else {
                lint.warn("hide_key", "a key in a query or a cookie goes on to the upstream", "use `hide_key: true`");
                continue;
            };
            if !removed.iter().any(|have| have.eq_ignore_ascii_case(name)) {
                let message = format!("nothing removes `{name}`: the key goes on to the upstream");
                lint.warn("hide_key", message, "add it to `request_headers_to_remove`, or use `hide_key: true`");
            }
        }
    }
    lint.warnings
}

struct Lint<'c> {
    config: &'c Config,
    /// The names of the filters that are Keyward or its backstop.
    ours: Vec<String>,
    warnings: Vec<Problem>,
}

impl Lint<'_> {
    fn warn(&mut self, path: &str, message: impl Into<String>, help: &str) {
        self.warnings.push(Problem { path: path.to_owned(), message: message.into(), help: help.to_owned() });
    }

    fn walk(&mut self, value: &Value, path: &str) {
        match value {
            Value::Object(fields) => {
                // A cluster's `http_filters` see what goes to the upstream, not what clients ask.
                let of_cluster = fields
                    .get("@type")
                    .and_then(Value::as_str)
                    .is_some_and(|name| name.ends_with("upstreams.http.v3.HttpProtocolOptions"));
                if fields.contains_key("http_filters") && !of_cluster {
                    self.connection_manager(value, path);
                }
                if fields.contains_key("match") && has_action(value) {
                    self.route(value, path);
                }
                self.per_filter(value, path);
                match fields.get("kind").and_then(Value::as_str) {
                    Some("WasmPlugin") => self.wasm_plugin(&value["spec"], &join(path, "spec")),
                    Some("EnvoyExtensionPolicy") => self.extension_policy(&value["spec"], &join(path, "spec")),
                    Some("VirtualService") => self.virtual_service(&value["spec"], &join(path, "spec")),
                    Some("HTTPRoute" | "GRPCRoute") => self.http_route(&value["spec"], &join(path, "spec")),
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

    fn connection_manager(&mut self, manager: &Value, path: &str) {
        let filters = list(&manager["http_filters"]);
        let Some(ours) = filters.iter().position(is_keyward) else {
            return self.warn(
                &join(path, "http_filters"),
                "this listener does not run Keyward",
                "add the filter here too, or make sure that nothing protected is behind it",
            );
        };
        let place = join(path, &format!("http_filters[{ours}]"));
        let filter = &filters[ours];
        if filter["disabled"] == true {
            self.warn(
                &join(&place, "disabled"),
                "the filter is off unless a route switches it on",
                "remove `disabled`",
            );
        }
        let plugin = wasm_plugin(&filter["typed_config"]).unwrap_or(&Value::Null);
        if plugin["failure_policy"] == "FAIL_OPEN" || plugin["fail_open"] == true {
            self.warn(&join(&place, "typed_config.config"), FAILS_OPEN, "use `failure_policy: FAIL_RELOAD`");
        } else if plugin["failure_policy"] != "FAIL_RELOAD" {
            self.warn(
                &join(&place, "typed_config.config.failure_policy"),
                "a crashed filter stays down until Envoy restarts",
                "use `FAIL_RELOAD`",
            );
        }
        if plugin["allow_on_headers_stop_iteration"] == true {
            self.warn(
                &join(&place, "typed_config.config.allow_on_headers_stop_iteration"),
                "held requests depend on it being off",
                "remove it",
            );
        }
        self.backstop(&filters[ours + 1..], path, ours + 1);
        for field in ["normalize_path", "merge_slashes"] {
            if manager[field] != true {
                self.warn(
                    &join(path, field),
                    "Envoy leaves paths as they come, and the filter refuses ambiguous ones",
                    &format!("set `{field}: true`"),
                );
            }
        }
        for (index, upgrade) in list(&manager["upgrade_configs"]).iter().enumerate() {
            let own = list(&upgrade["filters"]);
            let place = join(path, &format!("upgrade_configs[{index}].filters"));
            if !own.is_empty() && !own.iter().any(is_keyward) {
                self.warn(
                    &place,
                    "upgrade requests take this list, and the filter is not in it",
                    "remove `filters`, or put Keyward and its backstop into it",
                );
            } else if !own.is_empty() && self.config.mode == Mode::Enforce && !own.iter().any(enforces) {
                self.warn(&place, NO_BACKSTOP, ADD_BACKSTOP);
            }
        }
    }

    fn backstop(&mut self, behind: &[Value], path: &str, first: usize) {
        let enforcing = behind.iter().position(enforces);
        match (self.config.mode, enforcing) {
            (Mode::Enforce, None) => self.warn(&join(path, "http_filters"), NO_BACKSTOP, ADD_BACKSTOP),
            (Mode::Enforce, Some(at)) if behind[at]["disabled"] == true => self.warn(
                &join(path, &format!("http_filters[{}].disabled", first + at)),
                "the backstop is off unless a route switches it on",
                "remove `disabled`",
            ),
            (Mode::Shadow, Some(at)) => self.warn(
                &join(path, &format!("http_filters[{}].typed_config.rules", first + at)),
                "the backstop refuses what shadow mode lets pass",
                "rename `rules` to `shadow_rules` while the mode is `shadow`",
            ),
            _ => {}
        }
    }

    fn route(&mut self, route: &Value, path: &str) {
        for (index, header) in list(&route["match"]["headers"]).iter().enumerate() {
            self.matched_header(header["name"].as_str(), &join(path, &format!("match.headers[{index}]")));
        }
        for (index, parameter) in list(&route["match"]["query_parameters"]).iter().enumerate() {
            self.matched_parameter(
                parameter["name"].as_str(),
                &join(path, &format!("match.query_parameters[{index}]")),
            );
        }
        if !route["route"]["internal_redirect_policy"].is_null() {
            self.warn(
                &join(path, "route.internal_redirect_policy"),
                "a redirected request has lost its key, and is denied",
                "leave it off on protected routes",
            );
        }
    }

    /// Per-route settings, wherever they stand: on a route, a virtual host, a whole route configuration, a cluster of
    /// several.
    fn per_filter(&mut self, value: &Value, path: &str) {
        for (name, config) in value["typed_per_filter_config"].as_object().into_iter().flatten() {
            let place = join(path, &format!("typed_per_filter_config.{name}"));
            // Routes may come without the listener that they belong to.
            let is_ours = self.ours.iter().any(|ours| ours == name) || name.to_ascii_lowercase().contains("keyward");
            if !is_ours && !self.ours.is_empty() {
                continue;
            }
            let kind = config["@type"].as_str().unwrap_or_default();
            if config["disabled"] == true {
                self.warn(
                    &place,
                    format!("the filter `{name}` is off here"),
                    "for Keyward use a rule with `access: public` instead, and leave its backstop on",
                );
            } else if is_ours && kind.ends_with("RBACPerRoute") {
                self.warn(&place, format!("`{name}` has other rules here"), "leave the backstop as it is everywhere");
            }
        }
    }

    fn wasm_plugin(&mut self, spec: &Value, path: &str) {
        if !looks_like_ours(spec, &spec["pluginConfig"]) {
            return;
        }
        let place = join(path, "failStrategy");
        match spec["failStrategy"].as_str() {
            Some("FAIL_RELOAD") => {}
            Some("FAIL_OPEN") => self.warn(&place, FAILS_OPEN, "use `FAIL_RELOAD`"),
            _ => self.warn(&place, "a crashed filter stays down until the proxy restarts", "use `FAIL_RELOAD`"),
        }
    }

    fn extension_policy(&mut self, spec: &Value, path: &str) {
        for (index, wasm) in list(&spec["wasm"]).iter().enumerate() {
            if wasm["failOpen"] == true && looks_like_ours(wasm, &wasm["config"]) {
                self.warn(&join(path, &format!("wasm[{index}].failOpen")), FAILS_OPEN, "use `false`");
            }
        }
    }

    fn virtual_service(&mut self, spec: &Value, path: &str) {
        for (http, route) in list(&spec["http"]).iter().enumerate() {
            for (index, condition) in list(&route["match"]).iter().enumerate() {
                let place = join(path, &format!("http[{http}].match[{index}]"));
                for field in ["headers", "withoutHeaders"] {
                    for name in condition[field].as_object().into_iter().flat_map(|fields| fields.keys()) {
                        self.matched_header(Some(name), &join(&place, &format!("{field}.{name}")));
                    }
                }
                for name in condition["queryParams"].as_object().into_iter().flat_map(|fields| fields.keys()) {
                    self.matched_parameter(Some(name), &join(&place, &format!("queryParams.{name}")));
                }
            }
        }
    }

    fn http_route(&mut self, spec: &Value, path: &str) {
        for (rule, route) in list(&spec["rules"]).iter().enumerate() {
            for (index, condition) in list(&route["matches"]).iter().enumerate() {
                let place = join(path, &format!("rules[{rule}].matches[{index}]"));
                for (at, header) in list(&condition["headers"]).iter().enumerate() {
                    self.matched_header(header["name"].as_str(), &join(&place, &format!("headers[{at}]")));
                }
                for (at, parameter) in list(&condition["queryParams"]).iter().enumerate() {
                    self.matched_parameter(parameter["name"].as_str(), &join(&place, &format!("queryParams[{at}]")));
                }
            }
        }
    }

    /// A route is chosen by a header.
    fn matched_header(&mut self, name: Option<&str>, place: &str) {
        let name = name.unwrap_or_default().to_ascii_lowercase();
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

    /// A route is chosen by a query parameter.
    fn matched_parameter(&mut self, name: Option<&str>, place: &str) {
        let name = name.unwrap_or_default();
        let is_source = |source: &KeySource| matches!(source, KeySource::Query { name: have } if **have == *name);
        if self.config.key_sources.iter().any(is_source) {
            self.warn_of_match(name, place);
        }
    }

    fn warn_of_match(&mut self, name: &str, place: &str) {
        let message = format!("the filter changes `{name}`, and then Envoy chooses the route anew");
        self.warn(place, message, "match on something else");
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn has_action(route: &Value) -> bool {
    ["route", "direct_response", "redirect", "non_forwarding_action"].iter().any(|action| !route[*action].is_null())
}

/// An HTTP filter that is Keyward, or gets its configuration by ECDS under its name.
fn is_keyward(filter: &Value) -> bool {
    let discovered = !filter["config_discovery"].is_null()
        && filter["name"].as_str().is_some_and(|name| name.to_ascii_lowercase().contains("keyward"));
    discovered
        || wasm_plugin(&filter["typed_config"])
            .is_some_and(|plugin| looks_like_ours(plugin, &plugin["configuration"]["value"]))
}

/// An HTTP filter that is a backstop and refuses.
fn enforces(filter: &Value) -> bool {
    filter["typed_config"]["@type"].as_str().is_some_and(|kind| kind.ends_with("filters.http.rbac.v3.RBAC"))
        && filter["typed_config"]["rules"].to_string().contains("wasm.keyward.decision")
}

fn holds_backstop(value: &Value) -> bool {
    match value {
        Value::Object(fields) => enforces(value) || fields.values().any(holds_backstop),
        Value::Array(items) => items.iter().any(holds_backstop),
        _ => false,
    }
}

fn has_field(value: &Value, name: &str) -> bool {
    match value {
        Value::Object(fields) => fields.contains_key(name) || fields.values().any(|inner| has_field(inner, name)),
        Value::Array(items) => items.iter().any(|inner| has_field(inner, name)),
        _ => false,
    }
}

/// The names of all filters that are Keyward or its backstop.
fn collect_names(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if is_keyward(value) || enforces(value) {
                names.extend(fields.get("name").and_then(Value::as_str).map(str::to_owned));
            }
            fields.values().for_each(|inner| collect_names(inner, names));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect_names(inner, names)),
        _ => {}
    }
}

fn collect_removed<'v>(value: &'v Value, names: &mut Vec<&'v str>) {
    match value {
        Value::Object(fields) => {
            names.extend(list(&value["request_headers_to_remove"]).iter().filter_map(Value::as_str));
            fields.values().for_each(|inner| collect_removed(inner, names));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect_removed(inner, names)),
        _ => {}
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

//! What is valid and yet worth a look: in the configuration, and in the Envoy configuration around it.

use super::find::{looks_like_ours, wasm_plugin};
use keyward_policy::config::{Config, Mode, Problem, Unmatched};
use keyward_policy::credential::KeySource;
use keyward_policy::explain;
use serde_json::Value;

/// Warnings about the configuration itself.
pub fn lint_config(config: &Config) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut warn = |path: &str, message: String, help: &str| {
        warnings.push(Problem { path: path.into(), message, help: help.into() })
    };
    let rules = config.routes.rules();
    for (later, rule) in rules.iter().enumerate() {
        if let Some(earlier) = rules.iter().take(later).position(|earlier| earlier.covers(rule)) {
            let message = format!("`{}` is never reached: rule {earlier} matches all of it", explain::matches(rule));
            warn(
                &format!("rules[{later}]"),
                message,
                "the first match wins: move the narrower rule before the wider one, or remove it",
            );
        }
    }
    if rules.is_empty() && !config.route_metadata && config.unmatched == Unmatched::Deny {
        warn("rules", "there are no rules, so every request is denied".into(), "add rules, or set `unmatched`");
    }
    if config.unmatched == Unmatched::Public {
        warn("unmatched", "whatever no rule names is public".into(), "use `deny`, and name what is public in rules");
    }
    if config.mode == Mode::Shadow {
        warn(
            "mode",
            "nothing is refused in shadow mode".into(),
            "switch to `enforce` when the counters show what you expect",
        );
    }
    if config.key_sources.iter().any(|source| matches!(source, KeySource::Query { .. })) {
        warn("key_sources", "keys in query parameters end up in logs and browser histories".into(), "prefer a header");
    }
    if config.admin.as_ref().is_some_and(|admin| admin.token.is_some()) {
        warn(
            "admin.token",
            "the edge token stands in the configuration".into(),
            "let the cluster's credential_injector add it from a secret",
        );
    }
    if config.admin.as_ref().is_some_and(|admin| admin.max_staleness.is_none()) {
        warn(
            "admin.max_staleness",
            "a proxy that lost contact accepts revoked keys without end".into(),
            "set a limit, like `1h`",
        );
    }
    if config.route_metadata && !config.hide_key {
        warn(
            "hide_key",
            "a route may match on the key that the filter leaves in place".into(),
            "use `hide_key: true` with `route_metadata: true`",
        );
    }
    warnings
}

/// Warnings about the document around the configuration.
pub fn lint_document(document: &Value, config: &Config) -> Vec<Problem> {
    let mut lint = Lint { config, warnings: Vec::new() };
    lint.walk(document, "");
    lint.warnings
}

struct Lint<'c> {
    config: &'c Config,
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
                if fields.contains_key("match")
                    && (fields.contains_key("route")
                        || fields.contains_key("direct_response")
                        || fields.contains_key("redirect"))
                {
                    self.route(value, path);
                }
                if fields.get("kind").and_then(Value::as_str) == Some("WasmPlugin")
                    && value["spec"]["failStrategy"] == "FAIL_OPEN"
                {
                    self.warn(
                        &join(path, "spec.failStrategy"),
                        "requests pass unchecked when the filter fails",
                        "use `FAIL_RELOAD`, or leave it out",
                    );
                }
                if fields.get("kind").and_then(Value::as_str) == Some("EnvoyExtensionPolicy") {
                    for (index, wasm) in value["spec"]["wasm"].as_array().into_iter().flatten().enumerate() {
                        if wasm["failOpen"] == true {
                            self.warn(
                                &join(path, &format!("spec.wasm[{index}].failOpen")),
                                "requests pass unchecked when the filter fails",
                                "use `false`",
                            );
                        }
                    }
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
        let filters = manager["http_filters"].as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(ours) = filters.iter().position(is_ours) else {
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
            self.warn(
                &join(&place, "typed_config.config"),
                "requests pass unchecked when the filter fails",
                "use `failure_policy: FAIL_RELOAD`",
            );
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
        let is_backstop = |filter: &Value| {
            filter["typed_config"]["@type"].as_str().is_some_and(|kind| kind.ends_with("filters.http.rbac.v3.RBAC"))
                && filter["typed_config"]["rules"].to_string().contains("wasm.keyward.decision")
        };
        if self.config.mode == Mode::Enforce && !filters.iter().skip(ours + 1).any(is_backstop) {
            self.warn(
                &join(path, "http_filters"),
                "no RBAC backstop behind the filter: should a worker run without the filter, everything passes",
                "add an RBAC filter that asks for `allowed` or `public` in the filter state `wasm.keyward.decision`",
            );
        }
        for (field, wanted) in [("normalize_path", true), ("merge_slashes", true)] {
            if manager[field] != wanted {
                self.warn(
                    &join(path, field),
                    "Envoy leaves paths as they come, and the filter refuses ambiguous ones",
                    &format!("set `{field}: true`"),
                );
            }
        }
        for (index, upgrade) in manager["upgrade_configs"].as_array().into_iter().flatten().enumerate() {
            let own = upgrade["filters"].as_array().filter(|filters| !filters.is_empty());
            if own.is_some_and(|filters| !filters.iter().any(is_ours)) {
                let place = join(path, &format!("upgrade_configs[{index}].filters"));
                self.warn(
                    &place,
                    "upgrade requests take this list, and the filter is not in it",
                    "remove `filters`, or put Keyward and its backstop into it",
                );
            }
        }
    }

    fn route(&mut self, route: &Value, path: &str) {
        for (index, header) in route["match"]["headers"].as_array().into_iter().flatten().enumerate() {
            let name = header["name"].as_str().unwrap_or_default().to_ascii_lowercase();
            if self.changes(&name) {
                let place = join(path, &format!("match.headers[{index}]"));
                self.warn(
                    &place,
                    format!("the filter changes `{name}`, and then Envoy chooses the route anew"),
                    "match on something else",
                );
            }
        }
        if !route["route"]["internal_redirect_policy"].is_null() {
            self.warn(
                &join(path, "route.internal_redirect_policy"),
                "a redirected request has lost its key, and is denied",
                "leave it off on protected routes",
            );
        }
        for (name, config) in route["typed_per_filter_config"].as_object().into_iter().flatten() {
            if config["disabled"] == true {
                self.warn(
                    &join(path, &format!("typed_per_filter_config.{name}")),
                    format!("the filter `{name}` is off on this route"),
                    "if that is Keyward, use a rule with `access: public` instead",
                );
            }
        }
    }

    /// Whether a header carries a key or an identity.
    fn changes(&self, name: &str) -> bool {
        let identity = &self.config.identity_headers;
        let is_identity = [&identity.id, &identity.name].into_iter().flatten().any(|have| **have == *name);
        let is_source = |source: &KeySource| match source {
            KeySource::Header { name: have, .. } => **have == *name,
            KeySource::Cookie { .. } => name == "cookie",
            KeySource::Query { .. } => false,
        };
        is_identity || self.config.key_sources.iter().any(is_source)
    }
}

fn is_ours(filter: &Value) -> bool {
    wasm_plugin(&filter["typed_config"])
        .is_some_and(|plugin| looks_like_ours(plugin, &plugin["configuration"]["value"]))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

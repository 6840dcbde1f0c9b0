//! What is valid and yet worth a look in the configuration itself.

use keyward_policy::config::{Config, Mode, Problem, Unmatched};
use keyward_policy::credential::KeySource;
use keyward_policy::explain;

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
    let changes = config.hide_key || config.identity_headers.id.is_some() || config.identity_headers.name.is_some();
    if config.route_metadata && changes {
        warn(
            "route_metadata",
            "the metadata is that of the route before the filter changes headers; Envoy chooses anew afterwards".into(),
            "let no route match on the key or the identity headers, or use `hide_key: false` and `identity_headers: null` \
             and let the routes do both, as envoy.yaml does",
        );
    }
    warnings
}

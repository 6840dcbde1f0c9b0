//! Checks the configuration itself for what is valid and should be looked at.

use super::finding::{Findings, is_placeholder};
use crate::catalogue::Catalogue;
use crate::suggest::nearest;
use keyward_policy::config::{Config, Mode, Unmatched, Use};
use keyward_policy::credential::KeySource;
use keyward_policy::explain;
use keyward_policy::rule::{Access, Rule};

/// Checks a configuration.
pub fn lint_config(config: &Config, catalogue: Option<&Catalogue>, findings: &mut Findings) {
    if config.mode == Mode::Shadow {
        findings.possible_gap(
            "mode",
            "nothing is refused in shadow mode",
            "switch to `enforce` when the counters show what you expect",
        );
    }
    lint_permissions(config, catalogue, findings);
    lint_keys(config, findings);
    lint_what_is_public(config, findings);
    let mut warn = |path: &str, message: String, help: &str| findings.warn(path, message, help);
    let rules = config.routes.rules();
    for (later, rule) in rules.iter().enumerate() {
        if let Some(earlier) = rules.iter().take(later).position(|earlier| earlier.covers(rule)) {
            let message = format!("`{}` is never reached: rules[{earlier}] matches all of it", explain::matches(rule));
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
    for (index, rule) in rules.iter().enumerate() {
        if config.readiness_path.as_deref().is_some_and(|path| *path == *rule.path_text) {
            warn(
                &format!("rules[{index}].path"),
                "the filter answers this path by itself (`readiness_path`): the rule is never reached".into(),
                "remove the rule, or choose another `readiness_path`",
            );
        }
    }
    if config.key_sources.iter().any(|source| matches!(source, KeySource::Query { .. })) {
        warn("key_sources", "keys in query parameters end up in logs and browser histories".into(), "prefer a header");
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
}

/// Checks whether more is public than is named.
fn lint_what_is_public(config: &Config, findings: &mut Findings) {
    let rules = config.routes.rules();
    let is_rest = |rule: &Rule| {
        let is_every_path = rule.path.any_rest && rule.path.segments.is_empty();
        is_every_path && rule.methods.is_none() && rule.content_type.is_none()
    };
    for (index, rule) in rules.iter().enumerate() {
        if rule.access == Access::Public && is_rest(rule) && rule.hosts.is_none() {
            findings.possible_gap(
                format!("rules[{index}].path"),
                "every path that no earlier rule names is public",
                "name what is public, and let the rest be denied",
            );
        }
    }
    // On a gateway that others share, their hosts pass; each host that rules name has a rule for its other paths.
    let closes = |rest: &Rule, rule: &Rule| rest.access != Access::Public && is_rest(rest) && rest.covers(rule);
    let is_closed = |rule: &Rule| rules.iter().any(|rest| closes(rest, rule));
    if config.unmatched == Unmatched::Public && (rules.is_empty() || !rules.iter().all(is_closed)) {
        findings.possible_gap(
            "unmatched",
            "whatever no rule names is public",
            "use `deny`, and name what is public in rules; on a gateway that others share, give every rule `hosts`, and \
             end them with `{hosts: [...], path: \"/**\", access: deny}`",
        );
    }
}

/// Checks the edge token and the inline keys.
fn lint_keys(config: &Config, findings: &mut Findings) {
    let Some(admin) = &config.admin else { return };
    if let Some(token) = &admin.token {
        let help = "name a variable of the VM in `admin.token_env`, or let the cluster's credential_injector add the token \
                    from a secret";
        if is_placeholder(token) {
            findings.warn("admin.token", "this is not an edge token: it stands in for one", help);
        } else {
            findings.warn("admin.token", "the edge token is in the configuration, which proxies show", help);
        }
    }
    if let Some(manifest) = config.manifest.as_ref().filter(|manifest| !manifest.keys.is_empty()) {
        let when = match manifest.when {
            Use::Always => "at any time",
            Use::Fallback => "while no fetched manifest is usable",
        };
        findings.warn(
            "manifest.keys",
            format!(
                "inline keys beside `admin` are accepted {when}, also after they were deleted in the admin service, and \
                 receipts cannot say when a deleted key is refused"
            ),
            "remove them, or keep only keys here that the admin service does not have",
        );
    }
}

/// Checks the permissions that rules require and inline keys have.
fn lint_permissions(config: &Config, catalogue: Option<&Catalogue>, findings: &mut Findings) {
    let rules = config.routes.rules().iter().enumerate();
    let required: Vec<(String, &str)> = rules
        .filter_map(|(index, rule)| match &rule.access {
            Access::Require(names) => Some((index, names)),
            _ => None,
        })
        .flat_map(|(index, names)| {
            names.iter().enumerate().map(move |(at, name)| (format!("rules[{index}].require[{at}]"), &**name))
        })
        .collect();
    let built_in = Catalogue::databases_api();
    let is_built_in = required.iter().any(|(_, name)| built_in.contains(name));
    let Some(catalogue) = catalogue.or_else(|| is_built_in.then_some(&built_in)) else { return };
    for (path, name) in required.iter().filter(|(_, name)| !catalogue.contains(name)) {
        let known = catalogue.permissions().map(|permission| permission.id.as_str());
        let help = match nearest(name, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                "use a permission of the catalogue, or add it there; `--catalogue FILE` names another catalogue".into()
            }
        };
        let message = format!("`{name}` is not a permission of the catalogue: no key can have it");
        findings.warn(path, message, help);
    }
}

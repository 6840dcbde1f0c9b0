//! A decision in words: the rule that matched, each check, and the outcome.
//!
//! It is made from the steps of [`decide_traced`], so it cannot disagree with the filter.

use crate::credential::{Credential, KeySource};
use crate::decide::{RequestHead, Step, Trace, decide_traced};
use crate::decision::Code;
use crate::policy::{Policy, RouteMetadata, Unavailable};
use crate::rule::{Access, Rule};
use crate::timestamp::Timestamp;
use serde::Serialize;
use std::borrow::Cow;

/// A decision and the checks that led to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The code, like `permission_missing`.
    pub code: &'static str,
    /// Whether the request may go on.
    pub allowed: bool,
    /// The HTTP status of the reply. 200 means that the request may go on.
    pub status: u16,
    /// The sentence that the client reads.
    pub detail: Cow<'static, str>,
    /// The rule that matched.
    pub rule: Option<ExplainedRule>,
    /// The key that was found.
    pub key: Option<ExplainedKey>,
    /// The permissions that the route requires.
    pub required: Vec<String>,
    /// The permissions among them that the key does not have.
    pub missing: Vec<String>,
    /// The checks in their order. The last one settled the decision.
    pub checks: Vec<Check>,
}

/// A rule, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedRule {
    /// Its place in `rules`, counted from zero.
    pub number: usize,
    /// The requests that it is for, like `GET, HEAD /api/collections/{collection}/records`.
    pub matches: String,
    /// What it asks for, like `require records:read`.
    pub asks: String,
}

/// A key, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedKey {
    /// The id of the key.
    pub id: String,
    /// The name of the key.
    pub name: String,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked: `path`, `host`, `rule`, `route`, `preflight`, `credential`, `manifest`, `key`, `lifetime`, `permissions`.
    pub name: &'static str,
    /// Whether the request passed the check.
    pub passed: bool,
    /// What the check found.
    pub finding: String,
}

/// Decides a request and says why.
pub fn explain(policy: &Policy<'_>, head: &RequestHead<'_>, now: Timestamp) -> Explanation {
    let mut listener = Listener { sources: &policy.config.key_sources, rule: None, checks: Vec::new() };
    let decision = decide_traced(policy, head, now, &mut listener);
    let Listener { rule, mut checks, .. } = listener;
    let missing: Vec<String> = decision.missing().map(str::to_owned).collect();
    let required: Vec<String> = decision.required.iter().map(|name| name.to_string()).collect();
    if let Some(key) = &decision.key {
        let lifetime = match key.expires_at {
            Some(at) if now >= at => format!("expired at {at}, and it is {now}"),
            Some(at) => format!("valid until {at}, and it is {now}"),
            None => "never expires".to_owned(),
        };
        let finding = match decision.code {
            Code::KeyDisabled => "the key is disabled".to_owned(),
            Code::KeyUnsupported => "the key's record asks for a feature that this build does not know".to_owned(),
            _ => lifetime,
        };
        let in_force = !matches!(decision.code, Code::KeyDisabled | Code::KeyExpired | Code::KeyUnsupported);
        checks.push(Check { name: "lifetime", passed: in_force, finding });
        if in_force {
            let finding = match decision.code {
                Code::RouteDenied => "this route is denied to every key".to_owned(),
                Code::PermissionMissing => format!("missing {}", missing.join(", ")),
                _ if required.is_empty() => "any valid key will do".to_owned(),
                _ => format!("granted {}", required.join(", ")),
            };
            checks.push(Check { name: "permissions", passed: decision.allows(), finding });
        }
    }
    Explanation {
        code: decision.code.as_str(),
        allowed: decision.allows(),
        status: decision.code.status(),
        detail: decision.detail(&policy.config.key_sources),
        rule,
        key: decision.key.map(|key| ExplainedKey { id: key.id.to_string(), name: key.name.to_owned() }),
        missing: if decision.code == Code::PermissionMissing { missing } else { Vec::new() },
        required,
        checks,
    }
}

struct Listener<'s> {
    sources: &'s [KeySource],
    rule: Option<ExplainedRule>,
    checks: Vec<Check>,
}

impl Listener<'_> {
    fn add(&mut self, name: &'static str, passed: bool, finding: impl Into<String>) {
        self.checks.push(Check { name, passed, finding: finding.into() });
    }
}

impl Trace for Listener<'_> {
    fn step(&mut self, step: Step<'_>) {
        match step {
            Step::PathAmbiguous(why) => self.add("path", false, why.to_string()),
            Step::HostAmbiguous(why) => self.add("host", false, why.to_string()),
            Step::Path(path) => self.add("path", true, format!("reads `{}`", path.as_str())),
            Step::Rule(Some(found)) => {
                let matches = matches(found.rule);
                self.add("rule", true, format!("rules[{}] matches: {matches}", found.number));
                self.rule = Some(ExplainedRule { number: found.number, matches, asks: asks(&found.rule.access) });
            }
            Step::Rule(None) => self.add("rule", true, "no rule matches"),
            Step::Access { access, route } => {
                let from = match (route, &self.rule) {
                    (RouteMetadata::Access(_), _) => "by the route's metadata",
                    (RouteMetadata::Invalid, _) => "because the route's metadata cannot be understood",
                    (RouteMetadata::Absent, Some(_)) => "by that rule",
                    (RouteMetadata::Absent, None) => "by `unmatched`",
                };
                self.add("route", true, format!("{} ({from})", asks(access)));
            }
            Step::Preflight { method, passes } => {
                let method = String::from_utf8_lossy(method);
                let finding = if passes { "may be allowed" } else { "is denied to every key" };
                self.add("preflight", true, format!("a {method} here {finding}"));
            }
            Step::Credential(credential) => match credential {
                Credential::Missing => self.add("credential", false, "no key source contains one"),
                Credential::Malformed(why) => self.add("credential", false, why.as_str()),
                Credential::Presented { source, .. } => {
                    let place = self.sources.get(*source).map(describe_source).unwrap_or_default();
                    self.add("credential", true, format!("one, in {place}"));
                }
            },
            Step::ManifestUnavailable(why) => self.add(
                "manifest",
                false,
                match why {
                    Unavailable::NotYetLoaded => "none was loaded yet",
                    Unavailable::Stale => "no contact with the admin service for longer than `max_staleness`",
                },
            ),
            Step::KeyUnknown => self.add("key", false, "no key has this digest"),
            Step::Key(key) => self.add("key", true, format!("{} ({})", key.id, key.name)),
        }
    }
}

fn describe_source(source: &KeySource) -> String {
    match source {
        KeySource::Header { name, scheme: None } => format!("the header `{name}`"),
        KeySource::Header { name, scheme: Some(scheme) } => format!("the header `{name}` behind `{scheme}`"),
        KeySource::Query { name } => format!("the query parameter `{name}`"),
        KeySource::Cookie { name } => format!("the cookie `{name}`"),
    }
}

/// Describes the requests that a rule is for, like `GET, HEAD /api/health on internal.example.com`.
pub fn matches(rule: &Rule) -> String {
    let mut text = rule.methods.as_ref().map_or("any method".to_owned(), |methods| methods.join(", "));
    text.push(' ');
    text.push_str(&rule.path_text);
    if let Some(hosts) = &rule.hosts {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        text.push_str(&format!(" on {}", hosts.join(", ")));
    }
    if let Some(types) = &rule.content_type {
        let types: Vec<&str> = types.iter().map(|kind| kind.as_str()).collect();
        text.push_str(&format!(" with {}", types.join(", ")));
    }
    text
}

/// Describes what a route asks for, like `require records:read`.
pub fn asks(access: &Access) -> String {
    match access {
        Access::Public => "public: no key needed".to_owned(),
        Access::Authenticated => "any valid key".to_owned(),
        Access::Deny => "deny: refused to every key".to_owned(),
        Access::Require(permissions) => format!("require {}", permissions.join(", ")),
    }
}

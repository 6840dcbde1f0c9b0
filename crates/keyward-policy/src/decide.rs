//! The decision: one function, no side effects, the checks in one fixed order.
//!
//! | # | case | code |
//! | --- | --- | --- |
//! | 1 | the path has more than one reading | `path_ambiguous` |
//! | 2 | a rule names hosts, and the host has more than one reading | `host_ambiguous` |
//! | 3 | the route is public, or the request is a preflight that may pass | `public` |
//! | 4 | no credential | `key_missing` |
//! | 5 | a credential that cannot be one key | `key_malformed` |
//! | 6 | no usable manifest | `manifest_unavailable` |
//! | 7 | no such key | `key_unknown` |
//! | 8 | the key is disabled, expired, or asks for a feature that this build does not know | `key_disabled` `key_expired` `key_unsupported` |
//! | 9 | nobody may use the route | `route_denied` |
//! | 10 | a required permission is not granted | `permission_missing` |
//! | 11 | otherwise | `allowed` |

use crate::config::{CorsPreflight, Unmatched};
use crate::credential::{Collector, Credential, KeySource};
use crate::decision::{Code, Decision};
use crate::digest::Digest;
use crate::header::{is_read_as, is_token_byte};
use crate::host::{self, AmbiguousHost};
use crate::key::KeyRef;
use crate::media_type::ContentType;
use crate::path::{AmbiguousPath, CanonicalPath};
use crate::policy::{Lookup, Policy, RouteMetadata, Unavailable};
use crate::route::{RouteMatch, RouteQuery};
use crate::rule::Access;
use crate::timestamp::Timestamp;
use std::borrow::Cow;

/// The head of a request, as bytes. Nothing in it has been checked.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// `:method`.
    pub method: &'a [u8],
    /// `:path`, with its query; empty where there is none (CONNECT).
    pub path: &'a [u8],
    /// `:authority`.
    pub host: &'a [u8],
    /// The headers in their order; a repeated header is there as often as it was sent.
    pub headers: &'a [(&'a [u8], &'a [u8])],
}

/// Decides one request at one moment.
#[inline(never)]
pub fn decide<'a>(policy: &Policy<'a>, head: &RequestHead<'_>, now: Timestamp) -> Decision<'a> {
    decide_traced(policy, head, now, &mut ())
}

/// Decides as [`decide`] does, and reports each check to `trace`.
pub fn decide_traced<'a>(
    policy: &Policy<'a>,
    head: &RequestHead<'_>,
    now: Timestamp,
    trace: &mut impl Trace,
) -> Decision<'a> {
    let config = policy.config;

    let path = match CanonicalPath::parse_with(head.path, config.paths) {
        Ok(path) => path,
        Err(why) => {
            trace.step(Step::PathAmbiguous(why));
            return Decision::new(Code::PathAmbiguous);
        }
    };
    trace.step(Step::Path(&path));

    let seen = Seen::of(head, &config.key_sources);
    // Most rules name no host.
    let host = if config.routes.names_hosts() {
        match host::parse(head.host) {
            Ok(host) => host,
            Err(why) => {
                trace.step(Step::HostAmbiguous(why));
                return Decision::new(Code::HostAmbiguous);
            }
        }
    } else {
        Cow::Borrowed("")
    };
    let query = RouteQuery { path: &path, method: head.method, host: &host, content_type: seen.content_type };
    let matched = config.routes.find(&query);
    trace.step(Step::Rule(matched));
    let access = access(policy, matched);
    trace.step(Step::Access { access, route: policy.route });
    let decision = Decision {
        required: access.required(),
        rule: matched.map(|found| found.number),
        is_unmatched: matched.is_none() && policy.route == RouteMetadata::Absent,
        ..Decision::new(Code::Public)
    };
    if *access == Access::Public {
        return decision;
    }
    if head.method == b"OPTIONS"
        && let Some(method) = seen.preflight().filter(|_| config.cors_preflight == CorsPreflight::Pass)
    {
        let passes = may_announce(config.routes.announced(&path, &host, method), policy.route);
        trace.step(Step::Preflight { method, passes });
        if passes {
            return decision;
        }
    }

    trace.step(Step::Credential(&seen.credential));
    let key = match &seen.credential {
        Credential::Missing => return Decision { code: Code::KeyMissing, ..decision },
        Credential::Malformed(_) => return Decision { code: Code::KeyMalformed, ..decision },
        Credential::Presented { key, .. } => key,
    };
    let key = match policy.keys.find(&Digest::of_key(key)) {
        Lookup::Found(key) => key,
        Lookup::Unknown => {
            trace.step(Step::KeyUnknown);
            return Decision { code: Code::KeyUnknown, ..decision };
        }
        Lookup::Unavailable(why) => {
            trace.step(Step::ManifestUnavailable(why));
            return Decision { code: Code::ManifestUnavailable, ..decision };
        }
    };
    trace.step(Step::Key(&key));

    let decision = Decision { key: Some(key), ..decision };
    let code = if key.disabled {
        Code::KeyDisabled
    } else if key.expires_at.is_some_and(|expires_at| now >= expires_at) {
        Code::KeyExpired
    } else if key.unsupported {
        Code::KeyUnsupported
    } else {
        match access {
            Access::Deny => Code::RouteDenied,
            Access::Require(required) if !required.iter().all(|permission| key.permissions.contains(permission)) => {
                Code::PermissionMissing
            }
            Access::Require(_) | Access::Authenticated | Access::Public => Code::Allowed,
        }
    };
    Decision { code, ..decision }
}

/// Returns what the route asks for: a deny rule comes first, then the route's metadata, the rule, and `unmatched`.
#[inline]
fn access<'a>(policy: &Policy<'a>, matched: Option<RouteMatch<'a>>) -> &'a Access {
    let rule = matched.map(|found| &found.rule.access);
    match (rule, policy.route) {
        (Some(Access::Deny), _) | (_, RouteMetadata::Invalid) => &Access::Deny,
        (_, RouteMetadata::Access(access)) => access,
        (Some(access), RouteMetadata::Absent) => access,
        (None, RouteMetadata::Absent) => match policy.config.unmatched {
            Unmatched::Deny => &Access::Deny,
            Unmatched::Authenticated => &Access::Authenticated,
            Unmatched::Public => &Access::Public,
        },
    }
}

/// Whether a preflight passes, given the rule that the announced request would match. As for any request, the route's
/// metadata takes the place of the rule, except that a deny rule always wins.
fn may_announce(rule: Option<&Access>, route: RouteMetadata<'_>) -> bool {
    match (rule, route) {
        (Some(Access::Deny), _) | (_, RouteMetadata::Invalid | RouteMetadata::Access(Access::Deny)) => false,
        (_, RouteMetadata::Access(_)) => true,
        (rule, RouteMetadata::Absent) => rule.is_some(),
    }
}

/// What one pass over the headers has found.
#[derive(Debug)]
struct Seen<'a> {
    credential: Credential<'a>,
    content_type: ContentType<'a>,
    has_origin: bool,
    requested_method: Option<&'a [u8]>,
    requested_methods: u32,
}

impl<'a> Seen<'a> {
    #[inline]
    fn of(head: &RequestHead<'a>, sources: &[KeySource]) -> Self {
        let mut credentials = Collector::default();
        let mut seen = Self {
            credential: Credential::Missing,
            content_type: ContentType::Absent,
            has_origin: false,
            requested_method: None,
            requested_methods: 0,
        };
        for (name, value) in head.headers {
            match *name {
                b"content-type" => seen.content_type.add(value),
                b"origin" => seen.has_origin = true,
                b"access-control-request-method" => {
                    seen.requested_method = Some(value);
                    seen.requested_methods += 1;
                }
                // A CGI-like upstream reads `content_type` as the same header (RFC 3875, 4.1.18).
                name if name.len() == 12 && is_read_as(name, "content-type") => {
                    seen.content_type = ContentType::Unclear;
                }
                _ => {}
            }
            credentials.header(sources, name, value);
        }
        credentials.query(sources, head.path);
        seen.credential = credentials.finish();
        seen
    }

    /// The method that a CORS preflight announces, if this OPTIONS request is one (Fetch standard, CORS-preflight fetch).
    #[cold]
    fn preflight(&self) -> Option<&'a [u8]> {
        let is_preflight = self.has_origin && self.requested_methods == 1;
        // Proxies join repeated headers: `GET,POST` is no method, though a rule for any method would match it.
        let is_method = |method: &&[u8]| !method.is_empty() && method.iter().copied().all(is_token_byte);
        self.requested_method.filter(is_method).filter(|_| is_preflight)
    }
}

/// One check on the way to a decision.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are the words of the decision table")]
pub enum Step<'s> {
    PathAmbiguous(AmbiguousPath),
    HostAmbiguous(AmbiguousHost),
    Path(&'s CanonicalPath<'s>),
    Rule(Option<RouteMatch<'s>>),
    Access { access: &'s Access, route: RouteMetadata<'s> },
    Preflight { method: &'s [u8], passes: bool },
    Credential(&'s Credential<'s>),
    ManifestUnavailable(Unavailable),
    KeyUnknown,
    Key(&'s KeyRef<'s>),
}

/// Receives each check on the way to a decision. The decision does not depend on it.
pub trait Trace {
    /// Takes one check.
    fn step(&mut self, step: Step<'_>);
}

/// Ignores all checks, at no cost.
impl Trace for () {
    fn step(&mut self, _: Step<'_>) {}
}

#[cfg(test)]
mod tests;

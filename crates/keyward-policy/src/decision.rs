//! What is decided about a request, and the only place where decisions get their names, statuses and sentences.

use crate::credential::KeySource;
use crate::key::KeyRef;
use serde::Serialize;
use std::borrow::Cow;
use std::fmt;

/// The outcome of one request.
///
/// Anything that is not an explicit allow denies.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    /// What was decided, and why.
    pub code: Code,
    /// The key, once it was found, even if it was refused.
    pub key: Option<KeyRef<'a>>,
    /// The permissions that the route requires. It is empty where the route requires none or was not reached.
    pub required: &'a [Box<str>],
    /// The place of the rule that matched, counted from zero.
    pub rule: Option<usize>,
    /// Whether the decision follows from `unmatched`: no rule matches, and the route's metadata says nothing.
    pub is_unmatched: bool,
}

impl<'a> Decision<'a> {
    #[inline]
    pub(crate) fn new(code: Code) -> Self {
        Self { code, key: None, required: &[], rule: None, is_unmatched: false }
    }

    /// Whether the request may go on.
    pub fn allows(&self) -> bool {
        self.code.allows()
    }

    /// What the client can do about the decision: the `detail` of its problem, with what is particular to this request.
    ///
    /// It says nothing about keys that the client does not hold: whoever reads of an expiry or a missing permission has
    /// sent the key that it is about.
    pub fn detail(&self, sources: &[KeySource]) -> Cow<'static, str> {
        let text = match (self.code, &self.key) {
            (Code::KeyMissing, _) => return key_missing(sources),
            (Code::KeyExpired, Some(KeyRef { expires_at: Some(at), .. })) => {
                format!("The API key expired at {at}. Regenerate it or create another one.")
            }
            (Code::RouteDenied, _) if self.is_unmatched => {
                let detail = "No rule matches this method and path: check the spelling, a trailing slash, the method.";
                return Cow::Borrowed(detail);
            }
            (Code::PermissionMissing, _) => {
                let names: Vec<&str> = self.missing().take(MAX_NAMED).collect();
                let more = self.missing().count() - names.len();
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("The API key needs {}{more} for this route.", names.join(", "))
            }
            (code, _) => return Cow::Borrowed(code.detail()),
        };
        Cow::Owned(text)
    }

    /// The required permissions that the key does not have.
    pub fn missing(&self) -> impl Iterator<Item = &'a str> {
        let key = self.key;
        self.required
            .iter()
            .map(|permission| &**permission)
            .filter(move |permission| !key.is_some_and(|key| key.permissions.contains(permission)))
    }
}

/// The limit of permissions that a sentence names.
const MAX_NAMED: usize = 10;

/// Names the headers that carry a key. Other sources are not advertised: keys in them end up in logs.
fn key_missing(sources: &[KeySource]) -> Cow<'static, str> {
    let mut text = String::new();
    for source in sources {
        let KeySource::Header { name, scheme } = source else { continue };
        text.push_str(if text.is_empty() { "Send an API key in the header `" } else { " or `" });
        text.push_str(name);
        if let Some(scheme) = scheme {
            text.push_str(": ");
            text.push_str(scheme);
            text.push_str(" …");
        }
        text.push('`');
    }
    if text.is_empty() {
        return Cow::Borrowed(Code::KeyMissing.detail());
    }
    text.push('.');
    Cow::Owned(text)
}

/// The body of a denial: problem details as of RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProblemDetails<'a> {
    /// `urn:keyward:<code>`.
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: Cow<'a, str>,
    code: &'a str,
    /// The request, by the proxy's request id.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    /// The permissions that the route requires, where one of them was missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    required: Option<Vec<&'a str>>,
    /// The permissions among them that the key does not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<Vec<&'a str>>,
}

impl<'a> ProblemDetails<'a> {
    /// Makes the body for any decision with this code.
    pub fn new(code: Code) -> Self {
        Self {
            kind: format!("urn:keyward:{code}"),
            title: code.title(),
            status: code.status(),
            detail: Cow::Borrowed(code.detail()),
            code: code.as_str(),
            instance: None,
            required: None,
            missing: None,
        }
    }

    /// Makes the body for one decision.
    pub fn of(decision: &Decision<'a>, sources: &[KeySource]) -> Self {
        let details = Self { detail: decision.detail(sources), ..Self::new(decision.code) };
        if decision.code == Code::PermissionMissing { details.with_permissions(decision) } else { details }
    }

    /// Adds the proxy's id of the request.
    pub fn with_instance(self, request_id: &'a str) -> Self {
        Self { instance: Some(request_id), ..self }
    }

    /// Adds the permissions of one decision.
    pub fn with_permissions(self, decision: &Decision<'a>) -> Self {
        let required = decision.required.iter().map(AsRef::as_ref).collect();
        Self { required: Some(required), missing: Some(decision.missing().collect()), ..self }
    }
}

/// The closed list of decisions. Adding one breaks every `match` that has to take a stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// A valid key with every required permission.
    Allowed,
    /// The route asks for no key, or the request is a preflight that may pass.
    Public,
    /// The path has more than one reading.
    PathAmbiguous,
    /// The host has more than one reading, and a rule names hosts.
    HostAmbiguous,
    /// The request has no credential.
    KeyMissing,
    /// The request has something that cannot be one key.
    KeyMalformed,
    /// There is no usable manifest, so nothing can be said about the key.
    ManifestUnavailable,
    /// The key does not exist: it was deleted, regenerated or never created.
    KeyUnknown,
    /// The key is disabled.
    KeyDisabled,
    /// The key has expired.
    KeyExpired,
    /// The key's record asks for a feature that this filter does not know.
    KeyUnsupported,
    /// The route is denied to every key.
    RouteDenied,
    /// The key lacks a permission that the route requires.
    PermissionMissing,
}

impl Code {
    /// Every code, in the order of the documentation.
    pub const ALL: [Self; 13] = [
        Self::Allowed,
        Self::Public,
        Self::PathAmbiguous,
        Self::HostAmbiguous,
        Self::KeyMissing,
        Self::KeyMalformed,
        Self::ManifestUnavailable,
        Self::KeyUnknown,
        Self::KeyDisabled,
        Self::KeyExpired,
        Self::KeyUnsupported,
        Self::RouteDenied,
        Self::PermissionMissing,
    ];

    /// Whether the request may go on.
    pub const fn allows(self) -> bool {
        matches!(self, Self::Allowed | Self::Public)
    }

    /// The stable name: in replies, filter state, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Public => "public",
            Self::PathAmbiguous => "path_ambiguous",
            Self::HostAmbiguous => "host_ambiguous",
            Self::KeyMissing => "key_missing",
            Self::KeyMalformed => "key_malformed",
            Self::ManifestUnavailable => "manifest_unavailable",
            Self::KeyUnknown => "key_unknown",
            Self::KeyDisabled => "key_disabled",
            Self::KeyExpired => "key_expired",
            Self::KeyUnsupported => "key_unsupported",
            Self::RouteDenied => "route_denied",
            Self::PermissionMissing => "permission_missing",
        }
    }

    /// The HTTP status of the reply. 200 means that the request may go on.
    pub const fn status(self) -> u16 {
        match self {
            Self::Allowed | Self::Public => 200,
            Self::PathAmbiguous | Self::HostAmbiguous => 400,
            Self::KeyMissing
            | Self::KeyMalformed
            | Self::KeyUnknown
            | Self::KeyDisabled
            | Self::KeyExpired
            | Self::KeyUnsupported => 401,
            Self::RouteDenied | Self::PermissionMissing => 403,
            Self::ManifestUnavailable => 503,
        }
    }

    /// The gRPC status of the reply: UNAUTHENTICATED, PERMISSION_DENIED, UNAVAILABLE, INVALID_ARGUMENT or OK.
    pub const fn grpc_status(self) -> i32 {
        match self.status() {
            401 => 16,
            403 => 7,
            503 => 14,
            400 => 3,
            _ => 0,
        }
    }

    /// The problem's `title`, which is the same for every decision with this code.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Allowed => "Allowed",
            Self::Public => "Public route",
            Self::PathAmbiguous => "Ambiguous path",
            Self::HostAmbiguous => "Ambiguous host",
            Self::KeyMissing => "API key missing",
            Self::KeyMalformed => "API key malformed",
            Self::ManifestUnavailable => "API keys cannot be checked right now",
            Self::KeyUnknown => "API key unknown",
            Self::KeyDisabled => "API key disabled",
            Self::KeyExpired => "API key expired",
            Self::KeyUnsupported => "API key not supported here",
            Self::RouteDenied => "Route not allowed",
            Self::PermissionMissing => "Permission missing",
        }
    }

    /// What the client can do about any decision with this code. [`Decision::detail`] says more.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Allowed => "The request is allowed.",
            Self::Public => "The route needs no API key.",
            Self::PathAmbiguous => {
                "The path can be read in more than one way. Send it without empty, `.` or `..` segments, encoded slashes, backslashes, semicolons, control bytes and double encoding."
            }
            Self::HostAmbiguous => {
                "The host can be read in more than one way. Send one host name or address, without user name, percent-encoding or additional dots."
            }
            Self::KeyMissing => "Send an API key with the request.",
            Self::KeyMalformed => "Send exactly one API key, of 1 to 512 visible ASCII characters.",
            Self::ManifestUnavailable => "The gateway has no current list of API keys. Try again shortly.",
            Self::KeyUnknown => "The API key is not known. It may have been deleted or regenerated.",
            Self::KeyDisabled => "The API key is disabled. Ask its owner to enable it.",
            Self::KeyExpired => "The API key has expired. Regenerate it or create another one.",
            Self::KeyUnsupported => "The API key uses a feature that this gateway does not know yet.",
            Self::RouteDenied => "No API key is allowed to use this route.",
            Self::PermissionMissing => "The API key does not have every permission that this route requires.",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_statuses_are_the_documented_ones() {
        let table: Vec<String> =
            Code::ALL.iter().map(|code| format!("{code} {} {}", code.status(), code.grpc_status())).collect();
        assert_eq!(
            table,
            [
                "allowed 200 0",
                "public 200 0",
                "path_ambiguous 400 3",
                "host_ambiguous 400 3",
                "key_missing 401 16",
                "key_malformed 401 16",
                "manifest_unavailable 503 14",
                "key_unknown 401 16",
                "key_disabled 401 16",
                "key_expired 401 16",
                "key_unsupported 401 16",
                "route_denied 403 7",
                "permission_missing 403 7",
            ]
        );
    }

    #[test]
    fn sentences_name_what_would_help() {
        let header =
            |name: &str, scheme: Option<&str>| KeySource::Header { name: name.into(), scheme: scheme.map(Into::into) };
        let query = KeySource::Query { name: "api_key".into() };
        let detail = |decision: Decision<'_>, sources: &[KeySource]| decision.detail(sources).into_owned();
        let missing = Decision::new(Code::KeyMissing);
        assert_eq!(detail(missing, &[header("x-api-key", None)]), "Send an API key in the header `x-api-key`.");
        let both = [query.clone(), header("x-api-key", None), header("authorization", Some("Bearer"))];
        assert_eq!(detail(missing, &both), "Send an API key in the header `x-api-key` or `authorization: Bearer …`.");
        assert_eq!(detail(missing, &[query]), "Send an API key with the request.");
        let granted: crate::permission::PermissionSet = ["records:read"].iter().collect();
        let key = KeyRef {
            id: crate::key::KeyId::Text("k"),
            name: "n",
            permissions: &granted,
            expires_at: Some(crate::timestamp::Timestamp::from_unix_ms(0)),
            disabled: false,
            unsupported: false,
        };
        let expired = Decision { key: Some(key), ..Decision::new(Code::KeyExpired) };
        assert_eq!(
            detail(expired, &[]),
            "The API key expired at 1970-01-01T00:00:00Z. Regenerate it or create another one."
        );
        let required: Vec<Box<str>> = vec!["records:read".into(), "records:delete".into(), "files:write".into()];
        let lacking = Decision { key: Some(key), required: &required, ..Decision::new(Code::PermissionMissing) };
        assert_eq!(detail(lacking, &[]), "The API key needs records:delete, files:write for this route.");
        let many: Vec<Box<str>> = (0..12).map(|n| format!("p{n}").into()).collect();
        let lacking = Decision { key: Some(key), required: &many, ..Decision::new(Code::PermissionMissing) };
        assert!(detail(lacking, &[]).contains("p8, p9 and 2 more for"), "{}", detail(lacking, &[]));
        assert_eq!(detail(Decision::new(Code::RouteDenied), &[]), Code::RouteDenied.detail());
        let unmatched = Decision { is_unmatched: true, ..Decision::new(Code::RouteDenied) };
        assert!(detail(unmatched, &[]).starts_with("No rule matches this method and path"));
        let body = serde_json::to_value(ProblemDetails::of(&expired, &[]).with_instance("r-1")).unwrap();
        assert_eq!((&body["instance"], body.get("missing")), (&"r-1".into(), None));
    }

    /// Somebody without the key learns nothing about it, and nothing about the rules.
    #[test]
    fn only_the_holder_of_a_key_reads_about_it() {
        for code in
            [Code::KeyUnknown, Code::KeyMalformed, Code::ManifestUnavailable, Code::PathAmbiguous, Code::HostAmbiguous]
        {
            let required: Vec<Box<str>> = vec!["secret:permission".into()];
            let decision = Decision { required: &required, rule: Some(3), is_unmatched: true, ..Decision::new(code) };
            assert_eq!(decision.detail(&[]), code.detail(), "{code}");
        }
    }

    #[test]
    fn only_two_codes_allow() {
        let allowing: Vec<Code> = Code::ALL.into_iter().filter(|code| code.allows()).collect();
        assert_eq!(allowing, [Code::Allowed, Code::Public]);
    }
}

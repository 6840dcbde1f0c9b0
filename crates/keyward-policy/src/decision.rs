//! What is decided of a request, and the one place where decisions get their names and statuses.

use crate::key::KeyRef;
use serde::Serialize;
use std::fmt;

/// The outcome of one request.
///
/// Anything that is not an explicit allow denies.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    /// What was decided, and why.
    pub code: Code,
    /// The key, once it was found, whatever became of it.
    pub key: Option<KeyRef<'a>>,
    /// The permissions that the route requires; empty where it requires none or was not reached.
    pub required: &'a [Box<str>],
    /// The rule that matched, counted from zero.
    pub rule: Option<usize>,
}

impl<'a> Decision<'a> {
    pub(crate) fn new(code: Code) -> Self {
        Self { code, key: None, required: &[], rule: None }
    }

    /// Whether the request may go on.
    pub fn allows(&self) -> bool {
        self.code.allows()
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

/// The body of a refusal: a problem of RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem<'a> {
    /// `urn:keyward:<code>`.
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    /// What the route requires, where that is what was missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    required: Option<Vec<&'a str>>,
    /// What of it the key lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<Vec<&'a str>>,
}

impl<'a> Problem<'a> {
    /// The body for every decision of this kind.
    pub fn new(code: Code) -> Self {
        Self {
            kind: format!("urn:keyward:{code}"),
            title: code.title(),
            status: code.status(),
            detail: code.detail(),
            code: code.as_str(),
            required: None,
            missing: None,
        }
    }

    /// The same with the permissions of one decision.
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
    /// No credential.
    KeyMissing,
    /// Something that cannot be one key.
    KeyMalformed,
    /// No usable manifest, so nothing can be said of the key.
    ManifestUnavailable,
    /// No such key: deleted, regenerated or never made.
    KeyUnknown,
    /// The key is disabled.
    KeyDisabled,
    /// The key's lifetime is over.
    KeyExpired,
    /// The key's record asks for something that this filter does not know.
    KeyUnsupported,
    /// No rule allows the route to anyone.
    RouteDenied,
    /// The key lacks a permission that the route requires.
    PermissionMissing,
}

impl Code {
    /// Every code, in the order of the documentation.
    pub const ALL: [Self; 12] = [
        Self::Allowed,
        Self::Public,
        Self::PathAmbiguous,
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

    /// The HTTP status of the reply; 200 stands for a request that goes on.
    pub const fn status(self) -> u16 {
        match self {
            Self::Allowed | Self::Public => 200,
            Self::PathAmbiguous => 400,
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

    /// One line for the problem's `title`: the same for every occurrence.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Allowed => "Allowed",
            Self::Public => "Public route",
            Self::PathAmbiguous => "Ambiguous path",
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

    /// What the client can do about it: the problem's `detail`.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Allowed => "The request is allowed.",
            Self::Public => "The route needs no API key.",
            Self::PathAmbiguous => {
                "The path can be read in more than one way. Send it without empty, `.` or `..` segments, encoded slashes, backslashes, semicolons, control bytes and double encoding."
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
    fn only_two_codes_allow() {
        let allowing: Vec<Code> = Code::ALL.into_iter().filter(|code| code.allows()).collect();
        assert_eq!(allowing, [Code::Allowed, Code::Public]);
    }
}

//! Rules: which requests they are for, and what they ask of a key.

use crate::host::HostPattern;
use crate::media_type::{ContentType, MediaType};
use crate::pattern::Pattern;

/// One line of the configuration's `rules`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The pattern as it was written, for people.
    pub path_text: Box<str>,
    /// Which paths.
    pub path: Pattern,
    /// Which methods; none: all.
    pub methods: Option<Box<[Box<str>]>>,
    /// Which hosts; none: all.
    pub hosts: Option<Box<[HostPattern]>>,
    /// Which media types; none: all.
    pub content_type: Option<Box<[MediaType]>>,
    /// What is asked.
    pub access: Access,
}

impl Rule {
    /// Whether the rule is for this method. Methods are compared with case (RFC 9110, 9.1).
    pub fn has_method(&self, method: &[u8]) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.iter().any(|m| m.as_bytes() == method))
    }

    /// Whether every request that `other` is for is one that this rule is for.
    pub fn covers(&self, other: &Self) -> bool {
        fn all_in<T>(ours: &Option<Box<[T]>>, theirs: &Option<Box<[T]>>, covers: impl Fn(&T, &T) -> bool) -> bool {
            match (ours, theirs) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(ours), Some(theirs)) => theirs.iter().all(|theirs| ours.iter().any(|ours| covers(ours, theirs))),
            }
        }
        self.path.covers(&other.path)
            && all_in(&self.methods, &other.methods, PartialEq::eq)
            && all_in(&self.hosts, &other.hosts, HostPattern::covers)
            && all_in(&self.content_type, &other.content_type, PartialEq::eq)
    }

    /// Whether the rule is for a body of this type.
    pub fn has_content_type(&self, content_type: ContentType<'_>) -> bool {
        self.content_type.as_ref().is_none_or(|types| is_one_of(types, content_type))
    }
}

#[inline(never)]
fn is_one_of(types: &[MediaType], content_type: ContentType<'_>) -> bool {
    types.iter().any(|kind| kind.matches(content_type))
}

/// What a route asks of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Public,
    /// A valid key.
    Authenticated,
    /// A valid key that has all of these. Never empty.
    Require(Box<[Box<str>]>),
    /// Nobody may.
    Deny,
}

impl Access {
    /// The permissions a key must have.
    pub fn required(&self) -> &[Box<str>] {
        match self {
            Self::Require(permissions) => permissions,
            _ => &[],
        }
    }
}

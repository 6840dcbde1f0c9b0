//! Rules: which requests they are for, and what they ask of a key.

use crate::host::HostPattern;
use crate::media_type::{ContentType, MediaType};
use crate::pattern::Pattern;

/// One line of the configuration's `rules`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The path pattern as it was written, for people.
    pub path_text: Box<str>,
    /// The paths that the rule is for.
    pub path: Pattern,
    /// The methods that the rule is for. `None` means every method.
    pub methods: Option<Box<[Box<str>]>>,
    /// The hosts that the rule is for. `None` means every host.
    pub hosts: Option<Box<[HostPattern]>>,
    /// The media types that the rule is for. `None` means every body.
    pub content_type: Option<Box<[MediaType]>>,
    /// What the rule asks for.
    pub access: Access,
}

impl Rule {
    /// Whether the rule is for this method. Methods are compared with case (RFC 9110, 9.1).
    #[inline]
    pub fn has_method(&self, method: &[u8]) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.iter().any(|m| m.as_bytes() == method))
    }

    /// Returns an upper bound for the memory that this rule takes in a VM, its share of the tree of routes included.
    ///
    /// It is a figure of the rule's text alone, so that every build on every machine comes to the same answer.
    pub fn compiled_bytes(&self) -> usize {
        fn list<T>(list: &Option<Box<[T]>>, each: impl Fn(&T) -> usize) -> usize {
            list.iter().flat_map(|list| list.iter()).map(each).sum()
        }
        let segments: usize = self.path.segments.iter().map(|segment| 72 + 2 * segment.text().len()).sum();
        let required: usize = self.access.required().iter().map(|name| 24 + name.len()).sum();
        let methods = list(&self.methods, |method| 24 + method.len());
        let hosts = list(&self.hosts, |host| match host {
            HostPattern::Exact(text) | HostPattern::Suffix(text) => 56 + 2 * text.len(),
        });
        let types = list(&self.content_type, |kind| 32 + kind.as_str().len());
        128 + self.path_text.len() + segments + required + methods + hosts + types
    }

    /// Whether this rule is for every request that `other` is for.
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
    #[inline]
    pub fn has_content_type(&self, content_type: ContentType<'_>) -> bool {
        self.content_type.as_ref().is_none_or(|types| is_one_of(types, content_type))
    }
}

#[inline(never)]
fn is_one_of(types: &[MediaType], content_type: ContentType<'_>) -> bool {
    types.iter().any(|kind| kind.matches(content_type))
}

/// What a route asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// It asks for nothing.
    Public,
    /// It asks for a valid key.
    Authenticated,
    /// It asks for a valid key with all of these permissions, of which there is at least one.
    Require(Box<[Box<str>]>),
    /// It denies every request.
    Deny,
}

impl Access {
    /// Returns the permissions that a key must have.
    #[inline]
    pub fn required(&self) -> &[Box<str>] {
        match self {
            Self::Require(permissions) => permissions,
            _ => &[],
        }
    }
}

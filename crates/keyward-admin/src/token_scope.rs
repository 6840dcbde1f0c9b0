//! The realm and the nodes that an edge token is bound to.

use std::fmt;
use std::str::FromStr;

/// The longest realm in bytes, as in a filter's configuration.
const MAX_REALM_BYTES: usize = 100;
/// The longest pattern in bytes, as long as the longest name of a node that a filter sends.
const MAX_PATTERN_BYTES: usize = 256;

/// What an edge token is bound to. A filter states its realm and its node with each request, and those that do not fit
/// are refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenScope {
    /// The only realm whose filters may use the token. `None` means every realm.
    pub realm: Option<Realm>,
    /// The nodes whose filters may use the token. `None` means all nodes.
    pub nodes: Option<NodePattern>,
}

impl TokenScope {
    /// Returns whether the token may be used by every filter.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the realm and the node that a request states. A request that states none does not fit a token that is
    /// bound, unless the pattern of its nodes is `*`.
    ///
    /// # Errors
    /// Returns [`OutOfScope`], which says what does not fit.
    pub fn check(&self, realm: Option<&str>, node: Option<&str>) -> Result<(), OutOfScope> {
        let stated = |name: Option<&str>| name.unwrap_or_default().to_owned();
        if let Some(wanted) = self.realm.as_ref().filter(|wanted| realm != Some(wanted.as_str())) {
            return Err(OutOfScope::Realm { wanted: wanted.clone(), stated: stated(realm) });
        }
        match &self.nodes {
            Some(wanted) if !wanted.matches(node.unwrap_or_default()) => {
                Err(OutOfScope::Node { wanted: wanted.clone(), stated: stated(node) })
            }
            _ => Ok(()),
        }
    }
}

/// What does not fit the scope of a token. An empty name means that the request states none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutOfScope {
    /// The realm does not.
    #[error(
        "the token is bound to the realm `{wanted}`, and the request states the realm `{stated}` (`x-keyward-realm`): \
         use a token of that realm, or set `realm` in the filter's configuration"
    )]
    Realm {
        /// The realm of the token.
        wanted: Realm,
        /// The realm of the request.
        stated: String,
    },
    /// The node does not.
    #[error(
        "the token is bound to nodes that match `{wanted}`, and the request states the node `{stated}` \
         (`x-keyward-node`): use a token that is bound to that node, or set Envoy's `node.id`"
    )]
    Node {
        /// The nodes of the token.
        wanted: NodePattern,
        /// The node of the request.
        stated: String,
    },
}

/// The text is not the name of a realm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to {MAX_REALM_BYTES} printable ASCII characters without `\"` and `\\`, as a filter's `realm`")]
pub struct InvalidRealm;

/// The text is not a pattern of node names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must have 1 to {MAX_PATTERN_BYTES} visible ASCII characters, such as `gateway-*`; filters send other characters \
     of a node's name percent-encoded"
)]
pub struct InvalidPattern;

/// The name of a realm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realm(String);

impl Realm {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Realm {
    type Err = InvalidRealm;

    fn from_str(text: &str) -> Result<Self, InvalidRealm> {
        let is_allowed = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        let is_realm = (1..=MAX_REALM_BYTES).contains(&text.len()) && text.bytes().all(is_allowed);
        is_realm.then(|| Self(text.to_owned())).ok_or(InvalidRealm)
    }
}

impl fmt::Display for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pattern of node names: each `*` stands for any characters, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePattern(String);

impl NodePattern {
    /// Returns the text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn matches(&self, node: &str) -> bool {
        let Some((start, rest)) = self.0.split_once('*') else { return node == self.0 };
        let Some(mut node) = node.strip_prefix(start) else { return false };
        let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
        for part in middle.split('*') {
            // The earliest place leaves the most for the parts that follow.
            let Some((_, after)) = node.split_once(part) else { return false };
            node = after;
        }
        node.ends_with(end)
    }
}

impl FromStr for NodePattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let is_pattern =
            (1..=MAX_PATTERN_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_pattern.then(|| Self(text.to_owned())).ok_or(InvalidPattern)
    }
}

impl fmt::Display for NodePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same by its definition: every way to spend the characters is tried.
    fn matches_slowly(pattern: &str, node: &str) -> bool {
        match (pattern.split_at_checked(1), node.split_at_checked(1)) {
            (None, _) => node.is_empty(),
            (Some(("*", rest)), after) => {
                matches_slowly(rest, node) || after.is_some_and(|(_, after)| matches_slowly(pattern, after))
            }
            (Some((one, rest)), Some((same, after))) => one == same && matches_slowly(rest, after),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn a_star_stands_for_anything(pattern in "[ab*]{1,8}", node in "[ab]{0,10}") {
            let fast = pattern.parse::<NodePattern>().unwrap().matches(&node);
            prop_assert_eq!(fast, matches_slowly(&pattern, &node));
        }
    }

    #[test]
    fn names_that_do_not_fit_are_told() {
        let scope = TokenScope { realm: "shop".parse().ok(), nodes: "gateway-*".parse().ok() };
        assert_eq!(scope.check(Some("shop"), Some("gateway-7")), Ok(()));
        let told = |realm, node| scope.check(realm, node).unwrap_err().to_string();
        let realm = told(Some("other"), Some("gateway-7"));
        assert!(realm.contains("`shop`") && realm.contains("`other`"), "{realm}");
        let node = told(Some("shop"), Some("edge-7"));
        assert!(node.contains("`gateway-*`") && node.contains("`edge-7`"), "{node}");
        assert!(told(None, Some("gateway-7")).contains("realm") && told(Some("shop"), None).contains("node"));
        assert_eq!(TokenScope::default().check(None, None), Ok(()));
        for odd in ["", "a\nb", "ж", &"a".repeat(257)] {
            assert!(odd.parse::<NodePattern>().is_err() && odd.parse::<Realm>().is_err(), "{odd}");
        }
    }
}

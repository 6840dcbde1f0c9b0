//! Hosts, as requests name them and as rules match them.

use std::borrow::Cow;
use std::fmt;

/// The host of a request in the form that rules compare: lower case, no port, no trailing dot.
///
/// Bytes that are no UTF-8 make a host that no rule names.
pub fn normalize(authority: &[u8]) -> Cow<'_, str> {
    let host = without_port(authority);
    let host = host.strip_suffix(b".").unwrap_or(host);
    match std::str::from_utf8(host) {
        Ok(host) if host.bytes().any(|byte| byte.is_ascii_uppercase()) => Cow::Owned(host.to_ascii_lowercase()),
        Ok(host) => Cow::Borrowed(host),
        Err(_) => Cow::Borrowed(""),
    }
}

fn without_port(authority: &[u8]) -> &[u8] {
    let end = match authority.first() {
        // An IPv6 literal has colons of its own.
        Some(b'[') => authority.iter().position(|byte| *byte == b']').map(|at| at + 1),
        _ => authority.iter().position(|byte| *byte == b':'),
    };
    end.and_then(|end| authority.get(..end)).unwrap_or(authority)
}

/// A host of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPattern {
    /// This host alone.
    Exact(Box<str>),
    /// `*.` and this: one or more labels before it.
    Suffix(Box<str>),
}

impl HostPattern {
    /// Reads `api.example.com` or `*.example.com`, in any case.
    ///
    /// # Errors
    /// [`InvalidHost`] for ports, schemes, paths, and stars elsewhere.
    pub fn parse(text: &str) -> Result<Self, InvalidHost> {
        let lower = text.to_ascii_lowercase();
        let lower = lower.strip_suffix('.').unwrap_or(&lower);
        let (rest, is_suffix) = lower.strip_prefix("*.").map_or((lower, false), |rest| (rest, true));
        let literal_v6 = rest.starts_with('[') && rest.ends_with(']') && !is_suffix;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') || byte >= 0x80;
        let well_formed = !rest.is_empty()
            && !rest.starts_with('.')
            && !rest.ends_with('.')
            && !rest.contains("..")
            && (literal_v6 || rest.bytes().all(allowed));
        match (well_formed, is_suffix) {
            (false, _) => Err(InvalidHost),
            (true, true) => Ok(Self::Suffix(rest.into())),
            (true, false) => Ok(Self::Exact(rest.into())),
        }
    }
}

impl HostPattern {
    /// Whether every host of `other` is one of this pattern's.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Exact(_), Self::Suffix(_)) => false,
            (Self::Suffix(a), Self::Exact(b)) => {
                b.strip_suffix(&**a).is_some_and(|labels| labels.len() > 1 && labels.ends_with('.'))
            }
            (Self::Suffix(a), Self::Suffix(b)) => {
                a == b || b.strip_suffix(&**a).is_some_and(|labels| labels.ends_with('.'))
            }
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Suffix(host) => write!(f, "*.{host}"),
        }
    }
}

/// The text is no host that a rule can match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidHost;

impl fmt::Display for InvalidHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a host like `api.example.com` or `*.example.com`")
    }
}

impl std::error::Error for InvalidHost {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_compared_without_case_port_and_one_dot() {
        for (authority, host) in [
            ("API.Example.com:8080", "api.example.com"),
            ("api.example.com.", "api.example.com"),
            ("api.example.com.:443", "api.example.com"),
            ("api.example.com..", "api.example.com."),
            ("[::1]:80", "[::1]"),
            ("[::1", "[::1"),
            ("", ""),
            (":80", ""),
        ] {
            assert_eq!(normalize(authority.as_bytes()), host, "{authority}");
        }
        assert_eq!(normalize(b"a\xff"), "");
    }

    #[test]
    fn patterns_are_hosts_or_suffixes() {
        assert_eq!(HostPattern::parse("Internal.Example.com."), Ok(HostPattern::Exact("internal.example.com".into())));
        assert_eq!(HostPattern::parse("*.Corp.example.com"), Ok(HostPattern::Suffix("corp.example.com".into())));
        assert_eq!(HostPattern::parse("[::1]"), Ok(HostPattern::Exact("[::1]".into())));
        for text in ["", "*", "*.", "a.*", "*a.com", "a:80", "http://a", "a/b", "a..b", ".a", "*.*.a", "*.[::1]"] {
            assert_eq!(HostPattern::parse(text), Err(InvalidHost), "{text}");
        }
    }
}

//! The credential of a request: where it may be, and what counts as one.

use crate::header::is_visible_ascii;
use crate::path;
use crate::path::hex_digit;
use std::borrow::Cow;

/// The limit of bytes in a key.
pub const MAX_KEY_BYTES: usize = 512;

/// A place where requests may carry a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A header, whose value is the key, or the key after a scheme.
    Header {
        /// The name in lower case.
        name: Box<str>,
        /// The scheme, like `Bearer`, compared without case. A value with another scheme is not a credential. `None` means
        /// that the whole value is the key.
        scheme: Option<Box<str>>,
    },
    /// A query parameter.
    Query {
        /// The name, decoded.
        name: Box<str>,
    },
    /// A cookie.
    Cookie {
        /// The name, compared with case.
        name: Box<str>,
    },
}

/// What the key sources of a request contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential<'a> {
    /// No source contains a credential.
    Missing,
    /// A source contains something that cannot be one key.
    Malformed(Malformed),
    /// One source contains one well-formed key.
    Presented {
        /// The bytes of the key.
        key: Cow<'a, [u8]>,
        /// The place of the source in the configuration, counted from zero.
        source: usize,
    },
}

/// Why a credential cannot be one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// There is a repeated header, parameter or cookie, a comma, or a key in two sources.
    MoreThanOne,
    /// It has no bytes.
    Empty,
    /// It is longer than [`MAX_KEY_BYTES`].
    TooLong,
    /// It contains a space, a control byte, or a byte beyond ASCII.
    NotVisibleAscii,
}

impl Malformed {
    /// Describes it in words, without anything of the key.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MoreThanOne => "more than one credential",
            Self::Empty => "an empty credential",
            Self::TooLong => "a credential of more than 512 bytes",
            Self::NotVisibleAscii => "a credential with a space, a control byte or a byte beyond ASCII",
        }
    }
}

/// Collects credentials while a request is read.
#[derive(Debug, Default)]
pub(crate) struct Collector<'a> {
    first: Option<(Cow<'a, [u8]>, usize)>,
    repeated: bool,
}

impl<'a> Collector<'a> {
    #[inline]
    fn add(&mut self, key: Cow<'a, [u8]>, source: usize) {
        if self.first.is_some() {
            self.repeated = true;
        } else {
            self.first = Some((key, source));
        }
    }

    /// Takes the credentials of one header.
    #[inline]
    pub(crate) fn header(&mut self, sources: &[KeySource], name: &[u8], value: &'a [u8]) {
        for (number, source) in sources.iter().enumerate() {
            match source {
                KeySource::Header { name: want, scheme } if name.eq_ignore_ascii_case(want.as_bytes()) => {
                    match scheme {
                        None => self.add(Cow::Borrowed(value), number),
                        Some(scheme) => {
                            if let Some(key) = after_scheme(value, scheme) {
                                self.add(Cow::Borrowed(key), number);
                            }
                        }
                    }
                }
                KeySource::Cookie { name: want } if name.eq_ignore_ascii_case(b"cookie") => {
                    self.cookie(want, value, number);
                }
                _ => {}
            }
        }
    }

    #[inline(never)]
    fn cookie(&mut self, want: &str, header: &'a [u8], source: usize) {
        for (_, value) in cookies(header).filter(|(name, _)| *name == want.as_bytes()) {
            self.add(Cow::Borrowed(value), source);
        }
    }

    /// Takes the credentials of the query of a `:path`.
    #[inline]
    pub(crate) fn query(&mut self, sources: &[KeySource], path: &'a [u8]) {
        for (number, source) in sources.iter().enumerate() {
            if let KeySource::Query { name: want } = source {
                self.parameter(want, path, number);
            }
        }
    }

    #[inline(never)]
    fn parameter(&mut self, want: &str, path: &'a [u8], source: usize) {
        for pair in query_pairs(path).filter(|pair| is_parameter(pair, want)) {
            let value = pair.iter().position(|byte| *byte == b'=').and_then(|at| pair.get(at + 1..));
            self.add(decode_form(value.unwrap_or_default()), source);
        }
    }

    #[allow(clippy::manual_contains, reason = "its search is made for long texts, and is much code for a short one")]
    #[inline]
    pub(crate) fn finish(self) -> Credential<'a> {
        let Some((key, source)) = self.first else { return Credential::Missing };
        let malformed = if self.repeated || key.iter().any(|byte| *byte == b',') {
            Malformed::MoreThanOne
        } else if key.is_empty() {
            Malformed::Empty
        } else if key.len() > MAX_KEY_BYTES {
            Malformed::TooLong
        } else if !is_visible_ascii(&key) {
            Malformed::NotVisibleAscii
        } else {
            return Credential::Presented { key, source };
        };
        Credential::Malformed(malformed)
    }
}

/// Returns what follows `scheme` and at least one space. `None` means another scheme; a scheme alone has an empty key.
#[inline(never)]
pub fn after_scheme<'v>(value: &'v [u8], scheme: &str) -> Option<&'v [u8]> {
    let (head, rest) = value.split_at_checked(scheme.len())?;
    let ends = rest.first().is_none_or(|byte| matches!(byte, b' ' | b'\t'));
    (ends && head.eq_ignore_ascii_case(scheme.as_bytes())).then(|| rest.trim_ascii())
}

/// Returns the pairs of a `cookie` header.
fn cookies(value: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    value.split(|byte| *byte == b';').map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (name, value) = pair.split_at_checked(at).unwrap_or_default();
        (name.trim_ascii(), value.get(1..).unwrap_or_default().trim_ascii())
    })
}

fn query_pairs(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path::query(path).into_iter().flat_map(|query| query.split(|byte| *byte == b'&'))
}

fn is_parameter(pair: &[u8], want: &str) -> bool {
    let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
    *decode_form(name) == *want.as_bytes()
}

/// Decodes a form-encoded name or value (WHATWG URL, 5.1): a `%` without two hex digits stays as it is.
fn decode_form(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return Cow::Owned(out),
            [b'+', rest @ ..] => {
                out.push(b' ');
                rest
            }
            [first, rest @ ..] => match rest {
                [high, low, after @ ..] if *first == b'%' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    out.extend(hex_digit(high).zip(hex_digit(low)).map(|(high, low)| high << 4 | low));
                    after
                }
                _ => {
                    out.push(*first);
                    rest
                }
            },
        };
    }
}

/// Returns the `:path` without the parameters that carry a key. `None` means that there is none to remove.
pub fn remove_from_path(sources: &[KeySource], path: &[u8]) -> Option<Vec<u8>> {
    let is_key = |pair: &[u8]| {
        sources.iter().any(|source| matches!(source, KeySource::Query { name } if is_parameter(pair, name)))
    };
    if !query_pairs(path).any(is_key) {
        return None;
    }
    let mut out = path::without_query(path).to_vec();
    for (number, pair) in query_pairs(path).filter(|pair| !is_key(pair)).enumerate() {
        out.push(if number == 0 { b'?' } else { b'&' });
        out.extend_from_slice(pair);
    }
    Some(out)
}

/// Returns a `cookie` header without the cookies that carry a key. `None` means that there is none to remove; an empty
/// value means that no cookie is left.
pub fn remove_from_cookies(sources: &[KeySource], value: &[u8]) -> Option<Vec<u8>> {
    let is_key = |name: &[u8]| {
        sources.iter().any(|source| matches!(source, KeySource::Cookie { name: want } if name == want.as_bytes()))
    };
    if !cookies(value).any(|(name, _)| is_key(name)) {
        return None;
    }
    let kept = value.split(|byte| *byte == b';').filter(|pair| !cookies(pair).any(|(name, _)| is_key(name)));
    Some(kept.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).collect::<Vec<_>>().join(&b"; "[..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sources() -> Vec<KeySource> {
        vec![
            KeySource::Header { name: "x-api-key".into(), scheme: None },
            KeySource::Header { name: "authorization".into(), scheme: Some("Bearer".into()) },
            KeySource::Query { name: "api_key".into() },
            KeySource::Cookie { name: "key".into() },
        ]
    }

    fn collect(request: &[&'static str]) -> Credential<'static> {
        let mut collector = Collector::default();
        for line in request {
            match line.split_once(": ") {
                Some((name, value)) => collector.header(&sources(), name.as_bytes(), value.as_bytes()),
                None => collector.query(&sources(), line.as_bytes()),
            }
        }
        collector.finish()
    }

    #[track_caller]
    fn presented(request: &[&'static str], key: &str, source: usize) {
        assert_eq!(collect(request), Credential::Presented { key: key.as_bytes().into(), source }, "{request:?}");
    }

    #[test]
    fn each_source_gives_one_key() {
        presented(&["x-api-key: k"], "k", 0);
        presented(&["authorization: Bearer k"], "k", 1);
        presented(&["authorization: bEARER  k"], "k", 1);
        presented(&["/a?x=1&api_key=k&y=2"], "k", 2);
        presented(&["/a?api%5Fkey=k%2b1"], "k+1", 2);
        presented(&["/a?%zz=1&api_key=a%zz"], "a%zz", 2);
        presented(&["cookie: a=b; key=k; c=d"], "k", 3);
        presented(&["cookie: key=a=b"], "a=b", 3);
    }

    #[test]
    fn what_looks_like_one_but_is_not_is_no_credential() {
        for request in [
            &[][..],
            &["authorization: Basic k"],
            &["authorization: Bearerk"],
            &["authorization: Bear"],
            &["/a?API_KEY=k"],
            &["/a?xapi_key=k"],
            &["/api_key=k"],
            &["cookie: KEY=k; xkey=1"],
        ] {
            assert_eq!(collect(request), Credential::Missing, "{request:?}");
        }
    }

    #[test]
    fn two_of_them_are_none_even_when_they_agree() {
        for request in [
            &["x-api-key: k", "x-api-key: k"][..],
            &["x-api-key: k,k"],
            &["x-api-key: k", "authorization: Bearer k"],
            &["x-api-key: ", "x-api-key: k"],
            &["/?api_key=k&api%5fkey=k"],
            &["cookie: key=k", "cookie: key=k"],
            &["cookie: key=k; key=k"],
            &["x-api-key: k", "cookie: key="],
        ] {
            assert_eq!(collect(request), Credential::Malformed(Malformed::MoreThanOne), "{request:?}");
        }
    }

    #[test]
    fn a_key_is_1_to_512_visible_ascii_bytes() {
        let key = |value: &[u8]| {
            let mut collector = Collector::default();
            collector.header(&sources(), b"x-api-key", value);
            match collector.finish() {
                Credential::Malformed(why) => Some(why),
                _ => None,
            }
        };
        assert_eq!(key(&[b'k'; 512]), None);
        assert_eq!(key(&[b'k'; 513]), Some(Malformed::TooLong));
        assert_eq!(key(b""), Some(Malformed::Empty));
        assert_eq!(key(b"~!"), None);
        for bad in [&b"a b"[..], b"a\tb", b"\xff", b"a\0", b"\x7f", "é".as_bytes()] {
            assert_eq!(key(bad), Some(Malformed::NotVisibleAscii), "{bad:?}");
        }
        assert_eq!(collect(&["authorization: Bearer"]), Credential::Malformed(Malformed::Empty));
        assert_eq!(collect(&["/?api_key"]), Credential::Malformed(Malformed::Empty));
        assert_eq!(collect(&["/?api_key=a+b"]), Credential::Malformed(Malformed::NotVisibleAscii));
    }

    #[test]
    fn removing_leaves_the_rest_as_it_was() {
        let path =
            |text: &str| remove_from_path(&sources(), text.as_bytes()).map(|out| String::from_utf8(out).unwrap());
        assert_eq!(path("/a?x=1&api_key=k&y=%32"), Some("/a?x=1&y=%32".into()));
        assert_eq!(path("/a?api%5fkey=k"), Some("/a".into()));
        assert_eq!(path("/a?x=1"), None);
        let cookie =
            |text: &str| remove_from_cookies(&sources(), text.as_bytes()).map(|out| String::from_utf8(out).unwrap());
        assert_eq!(cookie("a=b; key=k; c=d"), Some("a=b; c=d".into()));
        assert_eq!(cookie("key=k"), Some(String::new()));
        assert_eq!(cookie("a=b; c"), None);
    }

    proptest! {
        #[test]
        fn what_is_removed_is_no_longer_found(query in "((a|api_key|api%5fkey|%61pi_key|b)(=[a-z%]{0,3})?&?){0,5}") {
            let path = format!("/x?{query}");
            let left = remove_from_path(&sources(), path.as_bytes()).unwrap_or_else(|| path.clone().into_bytes());
            let mut collector = Collector::default();
            collector.query(&sources(), &left);
            prop_assert_eq!(collector.finish(), Credential::Missing);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(name in "authorization|cookie|x-api-key", value in proptest::collection::vec(any::<u8>(), 0..30)) {
            let mut collector = Collector::default();
            collector.header(&sources(), name.as_bytes(), &value);
            collector.query(&sources(), &value);
            let _ = collector.finish();
        }
    }
}

//! Request paths in the one form that rules are compared with.
//!
//! A path that two programs could read differently is not compared at all: it is refused. What is left has exactly one
//! reading, whether or not the proxy in front normalised it. [`PathSettings`] let through what the operator knows the
//! upstream to read in one way.

use std::borrow::Cow;
use std::fmt;

/// How the upstream reads what is refused by default. Each field is the operator's word for one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathSettings {
    /// Whether `%2F` is part of a segment. The text of the path keeps it encoded, as `%2F`.
    pub encoded_slash_in_segment: bool,
    /// Whether `;`, plain or encoded, is a character like any other.
    pub literal_semicolon: bool,
    /// Whether `%23` and `%3F` are a `#` and a `?` that are part of a segment.
    pub literal_encoded_delimiters: bool,
}

/// A path without its query, percent-decoded once, known to be unambiguous.
///
/// Decoded segments hold no slash (an encoded one stays `%2F`), so the text splits at `/` without loss. No other text
/// holds `%2F`, because a path that still has `%` and two hex digits after decoding is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanonicalPath<'a> {
    /// UTF-8. It is kept as bytes, because every request would pay for checking it once more.
    text: Cow<'a, [u8]>,
}

impl<'a> CanonicalPath<'a> {
    /// Reads a `:path` with the default settings: a leading slash, then segments up to a `?` or the end.
    ///
    /// # Errors
    /// Returns [`AmbiguousPath`], which says which reading could differ.
    pub fn parse(path: &'a [u8]) -> Result<Self, AmbiguousPath> {
        Self::parse_with(path, PathSettings::default())
    }

    /// Reads a `:path`.
    ///
    /// # Errors
    /// Returns [`AmbiguousPath`], which says which reading could differ.
    #[inline]
    pub fn parse_with(path: &'a [u8], settings: PathSettings) -> Result<Self, AmbiguousPath> {
        match plain(path) {
            Some(plain) => Ok(Self { text: Cow::Borrowed(plain) }),
            None => Self::parse_any(path, settings),
        }
    }

    /// Reads paths of every kind. It is a separate function so that the code of ordinary requests stays small.
    #[cold]
    #[inline(never)]
    fn parse_any(path: &'a [u8], settings: PathSettings) -> Result<Self, AmbiguousPath> {
        let path = without_query(path);
        if path.first() != Some(&b'/') {
            return Err(AmbiguousPath::NoLeadingSlash);
        }
        let mut encoded = false;
        for byte in path {
            match byte {
                b'\\' => return Err(AmbiguousPath::Backslash),
                b';' if !settings.literal_semicolon => return Err(AmbiguousPath::Semicolon),
                b'#' => return Err(AmbiguousPath::Delimiter),
                0..=0x1f | 0x7f => return Err(AmbiguousPath::ControlByte),
                b'%' => encoded = true,
                _ => {}
            }
        }
        let text = if encoded { decode(path, settings)? } else { Cow::Borrowed(path) };
        if std::str::from_utf8(&text).is_err() {
            return Err(AmbiguousPath::InvalidUtf8);
        }
        let path = Self { text };
        let mut segments = path.segments();
        while let Some(segment) = segments.next() {
            match segment {
                // One trailing slash is an empty last segment; `/` alone has none.
                b"" if segments.rest.is_some() => return Err(AmbiguousPath::EmptySegment),
                b"." | b".." => return Err(AmbiguousPath::DotSegment),
                _ if encoded => check_encoded_slashes(segment)?,
                _ => {}
            }
        }
        Ok(path)
    }

    /// Returns the decoded path. A trailing slash is kept.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    /// Returns the decoded segments, each of them UTF-8. `/` has none; a trailing slash makes the last one empty.
    #[inline]
    pub fn segments(&self) -> Segments<'_> {
        let rest = self.text.get(1..).unwrap_or_default();
        Segments { rest: (!rest.is_empty()).then_some(rest) }
    }
}

/// Returns the path without its query if it can be used as it is: ASCII, nothing encoded, nothing that could have a second
/// reading.
#[inline]
fn plain(path: &[u8]) -> Option<&[u8]> {
    if path.first() != Some(&b'/') {
        return None;
    }
    let mut before = 0;
    for (at, byte) in path.iter().enumerate() {
        match byte {
            b'?' => return path.get(..at),
            b'%' | b'\\' | b';' | b'#' | 0..=0x1f | 0x7f.. => return None,
            // Two slashes, or what may be a dot segment.
            b'/' | b'.' if before == b'/' => return None,
            _ => before = *byte,
        }
    }
    Some(path)
}

/// An iterator over the segments that are left of a path.
#[derive(Debug, Clone, Copy)]
pub struct Segments<'p> {
    rest: Option<&'p [u8]>,
}

impl<'p> Iterator for Segments<'p> {
    type Item = &'p [u8];

    #[inline]
    fn next(&mut self) -> Option<&'p [u8]> {
        let rest = self.rest?;
        let end = rest.iter().position(|byte| *byte == b'/');
        let (segment, after) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
        self.rest = after.get(1..);
        Some(segment)
    }
}

/// Returns the part of a `:path` before the first `?`.
#[inline]
pub fn without_query(path: &[u8]) -> &[u8] {
    path.split(|byte| *byte == b'?').next().unwrap_or_default()
}

/// Returns the part of a `:path` after the first `?`, if there is one.
pub fn query(path: &[u8]) -> Option<&[u8]> {
    let at = path.iter().position(|byte| *byte == b'?')?;
    path.get(at + 1..)
}

/// Stands for an encoded slash while a path is decoded. No path holds this byte.
const SLASH: u8 = 0;

fn decode(path: &[u8], settings: PathSettings) -> Result<Cow<'_, [u8]>, AmbiguousPath> {
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let (high, low) = (bytes.next().and_then(hex_digit), bytes.next().and_then(hex_digit));
        let (Some(high), Some(low)) = (high, low) else { return Err(AmbiguousPath::BadPercent) };
        match high << 4 | low {
            b'/' if settings.encoded_slash_in_segment => out.push(SLASH),
            b'/' => return Err(AmbiguousPath::EncodedSlash),
            b'\\' => return Err(AmbiguousPath::Backslash),
            b';' if !settings.literal_semicolon => return Err(AmbiguousPath::Semicolon),
            b'?' | b'#' if !settings.literal_encoded_delimiters => return Err(AmbiguousPath::Delimiter),
            0..=0x1f | 0x7f => return Err(AmbiguousPath::ControlByte),
            byte => out.push(byte),
        }
    }
    // A program that decodes a second time would see something else.
    let twice = out
        .windows(3)
        .any(|three| matches!(three, [b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()));
    if twice {
        return Err(AmbiguousPath::EncodedTwice);
    }
    while let Some(at) = out.iter().position(|byte| *byte == SLASH) {
        out.splice(at..=at, *ENCODED_SLASH);
    }
    Ok(Cow::Owned(out))
}

/// How the text of a path, and a pattern, writes a slash within a segment.
pub(crate) const ENCODED_SLASH: &[u8; 3] = b"%2F";

/// Checks what stands between encoded slashes: an upstream that splits there must not find a segment to resolve or merge.
fn check_encoded_slashes(segment: &[u8]) -> Result<(), AmbiguousPath> {
    let mut rest = segment;
    let mut found = false;
    loop {
        let slash = rest.windows(ENCODED_SLASH.len()).position(|window| window == ENCODED_SLASH);
        found |= slash.is_some();
        let (part, after) = rest.split_at_checked(slash.unwrap_or(rest.len())).unwrap_or_default();
        match part {
            b"" if found => return Err(AmbiguousPath::EmptySegment),
            b"." | b".." => return Err(AmbiguousPath::DotSegment),
            _ => {}
        }
        if slash.is_none() {
            return Ok(());
        }
        rest = after.get(ENCODED_SLASH.len()..).unwrap_or_default();
    }
}

/// Returns the value of one hex digit.
pub(crate) fn hex_digit(digit: &u8) -> Option<u8> {
    char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Why a path has more than one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AmbiguousPath {
    /// There is no path (CONNECT), or it is `*` or relative.
    NoLeadingSlash,
    /// `//`, which some programs merge.
    EmptySegment,
    /// `.` or `..`, plain or encoded, which some programs resolve.
    DotSegment,
    /// `%2F`, which some programs split at.
    EncodedSlash,
    /// `\`, plain or encoded, which some programs read as a slash.
    Backslash,
    /// `;`, plain or encoded, behind which some programs see parameters.
    Semicolon,
    /// `#`, or an encoded `?` or `#`, behind which some programs see no path any more.
    Delimiter,
    /// A byte below 0x20 or 0x7f, plain or encoded.
    ControlByte,
    /// `%` without two hex digits.
    BadPercent,
    /// `%` and two hex digits are left after decoding once.
    EncodedTwice,
    /// The decoded bytes are not UTF-8.
    InvalidUtf8,
}

impl fmt::Display for AmbiguousPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLeadingSlash => "the path has no leading slash",
            Self::EmptySegment => "the path has an empty segment",
            Self::DotSegment => "the path has a `.` or `..` segment",
            Self::EncodedSlash => "the path has an encoded slash",
            Self::Backslash => "the path has a backslash",
            Self::Semicolon => "the path has a semicolon",
            Self::Delimiter => "the path has a `#` or an encoded `?`",
            Self::ControlByte => "the path has a control byte",
            Self::BadPercent => "the path has a `%` without two hex digits",
            Self::EncodedTwice => "the path is percent-encoded twice",
            Self::InvalidUtf8 => "the path is not UTF-8",
        })
    }
}

impl std::error::Error for AmbiguousPath {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(path: &str, expect: Result<&str, AmbiguousPath>) {
        let got = CanonicalPath::parse(path.as_bytes());
        assert_eq!(got.as_ref().map(CanonicalPath::as_str).map_err(|e| *e), expect, "{path:?}");
    }

    #[test]
    fn what_has_one_reading_is_decoded_once() {
        check("/", Ok("/"));
        check("/a", Ok("/a"));
        check("/a/", Ok("/a/"));
        check("/a/b?c=/../d;e", Ok("/a/b"));
        check("/?x", Ok("/"));
        check("/%61pi/r%65cords", Ok("/api/records"));
        check("/100%25", Ok("/100%"));
        check("/%25zz", Ok("/%zz"));
        check("/caf%C3%A9/caf\u{e9}", Ok("/caf\u{e9}/caf\u{e9}"));
        check("/...", Ok("/..."));
        check("/a b", Ok("/a b"));
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        use AmbiguousPath::*;
        for path in ["", "*", "a", "?x", "http://h/a", "%2Fa"] {
            check(path, Err(NoLeadingSlash));
        }
        for path in ["//", "//a", "/a//b", "/a//", "/a//?q"] {
            check(path, Err(EmptySegment));
        }
        for path in ["/.", "/..", "/a/../b", "/a/%2e%2E/b", "/a/.%2e", "/a/./", "/a/.."] {
            check(path, Err(DotSegment));
        }
        check("/a%2fb", Err(EncodedSlash));
        check("/a%2Fb", Err(EncodedSlash));
        for path in ["/a\\b", "/a%5cb", "/a/..%5C"] {
            check(path, Err(Backslash));
        }
        for path in ["/a;b", "/a%3bb", "/..;/a", "/a;x=1"] {
            check(path, Err(Semicolon));
        }
        for path in ["/a#b", "/a%23b", "/a%3fb"] {
            check(path, Err(Delimiter));
        }
        for path in ["/a\0", "/a%00", "/a%0d%0a", "/a\x7f", "/%7F", "/\t"] {
            check(path, Err(ControlByte));
        }
        for path in ["/%", "/%6", "/%zz", "/%6g", "/a%", "/%-1", "/%+1"] {
            check(path, Err(BadPercent));
        }
        for path in ["/%2561", "/%252e%252e", "/%25%36%31", "/%2525ff"] {
            check(path, Err(EncodedTwice));
        }
        for path in ["/%ff", "/%c0%af", "/%ed%a0%80"] {
            check(path, Err(InvalidUtf8));
        }
        assert_eq!(CanonicalPath::parse(b"/\xff").unwrap_err(), InvalidUtf8);
    }

    #[test]
    fn segments_keep_the_trailing_slash() {
        let split = |path: &'static str| -> Vec<String> {
            CanonicalPath::parse(path.as_bytes())
                .unwrap()
                .segments()
                .map(|segment| String::from_utf8(segment.to_vec()).unwrap())
                .collect()
        };
        assert_eq!(split("/"), Vec::<String>::new());
        assert_eq!(split("/a/b"), ["a", "b"]);
        assert_eq!(split("/a/"), ["a", ""]);
    }

    const ALL: PathSettings =
        PathSettings { encoded_slash_in_segment: true, literal_semicolon: true, literal_encoded_delimiters: true };

    #[test]
    fn settings_let_through_what_they_name_and_nothing_else() {
        let with = |path: &str, settings| {
            CanonicalPath::parse_with(path.as_bytes(), settings).map(|path| path.as_str().to_owned())
        };
        let [slash, semicolon, delimiters] = [
            PathSettings { encoded_slash_in_segment: true, ..PathSettings::default() },
            PathSettings { literal_semicolon: true, ..PathSettings::default() },
            PathSettings { literal_encoded_delimiters: true, ..PathSettings::default() },
        ];
        for settings in [slash, ALL] {
            assert_eq!(
                with("/projects/group%2fname%2Fx/files", settings).as_deref(),
                Ok("/projects/group%2Fname%2Fx/files")
            );
            for path in ["/a%2F..%2Fb", "/%2e%2e%2Fb", "/a%2F.", "/a%2F%2e"] {
                assert_eq!(with(path, settings), Err(AmbiguousPath::DotSegment), "{path}");
            }
            for path in ["/%2F", "/a%2F", "/%2Fa/b", "/a%2F%2Fb"] {
                assert_eq!(with(path, settings), Err(AmbiguousPath::EmptySegment), "{path}");
            }
            assert_eq!(with("/a%252Fb", settings), Err(AmbiguousPath::EncodedTwice));
            assert_eq!(with("/a%5Cb", settings), Err(AmbiguousPath::Backslash));
            assert_eq!(with("/a%00b", settings), Err(AmbiguousPath::ControlByte));
        }
        for settings in [semicolon, ALL] {
            assert_eq!(with("/Patient;x=1/a%3bb", settings).as_deref(), Ok("/Patient;x=1/a;b"));
        }
        for settings in [delimiters, ALL] {
            assert_eq!(with("/a%23b/c%3Fd?e", settings).as_deref(), Ok("/a#b/c?d"));
            assert_eq!(with("/a#b", settings), Err(AmbiguousPath::Delimiter));
        }
        assert_eq!(with("/a%2Fb", semicolon), Err(AmbiguousPath::EncodedSlash));
        assert_eq!(with("/a;b", slash), Err(AmbiguousPath::Semicolon));
        assert_eq!(with("/a%3Fb", semicolon), Err(AmbiguousPath::Delimiter));
    }

    /// What is decided at a glance is what is decided by looking closely, wherever in the path it is.
    #[test]
    fn every_byte_and_every_doubtful_pair_is_seen_everywhere() {
        let plain: Vec<u8> = b"/abc/defgh".iter().copied().cycle().take(50).collect();
        let doubtful = b"/.?%;a";
        let pairs = doubtful.iter().flat_map(|first| doubtful.iter().map(|second| vec![*first, *second]));
        for bytes in (0..=u8::MAX).map(|byte| vec![byte]).chain(pairs) {
            for length in bytes.len()..=plain.len() {
                for at in 0..=length - bytes.len() {
                    let mut path = plain[..length].to_vec();
                    path[at..at + bytes.len()].copy_from_slice(&bytes);
                    let text = String::from_utf8_lossy(&path);
                    let closely = CanonicalPath::parse_any(&path, PathSettings::default());
                    assert_eq!(CanonicalPath::parse(&path), closely, "{text}");
                }
            }
        }
    }

    /// Every byte of a decoded path, encoded; the reading must not depend on which bytes are.
    fn encode(text: &str, which: impl Fn(usize) -> bool) -> String {
        let byte = |(at, byte): (usize, u8)| match byte {
            b'/' => "/".to_owned(),
            b'%' => "%25".to_owned(),
            _ if which(at) || !byte.is_ascii() => format!("%{byte:02X}"),
            _ => char::from(byte).to_string(),
        };
        text.bytes().enumerate().map(byte).collect()
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(path in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = CanonicalPath::parse(&path);
        }

        #[test]
        fn a_plain_path_is_what_it_is_without_a_glance(
            start in "(/[ab]{1,9}){0,5}",
            path in "[/a.?%2e;\\\\é\\x00 ~-]{0,40}",
        ) {
            for path in [path.clone(), format!("/{path}"), format!("{start}/{path}")] {
                let path = path.as_bytes();
                prop_assert_eq!(CanonicalPath::parse(path), CanonicalPath::parse_any(path, PathSettings::default()));
            }
        }

        /// The settings never change the reading of a path that is let through without them, and no two paths that
        /// an upstream tells apart get the same text.
        #[test]
        fn settings_only_add_paths(path in "/[a/.%2eEfF35bBcC;#?]{0,14}") {
            let settled = CanonicalPath::parse_with(path.as_bytes(), ALL);
            if let Ok(plain) = CanonicalPath::parse(path.as_bytes()) {
                prop_assert_eq!(&Ok(plain), &settled);
            }
            if let Ok(settled) = settled {
                let raw = without_query(path.as_bytes());
                let slashes = |text: &[u8]| text.iter().filter(|byte| **byte == b'/').count();
                prop_assert_eq!(slashes(settled.as_str().as_bytes()), slashes(raw), "an encoded slash splits nothing");
                let decoded = settled.as_str().replace("%2F", "/");
                prop_assert!(!decoded.contains("//") && !decoded.split('/').any(|part| part == "." || part == ".."));
                let once: Vec<u8> = percent_encoding::percent_decode(raw).collect();
                prop_assert_eq!(decoded.as_bytes(), &once[..]);
            }
        }

        #[test]
        fn one_resource_has_one_reading(path in "(/[a-z%.:é&=~_ -]{1,6}){0,4}/?", seed in any::<u64>()) {
            if let Ok(canonical) = CanonicalPath::parse(encode(&path, |_| false).as_bytes()) {
                for pattern in [u64::MAX, seed, !seed] {
                    let encoded = encode(canonical.as_str(), |at| pattern >> (at % 64) & 1 == 1);
                    let again = CanonicalPath::parse(encoded.as_bytes());
                    prop_assert_eq!(again.as_ref().map(CanonicalPath::as_str), Ok(canonical.as_str()), "{}", encoded);
                }
            }
        }

        #[test]
        fn a_naive_second_decoding_or_normalisation_changes_nothing(path in "[/a.%2eE5cCfF;\\\\]{0,12}") {
            let path = format!("/{path}");
            if let Ok(canonical) = CanonicalPath::parse(path.as_bytes()) {
                let text = canonical.as_str();
                prop_assert!(!text.contains("//") && !text.contains('\\') && !text.contains(';'));
                prop_assert!(text.split('/').all(|segment| segment != "." && segment != ".."));
                let decodes = |w: &[u8]| w[0] == b'%' && w[1].is_ascii_hexdigit() && w[2].is_ascii_hexdigit();
                prop_assert!(!text.as_bytes().windows(3).any(decodes));
            }
        }
    }
}

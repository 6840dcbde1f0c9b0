//! Path patterns, as rules write them.

use crate::path::PathSettings;
use std::borrow::Cow;
use std::fmt;

/// The limit of segments in one pattern.
pub const MAX_SEGMENTS: usize = 64;

/// A pattern for whole paths, written decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// What each segment must be.
    pub segments: Box<[Segment]>,
    /// Whether any number of further segments may follow: `**`.
    pub any_rest: bool,
}

/// What one segment of a path must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// Exactly this text. It is empty only in the last place, for a trailing slash.
    Literal(Box<str>),
    /// This start, then anything or nothing: `_*`.
    Prefix(Box<str>),
    /// At least one character, then this end: `{name}:cancel`.
    Suffix(Box<str>),
    /// Any segment that is not empty: `{name}`.
    Any,
}

impl Pattern {
    /// Reads a pattern, with the default settings for paths.
    ///
    /// # Errors
    /// Returns [`InvalidPattern`] for what could never match, or would not mean what it seems to.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        Self::parse_with(text, PathSettings::default())
    }

    /// Reads a pattern.
    ///
    /// # Errors
    /// Returns [`InvalidPattern`] for what could never match under these settings, or would not mean what it seems to.
    pub fn parse_with(text: &str, settings: PathSettings) -> Result<Self, InvalidPattern> {
        let body = text.strip_prefix('/').ok_or(InvalidPattern::NoLeadingSlash)?;
        let mut segments = Vec::new();
        let mut any_rest = false;
        let mut parts = body.split('/').peekable();
        // `/` alone has no segments.
        while let Some(part) = parts.next().filter(|_| !body.is_empty()) {
            let last = parts.peek().is_none();
            match part {
                "**" if last => any_rest = true,
                "**" => return Err(InvalidPattern::RestNotLast),
                "" if !last => return Err(InvalidPattern::EmptySegment),
                _ if segments.len() == MAX_SEGMENTS => return Err(InvalidPattern::TooLong),
                _ => segments.push(Segment::parse(part, settings)?),
            }
        }
        Ok(Self { segments: segments.into(), any_rest })
    }

    /// Whether this pattern matches every path that `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        let long_enough = if self.any_rest {
            other.segments.len() >= self.segments.len()
        } else {
            other.segments.len() == self.segments.len() && !other.any_rest
        };
        long_enough && self.segments.iter().zip(&other.segments).all(|(ours, theirs)| ours.covers(theirs))
    }
}

impl Segment {
    /// The text that a segment of a path is compared with.
    pub fn text(&self) -> &str {
        match self {
            Self::Literal(text) | Self::Prefix(text) | Self::Suffix(text) => text,
            Self::Any => "",
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, Self::Any | Self::Prefix(_) | Self::Suffix(_)) => true,
            (Self::Any, Self::Literal(text)) => !text.is_empty(),
            (Self::Literal(a), Self::Literal(b)) => a == b,
            (Self::Prefix(a), Self::Literal(b) | Self::Prefix(b)) => b.starts_with(&**a),
            (Self::Suffix(a), Self::Literal(b)) => b.len() > a.len() && b.ends_with(&**a),
            (Self::Suffix(a), Self::Suffix(b)) => b.ends_with(&**a),
            (Self::Literal(_) | Self::Prefix(_) | Self::Suffix(_), _) => false,
        }
    }

    fn parse(part: &str, settings: PathSettings) -> Result<Self, InvalidPattern> {
        if let Some(rest) = part.strip_prefix('{') {
            let (name, end) = rest.split_once('}').ok_or(InvalidPattern::PartialName)?;
            if end.contains(['{', '}']) {
                return Err(InvalidPattern::PartialName);
            }
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(InvalidPattern::BadName);
            }
            return match end {
                "" => Ok(Self::Any),
                _ if end.contains('*') => Err(InvalidPattern::BadStar),
                _ => literal(end, settings).map(Self::Suffix),
            };
        }
        if part.contains(['{', '}']) {
            return Err(InvalidPattern::PartialName);
        }
        if matches!(part, "." | "..") {
            return Err(InvalidPattern::NeverMatches("a `.` or `..` segment"));
        }
        match part.strip_suffix('*') {
            Some(start) if start.is_empty() || start.contains('*') => Err(InvalidPattern::BadStar),
            Some(start) => literal(start, settings).map(Self::Prefix),
            None if part.contains('*') => Err(InvalidPattern::BadStar),
            None => literal(part, settings).map(Self::Literal),
        }
    }
}

/// Checks a literal text, and writes encoded slashes in it as paths do.
#[cold]
#[inline(never)]
fn literal(text: &str, settings: PathSettings) -> Result<Box<str>, InvalidPattern> {
    let never = |what| Err(InvalidPattern::NeverMatches(what));
    for c in text.chars() {
        match c {
            '?' if !settings.literal_encoded_delimiters => return never("a query"),
            '#' if !settings.literal_encoded_delimiters => return never("a `#`"),
            ';' if !settings.literal_semicolon => return never("a semicolon"),
            '\\' => return never("a backslash"),
            c if c.is_ascii_control() => return never("a control character"),
            _ => {}
        }
    }
    let mut text = Cow::Borrowed(text);
    if settings.encoded_slash_in_segment && text.contains("%2f") {
        text = text.replace("%2f", "%2F").into();
    }
    let is_encoded = |w: &[u8]| {
        matches!(w, [b'%', a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
            && !(settings.encoded_slash_in_segment && w == b"%2F")
    };
    if text.as_bytes().windows(3).any(is_encoded) { Err(InvalidPattern::Encoded) } else { Ok(text.into()) }
}

/// Why a text is not a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidPattern {
    /// Patterns are whole paths and start with `/`.
    NoLeadingSlash,
    /// `//`.
    EmptySegment,
    /// `**` before the end.
    RestNotLast,
    /// `{}`, or a name with other characters than letters, digits and `_`.
    BadName,
    /// `a{b}` or `{a}{b}`: only a literal end may be beside a name.
    PartialName,
    /// `*` alone, or not at the end of a segment.
    BadStar,
    /// `%` and two hex digits.
    Encoded,
    /// Requests like this are refused before rules are looked at.
    NeverMatches(&'static str),
    /// More than [`MAX_SEGMENTS`] segments.
    TooLong,
}

impl InvalidPattern {
    /// How to mend it.
    pub fn help(self) -> &'static str {
        match self {
            Self::NoLeadingSlash => "start it with `/`",
            Self::EmptySegment => "write one slash; Envoy can merge slashes in requests",
            Self::RestNotLast => "`**` stands for the rest of the path: put it last, and use `{name}` for one segment",
            Self::BadName => "name it with letters, digits and `_`, like `{collection}`",
            Self::PartialName => {
                "a `{name}` begins its segment, alone or before a literal end like `{name}:cancel`; for a literal start write `_*`"
            }
            Self::BadStar => {
                "`*` ends a segment after a literal start, like `_*`; `{name}` is any one segment, `**` the rest"
            }
            Self::Encoded => "write patterns decoded: requests are decoded before they are compared",
            Self::NeverMatches(_) => {
                "leave it out: such a request is refused as ambiguous unless `paths` lets it through, and the query is ignored"
            }
            Self::TooLong => "use `**` for the rest of the path",
        }
    }
}

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeadingSlash => f.write_str("the path pattern has no leading slash"),
            Self::EmptySegment => f.write_str("the path pattern has an empty segment"),
            Self::RestNotLast => f.write_str("`**` is not the last segment"),
            Self::BadName => f.write_str("a `{name}` has no usable name"),
            Self::PartialName => f.write_str("a `{name}` is only part of a segment"),
            Self::BadStar => f.write_str("a `*` stands where it has no meaning"),
            Self::Encoded => f.write_str("the path pattern is percent-encoded"),
            Self::NeverMatches(what) => write!(f, "the path pattern has {what}, so it would never match"),
            Self::TooLong => write!(f, "the path pattern has more than {MAX_SEGMENTS} segments"),
        }
    }
}

impl std::error::Error for InvalidPattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_segment_is_read() {
        let pattern = Pattern::parse("/api/{c}/_*/x/**").unwrap();
        let literal = |text: &str| Segment::Literal(text.into());
        let expect = [literal("api"), Segment::Any, Segment::Prefix("_".into()), literal("x")];
        assert_eq!(*pattern.segments, expect);
        assert!(pattern.any_rest);
        assert_eq!(Pattern::parse("/").unwrap(), Pattern { segments: Box::default(), any_rest: false });
        assert_eq!(Pattern::parse("/**").unwrap(), Pattern { segments: Box::default(), any_rest: true });
        assert_eq!(*Pattern::parse("/a/").unwrap().segments, [literal("a"), literal("")]);
        assert_eq!(*Pattern::parse("/100%").unwrap().segments, [literal("100%")]);
    }

    #[test]
    fn a_name_may_have_a_literal_end() {
        let suffix = |text: &str| Segment::Suffix(text.into());
        assert_eq!(
            *Pattern::parse("/v1/{name}:cancel").unwrap().segments,
            [Segment::Literal("v1".into()), suffix(":cancel")]
        );
        assert_eq!(*Pattern::parse("/{id}.csv/{id}").unwrap().segments, [suffix(".csv"), Segment::Any]);
    }

    #[test]
    fn the_settings_for_paths_hold_for_patterns_too() {
        let settings = |encoded_slash_in_segment, literal_semicolon, literal_encoded_delimiters| PathSettings {
            encoded_slash_in_segment,
            literal_semicolon,
            literal_encoded_delimiters,
        };
        let literal = |text: &str, settings| match &*Pattern::parse_with(text, settings)?.segments {
            [Segment::Literal(text)] => Ok(text.to_string()),
            other => panic!("{other:?}"),
        };
        assert_eq!(literal("/a%2fb", settings(true, false, false)), Ok("a%2Fb".to_owned()));
        assert_eq!(literal("/a%2Fb", settings(false, true, true)), Err(InvalidPattern::Encoded));
        assert_eq!(literal("/a%41b", settings(true, true, true)), Err(InvalidPattern::Encoded));
        assert_eq!(literal("/a;b", settings(false, true, false)), Ok("a;b".to_owned()));
        assert_eq!(literal("/a#b", settings(false, false, true)), Ok("a#b".to_owned()));
        assert!(
            literal("/a?b", settings(true, true, false)).is_err()
                && literal("/a;b", settings(true, false, true)).is_err()
        );
    }

    #[test]
    fn what_could_never_match_is_refused() {
        use InvalidPattern::*;
        let cases = [
            ("", NoLeadingSlash),
            ("api", NoLeadingSlash),
            ("//", EmptySegment),
            ("/a//b", EmptySegment),
            ("/**/a", RestNotLast),
            ("/a/**/", RestNotLast),
            ("/{}", BadName),
            ("/{a b}", BadName),
            ("/a{b}", PartialName),
            ("/{a}{b}", PartialName),
            ("/{a}b{c}", PartialName),
            ("/{a", PartialName),
            ("/a}", PartialName),
            ("/{a}b*", BadStar),
            ("/{}b", BadName),
            ("/{a}%2f", Encoded),
            ("/*", BadStar),
            ("/a*b", BadStar),
            ("/***", BadStar),
            ("/%61", Encoded),
        ];
        for (text, expect) in cases {
            assert_eq!(Pattern::parse(text), Err(expect), "{text}");
        }
        for text in ["/a/../b", "/a;b", "/a?b", "/a#b", "/a\\b", "/a\tb"] {
            assert!(matches!(Pattern::parse(text), Err(NeverMatches(_))), "{text}");
        }
        assert_eq!(Pattern::parse(&"/a".repeat(65)), Err(TooLong));
    }
}

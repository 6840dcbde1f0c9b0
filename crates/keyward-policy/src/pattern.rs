//! Path patterns, as rules write them.

use std::fmt;

/// The most segments a pattern may have.
pub const MAX_SEGMENTS: usize = 64;

/// A pattern for whole paths, written decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// What each segment must be.
    pub segments: Vec<Segment>,
    /// `**`: any number of further segments, none included.
    pub any_rest: bool,
}

/// What one segment of a path must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// Exactly this. Empty only as the last one: a trailing slash.
    Literal(Box<str>),
    /// This start, then anything, nothing included.
    Prefix(Box<str>),
    /// Any one segment that is not empty.
    Any,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`InvalidPattern`] for what could never match, or would not mean what it seems to.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let body = text.strip_prefix('/').ok_or(InvalidPattern::NoLeadingSlash)?;
        let mut pattern = Self { segments: Vec::new(), any_rest: false };
        if body.is_empty() {
            return Ok(pattern);
        }
        let mut parts = body.split('/').peekable();
        while let Some(part) = parts.next() {
            let last = parts.peek().is_none();
            match part {
                "**" if last => pattern.any_rest = true,
                "**" => return Err(InvalidPattern::RestNotLast),
                "" if !last => return Err(InvalidPattern::EmptySegment),
                _ => pattern.segments.push(Segment::parse(part)?),
            }
        }
        if pattern.segments.len() > MAX_SEGMENTS { Err(InvalidPattern::TooLong) } else { Ok(pattern) }
    }
}

impl Pattern {
    /// Whether every path that matches `other` matches this pattern too.
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
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, Self::Any | Self::Prefix(_)) => true,
            (Self::Any, Self::Literal(text)) => !text.is_empty(),
            (Self::Literal(a), Self::Literal(b)) => a == b,
            (Self::Prefix(a), Self::Literal(b) | Self::Prefix(b)) => b.starts_with(&**a),
            (Self::Literal(_) | Self::Prefix(_), _) => false,
        }
    }
}

impl Segment {
    fn parse(part: &str) -> Result<Self, InvalidPattern> {
        if let Some(name) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            return if named { Ok(Self::Any) } else { Err(InvalidPattern::BadName) };
        }
        if part.contains(['{', '}']) {
            return Err(InvalidPattern::PartialName);
        }
        let (start, is_prefix) = part.strip_suffix('*').map_or((part, false), |start| (start, true));
        if start.contains('*') || (is_prefix && start.is_empty()) {
            return Err(InvalidPattern::BadStar);
        }
        if matches!(part, "." | "..") {
            return Err(InvalidPattern::NeverMatches("a `.` or `..` segment"));
        }
        if let Some(bad) = start.chars().find(|c| matches!(c, '\\' | ';' | '?' | '#') || c.is_ascii_control()) {
            return Err(match bad {
                '?' => InvalidPattern::NeverMatches("a query"),
                ';' => InvalidPattern::NeverMatches("a semicolon"),
                '\\' => InvalidPattern::NeverMatches("a backslash"),
                '#' => InvalidPattern::NeverMatches("a `#`"),
                _ => InvalidPattern::NeverMatches("a control character"),
            });
        }
        let encoded = |w: &[u8]| matches!(w, [b'%', a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
        if start.as_bytes().windows(3).any(encoded) {
            return Err(InvalidPattern::Encoded);
        }
        Ok(if is_prefix { Self::Prefix(start.into()) } else { Self::Literal(start.into()) })
    }
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidPattern {
    /// Patterns are whole paths.
    NoLeadingSlash,
    /// `//`.
    EmptySegment,
    /// `**` before the end.
    RestNotLast,
    /// `{}` or a name of other characters than letters, digits and `_`.
    BadName,
    /// `a{b}`: a name is a whole segment.
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
            Self::PartialName => "`{name}` is a whole segment; for a literal start write it before a `*`, like `_*`",
            Self::BadStar => {
                "`*` ends a segment after a literal start, like `_*`; `{name}` is any one segment, `**` the rest"
            }
            Self::Encoded => "write patterns decoded: requests are decoded before they are compared",
            Self::NeverMatches(_) => {
                "leave it out: a request like this is refused as ambiguous, or the query is ignored"
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
        assert_eq!(pattern.segments, expect);
        assert!(pattern.any_rest);
        assert_eq!(Pattern::parse("/").unwrap(), Pattern { segments: vec![], any_rest: false });
        assert_eq!(Pattern::parse("/**").unwrap(), Pattern { segments: vec![], any_rest: true });
        assert_eq!(Pattern::parse("/a/").unwrap().segments, [literal("a"), literal("")]);
        assert_eq!(Pattern::parse("/100%").unwrap().segments, [literal("100%")]);
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
            ("/{a}b", PartialName),
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

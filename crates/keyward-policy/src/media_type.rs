//! The media type of a request body, as rules compare it.

/// The media type that a request gives for its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ContentType<'a> {
    /// There is no `content-type` header.
    #[default]
    Absent,
    /// The value of the one header.
    One(&'a [u8]),
    /// The header is there more than once, or under a name that some upstreams read as `content-type`. No rule that
    /// names types matches it.
    Unclear,
}

impl<'a> ContentType<'a> {
    /// Takes one more `content-type` header.
    #[inline]
    pub fn add(&mut self, value: &'a [u8]) {
        *self = if matches!(self, Self::Absent) { Self::One(value) } else { Self::Unclear };
    }

    /// Whether this is gRPC, whose clients read errors from trailers.
    pub fn is_grpc(self) -> bool {
        matches!(self, Self::One(value) if value.len() >= 16 && value.get(..16).is_some_and(|s| s.eq_ignore_ascii_case(b"application/grpc")))
    }
}

/// A media type that a rule names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaType {
    /// The request has no `content-type` header.
    None,
    /// `type/subtype` in lower case.
    Named(Box<str>),
}

impl MediaType {
    /// Reads `type/subtype`, or `none` for an absent header. Returns `None` for anything else, parameters included.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self::None);
        }
        let (kind, subtype) = text.split_once('/')?;
        let token = |part: &str| !part.is_empty() && part.bytes().all(crate::header::is_token_byte) && part != "*";
        (token(kind) && token(subtype)).then(|| Self::Named(text.to_ascii_lowercase().into()))
    }

    /// The type as the configuration writes it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::None => "none",
            Self::Named(name) => name,
        }
    }

    /// Whether a request carries this type, compared without case and parameters. A repeated or comma-joined header
    /// never does.
    pub fn matches(&self, content_type: ContentType<'_>) -> bool {
        match (self, content_type) {
            (Self::None, ContentType::Absent) => true,
            (Self::Named(name), ContentType::One(value)) if !value.contains(&b',') => {
                let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
                essence.trim_ascii().eq_ignore_ascii_case(name.as_bytes())
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_compare_without_case_and_parameters() {
        let json = MediaType::parse("Application/JSON").unwrap();
        for value in ["application/json", "APPLICATION/JSON; charset=utf-8", " application/json ;x"] {
            assert!(json.matches(ContentType::One(value.as_bytes())), "{value}");
        }
        for value in
            ["", "application/jsonp", "application/json, text/plain", "application/json;a=\",\"", "multipart/form-data"]
        {
            assert!(!json.matches(ContentType::One(value.as_bytes())), "{value}");
        }
        assert!(!json.matches(ContentType::Absent) && !json.matches(ContentType::Unclear));
    }

    #[test]
    fn none_is_an_absent_header_and_no_other() {
        assert!(MediaType::None.matches(ContentType::Absent));
        assert!(!MediaType::None.matches(ContentType::One(b"")));
        assert!(!MediaType::None.matches(ContentType::Unclear));
        let mut twice = ContentType::One(b"application/json");
        twice.add(b"application/json");
        assert_eq!(twice, ContentType::Unclear);
    }

    #[test]
    fn only_whole_types_are_named() {
        for text in ["", "json", "a/", "/b", "a/b/c", "a/b;c=d", "*/*", "a/*", "a /b", "None"] {
            assert_eq!(MediaType::parse(text), None, "{text}");
        }
    }

    #[test]
    fn grpc_is_known_by_its_prefix() {
        for (value, grpc) in [
            ("application/grpc", true),
            ("Application/gRPC+proto", true),
            ("application/json", false),
            ("application/grp", false),
        ] {
            assert_eq!(ContentType::One(value.as_bytes()).is_grpc(), grpc, "{value}");
        }
    }
}

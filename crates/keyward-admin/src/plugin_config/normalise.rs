//! How Envoy normalises a path before the filter sees it.
//!
//! The order is Envoy's: escaped slashes, then the canonical form, then repeated slashes. The query plays no part.

use super::finding::text;
use serde_json::Value;

/// The settings of an HTTP connection manager that change paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Normalisation {
    normalize_path: bool,
    merge_slashes: bool,
    escaped_slashes: EscapedSlashes,
}

/// `path_with_escaped_slashes_action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum EscapedSlashes {
    #[default]
    Keep,
    Reject,
    Redirect,
    Forward,
}

/// What became of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Normalised {
    /// The filter gets this path.
    Path(String),
    /// Envoy redirects the client to this path.
    Redirect(String),
    /// Envoy refuses the request.
    Refused,
}

impl Normalisation {
    /// The settings of the shipped `envoy.yaml`, which leave a path one reading.
    pub const WHOLE: Self =
        Self { normalize_path: true, merge_slashes: true, escaped_slashes: EscapedSlashes::Redirect };

    /// Reads the settings of an HTTP connection manager.
    pub fn of_manager(manager: &Value) -> Self {
        Self {
            normalize_path: manager["normalize_path"] == true,
            merge_slashes: manager["merge_slashes"] == true,
            escaped_slashes: match text(&manager["path_with_escaped_slashes_action"]) {
                "REJECT_REQUEST" => EscapedSlashes::Reject,
                "UNESCAPE_AND_REDIRECT" => EscapedSlashes::Redirect,
                "UNESCAPE_AND_FORWARD" => EscapedSlashes::Forward,
                _ => EscapedSlashes::Keep,
            },
        }
    }

    /// Reads the settings of Envoy Gateway's ClientTrafficPolicy, which normalises paths in any case.
    pub fn of_client_traffic_policy(spec: &Value) -> Self {
        Self {
            normalize_path: true,
            merge_slashes: spec["path"]["disableMergeSlashes"] != true,
            escaped_slashes: match text(&spec["path"]["escapedSlashesAction"]) {
                "KeepUnchanged" => EscapedSlashes::Keep,
                "RejectRequest" => EscapedSlashes::Reject,
                "UnescapeAndForward" => EscapedSlashes::Forward,
                _ => EscapedSlashes::Redirect,
            },
        }
    }

    /// Normalises a path with its query.
    pub fn apply(self, target: &str) -> Normalised {
        let (path, query) = match target.find('?') {
            Some(at) => target.split_at(at),
            None => (target, ""),
        };
        let mut path = path.to_owned();
        let mut redirect = false;
        if self.escaped_slashes != EscapedSlashes::Keep {
            let unescaped = unescape(&path, |byte| matches!(byte, b'/' | b'\\'));
            if unescaped != path {
                if self.escaped_slashes == EscapedSlashes::Reject {
                    return Normalised::Refused;
                }
                redirect = self.escaped_slashes == EscapedSlashes::Redirect;
                path = unescaped;
            }
        }
        if self.normalize_path {
            if !path.starts_with('/') || path.contains("%00") || path.contains('#') || !path.is_ascii() {
                return Normalised::Refused;
            }
            path = canonical(&path);
        }
        if self.merge_slashes {
            while path.contains("//") {
                path = path.replace("//", "/");
            }
        }
        let target = format!("{path}{query}");
        if redirect { Normalised::Redirect(target) } else { Normalised::Path(target) }
    }
}

/// Decodes the percent-encoded bytes that `which` names.
fn unescape(path: &str, which: impl Fn(u8) -> bool) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, escaped) = rest.split_at(at);
        out.push_str(before);
        let byte = escaped.get(1..3).and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|byte| which(*byte));
        match byte {
            Some(byte) => {
                out.push(char::from(byte));
                rest = escaped.get(3..).unwrap_or_default();
            }
            None => {
                out.push('%');
                rest = escaped.get(1..).unwrap_or_default();
            }
        }
    }
    out + rest
}

/// The canonical form: unreserved characters decoded, `\` as `/`, `.` and `..` resolved.
fn canonical(path: &str) -> String {
    let decoded = unescape(path, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)).replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = decoded.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    segments.pop();
                }
                // A path that ends in a dot segment ends in a slash.
                if last {
                    segments.push("");
                }
            }
            part => segments.push(part),
        }
    }
    format!("/{}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manager(action: &str) -> Normalisation {
        Normalisation::of_manager(&json!({
            "normalize_path": true, "merge_slashes": true, "path_with_escaped_slashes_action": action,
        }))
    }

    #[test]
    fn paths_are_read_as_envoy_reads_them() {
        for (from, to) in [
            ("/a/b?c=//..", "/a/b?c=//.."),
            ("/a/x/../b", "/a/b"),
            ("/a/./b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/../../a", "/a"),
            ("//a///b", "/a/b"),
            ("/%61/%2e%2e/b%7E%20", "/b~%20"),
            ("/a\\b", "/a/b"),
            ("/%zz%", "/%zz%"),
            ("/", "/"),
            ("/public//../admin", "/public/admin"),
            ("/public/..;/admin", "/public/..;/admin"),
        ] {
            assert_eq!(manager("KEEP_UNCHANGED").apply(from), Normalised::Path(to.into()), "{from}");
        }
        assert_eq!(manager("").apply("/a%2Fb"), Normalised::Path("/a%2Fb".into()));
        assert_eq!(manager("UNESCAPE_AND_FORWARD").apply("/a%2F..%5cb"), Normalised::Path("/b".into()));
        assert_eq!(manager("UNESCAPE_AND_REDIRECT").apply("/a%2fb?x"), Normalised::Redirect("/a/b?x".into()));
        assert_eq!(manager("UNESCAPE_AND_REDIRECT").apply("/a/b"), Normalised::Path("/a/b".into()));
        assert_eq!(manager("REJECT_REQUEST").apply("/a%2Fb"), Normalised::Refused);
        for refused in ["a", "/a%00", "/a#b", "/\u{e4}"] {
            assert_eq!(manager("").apply(refused), Normalised::Refused, "{refused}");
        }
        // A manager that does not say anything changes nothing.
        assert_eq!(Normalisation::default().apply("//a/../b"), Normalised::Path("//a/../b".into()));
    }
}

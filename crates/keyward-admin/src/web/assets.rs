//! The style sheet, the script and the icon. They are part of the binary, and their paths change with their content.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use keyward_policy::digest::Digest;
use std::sync::LazyLock;

const CSS: &str = include_str!("../../static/keyward.css");
/// The parts of the script are one function: what one of them defines, the others use.
const JS_SOURCE: &str = concat!(
    include_str!("../../static/script/head.js"),
    include_str!("../../static/script/base.js"),
    include_str!("../../static/script/dialogs.js"),
    include_str!("../../static/script/forms.js"),
    include_str!("../../static/script/live.js"),
    "})();\n",
);
/// The script as browsers get it.
static JS: LazyLock<String> = LazyLock::new(|| without_comments(JS_SOURCE));
const ICON: &str = include_str!("../../static/icon.svg");

/// The paths of the assets.
#[derive(Debug)]
pub(super) struct Assets {
    /// Path of the style sheet.
    pub css: String,
    /// Path of the script.
    pub js: String,
    /// Path of the icon.
    pub icon: String,
}

/// The assets of this build.
pub(super) static ASSETS: LazyLock<Assets> = LazyLock::new(Assets::new);

impl Assets {
    fn new() -> Self {
        let path = |name: &str, text: &str, extension: &str| {
            let digest = Digest::of_key(text.as_bytes()).to_hex();
            format!("/assets/{name}-{}.{extension}", digest.get(..12).unwrap_or_default())
        };
        Self { css: path("keyward", CSS, "css"), js: path("keyward", &JS, "js"), icon: path("icon", ICON, "svg") }
    }
}

/// Returns a script without its comments and its indentation, which are a fifth of it. A comment begins its line, and no text of
/// the script goes over a line's end.
fn without_comments(source: &str) -> String {
    let mut in_comment = false;
    let mut text = String::with_capacity(source.len());
    for line in source.lines().map(str::trim) {
        in_comment |= line.starts_with("/*");
        if !in_comment && !line.is_empty() && !line.starts_with("//") {
            text.push_str(line);
            text.push('\n');
        }
        in_comment &= !line.ends_with("*/");
    }
    text
}

pub(super) async fn file(Path(file): Path<String>) -> Response {
    let wanted = format!("/assets/{file}");
    let (kind, text) = match &*ASSETS {
        assets if wanted == assets.css => ("text/css; charset=utf-8", CSS),
        assets if wanted == assets.js => ("text/javascript; charset=utf-8", JS.as_str()),
        assets if wanted == assets.icon => ("image/svg+xml", ICON),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=31536000, immutable")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_stay_in_the_source() {
        let source = "// One.\n  /** Two. */\n  const a = \"//\"; // Three\n  /**\n   * Four.\n   */\n\n    b(a);\n";
        assert_eq!(without_comments(source), "const a = \"//\"; // Three\nb(a);\n");
        assert!(JS.starts_with("\"use strict\";\n(() => {\n") && JS.ends_with("\n})();\n"));
        // A text that went over a line's end would lose its indentation.
        assert!(JS.lines().all(|line| line.matches('`').count() % 2 == 0));
    }
}

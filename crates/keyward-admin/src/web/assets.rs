//! The style sheet, the script and the icon: in the binary, under names that change with their content.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use keyward_policy::digest::Digest;
use std::sync::LazyLock;

const CSS: &str = include_str!("../../static/keyward.css");
const JS: &str = include_str!("../../static/keyward.js");
const ICON: &str = include_str!("../../static/icon.svg");

/// Where they are.
#[derive(Debug)]
pub(super) struct Assets {
    /// The style sheet.
    pub css: String,
    /// The script.
    pub js: String,
    /// The icon.
    pub icon: String,
}

/// The one set.
pub(super) static ASSETS: LazyLock<Assets> = LazyLock::new(Assets::new);

impl Assets {
    fn new() -> Self {
        let path = |name: &str, text: &str, extension: &str| {
            let digest = Digest::of_key(text.as_bytes()).to_hex();
            format!("/assets/{name}-{}.{extension}", digest.get(..12).unwrap_or_default())
        };
        Self { css: path("keyward", CSS, "css"), js: path("keyward", JS, "js"), icon: path("icon", ICON, "svg") }
    }
}

pub(super) async fn file(Path(file): Path<String>) -> Response {
    let wanted = format!("/assets/{file}");
    let (kind, text) = match &*ASSETS {
        assets if wanted == assets.css => ("text/css; charset=utf-8", CSS),
        assets if wanted == assets.js => ("text/javascript; charset=utf-8", JS),
        assets if wanted == assets.icon => ("image/svg+xml", ICON),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=31536000, immutable")], text).into_response()
}

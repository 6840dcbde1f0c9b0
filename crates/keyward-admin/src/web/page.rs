//! What all pages have in common.

use super::assets::Assets;
use super::failure::Failure;
use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};

/// An entry of the sidebar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// API Keys.
    Keys,
    /// Proxies.
    Proxies,
    /// Audit log.
    Audit,
    /// Explain.
    Explain,
}

/// Something to tell on the next page.
#[derive(Debug, Clone)]
pub(super) struct Notice {
    /// A sentence.
    pub text: String,
    /// A receipt, as markup.
    pub receipt: Option<String>,
}

/// What stands around a page's own content.
pub(super) struct Chrome {
    pub assets: &'static Assets,
    pub section: Section,
    /// Name of the token.
    pub who: String,
    pub sign_out_nonce: String,
    pub notices: Vec<Notice>,
    /// What the page wants to be told of: a topic of the events.
    pub live: Option<&'static str>,
}

/// A page as a response.
pub(super) fn render(status: StatusCode, page: &impl Template) -> Result<Response, Failure> {
    let text = page.render().map_err(|error| {
        tracing::error!(%error, "a page could not be rendered");
        Failure::Internal
    })?;
    Ok((status, Html(text)).into_response())
}

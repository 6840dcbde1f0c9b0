//! The frame that all views of a signed-in user share.

use super::assets::Assets;
use super::failure::Failure;
use super::notice::Notice;
use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};

/// An entry of the sidebar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// API Keys.
    Keys,
    /// Usage.
    Usage,
    /// Proxies.
    Proxies,
    /// Audit log.
    Audit,
    /// Explain.
    Explain,
}

/// What surrounds the content of a view.
pub(super) struct Chrome {
    /// Paths of style sheet, script and icon.
    pub assets: &'static Assets,
    /// The entry of the sidebar that is marked.
    pub section: Section,
    /// Name of the token that signed in.
    pub who: String,
    /// Nonce of the sign-out form.
    pub sign_out_nonce: String,
    /// Whether instances may be missing in the list of proxies, so that somebody has to confirm it.
    pub vms_may_be_missing: bool,
    /// Notices that are shown once.
    pub notices: Vec<Notice>,
    /// The topic of the events that update the view. `None` means that the view does not update itself.
    pub live: Option<&'static str>,
    /// The revision that the view holds at least.
    pub revision: u64,
}

/// Renders a view.
pub(super) fn render(status: StatusCode, view: &impl Template) -> Result<Response, Failure> {
    let text = view.render().map_err(|error| {
        tracing::error!(%error, "a view could not be rendered");
        Failure::Internal
    })?;
    Ok((status, Html(text)).into_response())
}

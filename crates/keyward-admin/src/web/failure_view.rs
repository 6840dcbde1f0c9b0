//! Failures as responses.

use super::assets::{ASSETS, Assets};
use super::deleted_key::DeletedKey;
use super::failure::Failure;
use super::sign_in;
use super::state::Web;
use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};

/// A heading, a sentence, and a link that leads on.
#[derive(Template)]
#[template(path = "failure.html")]
struct FailureView {
    assets: &'static Assets,
    heading: &'static str,
    /// The key that is gone, and who deleted it.
    deleted: Option<DeletedKey>,
    text: String,
    href: String,
    link: &'static str,
}

/// Renders a failure.
pub(super) fn render(web: &Web, failure: Failure) -> Response {
    let keys = |text: &str| (text.to_owned(), "/settings/keys".to_owned(), "API Keys");
    let mut deleted = None;
    let (status, heading, (text, href, link)) = match failure {
        Failure::SignIn { next } => return sign_in::redirect(&next),
        Failure::AskAgain { next } => return sign_in::ask_again(&next),
        Failure::SessionEnded { next, sent } => return sign_in::ended(web, &next, sent),
        Failure::NotFound => (
            StatusCode::NOT_FOUND,
            "This key does not exist",
            keys("There is no key with this id. If there was one, the audit log says who deleted it and when."),
        ),
        Failure::Deleted(key) => {
            deleted = Some(key);
            (StatusCode::NOT_FOUND, "This key does not exist any more", keys(""))
        }
        Failure::NoSuchVm => (
            StatusCode::NOT_FOUND,
            "This instance is not in the list",
            (
                "It was forgotten already, or it was gone for so long that the service forgot it by itself.".to_owned(),
                "/settings/proxies".to_owned(),
                "Proxies",
            ),
        ),
        Failure::ListChanged => (
            StatusCode::CONFLICT,
            "The list was not confirmed",
            (
                "The database moved to another server after the list was shown, or the service cannot write the list to it, \
                 so instances may be missing again. Look at the list once more, then confirm it."
                    .to_owned(),
                "/settings/proxies".to_owned(),
                "Proxies",
            ),
        ),
        Failure::Forged => (
            StatusCode::FORBIDDEN,
            "Nothing was done",
            keys(
                "The form did not come from a page of this session, or that page had been open for too long. Open it again \
                 and repeat what you wanted to do.",
            ),
        ),
        Failure::Already(done) => (StatusCode::CONFLICT, "This was done already", (done.text, done.href, "Continue")),
        Failure::BadForm(text) => (StatusCode::BAD_REQUEST, "The form could not be read", keys(text)),
        Failure::Unavailable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The database cannot be reached",
            (
                "Filters continue with the keys that they have. Try again in a moment; nothing is lost.".to_owned(),
                "/settings/keys".to_owned(),
                "Try again",
            ),
        ),
        Failure::Internal => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "Something went wrong",
            keys("The service’s log has the reason. Look at the list of keys before you try again."),
        ),
    };
    let view = FailureView { assets: &ASSETS, heading, deleted, text, href, link };
    match view.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(_) => status.into_response(),
    }
}

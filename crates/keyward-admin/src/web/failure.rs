//! What goes wrong, as pages.

use super::assets::{ASSETS, Assets};
use super::nonce::Refused;
use super::sign_in;
use super::user::User;
use crate::service::Error;
use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use std::any::Any;

/// Why a page cannot be shown, or a form was not worked on.
pub(super) enum Failure {
    /// What it is about is not there, or no longer.
    NotFound,
    /// The form did not come from a page of this session.
    Forged,
    /// The form is being worked on.
    Busy,
    /// The form's work was done before.
    Already(super::nonce::Outcome),
    /// The body is no form, or too long.
    BadForm(&'static str),
    /// The store cannot be reached.
    Unavailable,
    /// Something that only the log tells.
    Internal,
    /// A whole response.
    Response(Box<Response>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::NotFound,
            Error::Unavailable => Self::Unavailable,
            _ => Self::Internal,
        }
    }
}

impl Failure {
    /// A form that is not worked on.
    pub fn refused(user: &User, refused: Refused) -> Self {
        match refused {
            Refused::Invalid => Self::Forged,
            Refused::Busy => Self::Busy,
            Refused::Already(outcome) => Self::Already(outcome),
            Refused::Exhausted => {
                user.web.sessions.end(&user.session.id);
                Self::Response(Box::new(sign_in::ended(&user.web, "/settings/keys", true)))
            }
        }
    }
}

#[derive(Template)]
#[template(path = "failure.html")]
struct Page {
    assets: &'static Assets,
    heading: String,
    text: String,
    href: String,
    link: &'static str,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let keys = || "/settings/keys".to_owned();
        let (status, heading, text, href, link) = match self {
            Self::Response(response) => return *response,
            Self::NotFound => (
                StatusCode::NOT_FOUND,
                "This key does not exist",
                "It was deleted, by you in another tab or by somebody else. The audit log knows by whom.".to_owned(),
                keys(),
                "API Keys",
            ),
            Self::Forged => (
                StatusCode::FORBIDDEN,
                "Nothing was done",
                "The form did not come from a page of this session, or that page had been open for too long. \
                 Open it again and repeat what you wanted to do."
                    .to_owned(),
                keys(),
                "API Keys",
            ),
            Self::Busy => (
                StatusCode::CONFLICT,
                "This is being done already",
                "The same form was sent a moment ago and is still being worked on. It is not done twice.".to_owned(),
                keys(),
                "API Keys",
            ),
            Self::Already(outcome) => {
                (StatusCode::CONFLICT, "This was done already", outcome.text, outcome.href, "Go on")
            }
            Self::BadForm(text) => {
                (StatusCode::BAD_REQUEST, "The form could not be read", text.to_owned(), keys(), "API Keys")
            }
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The database cannot be reached",
                "Filters go on with the keys they have. Try again in a moment; nothing is lost.".to_owned(),
                keys(),
                "Try again",
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something went wrong",
                "The service’s log says what. Look at the list before you try again.".to_owned(),
                keys(),
                "API Keys",
            ),
        };
        let page = Page { assets: &ASSETS, heading: heading.to_owned(), text, href, link };
        match page.render() {
            Ok(text) => (status, Html(text)).into_response(),
            Err(_) => status.into_response(),
        }
    }
}

/// The panic's own message may hold anything; it stays out of log and answer.
pub(super) fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a page's handler panicked");
    Failure::Internal.into_response()
}

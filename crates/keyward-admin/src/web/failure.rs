//! Why a view cannot be shown, as data. [`failure_view`](super::failure_view) turns it into a response.

use super::claim::Finished;
use super::deleted_key::DeletedKey;
use crate::service::Error;
use axum::Extension;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use std::any::Any;

/// Why a view cannot be shown, or a form was not worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is no key with this id, or no longer.
    NotFound,
    /// The key was deleted.
    Deleted(DeletedKey),
    /// There is no instance with this name, or no longer.
    NoSuchVm,
    /// The list of instances is not the one that was confirmed.
    ListChanged,
    /// The form did not come from a view of this session.
    Forged,
    /// The form's work was done before.
    Already(Finished),
    /// The body is not a form, or is too long. The text says which.
    BadForm(&'static str),
    /// The store cannot be reached.
    Unavailable,
    /// The service failed; the log has the reason.
    Internal,
    /// Nobody is signed in. After signing in, `next` is shown.
    SignIn {
        /// The path that was asked for.
        next: String,
    },
    /// The browser did not send the cookie because the link is on another site. Asking again from a page of this site
    /// brings it.
    AskAgain {
        /// The path that was asked for.
        next: String,
    },
    /// The session has ended.
    SessionEnded {
        /// The path that was asked for.
        next: String,
        /// Whether a form was sent, on which nothing was done.
        sent: bool,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::NotFound,
            Error::NoSuchVm => Self::NoSuchVm,
            Error::ListChanged => Self::ListChanged,
            Error::Unavailable => Self::Unavailable,
            _ => Self::Internal,
        }
    }
}

impl IntoResponse for Failure {
    /// Only carries the failure to the outermost layer, which can reach what rendering it needs.
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, Extension(self)).into_response()
    }
}

/// Answers a request whose handler panicked. The panic's message may hold anything, so it is neither logged nor sent.
pub(super) fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a handler of the page panicked");
    Failure::Internal.into_response()
}

//! Errors as RFC 9457 problems: the one place that gives each failure its status and code.

use crate::service::{Error, FieldError};
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// A problem, as the body of every response that is none of success.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// `urn:keyward:` and the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:keyward:validation_failed")]
    kind: String,
    /// Says the same for every problem of this code.
    title: &'static str,
    /// The status of the response.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// Says what happened here, and what to do.
    detail: String,
    /// Stable: programs go by it.
    #[schema(example = "validation_failed")]
    code: &'static str,
    /// With `validation_failed`: each field that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldError>,
    #[serde(skip)]
    retry_after: Option<u32>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:keyward:{code}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            code,
            errors: Vec::new(),
            retry_after: None,
        }
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Its code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// 400: the body is no JSON.
    pub fn malformed_json(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed_json", "The body is not JSON", detail)
    }

    /// 400: a header cannot be understood.
    pub fn invalid_header(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_header", "A header is not understood", detail)
    }

    /// 401: no token.
    pub fn token_missing() -> Self {
        let detail = "send `Authorization: Bearer <token>`; `keyward token create` makes one";
        Self::new(StatusCode::UNAUTHORIZED, "token_missing", "A token is needed", detail)
    }

    /// 401: a token that is not, or no longer, valid.
    pub fn token_invalid() -> Self {
        let detail = "the token is unknown, revoked or expired";
        Self::new(StatusCode::UNAUTHORIZED, "token_invalid", "The token is not valid", detail)
    }

    /// 403: a token of the other role.
    pub fn role_forbidden(needed: &str) -> Self {
        let detail = format!("this call is for tokens of the role `{needed}`");
        Self::new(StatusCode::FORBIDDEN, "role_forbidden", "The token's role does not allow this", detail)
    }

    /// 404: no such key.
    pub fn key_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "key_not_found", "No such key", Error::NotFound.to_string())
    }

    /// 404: no such address.
    pub fn not_found() -> Self {
        let detail = "there is nothing at this address; GET /openapi.json describes what there is";
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        let detail = "the header `Allow` of this response lists the methods that are";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "The method is not allowed here", detail)
    }

    /// 408.
    pub fn body_timeout() -> Self {
        let detail = "the body did not arrive in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "The body came too slowly", detail)
    }

    /// 413.
    pub fn body_too_large(limit: usize) -> Self {
        let detail = format!("the body must not have more than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large", detail)
    }

    /// 415.
    pub fn not_json() -> Self {
        let detail = "send the body as JSON, with `Content-Type: application/json`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "The body must be JSON", detail)
    }

    /// 422.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let told: Vec<String> = errors.iter().map(|error| format!("`{}` {}", error.field, error.message)).collect();
        let title = "What was sent is not valid";
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", title, told.join("; "));
        problem.errors = errors;
        problem
    }

    /// 431.
    pub fn head_too_large(limit: usize) -> Self {
        let detail = format!("the address and the headers must not have more than {limit} bytes together");
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", "The head is too large", detail)
    }

    /// 429: too many wrong tokens from one address.
    pub fn slow_down() -> Self {
        let detail = "too many wrong tokens came from your address";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_failures", "Slow down", detail).retry_after(10)
    }

    /// 500.
    pub fn internal() -> Self {
        let detail = "the service could not do it; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong here", detail)
    }

    /// 503: not ready.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        let title = "The service cannot do its work now";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", title, detail).retry_after(1)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::Invalid(errors) => Self::invalid(errors),
            Error::NotFound => Self::key_not_found(),
            Error::NameTaken => Self::new(
                StatusCode::CONFLICT,
                "name_taken",
                "The name is taken",
                "another live key has that name; choose another, or regenerate that key",
            ),
            Error::RevisionMismatch { .. } => {
                let title = "The key has changed in the meantime";
                Self::new(StatusCode::PRECONDITION_FAILED, "revision_mismatch", title, detail)
            }
            Error::WrongRealm { .. } => {
                Self::new(StatusCode::CONFLICT, "wrong_realm", "The filter belongs to another realm", detail)
            }
            Error::Compacted(_) => {
                Self::new(StatusCode::GONE, "revision_compacted", "Changes since then are no longer kept", detail)
            }
            Error::Ahead(_) => Self::new(StatusCode::GONE, "revision_ahead", "The store is not there yet", detail),
            Error::TooManyWaiters(_) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_waiters", "Too many polls wait", detail)
                    .retry_after(5)
            }
            Error::TokenEnded => Self::token_invalid(),
            Error::Unavailable => Self::unavailable("the store cannot be reached"),
            Error::Internal => Self::internal(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"keyward\""));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Gives bare refusals of the framework (a method, a body) the shape of all others.
pub fn reshape(response: Response) -> Response {
    let is_problem =
        response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/"));
    let problem = match response.status() {
        _ if is_problem => return response,
        StatusCode::METHOD_NOT_ALLOWED => Problem::method_not_allowed(),
        StatusCode::NOT_FOUND => Problem::not_found(),
        _ => return response,
    };
    let allow = response.headers().get(ALLOW).cloned();
    let mut reshaped = problem.into_response();
    if let Some(allow) = allow {
        reshaped.headers_mut().insert(ALLOW, allow);
    }
    reshaped
}

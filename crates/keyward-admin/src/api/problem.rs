//! Errors as RFC 9457 problems. Status and code of every failure are chosen here.

use crate::service::{Error, FieldError};
use crate::token_scope::OutOfScope;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The body of every response that reports an error.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// `urn:keyward:` followed by the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:keyward:validation_failed")]
    kind: String,
    /// A summary that is the same for every problem with this code.
    title: &'static str,
    /// The HTTP status of the response.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What went wrong with this request, and how to mend it.
    detail: String,
    /// Identifies the kind of problem. Codes are stable, so programs can rely on them.
    #[schema(example = "validation_failed")]
    code: &'static str,
    /// Each field that is wrong. Present with `validation_failed` only.
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

    /// The code of this problem.
    #[cfg(test)]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// 400: the body is not JSON.
    pub fn malformed_json(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed_json", "The body is not JSON", detail)
    }

    /// 400: a header has a value that is not allowed.
    pub fn invalid_header(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_header", "A header is not valid", detail)
    }

    /// 401: the request has no token.
    pub fn token_missing() -> Self {
        let detail = "send `Authorization: Bearer <token>`; `keyward token create` makes one";
        Self::new(StatusCode::UNAUTHORIZED, "token_missing", "A token is needed", detail)
    }

    /// 401: the token is unknown, revoked or expired.
    pub fn token_invalid() -> Self {
        let detail = "the token is unknown, revoked or expired";
        Self::new(StatusCode::UNAUTHORIZED, "token_invalid", "The token is not valid", detail)
    }

    /// 403: the token has another role than the call needs.
    pub fn role_forbidden(needed: &str) -> Self {
        let detail = format!("this call is for tokens of the role `{needed}`");
        Self::new(StatusCode::FORBIDDEN, "role_forbidden", "The token's role does not allow this", detail)
    }

    /// 404: there is no key with this id.
    pub fn key_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "key_not_found", "No such key", Error::NotFound.to_string())
    }

    /// 404: the API has nothing at this path.
    pub fn not_found() -> Self {
        let detail = "there is nothing at this path; GET /openapi.json lists the calls";
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
    }

    /// 405: the path exists, and the method is not allowed on it.
    pub fn method_not_allowed() -> Self {
        let detail = "the header `Allow` of this response lists the allowed methods";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "The method is not allowed here", detail)
    }

    /// 408: the body did not arrive in time.
    pub fn body_timeout() -> Self {
        let detail = "the body did not arrive in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "The body came too slowly", detail)
    }

    /// 413: the body is larger than `limit` bytes.
    pub fn body_too_large(limit: usize) -> Self {
        let detail = format!("the body must not have more than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large", detail)
    }

    /// 415: the body is not declared as JSON.
    pub fn not_json() -> Self {
        let detail = "send the body as JSON, with `Content-Type: application/json`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "The body must be JSON", detail)
    }

    /// 422: fields or parameters are wrong; all of them are listed.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let messages: Vec<String> = errors.iter().map(|error| format!("`{}` {}", error.field, error.message)).collect();
        let title = "The request is not valid";
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", title, messages.join("; "));
        problem.errors = errors;
        problem
    }

    /// 431: path and headers are larger than `limit` bytes together.
    pub fn head_too_large(limit: usize) -> Self {
        let detail = format!("the path and the headers must not have more than {limit} bytes together");
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", "The head is too large", detail)
    }

    /// 429: too many wrong tokens from one address.
    pub fn slow_down() -> Self {
        let detail = "too many wrong tokens came from your address; wait 10 seconds";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_failures", "Slow down", detail).retry_after(10)
    }

    /// 500: the service failed.
    pub fn internal() -> Self {
        let detail = "the service failed to handle the request; its log has the reason";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The service failed", detail)
    }

    /// 503: the service cannot work now.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        let title = "The service is not available now";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", title, detail).retry_after(1)
    }
}

impl Problem {
    /// 503: there is no room for the request at the moment.
    pub fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "The service is busy", detail).retry_after(5)
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
                "another live key has that name, or one that looks like it (upper and lower case are the same); choose \
                 another, or regenerate that key",
            ),
            Error::RevisionMismatch { .. } => {
                let title = "The key has changed in the meantime";
                Self::new(StatusCode::PRECONDITION_FAILED, "revision_mismatch", title, detail)
            }
            Error::WrongRealm { .. } => {
                Self::new(StatusCode::CONFLICT, "wrong_realm", "The filter has another realm", detail)
            }
            Error::OutOfScope(OutOfScope::Realm { .. }) => {
                Self::new(StatusCode::FORBIDDEN, "token_wrong_realm", "The token is bound to another realm", detail)
            }
            Error::OutOfScope(OutOfScope::Node { .. }) => {
                Self::new(StatusCode::FORBIDDEN, "token_wrong_node", "The token is bound to other nodes", detail)
            }
            Error::Compacted(_) => {
                Self::new(StatusCode::GONE, "revision_compacted", "Changes since then are no longer kept", detail)
            }
            Error::Ahead(_) => {
                Self::new(StatusCode::GONE, "revision_ahead", "The store has not reached this revision", detail)
            }
            Error::TooManyWaiters(_) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_waiters", "Too many polls are waiting", detail)
                    .retry_after(5)
            }
            Error::Forked(_) => Self::new(StatusCode::GONE, "revision_forked", "The store came another way", detail),
            Error::TooManyTables(_) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_vms", "Too many filter instances", detail)
                    .retry_after(30)
            }
            Error::NoSuchVm => Self::new(StatusCode::NOT_FOUND, "vm_not_found", "There is no such instance", detail),
            Error::ListChanged => {
                Self::new(StatusCode::CONFLICT, "list_changed", "The list of instances has changed", detail)
            }
            Error::Busy => Self::busy(detail),
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

/// Turns the plain error responses of the framework, such as 405, into problems.
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

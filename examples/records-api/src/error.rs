//! Errors in the form that clients of such an API expect.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

/// `{"status":…,"message":…,"data":{}}`.
pub fn response(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"status": status.as_u16(), "message": message, "data": {}}))).into_response()
}

/// Returns the error 404.
pub fn not_found() -> Response {
    response(StatusCode::NOT_FOUND, "The requested resource wasn't found.")
}

/// Returns the error 400 with a description of the mistake.
pub fn bad_request(message: &str) -> Response {
    response(StatusCode::BAD_REQUEST, message)
}

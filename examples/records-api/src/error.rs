//! Errors in the shape that the clients of such an API know.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

/// `{"status":…,"message":…,"data":{}}`.
pub fn response(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"status": status.as_u16(), "message": message, "data": {}}))).into_response()
}

/// 404.
pub fn not_found() -> Response {
    response(StatusCode::NOT_FOUND, "The requested resource wasn't found.")
}

/// 400, with what is wrong.
pub fn bad_request(message: &str) -> Response {
    response(StatusCode::BAD_REQUEST, message)
}

//! Downloads.

use crate::error;
use crate::store::Store;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse as _, Response};

/// `GET /api/files/{collection}/{record}/{filename}`
pub async fn download(
    State(store): State<Store>,
    Path((collection, record, name)): Path<(String, String, String)>,
) -> Response {
    let Some(file) = store.file(&collection, &record, &name) else { return error::not_found() };
    // An uploaded file must not run as a page of this host.
    let headers = [
        (CONTENT_TYPE, file.content_type.as_str()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
    ];
    (headers, file.bytes).into_response()
}

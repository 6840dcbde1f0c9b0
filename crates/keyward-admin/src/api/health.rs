//! `/healthz`, `/readyz` and `/metrics`, for operating the service.

use super::problem::Problem;
use crate::app::App;
use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;

/// The answer of a check that succeeded.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Health {
    /// Always `ok`.
    status: &'static str,
}

/// Check that the process runs
#[utoipa::path(get, path = "/healthz", tag = "operation", responses((status = 200, body = Health)))]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Check that the service can do its work
#[utoipa::path(
    get, path = "/readyz", tag = "operation",
    responses(
        (status = 200, body = Health),
        (status = 503, description = "`store_unavailable`: the store cannot be reached or written, or the service is stopping", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Result<Json<Health>, Problem> {
    match app.service.unready() {
        None => Ok(Json(Health { status: "ok" })),
        Some(reason) => Err(Problem::unavailable(reason)),
    }
}

/// Read metrics in Prometheus' text format
#[utoipa::path(
    get, path = "/metrics", tag = "operation",
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4")))]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render(&app.service).await).into_response()
}

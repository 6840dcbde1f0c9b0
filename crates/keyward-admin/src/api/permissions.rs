//! `/v1/permissions`: the permission catalogue.

use super::auth::Admin;
use super::problem::Problem;
use super::read::Query;
use crate::app::App;
use crate::catalogue::Catalogue;
use axum::Json;
use axum::extract::{RawQuery, State};
use std::sync::Arc;

/// Read the permission catalogue
#[utoipa::path(
    get, path = "/v1/permissions", tag = "keys", security(("admin" = [])),
    responses((status = 200, body = Catalogue)))]
pub(super) async fn list(
    _: Admin,
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Json<Catalogue>, Problem> {
    Query::parse(query.as_deref()).finish()?;
    Ok(Json(app.service.settings.catalogue.clone()))
}

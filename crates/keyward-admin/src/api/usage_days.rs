//! `/v1/usage` and `/v1/keys/{id}/usage`: operators read by day how often keys were used and refused.

use super::auth::Admin;
use super::problem::Problem;
use super::read::{KeyId, Query};
use crate::app::App;
use crate::service::usage::{DayUsage, denied_by_code};
use crate::store::usage_days::MAX_DAYS;
use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// How many days are told where none are asked for.
const DEFAULT_DAYS: u16 = 30;

/// Requests by day, as filters have reported them.
#[derive(Serialize, ToSchema)]
#[schema(as = UsageByDay)]
pub(super) struct UsageByDayJson {
    /// Number of allowed requests of all these days.
    allowed: u64,
    /// Number of denied requests of all these days, by the code of the denial. Only keys that were found are counted.
    #[schema(example = json!({"permission_missing": 3}))]
    denied: BTreeMap<String, u64>,
    /// Every day, oldest first. The last one is today, in UTC.
    days: Vec<DayUsageJson>,
}

/// The requests of one day.
#[derive(Serialize, ToSchema)]
#[schema(as = DayUsage)]
struct DayUsageJson {
    /// The day, in UTC.
    #[schema(format = Date, example = "2026-11-28")]
    day: String,
    /// Number of allowed requests.
    allowed: u64,
    /// Number of denied requests by the code of the denial.
    #[schema(example = json!({"permission_missing": 3}))]
    denied: BTreeMap<String, u64>,
}

impl UsageByDayJson {
    fn new(days: Vec<DayUsage>) -> Self {
        let allowed = days.iter().fold(0, |sum: u64, day| sum.saturating_add(day.allowed));
        let denied = denied_by_code(&days).into_iter().map(|(code, count)| (code.to_owned(), count)).collect();
        let days = days.into_iter();
        let days = days.map(|day| DayUsageJson { day: day.date(), allowed: day.allowed, denied: day.denied });
        Self { allowed, denied, days: days.collect() }
    }
}

fn days_of(query: Option<&str>) -> Result<u16, Problem> {
    let mut query = Query::parse(query);
    let days = query.number("days", 1, MAX_DAYS.unsigned_abs());
    query.finish()?;
    Ok(days.map_or(DEFAULT_DAYS, |days| u16::try_from(days).unwrap_or(DEFAULT_DAYS)))
}

/// Read how often a key was used and refused, by day
///
/// Filters report about every five seconds. Days are kept for 90 days.
#[utoipa::path(
    get, path = "/v1/keys/{id}/usage", tag = "keys", security(("admin" = [])),
    params(
        ("id" = String, Path, description = "Id of the key"),
        ("days" = Option<u16>, Query, description = "Number of days, today included; default 30", minimum = 1, maximum = 90),
    ),
    responses(
        (status = 200, body = UsageByDayJson),
        (status = 404, description = "`key_not_found`", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn of_key(
    _: Admin,
    State(app): State<Arc<App>>,
    KeyId(id): KeyId,
    RawQuery(query): RawQuery,
) -> Result<Json<UsageByDayJson>, Problem> {
    let days = days_of(query.as_deref())?;
    Ok(Json(UsageByDayJson::new(app.service.usage_by_day(Some(&id), days).await?)))
}

/// Read how often all keys together were used and refused, by day
///
/// Requests with keys that were deleted since are counted as well.
#[utoipa::path(
    get, path = "/v1/usage", tag = "keys", security(("admin" = [])),
    params(("days" = Option<u16>, Query, description = "Number of days, today included; default 30", minimum = 1, maximum = 90)),
    responses((status = 200, body = UsageByDayJson)))]
pub(super) async fn of_all(
    _: Admin,
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Json<UsageByDayJson>, Problem> {
    let days = days_of(query.as_deref())?;
    Ok(Json(UsageByDayJson::new(app.service.usage_by_day(None, days).await?)))
}

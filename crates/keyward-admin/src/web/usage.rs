//! The view of what all keys together were used for, by day.

use super::chart::Chart;
use super::chrome::{Chrome, Section, render};
use super::failure::Failure;
use super::user::User;
use crate::store::usage_days::MAX_DAYS;
use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

#[derive(Template)]
#[template(path = "usage.html")]
struct UsageView {
    page: Chrome,
    chart: Chart,
}

/// Returns the requests of all days that are kept: those of a key, or of all keys together without an id.
pub(super) async fn chart(user: &User, id: Option<&str>) -> Result<Chart, Failure> {
    let days = u16::try_from(MAX_DAYS).unwrap_or(u16::MAX);
    Ok(Chart::new(&user.web.service().usage_by_day(id, days).await?))
}

pub(super) async fn show(user: User) -> Result<Response, Failure> {
    let chart = chart(&user, None).await?;
    render(StatusCode::OK, &UsageView { page: user.chrome(Section::Usage, Some("usage")), chart })
}

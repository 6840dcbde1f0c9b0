//! `/v1/audit`: the audit log.

use super::auth::Admin;
use super::problem::Problem;
use super::read::{Query, format_cursor};
use crate::app::App;
use crate::store::audit::{AuditEntry, AuditFilter};
use axum::Json;
use axum::extract::{RawQuery, State};
use keyward_policy::timestamp::{InvalidTimestamp, Timestamp};
use serde::Serialize;
use std::str::FromStr;
use std::sync::Arc;
use utoipa::ToSchema;

/// One page of the audit log.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditPage)]
pub(super) struct AuditJson {
    /// Newest first. In a range of time, and for an actor together with an action, entries are in the order of their times;
    /// otherwise in the order in which they were added. The two differ only where a clock was set back.
    entries: Vec<AuditEntryJson>,
    /// Pass it as `cursor` to get the next page. Null: this is the last page.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// One action.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
struct AuditEntryJson {
    #[schema(format = DateTime)]
    at: String,
    /// Name of the token that was used, or `keyward` for what the service does by itself.
    actor: String,
    /// `key.create`, `key.regenerate`, `key.update`, `key.delete`, `key.purge`, `token.create`, `token.revoke`,
    /// `proxy.forget`, `proxies.confirm` or `store.new_identity`.
    #[schema(example = "key.create")]
    action: String,
    /// Id of the key, of the token or of the store.
    subject_id: String,
    /// The name that the subject had then.
    subject_name: String,
    /// The revision of the change. Null: the action took none.
    #[schema(required)]
    revision: Option<u64>,
    /// The changed fields, with their values before and after.
    #[schema(value_type = Object)]
    detail: serde_json::Value,
}

impl From<AuditEntry> for AuditEntryJson {
    fn from(entry: AuditEntry) -> Self {
        Self {
            at: entry.at.to_string(),
            actor: entry.actor,
            action: entry.action,
            subject_id: entry.subject_id,
            subject_name: entry.subject_name,
            revision: entry.revision,
            detail: entry.detail,
        }
    }
}

/// A moment in a query.
struct Moment(Timestamp);

impl FromStr for Moment {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Timestamp::parse(text).map(Self)
    }
}

/// Read the audit log
#[utoipa::path(
    get, path = "/v1/audit", tag = "audit", security(("admin" = [])),
    params(
        ("subject" = Option<String>, Query, description = "Only actions on the key, token or store with this id", max_length = 100, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"),
        ("actor" = Option<String>, Query, description = "Only actions of the token with this name", max_length = 100, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"),
        ("action" = Option<String>, Query, description = "Only this kind of action, such as `key.delete`", max_length = 100, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"),
        ("since" = Option<String>, Query, description = "Only actions of this moment and later ones", format = DateTime),
        ("until" = Option<String>, Query, description = "Only actions before this moment", format = DateTime),
        ("limit" = Option<u32>, Query, description = "Largest number of entries in the response; default 50", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the previous response", pattern = "^c[1-9a-f][0-9a-f]{0,14}$"),
    ),
    responses((status = 200, body = AuditJson)))]
pub(super) async fn list(
    _: Admin,
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Json<AuditJson>, Problem> {
    let mut query = Query::parse(query.as_deref());
    let mut text = |name: &str| query.text(name, 100).filter(|text| !text.is_empty());
    let (subject_id, actor, action) = (text("subject"), text("actor"), text("action"));
    let mut moment = |name: &str| {
        let moment = query.parsed::<Moment>(name, "must be an RFC 3339 time like `2027-01-01T00:00:00Z`");
        moment.map(|Moment(at)| at)
    };
    let filter = AuditFilter { subject_id, actor, action, since: moment("since"), until: moment("until") };
    let limit = query.number("limit", 1, 200).map_or(50, |limit| u32::try_from(limit).unwrap_or(u32::MAX));
    let cursor = query.cursor("cursor");
    query.finish()?;
    let mut entries = app.service.audit(&filter, cursor, limit + 1).await?;
    let more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    let next_cursor = entries.last().filter(|_| more).map(|entry| format_cursor(entry.seq));
    Ok(Json(AuditJson { entries: entries.into_iter().map(AuditEntryJson::from).collect(), next_cursor }))
}

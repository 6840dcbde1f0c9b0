//! `/v1/usage`: filters report what keys were used for.

use super::auth::Edge;
use super::problem::Problem;
use super::read::{JsonFields, Query, json_object, kind, whole};
use crate::app::App;
use crate::store::usage::KeyUsage;
use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use keyward_policy::timestamp::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

/// Largest batch: 10,000 keys with a few permissions each.
const MAX_BODY_BYTES: usize = 8 << 20;
const MAX_KEYS: usize = 10_000;
const MAX_PERMISSIONS: usize = 200;
/// Far more than a VM ever sends, and a number that JSON represents exactly.
const MAX_SEQ: u64 = 1_000_000_000_000_000;
/// Largest count of one batch. Impossibly large counts are refused, so that sums stay exact.
const MAX_COUNT: u64 = 1_000_000_000_000;

/// The uses that a VM has counted since its last batch.
#[derive(serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(
    dead_code,
    reason = "only describes the body: `report` reads its fields one by one, to report every mistake at once"
)]
pub(super) struct UsageBody {
    /// The id of the VM, as in `x-keyward-vm` of its polls.
    #[schema(min_length = 1, max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$")]
    vm: String,
    /// Number of the batch. It rises with each batch of the VM, and a repeated number is counted once.
    #[schema(maximum = 1000000000000000u64)]
    seq: u64,
    #[schema(max_items = 10000)]
    keys: Vec<KeyUsageBody>,
}

/// The schema of the counts by permission.
fn counts_schema() -> Object {
    let count = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(0))
        .maximum(Some(i64::try_from(MAX_COUNT).unwrap_or(i64::MAX)));
    let name = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^[^\\u0000-\\u001f\\u007f-\\u009f]+$"))
        .max_length(Some(64));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some("Number of these requests that required each permission"))
        .property_names(Some(name))
        .additional_properties(Some(count))
        .max_properties(Some(MAX_PERMISSIONS))
        .build()
}

/// The uses of one key.
#[derive(serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(
    dead_code,
    reason = "only describes the body: `report` reads its fields one by one, to report every mistake at once"
)]
pub(super) struct KeyUsageBody {
    #[schema(min_length = 1, max_length = 256, pattern = "^[!-~]+$")]
    id: String,
    /// Number of allowed requests.
    #[schema(maximum = 1000000000000u64)]
    count: u64,
    #[schema(format = DateTime)]
    last_used_at: String,
    #[schema(required = false, schema_with = counts_schema)]
    permissions: BTreeMap<String, u64>,
}

/// What was done with a batch.
#[derive(Serialize, ToSchema)]
pub(super) struct UsageAnswer {
    seq: u64,
    /// False if this batch, or a later one of the VM, was counted before.
    counted: bool,
}

/// Report usage
#[utoipa::path(
    post, path = "/v1/usage", tag = "filters", security(("edge" = [])), request_body = UsageBody,
    responses((status = 200, body = UsageAnswer)))]
pub(super) async fn report(
    _: Edge,
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<UsageAnswer>, Problem> {
    Query::parse(query.as_deref()).finish()?;
    let mut fields = json_object(&headers, body, MAX_BODY_BYTES).await?;
    let vm = fields.text("vm");
    if vm.is_empty() || vm.len() > 256 || vm.chars().any(char::is_control) {
        fields.wrong("vm", "must have 1 to 256 characters, none of them control characters");
    }
    let seq = fields.number("seq", MAX_SEQ);
    let keys = match fields.take("keys") {
        Some(Value::Array(items)) if items.len() <= MAX_KEYS => items,
        Some(Value::Array(_)) => {
            fields.wrong("keys", format!("must not have more than {MAX_KEYS} entries"));
            Vec::new()
        }
        other => {
            let found = other.as_ref().map_or("nothing", kind);
            fields.wrong("keys", format!("must be a list of objects, not {found}"));
            Vec::new()
        }
    };
    let mut errors = fields.errors();
    let mut batch = Vec::with_capacity(keys.len());
    for (index, key) in keys.into_iter().enumerate() {
        let wrong = read_key(key, &mut batch);
        errors.extend(wrong.into_iter().map(|mut error| {
            let dot = if error.field.is_empty() { "" } else { "." };
            error.field = format!("keys[{index}]{dot}{}", error.field);
            error
        }));
        if errors.len() > 100 {
            break;
        }
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let counted = app.service.add_usage(&vm, seq, batch).await?;
    Ok(Json(UsageAnswer { seq, counted }))
}

fn read_key(value: Value, batch: &mut Vec<KeyUsage>) -> Vec<crate::service::FieldError> {
    let Value::Object(object) = value else {
        return vec![crate::service::FieldError::new("", format!("must be an object, not {}", kind(&value)))];
    };
    let mut fields = JsonFields::of(object);
    let id = fields.text("id");
    if id.len() > 256 || (id.is_empty() || !id.bytes().all(|b| b.is_ascii_graphic())) {
        fields.wrong("id", "must have 1 to 256 visible ASCII characters");
    }
    let count = fields.number("count", MAX_COUNT);
    let last_used_at = Timestamp::parse(&fields.text("last_used_at"));
    if last_used_at.is_err() {
        fields.wrong("last_used_at", "must be an RFC 3339 time like `2027-01-01T00:00:00Z`");
    }
    let mut permissions = Vec::new();
    match fields.take("permissions") {
        None => {}
        Some(Value::Object(counts)) if counts.len() <= MAX_PERMISSIONS => {
            for (name, count) in counts {
                match whole(&count) {
                    Some(_) if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) => {
                        fields.wrong("permissions", "must name permissions of 1 to 256 characters");
                    }
                    Some(count) if count <= MAX_COUNT => permissions.push((name, count)),
                    _ => fields.wrong("permissions", format!("must hold whole numbers from 0 to {MAX_COUNT}")),
                }
            }
        }
        Some(_) => fields.wrong("permissions", format!("must be an object of at most {MAX_PERMISSIONS} counts")),
    }
    let errors = fields.errors();
    if let (true, Ok(last_used_at)) = (errors.is_empty(), last_used_at) {
        batch.push(KeyUsage { id, count, last_used_at, permissions });
    }
    errors
}

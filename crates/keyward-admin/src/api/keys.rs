//! `/v1/keys`.

use super::auth::Admin;
use super::problem::Problem;
use super::read::{KeyId, Query, format_cursor, json_object, no_body};
use super::{App, proxies::AppliedView};
use crate::lifetime::{InvalidLifetime, Lifetime};
use crate::secret::masked;
use crate::service::validate::{LONGEST_NAME, NAME_PATTERN};
use crate::service::{CreateKey, EditKey, FieldError, KeyDetail};
use crate::store::keys::KeyRecord;
use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{CACHE_CONTROL, ETAG, IF_MATCH, LOCATION};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use keyward_policy::timestamp::Timestamp;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

/// Largest body of these calls, in bytes.
const BODY: usize = 64 << 10;
/// Longest `wait` for a receipt.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const DEFAULT_WAIT: Duration = Duration::from_secs(1);
const DEFAULT_LIMIT: u32 = 50;
const MOST: u64 = 200;

/// A key as it is shown: masked.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyView {
    #[schema(example = "key_mfrggzdfmztwq2lk")]
    id: String,
    #[schema(example = "CI Bot")]
    name: String,
    /// Machine names.
    #[schema(example = json!(["records:read"]))]
    permissions: Vec<String>,
    /// Its first and its last characters.
    #[schema(example = "kw_…x9Zq")]
    masked: String,
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was last regenerated.
    #[schema(format = DateTime, required)]
    regenerated_at: Option<String>,
    /// It is refused from then on; null: never.
    #[schema(format = DateTime, required)]
    expires_at: Option<String>,
    /// The chosen lifetime.
    #[schema(pattern = "^(7d|30d|60d|90d|180d|never)$")]
    expires_in: &'static str,
    status: KeyStatus,
    /// As far as filters have reported.
    #[schema(format = DateTime, required)]
    last_used_at: Option<String>,
    /// Of its last change.
    revision: u64,
}

/// Whether a key is let through. A disabled one stays `disabled` when it expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeyStatus {
    Active,
    Expired,
    Disabled,
}

impl KeyView {
    fn new(key: KeyRecord, now: Timestamp) -> Self {
        let status = match key.expires_at {
            _ if key.disabled => KeyStatus::Disabled,
            Some(at) if at <= now => KeyStatus::Expired,
            _ => KeyStatus::Active,
        };
        Self {
            masked: masked(&key.prefix, &key.last_four),
            id: key.id,
            name: key.name,
            permissions: key.permissions,
            created_at: key.created_at.to_string(),
            regenerated_at: key.regenerated_at.map(|at| at.to_string()),
            expires_at: key.expires_at.map(|at| at.to_string()),
            expires_in: key.expires_in.as_str(),
            status,
            last_used_at: key.last_used_at.map(|at| at.to_string()),
            revision: key.revision,
        }
    }
}

/// A key and, this once, its plaintext.
#[derive(Serialize, ToSchema)]
pub(super) struct CreatedView {
    /// The key itself: shown now and never again.
    #[schema(example = "kw_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ0A1b2C")]
    key: String,
    #[serde(flatten)]
    view: KeyView,
}

/// A regenerated key and, this once, its plaintext; and how many filter VMs refuse the old one.
#[derive(Serialize, ToSchema)]
pub(super) struct RegeneratedView {
    /// The key itself: shown now and never again.
    #[schema(example = "kw_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ0A1b2C")]
    key: String,
    #[serde(flatten)]
    view: KeyView,
    applied: AppliedView,
}

/// A changed key, and how many filter VMs go by it.
#[derive(Serialize, ToSchema)]
pub(super) struct UpdatedView {
    #[serde(flatten)]
    view: KeyView,
    applied: AppliedView,
}

/// A deleted key, and how many filter VMs refuse it.
#[derive(Serialize, ToSchema)]
pub(super) struct DeletedView {
    id: String,
    /// Of the delete.
    revision: u64,
    applied: AppliedView,
}

/// A part of the list.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyListView {
    /// Newest first.
    keys: Vec<KeyView>,
    /// Where the next part begins; null: this is the last.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// A key with its use.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyDetailView {
    #[serde(flatten)]
    view: KeyView,
    usage: UsageView,
}

/// How a key was used, as far as filters have reported.
#[derive(Serialize, ToSchema)]
struct UsageView {
    /// Requests let through.
    count: u64,
    #[schema(format = DateTime, required)]
    last_used_at: Option<String>,
    /// For each permission that is granted or was needed.
    permissions: Vec<PermissionUsageView>,
}

/// How one permission was used.
#[derive(Serialize, ToSchema)]
struct PermissionUsageView {
    permission: String,
    /// Whether the key has it now.
    granted: bool,
    /// Requests that needed it and were let through.
    count: u64,
    #[schema(format = DateTime, required)]
    last_used_at: Option<String>,
}

impl KeyDetailView {
    fn new(detail: KeyDetail, now: Timestamp) -> Self {
        let KeyDetail { key, usage } = detail;
        let of = |permission: &str| usage.iter().find(|total| total.permission == permission);
        let mut names: Vec<&str> = key.permissions.iter().map(String::as_str).collect();
        let needed = usage.iter().map(|total| total.permission.as_str());
        names.extend(needed.filter(|name| !name.is_empty() && !key.permissions.iter().any(|has| has == name)));
        let permissions = names.into_iter().map(|name| PermissionUsageView {
            permission: name.to_owned(),
            granted: key.permissions.iter().any(|has| has == name),
            count: of(name).map_or(0, |total| total.count),
            last_used_at: of(name).map(|total| total.last_used_at.to_string()),
        });
        let usage = UsageView {
            count: of("").map_or(0, |total| total.count),
            last_used_at: of("").map(|total| total.last_used_at.to_string()),
            permissions: permissions.collect(),
        };
        Self { view: KeyView::new(key, now), usage }
    }
}

/// The rule for names, from where it is enforced.
fn name_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("Unique among live keys; no control characters, no white space at the ends"))
        .min_length(Some(1))
        .max_length(Some(LONGEST_NAME))
        .pattern(Some(NAME_PATTERN))
        .examples(["CI Bot"])
        .build()
}

/// A key to be made.
#[derive(serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "describes what `create` reads field by field, to tell all that is wrong at once")]
pub(super) struct CreateKeyBody {
    #[schema(schema_with = name_schema)]
    name: String,
    /// Of the catalogue: see `GET /v1/permissions`.
    #[schema(min_items = 1, max_items = 200, example = json!(["records:read"]))]
    permissions: Vec<String>,
    /// How long it lives.
    #[schema(required = false, default = "30d", pattern = "^(7d|30d|60d|90d|180d|never)$")]
    expires_in: String,
}

/// What to change; what is missing stays as it is.
#[derive(serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "describes what `edit` reads field by field, to tell all that is wrong at once")]
pub(super) struct EditKeyBody {
    #[schema(required = false, schema_with = name_schema)]
    name: String,
    #[schema(required = false, min_items = 1, max_items = 200, example = json!(["records:read"]))]
    permissions: Vec<String>,
    #[schema(required = false)]
    disabled: bool,
}

fn etag(revision: u64) -> (HeaderName, String) {
    (ETAG, format!("\"{revision}\""))
}

/// The revision of `If-Match`; none: no condition.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let mut values = headers.get_all(IF_MATCH).iter();
    let (value, rest) = (values.next(), values.next());
    let Some(value) = value else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    match bare.parse() {
        _ if rest.is_some() => {}
        _ if text == "*" => return Ok(None),
        Ok(revision) if bare.bytes().all(|b| b.is_ascii_digit()) => return Ok(Some(revision)),
        _ => {}
    }
    Err(Problem::invalid_header("`If-Match` must be one revision, like `\"42\"`, or `*`"))
}

fn wait(query: &mut Query) -> Duration {
    query.duration("wait", LONGEST_WAIT).unwrap_or(DEFAULT_WAIT)
}

/// Make a key
///
/// The only answer that ever holds the key itself.
#[utoipa::path(
    post, path = "/v1/keys", tag = "keys", security(("admin" = [])), request_body = CreateKeyBody,
    responses(
        (status = 201, body = CreatedView, headers(("location" = String, description = "Address of the key"), ("etag" = String))),
        (status = 409, description = "`name_taken`", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn create(
    Admin(caller): Admin,
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref()).finish()?;
    let mut fields = json_object(&headers, body, BODY).await?;
    let name = fields.text("name");
    let permissions = fields.optional_texts("permissions");
    if permissions.is_none() && !fields.is_wrong("permissions") {
        fields.wrong("permissions", "must be a list of permissions: GET /v1/permissions lists them");
    }
    let expires_in = match fields.optional_text("expires_in").map(|text| text.parse::<Lifetime>()) {
        None => Lifetime::default(),
        Some(Ok(lifetime)) => lifetime,
        Some(Err(error @ InvalidLifetime)) => {
            fields.wrong("expires_in", error.to_string());
            Lifetime::default()
        }
    };
    let mut errors = fields.errors();
    let request = CreateKey { name, permissions: permissions.unwrap_or_default(), expires_in };
    // Of a field that is not even of the right kind no more is said.
    let beyond = |error: &FieldError| {
        !errors
            .iter()
            .any(|told| error.field.starts_with(told.field.as_str()) || told.field.starts_with(error.field.as_str()))
    };
    let more: Vec<FieldError> = app.service.check_key(&request).into_iter().filter(beyond).collect();
    errors.extend(more);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let created = app.service.create_key(&caller.name, request).await?;
    let location = format!("/v1/keys/{}", created.key.id);
    let tag = etag(created.key.revision);
    let view = CreatedView {
        key: created.secret.reveal().to_owned(),
        view: KeyView::new(created.key, app.service.clock().now()),
    };
    let headers = [(LOCATION, location), (CACHE_CONTROL, "no-store".to_owned()), tag];
    Ok((StatusCode::CREATED, headers, Json(view)).into_response())
}

/// List and search keys
///
/// Newest first. `q` finds in name, id and last four; one or two characters find at the start of the name, of its words,
/// of the id (after `key_`) and of the last four.
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys", security(("admin" = [])),
    params(
        ("q" = Option<String>, Query, description = "What to look for, in any case", max_length = 100, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"),
        ("limit" = Option<u32>, Query, description = "Most keys in the answer", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the last answer", pattern = "^c[1-9a-f][0-9a-f]{0,14}$"),
    ),
    responses((status = 200, body = KeyListView)))]
pub(super) async fn list(
    _: Admin,
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Json<KeyListView>, Problem> {
    let mut query = Query::parse(query.as_deref());
    let q = query.text("q", 100).unwrap_or_default();
    let limit = query.number("limit", 1, MOST).map_or(DEFAULT_LIMIT, |limit| u32::try_from(limit).unwrap_or(u32::MAX));
    let cursor = query.cursor("cursor");
    query.finish()?;
    let page = app.service.list_keys(&q, cursor, limit).await?;
    let now = app.service.clock().now();
    Ok(Json(KeyListView {
        keys: page.keys.into_iter().map(|key| KeyView::new(key, now)).collect(),
        next_cursor: page.next.map(format_cursor),
    }))
}

/// Show a key and its use
#[utoipa::path(
    get, path = "/v1/keys/{id}", tag = "keys", security(("admin" = [])),
    params(("id" = String, Path, description = "Id of a key")),
    responses(
        (status = 200, body = KeyDetailView, headers(("etag" = String))),
        (status = 404, description = "`key_not_found`", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn get(
    _: Admin,
    State(app): State<Arc<App>>,
    KeyId(id): KeyId,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref()).finish()?;
    let detail = app.service.key_detail(&id).await?;
    let tag = etag(detail.key.revision);
    Ok(([tag], Json(KeyDetailView::new(detail, app.service.clock().now()))).into_response())
}

/// Change a key
///
/// Name, permissions, or whether it is refused. What is already so takes no revision.
#[utoipa::path(
    patch, path = "/v1/keys/{id}", tag = "keys", security(("admin" = [])), request_body = EditKeyBody,
    params(
        ("id" = String, Path, description = "Id of a key"),
        ("wait" = Option<String>, Query, description = "How long to wait for the receipt: up to 30s; default 1s", pattern = "^(0s|[1-9]00ms|[1-3]s)$"),
        ("if-match" = Option<String>, Header, description = "Only where the key is at this revision", pattern = "^(\\*|\"[0-9]{1,15}\"|[0-9]{1,15})$"),
    ),
    responses(
        (status = 200, body = UpdatedView, headers(("etag" = String))),
        (status = 404, description = "`key_not_found`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`name_taken`", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "`revision_mismatch`", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn edit(
    Admin(caller): Admin,
    State(app): State<Arc<App>>,
    KeyId(id): KeyId,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut query = Query::parse(query.as_deref());
    let wait = wait(&mut query);
    query.finish()?;
    let expected = if_match(&headers)?;
    let mut fields = json_object(&headers, body, BODY).await?;
    let edit = EditKey {
        name: fields.optional_text("name"),
        permissions: fields.optional_texts("permissions"),
        disabled: fields.optional_flag("disabled"),
    };
    fields.finish()?;
    let key = app.service.edit_key(&caller.name, &id, edit, expected).await?;
    let applied = app.service.receipt(key.revision, wait).await.into();
    let tag = etag(key.revision);
    let view = KeyView::new(key, app.service.clock().now());
    Ok(([tag], Json(UpdatedView { view, applied })).into_response())
}

/// Regenerate a key
///
/// Same name, same permissions, the chosen lifetime counted anew; the old key stops working.
#[utoipa::path(
    post, path = "/v1/keys/{id}/regenerate", tag = "keys", security(("admin" = [])),
    params(
        ("id" = String, Path, description = "Id of a key"),
        ("wait" = Option<String>, Query, description = "How long to wait for the receipt: up to 30s; default 1s", pattern = "^(0s|[1-9]00ms|[1-3]s)$"),
        ("if-match" = Option<String>, Header, description = "Only where the key is at this revision: a repeated request does not regenerate again", pattern = "^(\\*|\"[0-9]{1,15}\"|[0-9]{1,15})$"),
    ),
    responses(
        (status = 200, body = RegeneratedView, headers(("etag" = String))),
        (status = 404, description = "`key_not_found`", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "`revision_mismatch`", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn regenerate(
    Admin(caller): Admin,
    State(app): State<Arc<App>>,
    KeyId(id): KeyId,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut query = Query::parse(query.as_deref());
    let wait = wait(&mut query);
    query.finish()?;
    no_body(&headers, body, BODY).await?;
    let done = app.service.regenerate_key(&caller.name, &id, if_match(&headers)?).await?;
    let applied = app.service.receipt(done.key.revision, wait).await.into();
    let tag = etag(done.key.revision);
    let view = RegeneratedView {
        key: done.secret.reveal().to_owned(),
        view: KeyView::new(done.key, app.service.clock().now()),
        applied,
    };
    Ok(([(CACHE_CONTROL, "no-store".to_owned()), tag], Json(view)).into_response())
}

/// Delete a key
///
/// For good. Waits until every filter VM in contact refuses it, or for `wait`.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "keys", security(("admin" = [])),
    params(
        ("id" = String, Path, description = "Id of a key"),
        ("wait" = Option<String>, Query, description = "How long to wait for the receipt: up to 30s; default 1s", pattern = "^(0s|[1-9]00ms|[1-3]s)$"),
        ("if-match" = Option<String>, Header, description = "Only where the key is at this revision", pattern = "^(\\*|\"[0-9]{1,15}\"|[0-9]{1,15})$"),
    ),
    responses(
        (status = 200, body = DeletedView),
        (status = 404, description = "`key_not_found`", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "`revision_mismatch`", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn delete(
    Admin(caller): Admin,
    State(app): State<Arc<App>>,
    KeyId(id): KeyId,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<DeletedView>, Problem> {
    let mut query = Query::parse(query.as_deref());
    let wait = wait(&mut query);
    query.finish()?;
    let key = app.service.delete_key(&caller.name, &id, if_match(&headers)?).await?;
    let applied = app.service.receipt(key.revision, wait).await.into();
    Ok(Json(DeletedView { id: key.id, revision: key.revision, applied }))
}

//! `/v1/keys`: creating, listing, reading, changing, regenerating and deleting keys.

use super::auth::Admin;
use super::problem::Problem;
use super::proxies::AppliedView;
use super::read::{KeyId, Query, json_object, no_body};
use crate::app::App;
use crate::lifetime::{InvalidLifetime, Lifetime};
use crate::secret::masked;
use crate::service::FieldError;
use crate::service::keys::{CreateKey, EditKey, KeyQuery};
use crate::service::usage::KeyDetail;
use crate::service::validate::{MAX_NAME_CHARACTERS, NAME_PATTERN};
use crate::store::Status;
use crate::store::keys::KeyRecord;
use crate::store::list::Filter;
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

/// Largest body of these calls.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Longest `wait` for a receipt.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Longest `expires_within`.
const MAX_WITHIN: Duration = Duration::from_secs(9_999 * 86_400);
const DEFAULT_WAIT: Duration = Duration::from_secs(1);
const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u64 = 200;

/// A key, without the secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Key)]
pub(super) struct KeyJson {
    #[schema(example = "key_mfrggzdfmztwq2lk")]
    id: String,
    #[schema(example = "CI Bot")]
    name: String,
    /// Ids of the granted permissions.
    #[schema(example = json!(["records:read"]))]
    permissions: Vec<String>,
    /// The key's prefix and its last four characters.
    #[schema(example = "kw_…x9Zq")]
    masked: String,
    #[schema(format = DateTime)]
    created_at: String,
    /// When the key was last regenerated. Null: never.
    #[schema(format = DateTime, required)]
    regenerated_at: Option<String>,
    /// From this moment on the key is refused. Null: it never expires.
    #[schema(format = DateTime, required)]
    expires_at: Option<String>,
    /// The lifetime that was chosen when the key was created.
    #[schema(pattern = "^(7d|30d|60d|90d|180d|never)$")]
    expires_in: &'static str,
    status: KeyStatus,
    /// The last use that filters have reported. Null: none.
    #[schema(format = DateTime, required)]
    last_used_at: Option<String>,
    /// The revision of the key's last change.
    revision: u64,
}

/// Whether filters accept a key. A disabled key stays `disabled` when it expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeyStatus {
    Active,
    Expired,
    Disabled,
}

impl From<Status> for KeyStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Active => Self::Active,
            Status::Expired => Self::Expired,
            Status::Disabled => Self::Disabled,
        }
    }
}

impl KeyJson {
    fn new(key: KeyRecord, now: Timestamp) -> Self {
        let status = key.status(now).into();
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

/// A created key with its secret, which no later response holds.
#[derive(Serialize, ToSchema)]
#[schema(as = CreatedKey)]
pub(super) struct CreatedKeyJson {
    /// The secret: what a client sends. No later response holds it.
    #[schema(example = "kw_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ0A1b2C")]
    key: String,
    #[serde(flatten)]
    fields: KeyJson,
}

/// A regenerated key with its new secret, and the receipt for refusing the old one.
#[derive(Serialize, ToSchema)]
#[schema(as = RegeneratedKey)]
pub(super) struct RegeneratedKeyJson {
    /// The secret: what a client sends. No later response holds it.
    #[schema(example = "kw_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ0A1b2C")]
    key: String,
    #[serde(flatten)]
    fields: KeyJson,
    applied: AppliedView,
}

/// A changed key, and the receipt of the change.
#[derive(Serialize, ToSchema)]
#[schema(as = UpdatedKey)]
pub(super) struct UpdatedKeyJson {
    #[serde(flatten)]
    fields: KeyJson,
    applied: AppliedView,
}

/// A deleted key, and the receipt of the delete.
#[derive(Serialize, ToSchema)]
#[schema(as = DeletedKey)]
pub(super) struct DeletedKeyJson {
    id: String,
    /// The revision of the delete.
    revision: u64,
    applied: AppliedView,
}

/// One page of the list of keys.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyList)]
pub(super) struct KeyListJson {
    /// In the order that was asked for. With filters a page may hold fewer than `limit`, or none, and have a next one.
    keys: Vec<KeyJson>,
    /// Pass it as `cursor` to get the next page. Null: this is the last page.
    #[schema(required)]
    next_cursor: Option<String>,
    /// Pass it as `cursor` to get the page before. Absent: this is the first page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    previous_cursor: Option<String>,
}

/// A key and how it was used.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyDetail)]
pub(super) struct KeyDetailJson {
    #[serde(flatten)]
    fields: KeyJson,
    usage: KeyUsageJson,
}

/// How a key was used, by the reports of filters.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyUsage)]
struct KeyUsageJson {
    /// Number of allowed requests.
    count: u64,
    #[schema(format = DateTime, required)]
    last_used_at: Option<String>,
    /// One entry for each permission that is granted, or was required by an allowed request.
    permissions: Vec<PermissionUsageJson>,
}

/// How a permission of a key was used.
#[derive(Serialize, ToSchema)]
#[schema(as = PermissionUsage)]
struct PermissionUsageJson {
    permission: String,
    /// Whether the key has the permission now.
    granted: bool,
    /// Number of allowed requests that required the permission.
    count: u64,
    #[schema(format = DateTime, required)]
    last_used_at: Option<String>,
}

impl KeyDetailJson {
    fn new(detail: KeyDetail, now: Timestamp) -> Self {
        let KeyDetail { key, usage } = detail;
        let of = |permission: &str| usage.iter().find(|total| total.permission == permission);
        let mut names: Vec<&str> = key.permissions.iter().map(String::as_str).collect();
        let needed = usage.iter().map(|total| total.permission.as_str());
        names.extend(needed.filter(|name| !name.is_empty() && !key.permissions.iter().any(|has| has == name)));
        let permissions = names.into_iter().map(|name| PermissionUsageJson {
            permission: name.to_owned(),
            granted: key.permissions.iter().any(|has| has == name),
            count: of(name).map_or(0, |total| total.count),
            last_used_at: of(name).map(|total| total.last_used_at.to_string()),
        });
        let usage = KeyUsageJson {
            count: of("").map_or(0, |total| total.count),
            last_used_at: of("").map(|total| total.last_used_at.to_string()),
            permissions: permissions.collect(),
        };
        Self { fields: KeyJson::new(key, now), usage }
    }
}

/// The schema of a key's name, from the limits that the service enforces.
fn name_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("Unique among live keys. Without control characters, and without white space at the ends."))
        .min_length(Some(1))
        .max_length(Some(MAX_NAME_CHARACTERS))
        .pattern(Some(NAME_PATTERN))
        .examples(["CI Bot"])
        .build()
}

/// The key to create.
#[derive(serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(
    dead_code,
    reason = "only describes the body: `create` reads its fields one by one, to report every mistake at once"
)]
pub(super) struct CreateKeyBody {
    #[schema(schema_with = name_schema)]
    name: String,
    /// Ids of the catalogue, which `GET /v1/permissions` returns.
    #[schema(min_items = 1, max_items = 200, example = json!(["records:read"]))]
    permissions: Vec<String>,
    /// The lifetime of the key.
    #[schema(required = false, default = "30d", pattern = "^(7d|30d|60d|90d|180d|never)$")]
    expires_in: String,
}

/// The fields to change. Absent fields keep their value.
#[derive(serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(
    dead_code,
    reason = "only describes the body: `edit` reads its fields one by one, to report every mistake at once"
)]
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

/// Reads the revision of `If-Match`. `None` means that there is no condition.
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
    Err(Problem::invalid_header("`If-Match` must be one revision, such as `\"42\"`, or `*`"))
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    Timestamp::from_unix_ms(now.unix_ms().saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}

fn wait(query: &mut Query) -> Duration {
    query.duration("wait", MAX_WAIT).unwrap_or(DEFAULT_WAIT)
}

/// Create a key
///
/// The response holds the secret. No later response does.
#[utoipa::path(
    post, path = "/v1/keys", tag = "keys", security(("admin" = [])), request_body = CreateKeyBody,
    responses(
        (status = 201, body = CreatedKeyJson, headers(("location" = String, description = "Path of the key"), ("etag" = String))),
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
    let mut fields = json_object(&headers, body, MAX_BODY_BYTES).await?;
    let name = fields.text("name");
    let permissions = fields.optional_texts("permissions");
    if permissions.is_none() && !fields.is_wrong("permissions") {
        fields.wrong("permissions", "is missing: send a list of permissions; GET /v1/permissions lists them");
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
    // A field of the wrong type has been reported already; further mistakes in it would only repeat that.
    let beyond = |error: &FieldError| {
        !errors
            .iter()
            .any(|known| error.field.starts_with(known.field.as_str()) || known.field.starts_with(error.field.as_str()))
    };
    let more: Vec<FieldError> = app.service.check_key(&request).into_iter().filter(beyond).collect();
    errors.extend(more);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let created = app.service.create_key(&caller.name, request).await?;
    let location = format!("/v1/keys/{}", created.key.id);
    let tag = etag(created.key.revision);
    let view = CreatedKeyJson {
        key: created.secret.reveal().to_owned(),
        fields: KeyJson::new(created.key, app.service.clock().now()),
    };
    let headers = [(LOCATION, location), (CACHE_CONTROL, "no-store".to_owned()), tag];
    Ok((StatusCode::CREATED, headers, Json(view)).into_response())
}

/// List, filter and search keys
///
/// `q` is searched for in the name, the id and the last four characters. With one or two characters only their beginnings
/// are searched: of the name, of each word in it, of the id after `key_`, and of the last four. What is found comes newest
/// first, whatever `sort` says. All filters hold together.
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys", security(("admin" = [])),
    params(
        ("q" = Option<String>, Query, description = "Text to search for; case does not matter", max_length = 100, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"),
        ("status" = Option<String>, Query, description = "Only keys with this status", pattern = "^(active|expired|disabled)$"),
        ("permission" = Option<String>, Query, description = "Only keys with this permission", max_length = 100, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"),
        ("never_used" = Option<bool>, Query, description = "Only keys that no filter has reported a use of"),
        ("never_expires" = Option<bool>, Query, description = "Only keys that never expire"),
        ("expires_within" = Option<String>, Query, description = "Only keys that expire within this duration from now, such as `14d` or `12h`: up to 9999d", pattern = "^([0-9]{1,8}(ms|s)|[0-9]{1,7}m|[0-9]{1,5}h|[0-9]{1,4}d)$"),
        ("sort" = Option<String>, Query, description = "`created` is newest first, `name` goes by the name, `expires` is soonest first; `-` reverses. Default `created`, and `expires` with `expires_within` and `status=expired`. A `cursor` carries its order", pattern = "^-?(created|name|expires)$"),
        ("limit" = Option<u32>, Query, description = "Largest number of keys in the response; default 50", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "`next_cursor` or `previous_cursor` of an earlier response to the same filters", pattern = "^b?([cC]|[eE][0-9a-f]{1,15}\\.|[nN]([0-9a-f]{2}){1,400}\\.)[1-9a-f][0-9a-f]{0,14}$"),
    ),
    responses((status = 200, body = KeyListJson)))]
pub(super) async fn list(
    _: Admin,
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Json<KeyListJson>, Problem> {
    let mut query = Query::parse(query.as_deref());
    let now = app.service.clock().now();
    let filter = Filter {
        q: query.text("q", 100).unwrap_or_default().trim().to_owned(),
        status: query.parsed("status", "must be `active`, `expired` or `disabled`"),
        permission: query.text("permission", 100).filter(|id| !id.is_empty()),
        never_used: query.flag("never_used").unwrap_or_default(),
        never_expires: query.flag("never_expires").unwrap_or_default(),
        expires_until: query.duration("expires_within", MAX_WITHIN).map(|within| later(now, within)),
    };
    let sort = query.parsed("sort", "must be `created`, `name` or `expires`, with or without `-` before it");
    let limit =
        query.number("limit", 1, MAX_LIMIT).map_or(DEFAULT_LIMIT, |limit| u32::try_from(limit).unwrap_or(u32::MAX));
    let cursor = query.parsed("cursor", "must be the `next_cursor` or `previous_cursor` of an earlier response");
    query.finish()?;
    let page = app.service.list_keys(&KeyQuery { filter, sort, cursor, limit }).await?;
    Ok(Json(KeyListJson {
        keys: page.keys.into_iter().map(|key| KeyJson::new(key, now)).collect(),
        next_cursor: page.next.map(|cursor| cursor.to_string()),
        previous_cursor: page.previous.map(|cursor| cursor.to_string()),
    }))
}

/// Read a key and its usage
#[utoipa::path(
    get, path = "/v1/keys/{id}", tag = "keys", security(("admin" = [])),
    params(("id" = String, Path, description = "Id of the key")),
    responses(
        (status = 200, body = KeyDetailJson, headers(("etag" = String))),
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
    Ok(([tag], Json(KeyDetailJson::new(detail, app.service.clock().now()))).into_response())
}

/// Change a key
///
/// Changes the name, the permissions, or whether the key is disabled. A request that changes nothing takes no revision.
#[utoipa::path(
    patch, path = "/v1/keys/{id}", tag = "keys", security(("admin" = [])), request_body = EditKeyBody,
    params(
        ("id" = String, Path, description = "Id of the key"),
        ("wait" = Option<String>, Query, description = "How long to wait until every filter instance in contact has applied the change: up to 30s; default 1s", pattern = "^([0-9]{1,4}ms|[12][0-9]{4}ms|[12]?[0-9]s|30s)$"),
        ("if-match" = Option<String>, Header, description = "Make the change only if the key is at this revision", pattern = "^(\\*|\"[0-9]{1,15}\"|[0-9]{1,15})$"),
    ),
    responses(
        (status = 200, body = UpdatedKeyJson, headers(("etag" = String))),
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
    let mut fields = json_object(&headers, body, MAX_BODY_BYTES).await?;
    let edit = EditKey {
        name: fields.optional_text("name"),
        permissions: fields.optional_texts("permissions"),
        disabled: fields.optional_flag("disabled"),
    };
    fields.finish()?;
    let key = app.service.edit_key(&caller.name, &id, edit, expected).await?;
    let applied = app.receipt(key.revision, wait).await.into();
    let tag = etag(key.revision);
    let fields = KeyJson::new(key, app.service.clock().now());
    Ok(([tag], Json(UpdatedKeyJson { fields, applied })).into_response())
}

/// Regenerate a key
///
/// Gives the key a new secret; the old one is refused. Name and permissions stay, and the lifetime starts again.
#[utoipa::path(
    post, path = "/v1/keys/{id}/regenerate", tag = "keys", security(("admin" = [])),
    params(
        ("id" = String, Path, description = "Id of the key"),
        ("wait" = Option<String>, Query, description = "How long to wait until every filter instance in contact has applied the change: up to 30s; default 1s", pattern = "^([0-9]{1,4}ms|[12][0-9]{4}ms|[12]?[0-9]s|30s)$"),
        ("if-match" = Option<String>, Header, description = "Regenerate only if the key is at this revision, so that a repeated request does not regenerate again", pattern = "^(\\*|\"[0-9]{1,15}\"|[0-9]{1,15})$"),
    ),
    responses(
        (status = 200, body = RegeneratedKeyJson, headers(("etag" = String))),
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
    no_body(&headers, body, MAX_BODY_BYTES).await?;
    let done = app.service.regenerate_key(&caller.name, &id, if_match(&headers)?).await?;
    let applied = app.receipt(done.key.revision, wait).await.into();
    let tag = etag(done.key.revision);
    let view = RegeneratedKeyJson {
        key: done.secret.reveal().to_owned(),
        fields: KeyJson::new(done.key, app.service.clock().now()),
        applied,
    };
    Ok(([(CACHE_CONTROL, "no-store".to_owned()), tag], Json(view)).into_response())
}

/// Delete a key
///
/// The delete cannot be undone. The response is sent when every filter instance in contact refuses the key, or after
/// `wait`.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "keys", security(("admin" = [])),
    params(
        ("id" = String, Path, description = "Id of the key"),
        ("wait" = Option<String>, Query, description = "How long to wait until every filter instance in contact has applied the change: up to 30s; default 1s", pattern = "^([0-9]{1,4}ms|[12][0-9]{4}ms|[12]?[0-9]s|30s)$"),
        ("if-match" = Option<String>, Header, description = "Make the change only if the key is at this revision", pattern = "^(\\*|\"[0-9]{1,15}\"|[0-9]{1,15})$"),
    ),
    responses(
        (status = 200, body = DeletedKeyJson),
        (status = 404, description = "`key_not_found`", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "`revision_mismatch`", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn delete(
    Admin(caller): Admin,
    State(app): State<Arc<App>>,
    KeyId(id): KeyId,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<DeletedKeyJson>, Problem> {
    let mut query = Query::parse(query.as_deref());
    let wait = wait(&mut query);
    query.finish()?;
    let key = app.service.delete_key(&caller.name, &id, if_match(&headers)?).await?;
    let applied = app.receipt(key.revision, wait).await.into();
    Ok(Json(DeletedKeyJson { id: key.id, revision: key.revision, applied }))
}

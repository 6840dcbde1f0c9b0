//! `/v1/usage`: filters report what keys were used for, and operators read it by day.

use super::auth::Edge;
use super::manifest::header_text;
use super::problem::Problem;
use super::read::{JsonFields, Query, read_json, strict_value, whole};
use crate::app::App;
use crate::service::FieldError;
use crate::store::usage_report::{KeyUsage, Requests};
use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use keyward_policy::decision::Code;
use keyward_policy::key::KeyId;
use keyward_policy::timestamp::Timestamp;
use serde::Serialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

/// Largest batch: 10,000 keys with a few permissions each.
const MAX_BODY_BYTES: usize = 8 << 20;
const MAX_KEYS: usize = 10_000;
const MAX_PERMISSIONS: usize = 200;
/// Longest entry: the most permissions with the longest names.
const MAX_ENTRY_BYTES: usize = 128 << 10;
/// How many mistakes are reported.
const MAX_ERRORS: usize = 100;
/// Far more than an instance ever sends, and a number that JSON represents exactly.
const MAX_SEQ: u64 = 1_000_000_000_000_000;
/// Largest count of one batch. Impossibly large counts are refused, so that sums stay exact.
const MAX_COUNT: u64 = 1_000_000_000_000;

/// The codes of denials of a key that was found.
const DENIALS: [Code; 5] =
    [Code::KeyDisabled, Code::KeyExpired, Code::KeyUnsupported, Code::RouteDenied, Code::PermissionMissing];

/// The requests that an instance has counted since its last batch.
#[derive(serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(
    dead_code,
    reason = "only describes the body: `report` reads its fields one by one, to report every mistake at once"
)]
pub(super) struct UsageBody {
    /// The id of the instance, as in `x-keyward-vm` of its polls.
    #[schema(min_length = 1, max_length = 256, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$")]
    vm: String,
    /// Number of the batch. It rises with each batch of the instance, and a repeated number is counted once.
    #[schema(maximum = 1000000000000000u64)]
    seq: u64,
    /// Each entry is a `KeyUsageBody`. Any other entry is passed over and counted in the answer.
    #[schema(max_items = 10000, value_type = Vec<Value>)]
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

/// The schema of the counts by code.
fn denials_schema() -> Object {
    let count = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(0))
        .maximum(Some(i64::try_from(MAX_COUNT).unwrap_or(i64::MAX)));
    let names = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(DENIALS.map(Code::as_str)));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some("Number of denied requests by the code of the denial. Other codes are left out"))
        .property_names(Some(names))
        .additional_properties(Some(count))
        .build()
}

/// Either the allowed requests of one key or, with `denials`, the denied ones.
#[derive(serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(
    dead_code,
    reason = "only describes the body: `report` reads its fields one by one, to report every mistake at once"
)]
pub(super) struct KeyUsageBody {
    #[schema(min_length = 1, max_length = 100, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$")]
    id: String,
    /// Number of allowed requests. Required without `denials`.
    #[schema(required = false, maximum = 1000000000000u64)]
    count: u64,
    /// When the last of them was allowed. Required without `denials`.
    #[schema(required = false, format = DateTime)]
    last_used_at: String,
    #[schema(required = false, schema_with = counts_schema)]
    permissions: BTreeMap<String, u64>,
    #[schema(required = false, schema_with = denials_schema)]
    denials: BTreeMap<String, u64>,
    /// When the last of the denied requests was denied. Required with `denials`, unless there is `last_used_at`.
    #[schema(required = false, format = DateTime)]
    last_denied_at: String,
}

/// What was done with a batch.
#[derive(Serialize, ToSchema)]
pub(super) struct UsageAnswer {
    seq: u64,
    /// False if this batch, or a later one of the instance, was counted before.
    counted: bool,
    /// Number of entries that were not understood and not counted. Absent if all were understood.
    #[schema(required = false)]
    #[serde(skip_serializing_if = "is_zero")]
    passed_over: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Report usage
///
/// An entry that is not understood is passed over, so that it does not cost the others. Permissions that the catalogue
/// does not have and other codes of denials are left out. Only one batch of a token is read at a time.
#[utoipa::path(
    post, path = "/v1/usage", tag = "filters", security(("edge" = [])), request_body = UsageBody,
    params(
        ("x-keyward-node" = Option<String>, Header, description = "Which Envoy reports"),
        ("x-keyward-realm" = Option<String>, Header, description = "Its realm"),
    ),
    responses(
        (status = 200, body = UsageAnswer),
        (status = 403, description = "`token_wrong_realm` or `token_wrong_node`: the token is bound to others; `role_forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`busy`: other batches of this token took too long; send it again later", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn report(
    Edge(caller): Edge,
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<UsageAnswer>, Problem> {
    Query::parse(query.as_deref()).finish()?;
    let (realm, node) = (header_text(&headers, "x-keyward-realm")?, header_text(&headers, "x-keyward-node")?);
    let _turn = app.service.usage_turn(&caller, realm.as_deref(), node.as_deref()).await?;
    let body = read_json(&headers, body, MAX_BODY_BYTES).await?;
    let permissions: HashSet<&str> = app.service.settings.catalogue.permissions().map(|p| p.id.as_str()).collect();
    let batch = Batch::read(body.bytes(), &permissions)?;
    drop(body);
    let passed_over = batch.passed_over;
    if passed_over > 0 {
        tracing::debug!(passed_over, vm = batch.vm, "a usage batch has entries that are not understood");
    }
    let added = app.service.add_usage(&batch.vm, batch.seq, batch.keys).await?;
    if added.counted {
        app.metrics.usage_discarded(added.outside.saturating_add(batch.unknown));
    }
    Ok(Json(UsageAnswer { seq: batch.seq, counted: added.counted, passed_over }))
}

/// A batch that was understood.
struct Batch {
    vm: String,
    seq: u64,
    keys: Vec<KeyUsage>,
    passed_over: usize,
    /// The number of denied requests whose code is not one of [`DENIALS`].
    unknown: u64,
}

impl Batch {
    /// Reads a batch entry by entry. As a whole, a tree of JSON values would take many times the memory of the text.
    fn read(bytes: &[u8], known: &HashSet<&str>) -> Result<Self, Problem> {
        let malformed = |error: serde_json::Error| {
            Problem::malformed_json(format!("line {}, column {}", error.line(), error.column()))
        };
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let outer = json.deserialize_any(OuterVisitor).and_then(|outer| json.end().map(|()| outer));
        let Some(outer) = outer.map_err(malformed)? else {
            return Err(Problem::invalid(vec![FieldError::new("", "the body must be a JSON object")]));
        };
        if !outer.twice.is_empty() {
            return Err(Problem::invalid(outer.twice));
        }
        let mut fields = outer.fields;
        let vm = fields.text("vm");
        if vm.is_empty() || vm.len() > 256 || vm.chars().any(char::is_control) {
            fields.wrong("vm", "must have 1 to 256 characters, none of them control characters");
        }
        let seq = fields.number("seq", MAX_SEQ);
        let entries = match outer.keys.map(entries) {
            Some(Ok(entries)) if entries.len() <= MAX_KEYS => entries,
            Some(Ok(_)) => {
                fields.wrong("keys", format!("must not have more than {MAX_KEYS} entries"));
                Vec::new()
            }
            _ => {
                fields.wrong("keys", "must be a list of objects");
                Vec::new()
            }
        };
        let mut errors = fields.errors();
        let is_wrong = !errors.is_empty();
        let (mut keys, mut passed_over, mut unknown) = (Vec::with_capacity(entries.len()), 0, 0_u64);
        for (index, entry) in entries.iter().enumerate() {
            match read_entry(entry, known) {
                Ok(entry) => {
                    keys.extend(entry.requests);
                    unknown = unknown.saturating_add(entry.unknown);
                }
                Err(mistakes) => {
                    passed_over += 1;
                    // They are only reported where the batch is refused for another reason.
                    if is_wrong && errors.len() <= MAX_ERRORS {
                        errors.extend(mistakes.into_iter().map(|error| within(index, error)));
                    }
                }
            }
        }
        if is_wrong { Err(Problem::invalid(errors)) } else { Ok(Self { vm, seq, keys, passed_over, unknown }) }
    }
}

fn within(index: usize, mut error: FieldError) -> FieldError {
    let dot = if error.field.is_empty() { "" } else { "." };
    error.field = format!("keys[{index}]{dot}{}", error.field);
    error
}

/// The fields of a batch, its entries as text.
struct Outer<'a> {
    fields: JsonFields,
    keys: Option<&'a RawValue>,
    twice: Vec<FieldError>,
}

/// Reads the outer object. The value is `None` for anything else.
struct OuterVisitor;

impl<'de> Visitor<'de> for OuterVisitor {
    type Value = Option<Outer<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let (mut object, mut keys, mut twice) = (serde_json::Map::new(), None, Vec::new());
        while let Some(name) = entries.next_key::<String>()? {
            let is_known = ["vm", "seq", "keys"].contains(&name.as_str());
            // Of an unknown field only the name is of use, and of many the first hundred.
            if !is_known && object.len() > MAX_ERRORS {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: &RawValue = entries.next_value()?;
            let is_repeated = if name == "keys" {
                keys.replace(value).is_some()
            } else {
                let value = if is_known { serde_json::from_str(value.get()).unwrap_or_default() } else { Value::Null };
                object.insert(name.clone(), value).is_some()
            };
            if is_repeated && twice.len() < MAX_ERRORS {
                twice.push(FieldError::new(name.chars().take(128).collect::<String>(), "is given twice"));
            }
        }
        Ok(Some(Outer { fields: JsonFields::of(object), keys, twice }))
    }
}

/// Splits a list into the texts of its entries, up to one more than there may be.
fn entries(list: &RawValue) -> serde_json::Result<Vec<&RawValue>> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while entries.len() <= MAX_KEYS {
                let Some(entry) = items.next_element()? else { return Ok(entries) };
                entries.push(entry);
            }
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok(entries)
        }
    }

    serde_json::Deserializer::from_str(list.get()).deserialize_seq(Entries)
}

/// An entry that was understood.
struct Entry {
    /// Allowed requests, denied ones, or both.
    requests: Vec<KeyUsage>,
    /// The number of denied requests whose code is not one of [`DENIALS`].
    unknown: u64,
}

/// Reads one entry, without the permissions and codes that are not known.
fn read_entry(entry: &RawValue, known: &HashSet<&str>) -> Result<Entry, Vec<FieldError>> {
    let text = entry.get();
    if text.len() > MAX_ENTRY_BYTES {
        return Err(vec![FieldError::new("", format!("must not have more than {MAX_ENTRY_BYTES} bytes"))]);
    }
    let object = match strict_value(text.as_bytes()) {
        Ok((Value::Object(object), twice)) if twice.is_empty() => object,
        Ok((_, twice)) if !twice.is_empty() => return Err(twice),
        _ => return Err(vec![FieldError::new("", "must be an object")]),
    };
    let has_denials = object.contains_key("denials");
    let has_uses = !has_denials || object.contains_key("count");
    let has_time = !has_uses || object.contains_key("last_denied_at");
    let mut fields = JsonFields::of(object);
    let id = fields.text("id");
    if !KeyId::is_valid(&id) {
        fields.wrong("id", "must have 1 to 100 characters, none of them control characters");
    }
    let (mut requests, mut unknown) = (Vec::<KeyUsage>::new(), 0_u64);
    if has_uses {
        let count = fields.number("count", MAX_COUNT);
        let at = moment(&mut fields, "last_used_at");
        let mut permissions = counts(&mut fields, "permissions");
        permissions.retain(|(name, _)| known.contains(name.as_str()));
        requests.push(KeyUsage { id: id.clone(), at, requests: Requests::Allowed { count, permissions } });
    }
    if has_denials {
        let used = requests.first().map(|used| used.at).filter(|_| !has_time);
        let at = used.unwrap_or_else(|| moment(&mut fields, "last_denied_at"));
        let mut codes = Vec::new();
        for (name, count) in counts(&mut fields, "denials") {
            match DENIALS.into_iter().find(|code| code.as_str() == name) {
                Some(code) => codes.push((code, count)),
                None => unknown = unknown.saturating_add(count),
            }
        }
        requests.push(KeyUsage { id, at, requests: Requests::Denied(codes) });
    }
    let errors = fields.errors();
    if errors.is_empty() { Ok(Entry { requests, unknown }) } else { Err(errors) }
}

/// Takes a moment. A mistake is noted.
fn moment(fields: &mut JsonFields, name: &str) -> Timestamp {
    let at = Timestamp::parse(&fields.text(name));
    if at.is_err() && !fields.is_wrong(name) {
        fields.wrong(name, "must be an RFC 3339 time like `2027-01-01T00:00:00Z`");
    }
    at.unwrap_or_default()
}

/// Takes an object of counts, which may be absent. Mistakes are noted.
fn counts(fields: &mut JsonFields, name: &str) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    match fields.take(name) {
        None => {}
        Some(Value::Object(counts)) if counts.len() <= MAX_PERMISSIONS => {
            for (key, count) in counts {
                match whole(&count) {
                    Some(count) if count <= MAX_COUNT => all.push((key, count)),
                    _ => fields.wrong(name, format!("must hold whole numbers from 0 to {MAX_COUNT}")),
                }
            }
        }
        Some(_) => fields.wrong(name, format!("must be an object of at most {MAX_PERMISSIONS} counts")),
    }
    all
}

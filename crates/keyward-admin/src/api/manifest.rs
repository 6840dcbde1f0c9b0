//! `/v1/manifest`: what filters fetch and wait for; `/v1/export`: the same for people.

use super::auth::{Admin, Edge};
use super::problem::Problem;
use super::read::Query;
use crate::app::App;
use crate::service::feed::EncodedPage;
use crate::service::manifest::Poll;
use crate::service::proxies::PollHeaders;
use axum::extract::{RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use keyward_policy::digest::Digest;
use keyward_policy::duration;
use keyward_policy::timeline::{Enforcement, InlineKeys};
use std::sync::Arc;
use std::time::Duration;

const LONGEST_WAIT: Duration = Duration::from_secs(60);
const DEFAULT_LIMIT: u32 = 400;
/// At the longest names and most permissions a page stays within a few megabytes.
const MOST: u64 = 2_000;
/// Far beyond any store, and a number that JSON carries exactly.
const MOST_REVISION: u64 = 1_000_000_000_000_000;
const LONGEST_HEADER: usize = 256;

// The policy core reads it as `keyward_policy::manifest::Page`.
/// A page of changes of the set of keys.
#[derive(utoipa::ToSchema)]
#[schema(as = ManifestPage)]
#[allow(dead_code, reason = "describes what the policy core writes")]
pub(super) struct PageView {
    /// The number of the format: 1. A filter treats a page with another number as a failed poll.
    format: u32,
    /// Identity of the store. Another identity means another set of keys.
    store: String,
    /// The revision that was asked from.
    since: u64,
    /// The revision to ask from next.
    revision: u64,
    /// The mark of `revision`. Present only if `more` is false.
    #[schema(required = false, pattern = "^[0-9a-f]{16}$")]
    mark: String,
    /// The newest revision of the store.
    head: u64,
    /// Whether there is more to fetch.
    more: bool,
    /// The changes, in rising order of revision.
    keys: Vec<ChangeView>,
    live: LiveView,
}

/// A key as it is now, or (with `deleted`) its tombstone, which has nothing but revision and id.
#[derive(utoipa::ToSchema)]
#[schema(as = ManifestChange)]
#[allow(dead_code, reason = "describes what the policy core writes")]
pub(super) struct ChangeView {
    revision: u64,
    id: String,
    #[schema(required = false)]
    deleted: bool,
    #[schema(required = false)]
    name: String,
    /// SHA-256 of the key, in hex.
    #[schema(required = false, pattern = "^[0-9a-f]{64}$")]
    sha256: String,
    #[schema(required = false)]
    permissions: Vec<String>,
    /// When the key expires. Null means never.
    #[schema(required = false, format = DateTime)]
    expires_at: Option<String>,
    /// Whether the key is refused until it is enabled. Missing means false.
    #[schema(required = false)]
    disabled: bool,
}

/// The live set of the store.
#[derive(utoipa::ToSchema)]
#[schema(as = ManifestLive)]
#[allow(dead_code, reason = "describes what the policy core writes")]
pub(super) struct LiveView {
    /// The number of live keys.
    count: u64,
    /// The checksum of the live set at `revision`. Present only if `more` is false.
    #[schema(required = false, pattern = "^[0-9a-f]{16}$")]
    checksum: String,
}

/// Fetch changes, and wait for them
///
/// What a filter does: `since` is what it has applied, so that each poll also acknowledges. Without anything newer the
/// request is held up to `wait`, and then answered with an empty page. Further parameters are passed over.
#[utoipa::path(
    get, path = "/v1/manifest", tag = "filters", security(("edge" = [])),
    params(
        ("since" = Option<u64>, Query, description = "What was applied; default 0", minimum = 0, maximum = 1000000000000000u64),
        ("base" = Option<u64>, Query, description = "Tombstones up to there are of no use; default `since`", minimum = 0, maximum = 1000000000000000u64),
        ("limit" = Option<u32>, Query, description = "Most changes in the answer; default 400", minimum = 1, maximum = 2000),
        ("wait" = Option<String>, Query, description = "How long to hold the request: up to 60s; default 0s", pattern = "^([0-9]{1,4}ms|[1-5][0-9]{4}ms|[1-5]?[0-9]s|60s|[01]m)$"),
        ("x-keyward-node" = Option<String>, Header, description = "Which Envoy asks"),
        ("x-keyward-vm" = Option<String>, Header, description = "Which of its instances; who sends none is not counted. Of a name of more than 256 bytes the start and a digest are kept"),
        ("x-keyward-filter" = Option<String>, Header, description = "Version of the filter"),
        ("x-keyward-max-staleness" = Option<String>, Header, description = "How long it serves without contact: a duration, or `never`"),
        ("mark" = Option<String>, Query, description = "The mark of `since`, where the table in use is at it: with it the poll acknowledges", pattern = "^[0-9a-f]{16}$"),
        ("x-keyward-table" = Option<String>, Header, description = "Random bits that name the table of keys that is kept up to date"),
        ("x-keyward-poll" = Option<String>, Header, description = "A number that rises with each poll of the table"),
        ("x-keyward-mode" = Option<String>, Header, description = "`enforce` or `shadow`"),
        ("x-keyward-inline-keys" = Option<String>, Header, description = "Whether the configuration has keys of its own: `none`, `fallback` or `always`"),
        ("x-keyward-realm" = Option<String>, Header, description = "Its realm"),
    ),
    responses(
        (status = 200, body = PageView),
        (status = 403, description = "`token_wrong_realm` or `token_wrong_node`: the token is bound to others; `role_forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`wrong_realm`", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "`revision_compacted`, `revision_ahead` or `revision_forked`: start over at since=0", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_waiters`, `too_many_vms`, or too many wrong tokens", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn poll(
    Edge(caller): Edge,
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut query = Query::parse(query.as_deref());
    let (since, base, limit) = place(&mut query);
    let wait = query.duration("wait", LONGEST_WAIT).unwrap_or_default();
    let mark = query.mark("mark");
    query.finish_open()?;
    let poll = Poll { since, base, mark, limit, wait, headers: poll_headers(&headers)? };
    // What was needed to understand the request must not be kept by ten thousand that wait.
    drop(headers);
    let (answer, as_of) = app.service.poll(&caller, poll).await?;
    let mut answer = page(answer);
    answer.headers_mut().insert("x-keyward-as-of", HeaderValue::from(as_of));
    Ok(answer)
}

/// Fetch the live keys as digests
///
/// For `keyward manifest`, which turns them into configuration: pages as of `/v1/manifest`, not held and not counted.
#[utoipa::path(
    get, path = "/v1/export", tag = "keys", security(("admin" = [])),
    params(
        ("since" = Option<u64>, Query, description = "Where the last page ended; default 0", minimum = 0, maximum = 1000000000000000u64),
        ("base" = Option<u64>, Query, description = "Tombstones up to there are left out; default `since`", minimum = 0, maximum = 1000000000000000u64),
        ("limit" = Option<u32>, Query, description = "Most changes in the answer; default 400", minimum = 1, maximum = 2000),
    ),
    responses(
        (status = 200, body = PageView),
        (status = 410, description = "`revision_compacted` or `revision_ahead`: start over at since=0", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn export(
    _: Admin,
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut query = Query::parse(query.as_deref());
    let (since, base, limit) = place(&mut query);
    query.finish()?;
    Ok(page(app.service.export(since, base, limit).await?))
}

fn place(query: &mut Query) -> (u64, u64, u32) {
    let since = query.number("since", 0, MOST_REVISION).unwrap_or_default();
    let base = query.number("base", 0, MOST_REVISION).unwrap_or(since);
    let limit = query.number("limit", 1, MOST).map_or(DEFAULT_LIMIT, |limit| u32::try_from(limit).unwrap_or(u32::MAX));
    (since, base, limit)
}

fn page(page: EncodedPage) -> Response {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], page.body).into_response()
}

/// Returns the value of a header that names something. `None` means that it is absent or empty.
pub(super) fn header_text(headers: &HeaderMap, name: &str) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::invalid_header(format!("`{name}` must be given once")));
    }
    if value.len() > LONGEST_HEADER {
        // Names are given by whoever runs the proxy: a long one is no reason to leave a filter without its keys. Its
        // start is kept for people, and the digest of all of it tells it from others.
        let start: String = String::from_utf8_lossy(value.as_bytes()).chars().take(LONGEST_HEADER / 4).collect();
        let digest = Digest::of_key(value.as_bytes()).to_hex();
        return Ok(Some(format!("{start}~{}", digest.get(..16).unwrap_or_default())));
    }
    // Only names are told apart by these: an odd byte is no reason to leave a filter without its keys.
    Ok(Some(String::from_utf8_lossy(value.as_bytes()).into_owned()).filter(|text| !text.is_empty()))
}

fn poll_headers(headers: &HeaderMap) -> Result<PollHeaders, Problem> {
    let text = |name: &str| header_text(headers, name);
    let max_staleness = text("x-keyward-max-staleness")?;
    Ok(PollHeaders {
        node: text("x-keyward-node")?,
        vm: text("x-keyward-vm")?,
        table: text("x-keyward-table")?,
        poll: text("x-keyward-poll")?.and_then(|text| text.parse().ok()),
        mode: text("x-keyward-mode")?.and_then(|text| Enforcement::parse(&text)),
        inline_keys: text("x-keyward-inline-keys")?.and_then(|text| InlineKeys::parse(&text)),
        realm: text("x-keyward-realm")?,
        filter: text("x-keyward-filter")?,
        // What is not understood is taken for no limit: a receipt must not promise too much.
        max_staleness: max_staleness.and_then(|text| duration::parse(&text).ok()),
    })
}

//! The handlers that list, view, create, update and delete records.

use crate::caller::Caller;
use crate::error;
use crate::input::Input;
use crate::store::Store;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;

const PER_PAGE_MAX: usize = 500;

/// The query parameters of a list. It has no filters, which are left to a real database.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    #[serde(default = "one")]
    page: usize,
    #[serde(default = "thirty")]
    per_page: usize,
    /// The field to sort by. A `-` before it reverses the order.
    #[serde(default)]
    sort: String,
}

fn one() -> usize {
    1
}

fn thirty() -> usize {
    30
}

/// `GET /api/collections/{collection}/records`
pub async fn list(
    State(store): State<Store>,
    Path(collection): Path<String>,
    Query(page): Query<Page>,
    caller: Caller,
) -> Response {
    let Some(mut items) = store.list(&collection) else { return error::not_found() };
    if let Some(field) = page.sort.strip_prefix('-') {
        items.sort_by_cached_key(|record| std::cmp::Reverse(record.get(field).map(ToString::to_string)));
    } else if !page.sort.is_empty() {
        items.sort_by_cached_key(|record| record.get(&page.sort).map(ToString::to_string));
    }
    let per_page = page.per_page.clamp(1, PER_PAGE_MAX);
    let (total, number) = (items.len(), page.page.max(1));
    let items: Vec<_> = items.into_iter().skip((number - 1).saturating_mul(per_page)).take(per_page).collect();
    Json(json!({
        "page": number,
        "perPage": per_page,
        "totalItems": total,
        "totalPages": total.div_ceil(per_page),
        "items": items,
        "caller": caller,
    }))
    .into_response()
}

/// `GET /api/collections/{collection}/records/{id}`
pub async fn view(State(store): State<Store>, Path((collection, id)): Path<(String, String)>) -> Response {
    store.get(&collection, &id).map_or_else(error::not_found, |record| Json(record).into_response())
}

/// `POST /api/collections/{collection}/records`
pub async fn create(State(store): State<Store>, Path(collection): Path<String>, input: Input) -> Response {
    Json(store.create(&collection, input.fields, input.uploads)).into_response()
}

/// `PATCH /api/collections/{collection}/records/{id}`
pub async fn update(
    State(store): State<Store>,
    Path((collection, id)): Path<(String, String)>,
    input: Input,
) -> Response {
    let updated = store.update(&collection, &id, input.fields, input.uploads);
    updated.map_or_else(error::not_found, |record| Json(record).into_response())
}

/// `DELETE /api/collections/{collection}/records/{id}`
pub async fn delete(State(store): State<Store>, Path((collection, id)): Path<(String, String)>) -> Response {
    store.delete(&collection, &id).map_or_else(error::not_found, |()| StatusCode::NO_CONTENT.into_response())
}

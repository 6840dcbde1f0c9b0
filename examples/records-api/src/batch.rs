//! Several changes in one request.

use crate::error;
use crate::input::Input;
use crate::store::Store;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
struct Request {
    method: String,
    url: String,
    #[serde(default)]
    body: Map<String, Value>,
}

/// `POST /api/batch`: `{"requests":[{"method","url","body"}]}`. The changes are not one transaction, as they
/// would be in a real API.
pub async fn run(State(store): State<Store>, mut input: Input) -> Response {
    let requests = input.fields.remove("requests").unwrap_or_default();
    let requests: Vec<Request> = match serde_json::from_value(requests) {
        Ok(requests) => requests,
        Err(error) => return error::bad_request(&format!("`requests` cannot be read: {error}.")),
    };
    let answers: Vec<Value> = requests.into_iter().map(|request| one(&store, request)).collect();
    Json(answers).into_response()
}

fn one(store: &Store, request: Request) -> Value {
    let segments: Vec<&str> = request.url.trim_matches('/').split('/').collect();
    let done = match (request.method.to_ascii_uppercase().as_str(), segments.as_slice()) {
        ("POST", ["api", "collections", collection, "records"]) => {
            Some(json!(store.create(collection, request.body, Vec::new())))
        }
        ("PATCH", ["api", "collections", collection, "records", id]) => {
            store.update(collection, id, request.body, Vec::new()).map(Value::Object)
        }
        ("PUT", ["api", "collections", collection, "records"]) => {
            let id = request.body.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
            let updated = store.update(collection, &id, request.body.clone(), Vec::new());
            Some(Value::Object(updated.unwrap_or_else(|| store.create(collection, request.body, Vec::new()))))
        }
        ("DELETE", ["api", "collections", collection, "records", id]) => {
            store.delete(collection, id).map(|()| Value::Null)
        }
        _ => {
            return json!({"status": 400, "body": {"status": 400, "message": "No such action in a batch.", "data": {}}});
        }
    };
    match done {
        Some(Value::Null) => json!({"status": 204, "body": null}),
        Some(body) => json!({"status": 200, "body": body}),
        None => json!({"status": 404, "body": {"status": 404, "message": "Not found.", "data": {}}}),
    }
}

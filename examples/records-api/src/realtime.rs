//! Changes as they happen, by server-sent events.

use crate::error;
use crate::input::Input;
use crate::store::{Event, Store, new_id};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use serde_json::json;
use std::convert::Infallible;
use std::sync::PoisonError;
use std::time::Duration;
use tokio_stream::wrappers::BroadcastStream;

/// `GET /api/realtime`: opens the stream; its first event tells the client its id.
pub async fn connect(State(store): State<Store>) -> Response {
    let client = new_id();
    let hello = sse::Event::default().id(&client).event("PB_CONNECT").data(json!({"clientId": client}).to_string());
    let changes = BroadcastStream::new(store.events.subscribe());
    store.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).insert(client.clone(), Vec::new());
    let leave = Leave { store: store.clone(), client: client.clone() };
    let changes = changes.filter_map(move |change| {
        let event = change.ok().and_then(|change| wanted(&leave.store, &leave.client, &change));
        std::future::ready(event.map(Ok::<_, Infallible>))
    });
    let stream = stream::iter([Ok(hello)]).chain(changes);
    Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response()
}

/// `POST /api/realtime`: `{"clientId","subscriptions":["posts/*"]}`.
pub async fn subscribe(State(store): State<Store>, input: Input) -> Response {
    let client = input.fields.get("clientId").and_then(serde_json::Value::as_str).unwrap_or_default();
    let topics = input.fields.get("subscriptions").cloned().unwrap_or_else(|| json!([]));
    let Ok(topics) = serde_json::from_value::<Vec<String>>(topics) else {
        return error::bad_request("`subscriptions` is no list of topics.");
    };
    let mut subscriptions = store.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
    match subscriptions.get_mut(client) {
        Some(held) => {
            *held = topics;
            StatusCode::NO_CONTENT.into_response()
        }
        None => error::not_found(),
    }
}

fn wanted(store: &Store, client: &str, change: &Event) -> Option<sse::Event> {
    let id = change.record.get("id").and_then(serde_json::Value::as_str).unwrap_or_default();
    let topics = [change.collection.clone(), format!("{}/*", change.collection), format!("{}/{id}", change.collection)];
    let subscriptions = store.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
    let topic = subscriptions.get(client)?.iter().find(|topic| topics.contains(topic))?;
    let data = json!({"action": change.action, "record": change.record});
    Some(sse::Event::default().event(topic).data(data.to_string()))
}

/// Forgets a client's subscriptions when its stream ends.
struct Leave {
    store: Store,
    client: String,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.store.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.client);
    }
}

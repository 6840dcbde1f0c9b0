//! The caller's identity, as the proxy in front reports it.

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use serde::Serialize;
use std::convert::Infallible;

/// The identity headers of one request; absent on public routes.
#[derive(Debug, Clone, Serialize)]
pub struct Caller {
    /// `x-api-key-id`.
    id: Option<String>,
    /// `x-api-key-name`.
    name: Option<String>,
}

impl Caller {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Self { id: text("x-api-key-id"), name: text("x-api-key-name") }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

/// Logs each request and adds the caller's identity to the response.
pub async fn show(request: Request, next: Next) -> Response {
    let caller = Caller::of(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if request.headers().contains_key("x-api-key") {
        eprintln!("warning: {method} {path} came with its API key: the proxy in front should remove it");
    }
    let mut response = next.run(request).await;
    let who = caller.id.as_deref().unwrap_or("-");
    println!("{method} {path} {} {who} {:?}", response.status().as_u16(), caller.name.as_deref().unwrap_or("-"));
    for (name, value) in [("x-caller-id", caller.id), ("x-caller-name", caller.name)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

//! Counts and logs each request: its method, its route and its status, and never its query, its body or its headers.

use super::metrics::Metrics;
use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use std::time::Instant;

/// Answers a request by `answer` and records what came of it.
pub async fn observe<F>(metrics: &Metrics, request: Request, answer: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let begun = Instant::now();
    let in_flight = metrics.begin();
    let response = answer(request).await;
    drop(in_flight);
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    let status = response.status().as_u16();
    metrics.answered(&method, route, status);
    let ms = begun.elapsed().as_millis();
    if status >= 500 {
        tracing::warn!(%method, route, status, ms, "request");
    } else {
        tracing::debug!(%method, route, status, ms, "request");
    }
    response
}

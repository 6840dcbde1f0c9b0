//! The whole surface on one screen, and what stands around every call.

use super::problem::{Problem, reshape};
use super::{App, audit, describe, health, keys, manifest, permissions, proxies, usage};
use crate::catalogue::Catalogue;
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::any::Any;
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Keyward admin service",
        description = "API keys are created, listed, regenerated and deleted here, and filters fetch them from here.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem, crate::service::FieldError)),
    tags(
        (name = "keys", description = "For tokens of the role `admin`"),
        (name = "proxies", description = "For tokens of the role `admin`"),
        (name = "audit", description = "For tokens of the role `admin`"),
        (name = "filters", description = "For tokens of the role `edge`"),
        (name = "operation", description = "For whoever runs the service; without a token"),
    )
)]
struct Description;

fn described() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::get, keys::edit, keys::delete))
        .routes(routes!(keys::regenerate))
        .routes(routes!(permissions::list))
        .routes(routes!(proxies::list))
        .routes(routes!(audit::list))
        .routes(routes!(manifest::export))
        .routes(routes!(manifest::poll))
        .routes(routes!(usage::report))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

/// The API's description, generated from its handlers.
pub fn openapi(catalogue: &Catalogue) -> OpenApi {
    let mut document = described().into_openapi();
    describe::complete(&mut document, catalogue);
    document
}

/// The API. Whoever serves it puts [`super::auth::Peer`] into each request.
pub fn router(app: Arc<App>) -> Router {
    let document = openapi(&app.service.settings.catalogue).to_json().unwrap_or_default();
    let description = move || {
        let document = document.clone();
        async move { ([(CONTENT_TYPE, "application/json")], document) }
    };
    let (router, _) = described().split_for_parts();
    let fixed = |name: &'static str, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    router
        .route("/openapi.json", get(description))
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || StatusCode::METHOD_NOT_ALLOWED)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), observe))
        .layer(fixed("x-content-type-options", "nosniff"))
        .layer(fixed(CACHE_CONTROL.as_str(), "no-store"))
        .with_state(app)
}

/// Largest address and headers together, in bytes. The server reads twice as much, so that whoever sends a little too
/// much is told in words.
pub(crate) const HEAD: usize = 32 << 10;

fn head_size(request: &Request) -> usize {
    let address = request.uri().path_and_query().map_or(0, |address| address.as_str().len());
    // As HTTP/2 counts: 32 bytes of care for each.
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
    address + headers.sum::<usize>()
}

/// Counts and logs each request: its route and never its query, its body or its headers.
async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let begun = std::time::Instant::now();
    let in_flight = app.metrics.begin();
    let response = if head_size(&request) > HEAD {
        Problem::head_too_large(HEAD).into_response()
    } else {
        reshape(next.run(request).await)
    };
    drop(in_flight);
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    let status = response.status().as_u16();
    app.metrics.answered(&method, route, status);
    let ms = begun.elapsed().as_millis();
    if status >= 500 {
        tracing::warn!(%method, route, status, ms, "request");
    } else {
        tracing::debug!(%method, route, status, ms, "request");
    }
    response
}

/// The panic's own message may hold anything; it stays out of log and answer.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a handler panicked");
    Problem::internal().into_response()
}

//! All calls of the API, and the layers around them.

use super::problem::{Problem, reshape};
use super::{audit, describe, health, keys, manifest, permissions, proxies, usage, usage_days};
use crate::app::observe::observe;
use crate::app::{App, MAX_HEAD_BYTES};
use crate::catalogue::Catalogue;
use axum::Router;
use axum::extract::{Request, State};
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
        description = "Creates, lists, regenerates and deletes API keys, and serves the manifest that filters fetch.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem, crate::service::FieldError, usage::KeyUsageBody)),
    tags(
        (name = "keys", description = "Calls for tokens with the role `admin`"),
        (name = "proxies", description = "Calls for tokens with the role `admin`"),
        (name = "audit", description = "Calls for tokens with the role `admin`"),
        (name = "filters", description = "Calls for tokens with the role `edge`"),
        (name = "operation", description = "Calls for operating the service; they need no token"),
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
        .routes(routes!(proxies::forget))
        .routes(routes!(proxies::confirm))
        .routes(routes!(audit::list))
        .routes(routes!(manifest::export))
        .routes(routes!(manifest::poll))
        .routes(routes!(usage::report, usage_days::of_all))
        .routes(routes!(usage_days::of_key))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

/// Returns the OpenAPI description of the API, generated from its handlers.
pub fn openapi(catalogue: &Catalogue) -> OpenApi {
    let mut document = described().into_openapi();
    describe::complete(&mut document, catalogue);
    document
}

/// Returns the API as a router. The server has to put a [`Peer`](crate::app::Peer) into each request. It serves
/// `description`, which [`openapi`] makes.
pub fn router(app: Arc<App>, description: &OpenApi) -> Router {
    let document = description.to_json().unwrap_or_default();
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
        .layer(middleware::from_fn_with_state(Arc::clone(&app), surround))
        .layer(fixed("x-content-type-options", "nosniff"))
        .layer(fixed(CACHE_CONTROL.as_str(), "no-store"))
        .with_state(app)
}

fn head_bytes(request: &Request) -> usize {
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    // HTTP/2 counts 32 bytes more for each header (RFC 9113, 6.5.2).
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
    path + headers.sum::<usize>()
}

/// Stands around every call: counts and logs it, and refuses heads that are too large.
async fn surround(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let answer = async |request: Request| {
        if head_bytes(&request) > MAX_HEAD_BYTES {
            return Problem::head_too_large(MAX_HEAD_BYTES).into_response();
        }
        reshape(next.run(request).await)
    };
    observe(&app.metrics, request, answer).await
}

/// Answers a request whose handler panicked. The panic's message may hold anything, so it is neither logged nor sent.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a handler panicked");
    Problem::internal().into_response()
}

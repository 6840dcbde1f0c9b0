//! All paths of the page, and the layers around them.

use super::state::Web;
use super::{assets, audit, docs, events, explain, failure, guard, home, keys, proxies, receipt, sign_in, usage};
use crate::app::App;
use axum::Router;
use axum::middleware;
use axum::response::Html;
use axum::routing::{get, post};
use serde_json::Value;
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;

/// Returns the page as a router. The server has to put a [`Peer`](crate::app::Peer) into each request. `secure` says that
/// browsers use TLS. `description` is the OpenAPI description of the API.
pub fn router(app: Arc<App>, secure: bool, description: &Value) -> Router {
    let api: Arc<str> = docs::render(description).into();
    let web = Arc::new(Web::new(app, secure));
    Router::new()
        .route("/", get(home::home))
        .route("/settings", get(home::home))
        .route("/assets/{file}", get(assets::file))
        .route("/docs", get(|| async move { Html(api.to_string()) }))
        .route("/sign-in", get(sign_in::show).post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/settings/keys", get(keys::list::list).post(keys::create::create))
        .route("/settings/keys/new", get(keys::create::form))
        .route("/settings/keys/{id}", get(keys::detail::detail).post(keys::edit::edit))
        .route("/settings/keys/{id}/regenerate", get(keys::regenerate::confirm).post(keys::regenerate::regenerate))
        .route("/settings/keys/{id}/delete", get(keys::delete::confirm).post(keys::delete::delete))
        .route("/settings/keys/{id}/drop", post(keys::edit::drop_permission))
        .route("/settings/keys/{id}/disable", post(keys::edit::disable))
        .route("/settings/keys/{id}/enable", post(keys::edit::enable))
        .route("/settings/receipts/{verb}/{revision}", get(receipt::show))
        .route("/settings/usage", get(usage::show))
        .route("/settings/proxies", get(proxies::list))
        .route("/settings/proxies/forget", get(proxies::ask_to_forget).post(proxies::forget))
        .route("/settings/proxies/confirm", get(proxies::ask_to_confirm).post(proxies::confirm))
        .route("/settings/audit", get(audit::list))
        .route("/settings/audit.csv", get(audit::export))
        .route("/settings/explain", get(explain::show).post(explain::explain))
        .route("/settings/events", get(events::events))
        .route("/settings/{*rest}", get(home::not_found))
        .layer(CatchPanicLayer::custom(failure::panicked))
        .layer(middleware::from_fn_with_state(Arc::clone(&web), guard::guard))
        .with_state(web)
}

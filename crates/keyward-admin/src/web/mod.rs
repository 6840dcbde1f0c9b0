//! The API Keys page: pages rendered here call the use cases directly, and work as plain links and forms.
//!
//! A dialog is a page of its own; the script fetches that page and shows its body in a `<dialog>`. So there is one
//! way to do each thing, with and without the script.

mod assets;
mod audit;
mod entry;
mod events;
mod example;
mod explain;
mod failure;
mod form;
mod guard;
mod home;
mod keys;
mod moment;
mod nonce;
mod page;
mod proxies;
mod receipt;
mod session;
mod sign_in;
mod submission;
mod user;
mod view;

use crate::api::App;
use crate::service::Service;
use axum::Router;
use axum::middleware;
use axum::routing::{get, post};
use nonce::Nonces;
use receipt::Receipts;
use session::Sessions;
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;

/// What every handler reaches.
pub(crate) struct Web {
    app: Arc<App>,
    sessions: Sessions,
    nonces: Nonces,
    receipts: Receipts,
    streams: Arc<tokio::sync::Semaphore>,
    /// Whether connections are encrypted: cookies are then for encrypted ones alone.
    secure: bool,
}

impl Web {
    fn service(&self) -> &Service {
        &self.app.service
    }
}

/// The page. Whoever serves it puts [`crate::api::auth::Peer`] into each request. `secure`: it is served over TLS.
pub fn router(app: Arc<App>, secure: bool) -> Router {
    let web = Arc::new(Web {
        app,
        sessions: Sessions::default(),
        nonces: Nonces::new(),
        receipts: Receipts::default(),
        streams: Arc::new(tokio::sync::Semaphore::new(events::MOST_STREAMS)),
        secure,
    });
    Router::new()
        .route("/", get(home::home))
        .route("/settings", get(home::home))
        .route("/assets/{file}", get(assets::file))
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
        .route("/settings/proxies", get(proxies::list))
        .route("/settings/audit", get(audit::list))
        .route("/settings/explain", get(explain::show).post(explain::explain))
        .route("/settings/events", get(events::events))
        .route("/settings/{*rest}", get(home::not_found))
        .layer(CatchPanicLayer::custom(failure::panicked))
        .layer(middleware::from_fn_with_state(Arc::clone(&web), guard::guard))
        .with_state(web)
}

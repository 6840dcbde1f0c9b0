//! What the HTTP API and the page share: the service, its request metrics, and the slowdown of wrong tokens.

pub mod body;
pub mod metrics;
pub mod observe;
pub mod slowdown;
mod summary;
mod trust;

pub use summary::Summary;
pub use trust::Trust;

use crate::service::Service;
use metrics::Metrics;
use slowdown::Slowdown;
use std::net::IpAddr;
use std::sync::Arc;

/// Largest request line and headers together, in bytes. The server reads up to twice as much, so that a request that is
/// slightly too large is answered with a problem instead of a closed connection.
pub const MAX_HEAD_BYTES: usize = 32 << 10;

/// The address at the other end of the connection. The server puts it into the extensions of each request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// What every handler of the API and of the page can reach.
pub struct App {
    /// The use cases.
    pub service: Arc<Service>,
    /// Counts of requests, as `/metrics` shows them.
    pub metrics: Metrics,
    /// Delays the answers to wrong tokens. The API and the sign-in form share it.
    pub slowdown: Slowdown,
}

impl App {
    /// Returns an app for a service, without requests counted yet.
    pub fn new(service: Arc<Service>) -> Arc<Self> {
        Arc::new(Self { service, metrics: Metrics::default(), slowdown: Slowdown::default() })
    }
}

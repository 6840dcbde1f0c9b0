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
use crate::service::proxies::Applied;
use metrics::Metrics;
use slowdown::Slowdown;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

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

    /// Waits until every instance in contact has applied `revision`, for `wait` at most, and returns the receipt. The
    /// time that it took is one of the metrics, unless nothing was to be waited for.
    pub async fn receipt(&self, revision: u64, wait: Duration) -> Applied {
        let began = Instant::now();
        let applied = self.service.receipt(revision, wait).await;
        if !wait.is_zero() {
            self.metrics.receipt_took(began.elapsed());
        }
        applied
    }
}

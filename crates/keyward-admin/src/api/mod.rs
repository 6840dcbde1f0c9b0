//! The HTTP API: requests become calls of the service, and what it answers becomes JSON.

mod audit;
pub mod auth;
mod describe;
mod health;
mod keys;
mod manifest;
mod metrics;
mod permissions;
pub mod problem;
mod proxies;
mod read;
mod router;
mod slowdown;
mod usage;

pub use metrics::Metrics;
pub(crate) use router::HEAD;
pub use router::{openapi, router};

use crate::service::Service;
use slowdown::Slowdown;
use std::sync::Arc;

/// What every handler reaches.
pub struct App {
    /// The use cases.
    pub service: Arc<Service>,
    /// What `/metrics` shows of requests.
    pub metrics: Metrics,
    /// Wrong tokens, whether they come to the API or to the sign-in page.
    pub(crate) slowdown: Slowdown,
}

impl App {
    /// Around a service.
    pub fn new(service: Arc<Service>) -> Arc<Self> {
        Arc::new(Self { service, metrics: Metrics::default(), slowdown: Slowdown::default() })
    }
}

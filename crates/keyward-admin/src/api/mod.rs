//! The HTTP API: turns requests into calls of the service, and their results into JSON.

mod audit;
mod auth;
mod describe;
mod health;
mod keys;
mod manifest;
mod permissions;
mod problem;
mod proxies;
mod read;
mod router;
mod usage;
mod usage_days;

pub use router::{openapi, router};

//! Free ports of loopback.

use anyhow::{Context as _, Result};
use std::net::{SocketAddr, TcpListener};

/// An address that nothing listens on now: for a service that is started more than once at the same one.
///
/// # Errors
/// When there is none.
pub fn free() -> Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).context("no free port")
}

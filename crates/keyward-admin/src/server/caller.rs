//! What is known of a caller before its first request.

use crate::app::{Peer, Trust};
use axum::http::Request;
use std::net::IpAddr;

/// The protocol of a connection.
///
/// It is told before anything is taken from the connection, and not by a server that takes either: that one hands the
/// first bytes over again, and doubles the buffer of each connection by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/1.1, or something that will be refused as such.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What is known of a caller before its first request.
#[derive(Clone)]
pub(super) struct Caller {
    /// The address at the other end.
    pub address: IpAddr,
    /// Marked once the caller has proved itself.
    pub trust: Trust,
}

impl Caller {
    /// Tells the handlers of a request about its connection.
    pub fn introduce<B>(&self, request: &mut Request<B>) {
        request.extensions_mut().insert(Peer(self.address));
        request.extensions_mut().insert(self.trust.clone());
    }
}

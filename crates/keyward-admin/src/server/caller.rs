//! The facts about a caller that are known before its first request.

use crate::app::{Peer, Trust};
use axum::http::Request;
use std::net::IpAddr;

/// The protocol of a connection.
///
/// The service recognizes it before it takes bytes from the connection. A server that accepts both protocols would take
/// the first bytes and hand them over again, which doubles the buffer of each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/1.1, or bytes that the HTTP/1.1 parser will refuse.
    Http1,
    /// HTTP/2.
    Http2,
}

/// The facts about a caller that are known before its first request.
#[derive(Clone)]
pub(super) struct Caller {
    /// The IP address of the client.
    pub address: IpAddr,
    /// Marked once the caller has proved itself.
    pub trust: Trust,
}

impl Caller {
    /// Adds the facts to a request, where its handlers find them.
    pub fn introduce<B>(&self, request: &mut Request<B>) {
        request.extensions_mut().insert(Peer(self.address));
        request.extensions_mut().insert(self.trust.clone());
    }
}

//! Whether the caller of a connection has proved itself.

use axum::http::Extensions;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A mark on a connection. The server puts it into the extensions of each request, and whoever finds that the request
/// carries a valid token or session sets it. Clones are the same mark.
#[derive(Debug, Clone, Default)]
pub struct Trust(Arc<AtomicBool>);

impl Trust {
    /// Marks the connection of a request, from its extensions.
    pub fn give_to(extensions: &Extensions) {
        if let Some(trust) = extensions.get::<Self>() {
            trust.give();
        }
    }

    /// Marks the connection: it no longer makes room for others.
    pub fn give(&self) {
        // Looking first keeps the processors from taking the mark from each other with every request.
        if !self.is_given() {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether the connection is marked.
    pub fn is_given(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

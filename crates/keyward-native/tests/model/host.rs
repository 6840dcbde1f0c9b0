//! What takes the place of `src/host.rs`: a scheduler that notes whether it is used rightly.

use loom::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// What has become of a configuration.
pub struct Configuration {
    /// Whether Envoy may have removed the library from memory.
    pub is_gone: AtomicBool,
}

impl Configuration {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { is_gone: AtomicBool::new(false) })
    }
}

pub struct Scheduler(pub Arc<Configuration>);

impl Scheduler {
    pub fn commit(&self) {
        assert!(!self.0.is_gone.load(Ordering::SeqCst), "a tick after the end");
    }
}

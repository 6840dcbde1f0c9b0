//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// Calls `condition` until it gives a value; panics with `what` after `patience`.
///
/// The deadline only bounds a test that has failed already: make it generous.
///
/// # Panics
/// Panics when the condition does not come true in time.
pub fn until<T>(what: &str, patience: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

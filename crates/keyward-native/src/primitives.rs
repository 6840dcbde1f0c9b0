//! The locks, the thread and the clock of what threads share (`keys`, `ticks`). `tests/model` compiles these modules
//! with those of a model checker in their place.

pub use crossbeam_utils::sync::{ShardedLock, ShardedLockReadGuard};
pub use std::sync::atomic::{AtomicBool, AtomicU64};
pub use std::sync::{Condvar, LazyLock, Mutex, MutexGuard};
pub use std::thread::{Builder, JoinHandle};

/// Returns the time of the monotonic clock.
pub fn now() -> std::time::Instant {
    std::time::Instant::now()
}

//! Whether the store can be written, as far as the last writes tell.

use super::error::Error;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// What is known of writes. Every write of the process is noted here.
#[derive(Debug)]
pub struct Writes(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Why the last write failed. `None` means that it succeeded.
    failure: Option<String>,
    last_success: Instant,
    counts: WriteCounts,
}

/// How many writes there were since the process started.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct WriteCounts {
    /// Transactions that were committed.
    pub committed: u64,
    /// Writes that failed because of the store, not because of what was to be written.
    pub failed: u64,
}

impl Default for Writes {
    fn default() -> Self {
        Self(Mutex::new(State { failure: None, last_success: Instant::now(), counts: WriteCounts::default() }))
    }
}

impl Writes {
    /// Notes that a transaction was committed.
    pub fn succeeded(&self) {
        let mut state = self.0.lock();
        let failure = state.failure.take();
        state.last_success = Instant::now();
        state.counts.committed += 1;
        drop(state);
        if failure.is_some() {
            tracing::info!("the store can be written again");
        }
    }

    /// Notes that a write failed, unless the error is about what was to be written.
    pub fn failed(&self, error: &Error) {
        if !error.is_about_the_store() {
            return;
        }
        let failure = error.to_string();
        let mut state = self.0.lock();
        state.counts.failed += 1;
        if state.failure.replace(failure.clone()).is_none() {
            drop(state);
            tracing::error!(error = failure, "the store cannot be written: no key can be created, changed or deleted");
        }
    }

    /// Returns why the last write failed. `None` means that it succeeded.
    pub fn failure(&self) -> Option<String> {
        self.0.lock().failure.clone()
    }

    /// Returns how many writes there were.
    pub fn counts(&self) -> WriteCounts {
        self.0.lock().counts
    }

    /// Returns whether the last write succeeded less than `age` ago.
    pub fn are_fresh(&self, age: Duration) -> bool {
        let state = self.0.lock();
        state.failure.is_none() && state.last_success.elapsed() < age
    }
}

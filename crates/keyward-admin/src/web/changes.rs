//! Remembers when the last changes were committed, and how long it took until every instance in contact had applied
//! them.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// Changes that are remembered.
const MAX_CHANGES: usize = 1_000;

/// The last changes that were made on the page.
#[derive(Debug, Default)]
pub(super) struct Changes {
    changes: Mutex<VecDeque<Commit>>,
}

#[derive(Debug)]
struct Commit {
    revision: u64,
    begun: Instant,
    took: Option<Duration>,
}

impl Changes {
    /// Notes that a change was committed just now.
    pub fn begin(&self, revision: u64) {
        let mut changes = self.changes.lock();
        if changes.iter().any(|change| change.revision == revision) {
            return;
        }
        if changes.len() >= MAX_CHANGES {
            changes.pop_front();
        }
        changes.push_back(Commit { revision, begun: Instant::now(), took: None });
    }

    /// Notes that every instance in contact has applied a change, and returns how long that took. `None` means that the
    /// change is not remembered.
    pub fn complete(&self, revision: u64) -> Option<Duration> {
        let mut changes = self.changes.lock();
        let change = changes.iter_mut().find(|change| change.revision == revision)?;
        Some(*change.took.get_or_insert_with(|| change.begun.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_changes_are_remembered() {
        let changes = Changes::default();
        for revision in 0..=MAX_CHANGES as u64 {
            changes.begin(revision);
        }
        assert!(changes.complete(0).is_none());
        let took = changes.complete(1).unwrap();
        assert_eq!(changes.complete(1), Some(took), "the first time counts");
    }
}

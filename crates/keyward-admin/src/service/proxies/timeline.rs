//! The states that led to the newest one, as far as this service has seen them.

use keyward_policy::timeline::{Mark, Point};
use std::collections::VecDeque;

/// The number of states that are kept.
const MAX_RECENT: usize = 4_096;

/// Whether a state is one that led to the newest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The state led to the newest one.
    Passed,
    /// The state did not lead to the newest one, because the store went back and took another way.
    Lost,
    /// The service does not know.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Timeline {
    /// The states in rising order. The last one is the newest.
    recent: VecDeque<Point>,
    /// The number of times that the store went back.
    pub forks: u64,
}

impl Timeline {
    pub fn new(head: Point) -> Self {
        Self { recent: VecDeque::from([head]), forks: 0 }
    }

    pub fn head(&self) -> Point {
        self.recent.back().copied().unwrap_or_default()
    }

    /// Adds a state that follows the newest one.
    pub fn advance(&mut self, head: Point) {
        if self.head().revision < head.revision {
            if self.recent.len() == MAX_RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(head);
        }
    }

    /// Notes that the store went back. It is unknown which of its earlier states still count.
    pub fn fork(&mut self, head: Point) {
        self.recent.clear();
        self.recent.push_back(head);
        self.forks += 1;
    }

    pub fn judge(&self, point: Point) -> Verdict {
        let at = self.recent.binary_search_by_key(&point.revision, |known| known.revision);
        match at.ok().and_then(|at| self.recent.get(at)) {
            Some(known) if known.mark == point.mark => Verdict::Passed,
            Some(_) => Verdict::Lost,
            None => Verdict::Unknown,
        }
    }

    /// Returns the mark of a revision, if it is known.
    pub fn mark_of(&self, revision: u64) -> Option<Mark> {
        let at = self.recent.binary_search_by_key(&revision, |known| known.revision).ok()?;
        self.recent.get(at).map(|point| point.mark)
    }

    /// Returns whether the change that this service committed as `revision` is part of the newest state.
    pub fn holds(&self, revision: u64) -> bool {
        let is_recent = || self.recent.binary_search_by_key(&revision, |known| known.revision).is_ok();
        revision <= self.head().revision && (self.forks == 0 || is_recent())
    }
}

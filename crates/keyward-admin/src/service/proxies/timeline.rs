//! The states that led to the newest one, as far as this service has seen them.

use keyward_policy::timeline::{Mark, Point};
use std::collections::VecDeque;

/// How many states are kept.
const MAX_RECENT: usize = 4_096;

/// Whether a state led to the newest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It did.
    Passed,
    /// It did not: the store went back and took another way.
    Lost,
    /// That cannot be told from here.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Timeline {
    /// In rising order; the last one is the newest state.
    recent: VecDeque<Point>,
    /// How often the store went back.
    pub forks: u64,
}

impl Timeline {
    pub fn new(head: Point) -> Self {
        Self { recent: VecDeque::from([head]), forks: 0 }
    }

    pub fn head(&self) -> Point {
        self.recent.back().copied().unwrap_or_default()
    }

    /// A state that the newest one so far led to.
    pub fn advance(&mut self, head: Point) {
        if self.head().revision < head.revision {
            if self.recent.len() == MAX_RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(head);
        }
    }

    /// The store went back: which of the states that it passed still count is not known.
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

    /// The mark of a revision, where it is known.
    pub fn mark_of(&self, revision: u64) -> Option<Mark> {
        let at = self.recent.binary_search_by_key(&revision, |known| known.revision).ok()?;
        self.recent.get(at).map(|point| point.mark)
    }

    /// Whether the change that this service committed as `revision` is part of the newest state.
    pub fn holds(&self, revision: u64) -> bool {
        let is_recent = || self.recent.binary_search_by_key(&revision, |known| known.revision).is_ok();
        revision <= self.head().revision && (self.forks == 0 || is_recent())
    }
}

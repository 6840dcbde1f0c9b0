//! Says each thing once: when a state begins, and when all is well again.

use super::event::{Event, Level};
use std::time::Duration;

/// A state that ends and begins again within this time is not told twice.
const QUIET: Duration = Duration::from_secs(60);

/// More kinds than there are.
const KINDS: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Journal {
    last_told: [Option<Duration>; KINDS],
    in_force: [bool; KINDS],
    /// Whether anything in force was told, so that its end is worth telling.
    told: bool,
}

impl Journal {
    /// A state of this kind is in force.
    pub(super) fn trouble(&mut self, kind: usize, now: Duration, events: &mut Vec<Event>, line: impl Fn() -> String) {
        let (Some(in_force), Some(last)) = (self.in_force.get_mut(kind), self.last_told.get_mut(kind)) else { return };
        if !std::mem::replace(in_force, true) && last.is_none_or(|last| now.saturating_sub(last) >= QUIET) {
            *last = Some(now);
            self.told = true;
            events.push(Event::Log(Level::Warn, line()));
        }
    }

    /// One kind of state has ended; nothing is told.
    pub(super) fn end(&mut self, kind: usize) {
        if let Some(in_force) = self.in_force.get_mut(kind) {
            *in_force = false;
        }
    }

    /// All is well.
    pub(super) fn well(&mut self, events: &mut Vec<Event>, line: impl Fn() -> String) {
        self.in_force = [false; KINDS];
        if std::mem::take(&mut self.told) {
            events.push(Event::Log(Level::Info, line()));
        }
    }
}

//! Logs one warning when a problem starts and one line when all problems are over, at most once a minute for each kind.

use super::event::{Event, Level, Reason};
use super::failure::FailureKind;
use std::time::Duration;

/// A problem that ends and starts again within this time is not logged twice.
const QUIET: Duration = Duration::from_secs(60);

/// The kinds of problem that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A poll failed.
    Failed(FailureKind),
    /// The fetched keys are too old to be served.
    Stale,
    /// The table is loaded again from the start.
    StartedOver(Reason),
    /// This clock and the service's differ.
    Clock,
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    known: Vec<Known>,
    /// Whether a problem that has not ended was logged, so that its end is worth a line.
    logged: bool,
}

/// A kind of problem that occurred at least once.
#[derive(Debug)]
struct Known {
    trouble: Trouble,
    last_logged: Option<Duration>,
    in_force: bool,
}

impl Journal {
    /// Notes that a problem of this kind exists.
    pub(super) fn trouble(
        &mut self,
        trouble: Trouble,
        now: Duration,
        events: &mut Vec<Event>,
        line: impl Fn() -> String,
    ) {
        if !self.known.iter().any(|known| known.trouble == trouble) {
            self.known.push(Known { trouble, last_logged: None, in_force: false });
        }
        let Some(known) = self.known.iter_mut().find(|known| known.trouble == trouble) else { return };
        let is_news = !std::mem::replace(&mut known.in_force, true);
        if is_news && known.last_logged.is_none_or(|last| now.saturating_sub(last) >= QUIET) {
            known.last_logged = Some(now);
            self.logged = true;
            events.push(Event::Log(Level::Warn, line()));
        }
    }

    /// Notes that one kind of problem has ended. Nothing is logged.
    pub(super) fn end(&mut self, trouble: Trouble) {
        for known in self.known.iter_mut().filter(|known| known.trouble == trouble) {
            known.in_force = false;
        }
    }

    /// Notes that every problem has ended.
    pub(super) fn well(&mut self, events: &mut Vec<Event>, line: impl Fn() -> String) {
        for known in &mut self.known {
            known.in_force = false;
        }
        if std::mem::take(&mut self.logged) {
            events.push(Event::Log(Level::Info, line()));
        }
    }
}

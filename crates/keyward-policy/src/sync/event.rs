//! The events that a caller counts and logs.

use super::failure::Failure;

/// An event to count or to log. No event contains a digest or a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A poll failed. Each failure gives this event; the lines to log are separate [`Log`](Self::Log) events and rarer.
    Failed(Failure),
    /// A new table is loaded from the start, beside the one in use.
    StartedOver(Reason),
    /// A load is complete and in use.
    Loaded {
        /// The number of keys.
        keys: usize,
        /// The store's revision that the table equals.
        revision: u64,
    },
    /// Changes were applied.
    Applied {
        /// The number of changed keys.
        changes: usize,
        /// The store's revision that the table equals.
        revision: u64,
    },
    /// A line for the log.
    Log(Level, String),
}

/// The urgency of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Information.
    Info,
    /// A person may have to act.
    Warn,
}

/// The reason for a new load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The service does not know the changes since the requested revision: their tombstones are gone, or the store went
    /// back.
    Gone,
    /// Another store replaced the one in use.
    OtherStore,
    /// The received keys do not match the stated count and checksum.
    Mismatch,
    /// There are too many changes to collect beside the table.
    FarBehind,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Gone, Self::OtherStore, Self::Mismatch, Self::FarBehind];

    /// Returns the reason in words, for the log.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Gone => "the service cannot tell what changed since then (410)",
            Self::OtherStore => "another store took the place of the one in use",
            Self::Mismatch => "what was received does not add up",
            Self::FarBehind => "too much has changed to collect it",
        }
    }

    /// Returns a short stable name, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::OtherStore => "other_store",
            Self::Mismatch => "mismatch",
            Self::FarBehind => "far_behind",
        }
    }
}

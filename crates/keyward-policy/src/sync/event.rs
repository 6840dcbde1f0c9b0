//! What a caller should count and log.

use super::failure::Failure;

/// Something worth counting or logging. None carries a digest or a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A poll failed. Comes with each failure; what is to be logged comes as [`Log`](Self::Log), and not each time.
    Failed(Failure),
    /// The table is loaded again from the start, beside the one in use.
    StartedOver(Reason),
    /// A load is complete and in use.
    Loaded {
        /// How many keys there are.
        keys: usize,
        /// The store's revision that the table equals.
        revision: u64,
    },
    /// Changes were applied.
    Applied {
        /// How many keys changed.
        changes: usize,
        /// The store's revision that the table equals.
        revision: u64,
    },
    /// A line for the log.
    Log(Level, String),
}

/// How urgent a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// News.
    Info,
    /// A person may have to act.
    Warn,
}

/// Why a load began anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The service does not know what changed since then: its tombstones are gone, or it has gone back.
    Gone,
    /// Another store took the place of the one in use.
    OtherStore,
    /// What was received does not add up.
    Mismatch,
    /// Too much has changed to collect it beside the table.
    FarBehind,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Gone, Self::OtherStore, Self::Mismatch, Self::FarBehind];

    /// In words, for the log.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Gone => "the service cannot tell what changed since then (410)",
            Self::OtherStore => "another store took the place of the one in use",
            Self::Mismatch => "what was received does not add up",
            Self::FarBehind => "too much has changed to collect it",
        }
    }

    /// A short stable name, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::OtherStore => "other_store",
            Self::Mismatch => "mismatch",
            Self::FarBehind => "far_behind",
        }
    }
}

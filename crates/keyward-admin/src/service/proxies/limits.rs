//! How long things take at most, and how many tables there may be.

use std::time::Duration;

/// How long after an answer a VM may take to ask again: it leaves `of` within five seconds of a lost connection.
pub(super) const GRACE_ANSWERED: Duration = Duration::from_secs(4);
/// How long after a dropped poll: a new plugin config, or a lost connection that is opened again.
pub(super) const GRACE_DROPPED: Duration = Duration::from_secs(1);
/// How long two polls that disagree leave a table in doubt after they ended.
pub(super) const DISPUTE: Duration = Duration::from_secs(60);
/// Tables that never counted, or are gone, are forgotten after this long.
pub(super) const FORGET: Duration = Duration::from_secs(3600);
/// The most tables that are told apart.
pub(super) const MAX_TABLES: usize = 200_000;

/// How many tables one token and one node may have, and how long a table may serve without contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most tables that are fetched with one token.
    pub per_token: usize,
    /// The most tables of one node.
    pub per_node: usize,
    /// The longest time for which any table of this store serves without contact, as its operator promises: no filter has
    /// a longer `max_staleness`, is in shadow mode, or has keys of its own. `None` means that there is no promise.
    pub longest_staleness: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_token: 50_000, per_node: 2_000, longest_staleness: None }
    }
}

/// A table is not known yet, and there are as many as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyTables(pub usize);

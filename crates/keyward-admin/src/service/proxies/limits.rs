//! Limits of time, and of the number of tables.

use std::time::Duration;

/// The time after an answer within which an instance polls again. An instance whose connection is lost leaves `of`
/// within five seconds.
pub(super) const GRACE_ANSWERED: Duration = Duration::from_secs(4);
/// The time after a dropped poll within which an instance polls again, after a new plugin configuration or on a new
/// connection.
pub(super) const GRACE_DROPPED: Duration = Duration::from_secs(1);
/// The time for which two polls that disagree leave a table in doubt after they have ended.
pub(super) const DISPUTE: Duration = Duration::from_secs(60);
/// The time after which tables that never counted, or are gone, are forgotten.
pub(super) const FORGET: Duration = Duration::from_secs(3600);
/// The largest number of tables.
pub(super) const MAX_TABLES: usize = 200_000;

/// The limits of an operator: the number of tables of one token and of one node, and the time without contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest number of tables that are fetched with one token.
    pub per_token: usize,
    /// The largest number of tables of one node.
    pub per_node: usize,
    /// The longest time for which any table of this store serves without contact, as its operator promises. The promise
    /// means that no filter has a longer `max_staleness`, is in shadow mode, or has inline keys. `None` means that
    /// there is no promise.
    pub longest_staleness: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_token: 50_000, per_node: 2_000, longest_staleness: None }
    }
}

/// The error that a table is new and its token or node has as many as allowed, which is this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyTables(pub usize);

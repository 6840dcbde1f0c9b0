//! What a filter instance reports of keys.

use keyward_policy::decision::Code;
use keyward_policy::timestamp::Timestamp;

/// The largest sum that is kept, since JSON numbers are exact up to it. The statements that add it up contain it as well.
pub(super) const MAX_SUM: u64 = 9_000_000_000_000_000;

/// What one instance reports of one key since its last batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUsage {
    /// The id of the key.
    pub id: String,
    /// When the newest of the requests was decided.
    pub at: Timestamp,
    /// The number of requests.
    pub requests: Requests,
}

/// Numbers of requests with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requests {
    /// Allowed requests.
    Allowed {
        /// All of them.
        count: u64,
        /// Those that needed each permission.
        permissions: Vec<(String, u64)>,
    },
    /// Denied requests, by the code of the denial.
    Denied(Vec<(Code, u64)>),
}

//! What can go wrong with a poll.

use crate::table::InvalidRecord;
use std::fmt;

/// Why a poll failed. None of these changes what is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The proxy did not take the request.
    NotSent,
    /// No complete answer came in time.
    NoAnswer,
    /// The token is not accepted (401, 403).
    Unauthorized(u16),
    /// The service is for another realm (409).
    WrongRealm,
    /// Too many requests (429).
    Busy,
    /// Any other status. Connection errors arrive as 503, timeouts as 504.
    Status(u16),
    /// A body of that many bytes.
    TooLarge(usize),
    /// Not the JSON of a page; where.
    Malformed(String),
    /// A page format that this build does not know.
    Format(u32),
    /// A page that does not fit to what was asked.
    OutOfOrder(String),
    /// A key that cannot be taken in.
    Record(InvalidRecord),
    /// The keys do not add up to what the service says: (count, checksum) here, and there.
    Checksum {
        /// As computed here.
        here: String,
        /// As the service states it.
        there: String,
    },
    /// The service cannot say what changed since then, not even since 0 (410).
    Compacted,
    /// The store changed while it was loaded.
    StoreChanged,
    /// Another store with no keys, or far fewer than are held: not accepted for now.
    SuspiciousStore {
        /// Its identity.
        store: Box<str>,
        /// How many keys it has.
        keys: u64,
        /// How many are held.
        held: usize,
    },
    /// Another store than the one that the configuration names.
    OtherThanPinned {
        /// Its identity.
        store: Box<str>,
    },
}

impl Failure {
    /// A short stable name, for metrics.
    pub fn name(&self) -> &'static str {
        NAMES.get(self.number()).copied().unwrap_or_default()
    }

    /// The place of its name in [`NAMES`].
    pub(super) fn number(&self) -> usize {
        match self {
            Self::NotSent => 0,
            Self::NoAnswer => 1,
            Self::Unauthorized(_) => 2,
            Self::WrongRealm => 3,
            Self::Busy => 4,
            Self::Status(_) => 5,
            Self::TooLarge(_) => 6,
            Self::Malformed(_) => 7,
            Self::Format(_) => 8,
            Self::OutOfOrder(_) => 9,
            Self::Record(_) => 10,
            Self::Checksum { .. } => 11,
            Self::Compacted => 12,
            Self::StoreChanged => 13,
            Self::SuspiciousStore { .. } => 14,
            Self::OtherThanPinned { .. } => 15,
        }
    }
}

/// The names of all failures.
pub const NAMES: [&str; 16] = [
    "not_sent",
    "no_answer",
    "unauthorized",
    "wrong_realm",
    "busy",
    "status",
    "too_large",
    "malformed",
    "format",
    "out_of_order",
    "record",
    "checksum",
    "compacted",
    "store_changed",
    "suspicious_store",
    "other_than_pinned",
];

/// One line for the log: what, and what to do where a person must.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent => {
                f.write_str("the proxy has no such cluster (yet): check `admin.cluster` against the proxy's clusters")
            }
            Self::NoAnswer => f.write_str("no complete answer in time"),
            Self::Unauthorized(status) => {
                write!(f, "the edge token is not accepted ({status}): check `admin.token`, or what adds it")
            }
            Self::WrongRealm => f.write_str("the service is for another realm (409): check `realm` and KEYWARD_REALM"),
            Self::Busy => f.write_str("the service asks for fewer requests (429)"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::TooLarge(bytes) => write!(f, "a page of {bytes} bytes, which is too large"),
            Self::Malformed(place) => write!(f, "the answer is not a manifest page: {place}"),
            Self::Format(format) => write!(f, "manifest format {format}, which this build does not know"),
            Self::OutOfOrder(what) => write!(f, "the page does not fit to what was asked: {what}"),
            Self::Record(invalid) => write!(f, "{invalid}"),
            Self::Checksum { here, there } => write!(f, "the keys add up to {here}, and the service says {there}"),
            Self::Compacted => f.write_str("the service refuses every starting point (410)"),
            Self::StoreChanged => f.write_str("the store changed while its keys were loaded"),
            Self::SuspiciousStore { store, keys, held } => write!(
                f,
                "another store, `{}`, with {keys} keys where {held} are held: it stays out until `admin.store` names it \
                 or `max_staleness` has passed",
                store.escape_default()
            ),
            Self::OtherThanPinned { store } => {
                write!(f, "store `{}` is not the one that `admin.store` names", store.escape_default())
            }
        }
    }
}

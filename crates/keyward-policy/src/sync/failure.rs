//! The ways in which a poll can fail.

use crate::count::ending;
use crate::table::InvalidRecord;
use std::fmt;

/// Why a poll failed. No failure changes which keys are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The proxy did not take the request.
    NotSent,
    /// No complete answer arrived in time.
    NoAnswer,
    /// The token is not accepted (401, 403).
    Unauthorized(u16),
    /// The service serves another realm (409).
    WrongRealm,
    /// Too many requests (429).
    Busy,
    /// Any other status. The proxy reports connection errors as 503 and timeouts as 504.
    Status(u16),
    /// The body is too large; it has this number of bytes.
    TooLarge(usize),
    /// The body is not the JSON of a page; the text says where.
    Malformed(String),
    /// The page has a format that this build does not know.
    Format(u32),
    /// The page does not fit the request.
    OutOfOrder(String),
    /// The page has a key that cannot be added to a table.
    Record(InvalidRecord),
    /// Count or checksum of the keys differ from those that the service states.
    Checksum {
        /// As computed here.
        here: String,
        /// As the service states it.
        there: String,
    },
    /// The service does not know the changes since the requested revision, not even since 0 (410).
    Compacted,
    /// The store changed while it was loaded.
    StoreChanged,
    /// The store has no keys, or far fewer than the table in use, and is not accepted for now.
    SuspiciousStore {
        /// Its identity.
        store: Box<str>,
        /// The number of its keys.
        keys: u64,
        /// The number of keys in the table in use.
        held: usize,
    },
    /// The store is not the one that the configuration names.
    OtherThanPinned {
        /// Its identity.
        store: Box<str>,
    },
}

impl Failure {
    /// A short stable name, for metrics.
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// Returns the kind of the failure, without its details.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::NotSent => FailureKind::NotSent,
            Self::NoAnswer => FailureKind::NoAnswer,
            Self::Unauthorized(_) => FailureKind::Unauthorized,
            Self::WrongRealm => FailureKind::WrongRealm,
            Self::Busy => FailureKind::Busy,
            Self::Status(_) => FailureKind::Status,
            Self::TooLarge(_) => FailureKind::TooLarge,
            Self::Malformed(_) => FailureKind::Malformed,
            Self::Format(_) => FailureKind::Format,
            Self::OutOfOrder(_) => FailureKind::OutOfOrder,
            Self::Record(_) => FailureKind::Record,
            Self::Checksum { .. } => FailureKind::Checksum,
            Self::Compacted => FailureKind::Compacted,
            Self::StoreChanged => FailureKind::StoreChanged,
            Self::SuspiciousStore { .. } => FailureKind::SuspiciousStore,
            Self::OtherThanPinned { .. } => FailureKind::OtherThanPinned,
        }
    }
}

/// The kinds of [`Failure`], for metrics and for the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the variants are described at `Failure`")]
pub enum FailureKind {
    NotSent,
    NoAnswer,
    Unauthorized,
    WrongRealm,
    Busy,
    Status,
    TooLarge,
    Malformed,
    Format,
    OutOfOrder,
    Record,
    Checksum,
    Compacted,
    StoreChanged,
    SuspiciousStore,
    OtherThanPinned,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [Self; 16] = [
        Self::NotSent,
        Self::NoAnswer,
        Self::Unauthorized,
        Self::WrongRealm,
        Self::Busy,
        Self::Status,
        Self::TooLarge,
        Self::Malformed,
        Self::Format,
        Self::OutOfOrder,
        Self::Record,
        Self::Checksum,
        Self::Compacted,
        Self::StoreChanged,
        Self::SuspiciousStore,
        Self::OtherThanPinned,
    ];

    /// A short stable name, for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::NoAnswer => "no_answer",
            Self::Unauthorized => "unauthorized",
            Self::WrongRealm => "wrong_realm",
            Self::Busy => "busy",
            Self::Status => "status",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Format => "format",
            Self::OutOfOrder => "out_of_order",
            Self::Record => "record",
            Self::Checksum => "checksum",
            Self::Compacted => "compacted",
            Self::StoreChanged => "store_changed",
            Self::SuspiciousStore => "suspicious_store",
            Self::OtherThanPinned => "other_than_pinned",
        }
    }
}

/// Writes one line for the log: the failure, and what to do if a person must act.
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
                "store `{}` has {keys} key{} instead of {held}: it stays out until it has a new identity that \
                 `admin.store` names, or `max_staleness` is over",
                store.escape_default(),
                ending(*keys),
            ),
            Self::OtherThanPinned { store } => {
                write!(f, "store `{}` is not the one that `admin.store` names", store.escape_default())
            }
        }
    }
}

//! The next request and its outcome.

use crate::duration;
use crate::timeline::{Enforcement, InlineKeys, Mark};
use std::time::Duration;

/// The number of changes that a page may have. One callback applies a page, while each page costs the proxy and the
/// service about as much as 80 changes cost the VM (`cargo xtask bench load`).
pub const PAGE_CHANGES: u32 = 100;

/// The number of changes that a page may have in a load beside a table that serves. Requests wait behind its callback,
/// which has to stay below half a millisecond although the caches are full of the data of requests.
pub const PAGE_CHANGES_BESIDE: u32 = 40;

/// The size in bytes above which a page is refused unread.
pub const MAX_PAGE_BYTES: usize = 4 << 20;

/// Identifies a request, so that an answer to a request that was given up is recognized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(super) u64);

impl RequestId {
    /// Returns the value of `x-keyward-poll`. The service ignores a poll that was sent before another one of the same
    /// table.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// A `GET /v1/manifest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The identifier, which the caller passes back with the outcome.
    pub id: RequestId,
    /// The revision up to which changes have been received. With `mark`, it acknowledges that revision.
    pub since: u64,
    /// The revision up to which tombstones are not needed.
    pub base: u64,
    /// The mark of `since` if the table in use is at it. With a mark the request is an acknowledgement.
    pub mark: Option<Mark>,
    /// The number of changes that a page may have.
    pub limit: u32,
    /// The time for which the service holds the request while there are no newer changes.
    pub wait: Duration,
    /// The time after which no answer is expected any more.
    pub timeout: Duration,
    /// The time for which this VM serves without contact: the longest of its root contexts. `None` means no limit.
    pub max_staleness: Option<Duration>,
    /// Whether the VM refuses requests: [`Enforcement::Shadow`] if one of its root contexts does not.
    pub mode: Enforcement,
    /// The keys of the configuration beside the fetched ones: the most that any root context has.
    pub inline_keys: InlineKeys,
}

impl Request {
    /// Returns the value of `x-keyward-max-staleness`.
    pub fn max_staleness_header(&self) -> String {
        self.max_staleness.map_or_else(|| "never".to_owned(), duration::format)
    }

    /// Returns the value of `:path`.
    pub fn path(&self) -> String {
        let wait = if self.wait.is_zero() { "0s".to_owned() } else { duration::format(self.wait) };
        let mark = self.mark.map(|mark| format!("&mark={mark}")).unwrap_or_default();
        format!("/v1/manifest?since={}&base={}&limit={}&wait={wait}{mark}", self.since, self.base, self.limit)
    }
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// A complete answer with a status. It may come from a proxy in place of the service.
    Answer(Answer<'a>),
    /// The proxy gave up after the headers, because the answer was too slow, reset, or too large.
    NoAnswer,
    /// The proxy did not take the request, because the cluster does not exist, or not yet.
    NotSent,
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answer<'a> {
    /// The value of `:status`.
    pub status: u16,
    /// The complete body.
    pub body: &'a [u8],
    /// The value of `date` as received.
    pub date: Option<&'a str>,
    /// The value of `retry-after` if it is a number of seconds.
    pub retry_after: Option<Duration>,
    /// `x-keyward-as-of`: how many milliseconds after the request's arrival the answer was last known to be true. Below
    /// zero where that was before. `None` means that the service does not say.
    pub as_of: Option<i64>,
}

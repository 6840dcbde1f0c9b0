//! The next request, and what came of it.

use crate::duration;
use crate::timeline::{Enforcement, InlineKeys, Mark};
use std::time::Duration;

/// How many changes a page is asked to hold: taking them is one callback's work, while each page costs the proxy and the
/// service about as much as 80 changes cost the VM (`cargo xtask bench load`).
pub const PAGE_CHANGES: u32 = 100;

/// The same for a load beside a table that serves: requests wait behind it, so a callback is to stay below half a
/// millisecond, though it finds the caches full of what requests need.
pub const PAGE_CHANGES_BESIDE: u32 = 40;

/// A larger page is refused unread.
pub const MAX_PAGE_BYTES: usize = 4 << 20;

/// Tells an answer to the request in force from one to a request that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(super) u64);

impl RequestId {
    /// The value of `x-keyward-poll`: the service passes over what a poll says that was sent before another one.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// One `GET /v1/manifest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// To be given back with the outcome.
    pub id: RequestId,
    /// What was received so far. With `mark`, it acknowledges that revision.
    pub since: u64,
    /// Tombstones up to here are of no use.
    pub base: u64,
    /// The mark of `since` where the table in use is at it: with it the request acknowledges.
    pub mark: Option<Mark>,
    /// How many changes a page may hold.
    pub limit: u32,
    /// How long the service is to hold the request while there is nothing newer.
    pub wait: Duration,
    /// After this time an answer is not expected any more.
    pub timeout: Duration,
    /// For how long this VM serves without contact: the longest of its root contexts. None: without limit.
    pub max_staleness: Option<Duration>,
    /// Whether the VM refuses anything: [`Enforcement::Shadow`] where one of its root contexts does not.
    pub mode: Enforcement,
    /// Which keys of the configuration stand beside the fetched ones: the most that any root context has.
    pub inline_keys: InlineKeys,
}

impl Request {
    /// `x-keyward-max-staleness`.
    pub fn max_staleness_header(&self) -> String {
        self.max_staleness.map_or_else(|| "never".to_owned(), duration::format)
    }

    /// `:path`.
    pub fn path(&self) -> String {
        let wait = if self.wait.is_zero() { "0s".to_owned() } else { duration::format(self.wait) };
        let mark = self.mark.map(|mark| format!("&mark={mark}")).unwrap_or_default();
        format!("/v1/manifest?since={}&base={}&limit={}&wait={wait}{mark}", self.since, self.base, self.limit)
    }
}

/// What came of a request.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// An answer with a status, complete; proxies answer too, in the service's place.
    Answer(Answer<'a>),
    /// The proxy gave up after the headers: too slow, reset, or too large.
    NoAnswer,
    /// The proxy did not take the request: there is no such cluster, or not yet.
    NotSent,
}

/// An answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answer<'a> {
    /// `:status`.
    pub status: u16,
    /// The whole body.
    pub body: &'a [u8],
    /// `date`, as it came.
    pub date: Option<&'a str>,
    /// `retry-after`, where it is a number of seconds.
    pub retry_after: Option<Duration>,
    /// `x-keyward-as-of`: how many milliseconds after the request's arrival the answer was last known to be true. Below
    /// zero where that was before. `None` means that the service does not say.
    pub as_of: Option<i64>,
}

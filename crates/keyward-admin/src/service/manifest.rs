//! Filters fetch what changed, and wait for what will.

use super::feed::EncodedPage;
use super::proxies::PollHeaders;
use super::tokens::Principal;
use super::{Error, Result, Service};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// One request of a filter.
#[derive(Debug, Clone)]
pub struct Poll {
    /// What it has applied.
    pub since: u64,
    /// Tombstones up to there are of no use to it.
    pub base: u64,
    /// Most records in the answer.
    pub limit: u32,
    /// How long it may be held where there is nothing new.
    pub wait: Duration,
    /// Who asks.
    pub headers: PollHeaders,
}

/// Counts a poll that waits with a token.
struct Waiter(Arc<Principal>);

impl Waiter {
    fn enter(principal: &Arc<Principal>, most: usize) -> Result<Self> {
        let waiter = Self(Arc::clone(principal));
        let before = waiter.count().fetch_add(1, Ordering::Relaxed);
        if before >= most { Err(Error::TooManyWaiters(most)) } else { Ok(waiter) }
    }

    fn count(&self) -> &AtomicUsize {
        &self.0.waiters
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.count().fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service {
    /// Answers with what follows `since`, holding the request while nothing does. An answer is contact: none is given
    /// while the store cannot be reached.
    ///
    /// # Errors
    /// [`Error::WrongRealm`], [`Error::Ahead`], [`Error::Compacted`], [`Error::TooManyWaiters`], [`Error::TokenEnded`],
    /// [`Error::Unavailable`].
    pub async fn poll(&self, principal: &Arc<Principal>, poll: Poll) -> Result<EncodedPage> {
        if let (Some(ours), Some(theirs)) = (&self.settings.realm, &poll.headers.realm)
            && ours != theirs
        {
            return Err(Error::WrongRealm { ours: ours.clone() });
        }
        let head = self.feed.state().head.revision;
        let (first, guard) = self.proxies.begin(&poll.headers, poll.since, poll.base, head);
        let page = self.next_page(principal, &poll, first).await?;
        if let Some(guard) = guard {
            guard.answered(page.more, page.revision);
        }
        Ok(page)
    }

    async fn next_page(&self, principal: &Arc<Principal>, poll: &Poll, first: bool) -> Result<EncodedPage> {
        let mut news = self.feed.subscribe();
        let state = news.borrow_and_update().clone();
        if !state.reachable {
            return Err(Error::Unavailable);
        }
        let head = &state.head;
        let up_to_date = poll.since == head.revision
            && poll.base <= head.revision
            && (poll.since == 0 || poll.base >= head.compacted)
            // An empty store answers a VM's first request at once, so that it is ready and does not wait for a key.
            && !(first && poll.since == 0);
        if !up_to_date || poll.wait.is_zero() || state.closing {
            return Box::pin(self.feed.page(poll.since, poll.base, poll.limit)).await;
        }
        let identity = Arc::clone(head);
        let _waiter = Waiter::enter(principal, self.settings.max_waiters)?;
        let left = principal.expires_at.map_or(poll.wait, |end| {
            let ms = end.unix_ms().saturating_sub(self.clock().now().unix_ms());
            Duration::from_millis(u64::try_from(ms).unwrap_or_default())
        });
        let deadline = Instant::now() + poll.wait.min(left);
        loop {
            let Ok(changed) = tokio::time::timeout_at(deadline, news.changed()).await else { break };
            if changed.is_err() {
                return Err(Error::Unavailable);
            }
            // No reference into the channel is held while waiting: it would hold up whoever publishes.
            let (revision, same_store, reachable, closing) = {
                let state = news.borrow_and_update();
                (state.head.revision, state.head.identity == identity.identity, state.reachable, state.closing)
            };
            if !reachable {
                return Err(Error::Unavailable);
            }
            if !self.tokens.is_valid(principal) {
                return Err(Error::TokenEnded);
            }
            if revision != poll.since || !same_store || closing {
                break;
            }
        }
        // Its time may have ended while nothing changed.
        if !self.tokens.is_valid(principal) {
            return Err(Error::TokenEnded);
        }
        Box::pin(self.feed.page(poll.since, poll.base, poll.limit)).await
    }

    /// A page of changes for whoever is no filter: not held, not counted.
    ///
    /// # Errors
    /// As [`Service::poll`].
    pub async fn export(&self, since: u64, base: u64, limit: u32) -> Result<EncodedPage> {
        self.feed.page(since, base, limit).await
    }
}

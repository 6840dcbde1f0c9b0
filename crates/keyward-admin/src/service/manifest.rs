//! Filters fetch what changed, and wait for what will.

use super::feed::EncodedPage;
use super::proxies::{Answered, Message, PollGuard, PollHeaders, ProxyView, Question, Step};
use super::tokens::Principal;
use super::{Error, Result, Service};
use keyward_policy::timeline::Mark;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// The most tables that are written in one transaction.
const MAX_RECORDED_AT_ONCE: usize = 1_000;
/// How often rows are written before a list counts as one that cannot be: enough for all tables that the service keeps.
const MAX_RECORD_ROUNDS: usize = 300;

/// The list of instances, as a person sees it.
pub struct ListedProxies {
    /// Every instance that counts, by node and name.
    pub vms: Vec<ProxyView>,
    /// Whether instances may serve that are not listed.
    pub may_be_incomplete: bool,
    /// The name of the list, for [`Service::confirm_proxies`]. `None` means that there is nothing to confirm, or that the
    /// store does not have the whole list.
    pub name: Option<String>,
}

/// One request of a filter.
#[derive(Debug, Clone)]
pub struct Poll {
    /// What it has applied.
    pub since: u64,
    /// Tombstones up to there are of no use to it.
    pub base: u64,
    /// The mark of `since`, where its table in use is at it.
    pub mark: Option<Mark>,
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
    /// Returns [`Error::OutOfScope`], [`Error::WrongRealm`], [`Error::Ahead`], [`Error::Compacted`], [`Error::TooManyWaiters`], [`Error::TokenEnded`],
    /// [`Error::Unavailable`].
    pub async fn poll(&self, principal: &Arc<Principal>, poll: Poll) -> Result<(EncodedPage, i64)> {
        principal.scope.check(poll.headers.realm.as_deref(), poll.headers.node.as_deref())?;
        if let (Some(ours), Some(theirs)) = (&self.settings.realm, &poll.headers.realm)
            && ours != theirs
        {
            return Err(Error::WrongRealm { ours: ours.clone() });
        }
        let arrived = Instant::now();
        let question = Question { since: poll.since, base: poll.base, mark: poll.mark };
        let guard = self.proxies.begin(&poll.headers, &principal.fingerprint, question);
        let guard = guard.map_err(|too_many| Error::TooManyTables(too_many.0))?;
        // Who holds a table already is kept before anything else: the service may stop while this poll waits.
        self.make_ready(guard.as_ref()).await?;
        let first = guard.as_ref().is_some_and(PollGuard::is_first);
        let (mut as_of, mut page) = self.next_page(principal, &poll, first).await?;
        if let Some(guard) = guard {
            if !page.more {
                guard.gives();
                if guard.step() != Step::Ready {
                    self.make_ready(Some(&guard)).await?;
                    // What was committed before the table counted is to be in it.
                    (as_of, page) = self.page_now(&poll).await?;
                }
            }
            guard.answered(Answered { complete: !page.more, revision: page.revision, as_of });
        }
        Ok((page, offset_ms(as_of, arrived)))
    }

    /// The page, and as of when it is contact.
    async fn page_now(&self, poll: &Poll) -> Result<(Instant, EncodedPage)> {
        let as_of = self.proxies.as_of().ok_or(Error::Unavailable)?;
        Ok((as_of, Box::pin(self.feed.page(poll.since, poll.base, poll.mark, poll.limit)).await?))
    }

    /// Does what has to be done before an answer counts as contact.
    async fn make_ready(&self, guard: Option<&PollGuard>) -> Result<()> {
        let deadline = Instant::now() + self.patience();
        loop {
            let progress = self.proxies.progress();
            match guard.map_or_else(|| self.proxies.step(), PollGuard::step) {
                Step::Ready => return Ok(()),
                Step::Record => {
                    if let Some(guard) = guard {
                        // The future is boxed, so that polls that wait do not reserve memory for a transaction.
                        Box::pin(self.record(guard)).await?;
                    }
                    continue;
                }
                Step::Tell => {}
                Step::Read => self.feed.look(),
            }
            if tokio::time::timeout_at(deadline, progress).await.is_err() {
                return Err(Error::Unavailable);
            }
        }
    }

    /// Has the store hold a table before its instance can serve from it. Whoever comes while others are written is
    /// written with all that came meanwhile.
    async fn record(&self, guard: &PollGuard) -> Result<()> {
        let _turn = self.proxies.turn().await;
        while guard.step() == Step::Record {
            let records = self.proxies.take_unsaved(MAX_RECORDED_AT_ONCE);
            if records.is_empty() {
                return Err(Error::Unavailable);
            }
            let messages = self.proxies.record_messages(&self.replica, &records);
            let saved = tokio::time::timeout(self.patience(), self.store.save_proxies(&records, &messages)).await;
            match saved {
                Ok(Ok(())) => self.proxies.saved(records),
                Ok(Err(error)) => {
                    self.proxies.not_saved(records);
                    return Err(error.into());
                }
                Err(_) => {
                    self.proxies.not_saved(records);
                    return Err(Error::Unavailable);
                }
            }
        }
        Ok(())
    }

    /// Writes what nobody waits for: tables that the store has lost because it went back. Returns whether all that were
    /// taken were written.
    pub(super) async fn record_waiting(&self) -> bool {
        let _turn = self.proxies.turn().await;
        let records = self.proxies.take_unsaved(MAX_RECORDED_AT_ONCE);
        if records.is_empty() {
            return true;
        }
        let messages = self.proxies.record_messages(&self.replica, &records);
        match tokio::time::timeout(self.patience(), self.store.save_proxies(&records, &messages)).await {
            Ok(Ok(())) => {
                self.proxies.saved(records);
                true
            }
            failed => {
                tracing::warn!(?failed, "tables of filter instances could not be kept; it is tried again");
                self.proxies.not_saved(records);
                false
            }
        }
    }

    /// Returns every instance that counts. While instances may be missing, all that are listed are first written to the
    /// store, because what a person confirms has to outlive this process.
    pub async fn list_proxies(&self) -> ListedProxies {
        let may_be_incomplete = self.proxies.may_miss_tables();
        let name = self.list_name();
        let is_kept = may_be_incomplete && self.record_all().await;
        // The store may have moved meanwhile, and have lost the rows.
        let name = (is_kept && name == self.list_name()).then_some(name);
        ListedProxies { vms: self.proxies.list(), may_be_incomplete, name }
    }

    /// Names the list: another name means that instances may have been lost since.
    fn list_name(&self) -> String {
        let place = match self.feed.state().head.lineage.as_deref() {
            Some(lineage) => lineage.to_owned(),
            // The store may have moved whenever this process was cut off from it.
            None => format!("{} {}", self.replica, self.proxies.moves()),
        };
        hex::encode(&Sha256::digest(place)[..8])
    }

    /// Writes the rows of all known tables that the store lacks. Returns whether it has all of them.
    async fn record_all(&self) -> bool {
        for _ in 0..MAX_RECORD_ROUNDS {
            if self.proxies.has_all_rows() {
                return true;
            }
            if !self.record_waiting().await {
                return false;
            }
        }
        false
    }

    /// A person confirms that every instance which may serve is in the list, or has refused everything for good.
    /// Receipts name times again after a failover. `list` is the name of the list that the person saw, if it is known.
    ///
    /// # Errors
    /// Returns [`Error::ListChanged`] when the list is another one now or the store lacks rows of it, and an error when the
    /// store cannot be written or has moved.
    pub async fn confirm_proxies(&self, actor: &str, list: Option<&str>) -> Result<()> {
        let lineage = self.feed.state().head.lineage.clone();
        if list.is_some_and(|list| list != self.list_name()) || !self.record_all().await {
            return Err(Error::ListChanged);
        }
        match lineage.as_deref() {
            Some(lineage) => {
                if !self.store.confirm_tables(lineage, self.by(actor)).await? {
                    return Err(Error::ListChanged);
                }
                self.refresh().await
            }
            // Nothing that could be kept: it holds until this process ends or loses its connection.
            None => {
                self.proxies.confirm();
                Ok(())
            }
        }
    }

    /// Forgets an instance that does not come back. One that asks again is simply new.
    ///
    /// # Errors
    /// Returns [`Error::NoSuchVm`], or an error when the store cannot be written.
    pub async fn forget_vm(&self, actor: &str, vm: &str) -> Result<()> {
        if !self.proxies.list().iter().any(|known| known.vm == vm) && !self.proxies.forget(vm) {
            return Err(Error::NoSuchVm);
        }
        let message = Message { forgotten: Some(vm.to_owned()), ..Message::beat(&self.replica) };
        self.store.forget_vm(vm, self.by(actor), &message.encode()).await?;
        self.proxies.forget(vm);
        Ok(())
    }

    /// The page once there is one to give, and as of when it is contact.
    async fn next_page(&self, principal: &Arc<Principal>, poll: &Poll, first: bool) -> Result<(Instant, EncodedPage)> {
        let mut news = self.feed.subscribe();
        let state = news.borrow_and_update().clone();
        if !state.reachable {
            return Err(Error::Unavailable);
        }
        let head = &state.head;
        let up_to_date = poll.since == head.revision
            && poll.mark.is_none_or(|mark| mark == head.mark)
            && poll.base <= head.revision
            && (poll.since == 0 || poll.base >= head.compacted)
            // An empty store answers an instance's first request at once, so that it is ready and does not wait for a
            // key.
            && !(first && poll.since == 0);
        if !up_to_date || poll.wait.is_zero() || state.closing {
            return self.page_now(poll).await;
        }
        let before = Arc::clone(head);
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
            let (same_state, reachable, closing) = {
                let state = news.borrow_and_update();
                let same = state.head.point() == before.point() && state.head.identity == before.identity;
                (same, state.reachable, state.closing)
            };
            if !reachable {
                return Err(Error::Unavailable);
            }
            if !self.tokens.is_valid(principal) {
                return Err(Error::TokenEnded);
            }
            if !same_state || closing {
                break;
            }
        }
        // Its time may have ended while nothing changed.
        if !self.tokens.is_valid(principal) {
            return Err(Error::TokenEnded);
        }
        self.page_now(poll).await
    }

    /// A page of changes for whoever is no filter: not held, not counted.
    ///
    /// # Errors
    /// Returns the errors of [`Service::poll`].
    pub async fn export(&self, since: u64, base: u64, limit: u32) -> Result<EncodedPage> {
        self.feed.page(since, base, None, limit).await
    }
}

/// How many milliseconds after a request's arrival its answer was last known to be true: below zero where that was before.
fn offset_ms(as_of: Instant, arrived: Instant) -> i64 {
    // Rounded to the earlier side.
    let ms = |distance: Duration| i64::try_from(distance.as_millis()).unwrap_or(i64::MAX);
    if as_of >= arrived { ms(as_of - arrived) } else { -ms(arrived - as_of + Duration::from_micros(999)) }
}

//! The newest state of the store, and pages of changes, encoded once and shared by all who ask.

use super::error::{Error, Result};
use super::proxies::{Found, Proxies, VMS_MAY_BE_MISSING};
use crate::store::manifest::Changes;
use crate::store::{Head, Store};
use bytes::Bytes;
use keyward_policy::manifest::{FORMAT, Live, Page};
use keyward_policy::timeline::{Mark, Point};
use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Notify, OnceCell, watch};
use tokio::time::Instant;

/// Pages kept until the store changes, in bytes: one round of a fleet that loads a million keys.
const CACHE_BYTES: usize = 64 << 20;

/// What waiting polls wait on.
#[derive(Debug, Clone)]
pub struct FeedState {
    /// The newest state of the store that this service knows.
    pub head: Arc<Head>,
    /// Rises when tokens were read again: whoever waits checks its own.
    pub tokens_epoch: u64,
    /// Whether the store answers. Without it no filter may take us for contact.
    pub reachable: bool,
    /// Whether the service is stopping: whoever waits is answered now.
    pub closing: bool,
}

/// One encoded answer.
#[derive(Debug, Clone)]
pub struct EncodedPage {
    /// JSON.
    pub body: Bytes,
    /// Whether there is more to fetch.
    pub more: bool,
    /// Where the asker is after it.
    pub revision: u64,
    /// The store's newest revision when it was made.
    head: u64,
}

/// Newest state and encoded pages.
#[derive(Clone)]
pub struct Feed {
    store: Store,
    state: watch::Sender<FeedState>,
    pages: Arc<Mutex<Pages>>,
    proxies: Arc<Proxies>,
    /// A state was committed of which it cannot be told here whether the known one led to it.
    look: Arc<Notify>,
}

/// And how many of them: small ones cost more than their bytes.
const CACHE_PAGES: usize = 10_000;

/// How many pages are made ahead of a filter that loads.
const AHEAD: u32 = 4;

/// `since`, `base`, `mark` and `limit` of a request.
type PageKey = (u64, u64, Option<Mark>, u32);

#[derive(Default)]
struct Pages {
    /// All kept pages were made when the store was there, and had forgotten tombstones up to there.
    at: Point,
    compacted: u64,
    identity: String,
    kept: HashMap<PageKey, Arc<OnceCell<EncodedPage>>>,
    bytes: usize,
}

impl Feed {
    /// Starts with what the store is now.
    pub fn new(store: Store, head: Head, proxies: Arc<Proxies>) -> Self {
        let state = FeedState { head: Arc::new(head), tokens_epoch: 0, reachable: true, closing: false };
        Self { store, state: watch::Sender::new(state), pages: Arc::default(), proxies, look: Arc::default() }
    }

    /// Has the store read soon.
    pub fn look(&self) {
        self.look.notify_one();
    }

    /// Waits until the store has to be read because a state was committed that does not follow the known one.
    pub async fn look_is_due(&self) {
        self.look.notified().await;
    }

    /// What is known now.
    pub fn state(&self) -> FeedState {
        self.state.borrow().clone()
    }

    /// To be told of every change.
    pub fn subscribe(&self) -> watch::Receiver<FeedState> {
        self.state.subscribe()
    }

    /// Takes a state of the store that was committed or read, if the known one led to it, and wakes who waits. Of any
    /// other state the next reading tells what it is.
    pub fn publish(&self, head: Head) {
        let point = head.point();
        let mut has_all_tables = false;
        self.state.send_if_modified(|state| {
            let known = &state.head;
            let follows = head.after == Some(known.point()) || point == known.point();
            let is_newer = head.version >= known.version && head.compacted >= known.compacted;
            let is_same_store = head.identity == known.identity && head.lineage == known.lineage;
            if !is_same_store || !follows || !is_newer {
                if point != known.point() || !is_same_store {
                    self.look.notify_one();
                }
                return false;
            }
            let moved = point != known.point();
            has_all_tables = head.has_all_tables;
            let news = moved || head.version != known.version || head.compacted != known.compacted;
            if moved {
                // Before anybody can be given the state: an acknowledgement of it must not be a surprise.
                self.proxies.advance(point);
            }
            state.head = Arc::new(head);
            news
        });
        if has_all_tables {
            self.proxies.confirm();
        }
    }

    /// Takes a state of the store that was read by asking for what followed `known`, beginning at `begun`. Returns whether
    /// the store went back, or is found elsewhere: then what was told and written may be lost.
    pub fn publish_read(&self, known: &Head, head: Head, begun: Instant) -> bool {
        let point = head.point();
        let led_here = head.after == Some(known.point()) || point == known.point();
        let went_back = !led_here || head.version < known.version || head.identity != known.identity;
        let has_moved = went_back || head.lineage != known.lineage;
        if has_moved {
            if went_back {
                tracing::error!(
                    known = known.revision,
                    revision = head.revision,
                    store = head.identity,
                    "the store went back or is another one: changes may be lost, and filters load all keys again"
                );
            }
            if !head.has_all_tables {
                tracing::warn!("{}", VMS_MAY_BE_MISSING);
            }
            // First the acknowledgements: no receipt may count them for the other timeline.
            self.proxies.moved(found(&head), went_back);
            self.state.send_modify(|state| state.head = Arc::new(head));
        } else {
            self.publish(head);
        }
        let state = self.state.borrow().head.point();
        // A newer state that was not taken is not what pages are made of.
        if state == point || state.revision > point.revision {
            self.proxies.read(begun);
        }
        has_moved
    }

    /// Tokens were read again.
    pub fn tokens_changed(&self) {
        self.state.send_modify(|state| state.tokens_epoch += 1);
    }

    /// The store answers, or no longer.
    pub fn set_reachable(&self, reachable: bool) {
        self.state.send_if_modified(|state| std::mem::replace(&mut state.reachable, reachable) != reachable);
    }

    /// The service stops.
    pub fn close(&self) {
        self.state.send_modify(|state| state.closing = true);
    }

    /// The page of changes after `since`. Those behind it are made meanwhile: a filter that loads asks for the next one
    /// as soon as it has taken this one.
    ///
    /// # Errors
    /// Returns the errors of [`Store::changes`].
    pub async fn page(&self, since: u64, base: u64, mark: Option<Mark>, limit: u32) -> Result<EncodedPage> {
        let head = Arc::clone(&self.state.borrow().head);
        let key = (since, base, mark, limit);
        let cell = self.pages.lock().cell(&head, key);
        // Whoever comes while it is being made waits for it; a failure is not kept.
        let page = cell.get_or_try_init(|| self.make(&head, key, 1)).await?.clone();
        if page.more {
            // The first page of a load tells the base of the others.
            let base = if since == 0 && base == 0 { page.head } else { base };
            self.make_ahead(page.revision, base, limit);
        }
        Ok(page)
    }

    /// Has the next pages after `since` made, those that are not there yet.
    fn make_ahead(&self, mut since: u64, base: u64, limit: u32) {
        let head = Arc::clone(&self.state.borrow().head);
        for _ in 0..AHEAD {
            let key = (since, base, None, limit);
            let cell = self.pages.lock().cell(&head, key);
            let Some(page) = cell.get() else {
                let feed = self.clone();
                tokio::spawn(async move {
                    // Whoever asks for it finds out by themselves.
                    if let Err(error) = cell.get_or_try_init(|| feed.make(&head, key, AHEAD)).await {
                        tracing::debug!(%error, "a page could not be made ahead");
                    }
                });
                return;
            };
            if !page.more {
                return;
            }
            since = page.revision;
        }
    }

    /// Makes a page, and up to `pages` altogether, of which those behind it are kept at once. Reading several together
    /// takes half the time.
    async fn make(&self, head: &Head, (since, base, mark, limit): PageKey, pages: u32) -> Result<EncodedPage> {
        let changes = self.store.changes(since, base, mark, limit.saturating_mul(pages)).await?;
        let newest = changes.head.point();
        let mut made = Vec::new();
        let mut from = since;
        for changes in changes.split(limit as usize) {
            made.push((from, encode(from, &changes)?));
            from = changes.revision;
        }
        if newest != head.point() {
            self.look.notify_one();
        }
        let mut made = made.into_iter();
        let (_, first) = made.next().ok_or(Error::Internal)?;
        let mut kept = self.pages.lock();
        kept.made(head, first.body.len());
        for (since, page) in made {
            // After a change they are of no use: all are made anew.
            if kept.are_of(head) {
                kept.made(head, page.body.len());
                // One that somebody else is making is theirs to put there.
                let _ = kept.cell(head, (since, base, None, limit)).set(page);
            }
        }
        Ok(first)
    }
}

/// How the store was found.
pub(super) fn found(head: &Head) -> Found {
    Found { head: head.point(), has_lineage: head.lineage.is_some(), has_all_tables: head.has_all_tables }
}

fn encode(since: u64, changes: &Changes) -> Result<EncodedPage> {
    let checksum = (!changes.more).then(|| Cow::Owned(changes.head.checksum.to_string()));
    let page = Page {
        format: FORMAT,
        store: Cow::Borrowed(&changes.head.identity),
        since,
        revision: changes.revision,
        mark: (!changes.more).then_some(changes.head.mark),
        head: changes.head.revision,
        more: changes.more,
        keys: changes.changes.iter().map(|change| change.wire()).collect(),
        live: Live { count: changes.head.live_count, checksum },
    };
    let body = serde_json::to_vec(&page).map_err(|error| {
        tracing::error!(%error, "a page cannot be encoded");
        Error::Internal
    })?;
    let head = changes.head.revision;
    Ok(EncodedPage { body: body.into(), more: changes.more, revision: changes.revision, head })
}

impl Pages {
    fn cell(&mut self, head: &Head, key: PageKey) -> Arc<OnceCell<EncodedPage>> {
        let is_full = self.bytes > CACHE_BYTES || self.kept.len() >= CACHE_PAGES;
        if !self.are_of(head) || is_full {
            self.at = head.point();
            self.compacted = head.compacted;
            self.identity.clone_from(&head.identity);
            self.kept.clear();
            self.bytes = 0;
        }
        Arc::clone(self.kept.entry(key).or_default())
    }

    fn made(&mut self, head: &Head, bytes: usize) {
        if self.are_of(head) {
            self.bytes += bytes;
        }
    }

    fn are_of(&self, head: &Head) -> bool {
        self.at == head.point() && self.compacted == head.compacted && self.identity == head.identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::service::proxies::{Limits, PollHeaders, Question};

    #[tokio::test]
    async fn whoever_sees_a_state_can_acknowledge_it() {
        let store = Store::open("sqlite::memory:").await.unwrap();
        let mut head = store.head_after(Point::default()).await.unwrap();
        let proxies = Proxies::new(Clock::system(), Vec::new(), found(&head), false, Limits::default());
        let feed = Feed::new(store, head.clone(), Arc::clone(&proxies));
        let reader = feed.clone();
        let publisher = std::thread::spawn(move || {
            for revision in 1..=20_000 {
                let after = Some(head.point());
                head = Head { revision, after, ..head };
                feed.publish(head.clone());
            }
        });
        // An older filter states no mark, so that nothing but the newest state says what its number is worth.
        let older = PollHeaders { node: Some("envoy".to_owned()), vm: Some("vm".to_owned()), ..PollHeaders::default() };
        while !publisher.is_finished() {
            let since = reader.state().head.revision;
            let question = Question { since, base: since, mark: None };
            let _poll = proxies.begin(&older, &"token".into(), question);
            assert_eq!(proxies.applied(since).vms, u64::from(since > 0), "of revision {since}");
        }
        publisher.join().unwrap();
    }
}

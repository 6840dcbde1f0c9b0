//! The newest state of the store, and pages of changes, encoded once and shared by all who ask.

use super::error::{Error, Result};
use crate::store::manifest::Changes;
use crate::store::{Head, Store};
use bytes::Bytes;
use keyward_policy::manifest::{FORMAT, Live, Page};
use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{OnceCell, watch};

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
}

/// And how many of them: small ones cost more than their bytes.
const CACHE_PAGES: usize = 10_000;

/// How many pages are made ahead of a filter that loads.
const AHEAD: u32 = 4;

/// `since`, `base` and `limit` of a request.
type PageKey = (u64, u64, u32);

#[derive(Default)]
struct Pages {
    /// All kept pages were made when the store was there, and had forgotten tombstones up to there.
    revision: u64,
    compacted: u64,
    identity: String,
    kept: HashMap<PageKey, Arc<OnceCell<EncodedPage>>>,
    bytes: usize,
}

impl Feed {
    /// Starts with what the store is now.
    pub fn new(store: Store, head: Head) -> Self {
        let state = FeedState { head: Arc::new(head), tokens_epoch: 0, reachable: true, closing: false };
        Self { store, state: watch::Sender::new(state), pages: Arc::default() }
    }

    /// What is known now.
    pub fn state(&self) -> FeedState {
        self.state.borrow().clone()
    }

    /// To be told of every change.
    pub fn subscribe(&self) -> watch::Receiver<FeedState> {
        self.state.subscribe()
    }

    /// Takes a state of the store that was read or committed, unless a newer one is known, and wakes who waits.
    pub fn publish(&self, head: Head) {
        self.state.send_if_modified(|state| {
            let known = &state.head;
            let newer = head.identity != known.identity
                || (head.revision >= known.revision
                    && head.version >= known.version
                    && head.compacted >= known.compacted
                    && head != **known);
            if newer {
                state.head = Arc::new(head);
            }
            newer
        });
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
    /// As [`Store::changes`].
    pub async fn page(&self, since: u64, base: u64, limit: u32) -> Result<EncodedPage> {
        let head = Arc::clone(&self.state.borrow().head);
        let key = (since, base, limit);
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
            let key = (since, base, limit);
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
    async fn make(&self, head: &Head, (since, base, limit): PageKey, pages: u32) -> Result<EncodedPage> {
        let changes = self.store.changes(since, base, limit.saturating_mul(pages)).await?;
        let newest = changes.head.clone();
        let mut made = Vec::new();
        let mut from = since;
        for changes in changes.split(limit as usize) {
            made.push((from, encode(from, &changes)?));
            from = changes.revision;
        }
        self.publish(newest);
        let mut made = made.into_iter();
        let (_, first) = made.next().ok_or(Error::Internal)?;
        let mut kept = self.pages.lock();
        kept.made(head, first.body.len());
        for (since, page) in made {
            // After a change they are of no use: all are made anew.
            if kept.are_of(head) {
                kept.made(head, page.body.len());
                // One that somebody else is making is theirs to put there.
                let _ = kept.cell(head, (since, base, limit)).set(page);
            }
        }
        Ok(first)
    }
}

fn encode(since: u64, changes: &Changes) -> Result<EncodedPage> {
    let checksum = (!changes.more).then(|| Cow::Owned(changes.head.checksum.to_string()));
    let page = Page {
        format: FORMAT,
        store: Cow::Borrowed(&changes.head.identity),
        since,
        revision: changes.revision,
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
            self.revision = head.revision;
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
        self.revision == head.revision && self.compacted == head.compacted && self.identity == head.identity
    }
}

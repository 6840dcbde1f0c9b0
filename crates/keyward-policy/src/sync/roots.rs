//! The root contexts that share one table, and the choice of the one that polls.
//!
//! A new plugin configuration creates a new root context in the same VM. The old one lives as long as its connections,
//! or is dropped without notice. The newest root context polls. One with another credential must first show that the
//! service accepts it; until then it neither serves the table nor stops the others from keeping it up to date.

use super::request::RequestId;
use super::settings::{Patience, Settings};
use crate::digest::Digest;
use crate::timeline::{Enforcement, InlineKeys};
use std::time::Duration;

/// The time after which a root context that does not call counts as gone.
const SILENCE: Duration = Duration::from_secs(5);

/// The number of accepted credentials that are remembered.
const MAX_CREDENTIALS: usize = 16;

/// The facts about a root context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RootId(u64);

#[derive(Debug)]
pub(super) struct Root {
    pub(super) id: RootId,
    pub(super) settings: Settings,
    credential: Digest,
    /// The service answered its credential with a page of the store in use.
    pub(super) accepted: bool,
    last_seen: Duration,
    refused_at: Option<Duration>,
    pub(super) probe: Probe,
}

/// A request that only shows whether a credential is accepted.
#[derive(Debug, Default)]
pub(super) struct Probe {
    pub(super) outstanding: Option<(RequestId, u64, Duration)>,
    pub(super) failures: u32,
    pub(super) next_at: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Roots {
    /// The root contexts, from the oldest to the newest.
    roots: Vec<Root>,
    accepted: Vec<Digest>,
    last_id: u64,
}

impl Roots {
    pub(super) fn attach(&mut self, settings: Settings, now: Duration) -> RootId {
        self.last_id += 1;
        let id = RootId(self.last_id);
        let credential = settings.credential();
        let accepted = self.accepted.contains(&credential);
        self.roots.push(Root {
            id,
            settings,
            credential,
            accepted,
            last_seen: now,
            refused_at: None,
            probe: Probe::default(),
        });
        id
    }

    /// Changes the token of a root context.
    pub(super) fn renew(&mut self, id: RootId, token: Box<str>) {
        let Some(root) = self.roots.iter_mut().find(|root| root.id == id) else { return };
        root.settings.token = Some(token);
        root.credential = root.settings.credential();
        root.accepted |= self.accepted.contains(&root.credential);
        root.refused_at = None;
        root.probe = Probe::default();
    }

    pub(super) fn detach(&mut self, id: RootId) {
        self.roots.retain(|root| root.id != id);
    }

    pub(super) fn get(&self, id: RootId) -> Option<&Root> {
        self.roots.iter().find(|root| root.id == id)
    }

    pub(super) fn get_mut(&mut self, id: RootId) -> Option<&mut Root> {
        self.roots.iter_mut().find(|root| root.id == id)
    }

    pub(super) fn seen(&mut self, id: RootId, now: Duration) {
        if let Some(root) = self.get_mut(id) {
            root.last_seen = now;
        }
    }

    /// Notes that the service accepted the credential of this root context, and so of every one with the same
    /// credential.
    pub(super) fn accept(&mut self, id: RootId) {
        let Some(credential) = self.get(id).map(|root| root.credential) else { return };
        if !self.accepted.contains(&credential) {
            if self.accepted.len() == MAX_CREDENTIALS {
                self.accepted.remove(0);
            }
            self.accepted.push(credential);
        }
        for root in self.roots.iter_mut().filter(|root| root.credential == credential) {
            root.accepted = true;
        }
    }

    /// Returns the `since` of this outstanding probe.
    pub(super) fn since_of_probe(&self, id: RequestId) -> Option<u64> {
        let mut probes = self.roots.iter().filter_map(|root| root.probe.outstanding);
        probes.find(|(outstanding, ..)| *outstanding == id).map(|(_, since, _)| since)
    }

    /// Ends this outstanding probe, and returns its root context.
    pub(super) fn take_probe(&mut self, id: RequestId) -> Option<RootId> {
        let is_asked = |root: &&mut Root| root.probe.outstanding.is_some_and(|(outstanding, ..)| outstanding == id);
        let root = self.roots.iter_mut().find(is_asked)?;
        root.probe.outstanding = None;
        Some(root.id)
    }

    fn alive(&self, now: Duration) -> impl DoubleEndedIterator<Item = &Root> {
        self.roots.iter().filter(move |root| now.saturating_sub(root.last_seen) <= SILENCE)
    }

    /// Returns the requirements of the strictest root context.
    pub(super) fn patience(&self, now: Duration) -> Patience {
        Patience { max_staleness: self.alive(now).filter_map(|root| root.settings.max_staleness).min() }
    }

    /// Returns the longest time for which any root context serves without contact. `None` means no limit.
    pub(super) fn longest_staleness(&self, now: Duration) -> Option<Duration> {
        self.alive(now)
            .map(|root| root.settings.max_staleness.unwrap_or(Duration::MAX))
            .max()
            .filter(|max| *max < Duration::MAX)
    }

    /// Returns [`Enforcement::Shadow`] if any root context refuses nothing.
    pub(super) fn mode(&self, now: Duration) -> Enforcement {
        self.alive(now).map(|root| root.settings.mode).max().unwrap_or(Enforcement::Enforce)
    }

    /// Returns the most that any root context has of inline keys.
    pub(super) fn inline_keys(&self, now: Duration) -> InlineKeys {
        self.alive(now).map(|root| root.settings.inline_keys).max().unwrap_or(InlineKeys::None)
    }

    /// Notes that the service refused the credential of this root context, or the root context refused the service's
    /// store. `None` ends the refusal.
    pub(super) fn refused(&mut self, id: RootId, at: Option<Duration>) {
        if let Some(root) = self.get_mut(id) {
            root.refused_at = at;
        }
    }

    /// Returns whether a configuration names this store.
    pub(super) fn is_pinned(&self, store: &str, now: Duration) -> bool {
        self.alive(now).any(|root| root.settings.store.as_deref() == Some(store))
    }

    /// Chooses the root context that polls: the newest accepted one; if there is none, the newest that was not refused;
    /// if there is none, the one whose refusal is longest ago. Silent root contexts are never chosen.
    pub(super) fn poller(&self, now: Duration) -> Option<&Root> {
        let not_refused = || self.alive(now).rev().filter(|root| root.refused_at.is_none());
        let first = not_refused().find(|root| root.accepted).or_else(|| not_refused().next());
        first.or_else(|| self.alive(now).min_by_key(|root| root.refused_at))
    }
}

//! The synchronization of a VM's key table with the store: it polls, loads, catches up, starts over, and says when keys
//! are too old.
//!
//! [`ManifestSync`] does no I/O and reads no clock. Its caller takes a request from [`poll`](ManifestSync::poll), sends
//! it and passes the outcome to [`on_outcome`](ManifestSync::on_outcome). Both take the time, which must be monotonic.
//! Facts to count and to log are returned as [`Event`]s.
//!
//! These invariants hold at every moment:
//! - The table in use equals the store at one of its revisions. Changes that come in several pages are staged and
//!   become visible together; a load is built beside the table in use and takes its place when it is complete. Both
//!   only if count and checksum are those that the service states.
//! - The revision only increases, except by a load.
//! - No failure changes which keys are served. Only time does: `max_staleness` after the last contact. Contact is a
//!   valid answer that brought the table in use up to date. Pages of a load are no contact until the load is complete,
//!   because the table in use may still hold revoked keys.
//! - One request is outstanding at a time. Its `base` equals `since` only if the table in use is at `since`, which
//!   makes the request an acknowledgement.
//!
//! One object serves all root contexts of a VM that use the same service ([`attach`](ManifestSync::attach)).

mod backoff;
mod collect;
mod event;
mod failure;
mod journal;
mod load;
mod page;
mod receive;
mod request;
mod roots;
mod settings;

pub use collect::Received;
pub use event::{Event, Level, Reason};
pub use failure::{Failure, FailureKind};
pub use request::{Answer, MAX_PAGE_BYTES, Outcome, PAGE_CHANGES, PAGE_CHANGES_BESIDE, Request, RequestId};
pub use roots::RootId;
pub use settings::Settings;

use crate::policy::Unavailable;
use crate::table::KeyTable;
use crate::timeline::Mark;
use crate::timestamp::Timestamp;
use backoff::Random;
use collect::Job;
use journal::{Journal, Trouble};
use roots::Roots;
use std::time::Duration;

/// The number of committed changes that one call moves to their final places.
const SETTLE_STEP: usize = 500;

/// The time after which an overdue outcome is given up, because its root context is gone.
const OVERDUE: Duration = Duration::from_secs(2);

/// The pause after an empty answer that arrived at once although the request asked the service to wait.
const IDLE_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause between two failed loads, and the longest pause that a service can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The number of polls that may follow each other at once if each brings a change, and the time until one more may.
/// With this limit, a service that invents a revision in each answer is not polled thousands of times a second.
const BURST: u32 = 32;
const BURST_REFILL: Duration = Duration::from_millis(10);

/// The fetched keys of one service, and the state machine that keeps them up to date.
#[derive(Debug)]
pub struct ManifestSync {
    roots: Roots,
    in_use: Option<InUse>,
    /// An empty table in place of one that was given up: see [`abandon`](Self::abandon).
    lost: Option<KeyTable>,
    /// Whether the next poll follows such a loss.
    abandoned: bool,
    job: Job,
    outstanding: Option<Outstanding>,
    next_at: Duration,
    /// The number of failures since the last good answer.
    failures: u32,
    /// The number of loads that were restarted since the table in use was last up to date.
    restarts: u32,
    /// The time up to which instant polls are paid for. Each costs [`BURST_REFILL`], and up to [`BURST`] may be owed.
    paid_until: Duration,
    retired: Vec<KeyTable>,
    /// See [`set_settle_step`](Self::set_settle_step).
    settle_step: usize,
    journal: Journal,
    clock: Journal,
    random: Random,
    last_request: u64,
}

/// A complete table.
#[derive(Debug)]
struct InUse {
    store: Box<str>,
    revision: u64,
    /// The mark of `revision`. `None` means that the service is older than marks.
    mark: Option<Mark>,
    table: KeyTable,
    /// A moment at which the table was up to date. It is no later than the service's own reading of the store.
    contact: Duration,
    /// The limit of staleness in the request that brought the contact. A longer limit of a later configuration applies
    /// only after the service has received it, because receipts are computed from what the service knows.
    told: Option<Duration>,
}

#[derive(Debug)]
struct Outstanding {
    id: RequestId,
    root: RootId,
    since: u64,
    /// Whether the request asks for changes newer than the table in use.
    follows: bool,
    wait: Duration,
    /// The limit of staleness that the request states.
    told: Option<Duration>,
    sent_at: Duration,
    deadline: Duration,
}

/// The state of the store that the table in use equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position<'a> {
    /// The store's identity.
    pub store: &'a str,
    /// The revision that the table equals.
    pub revision: u64,
    /// The mark of the revision. `None` means that the service is older than marks.
    pub mark: Option<Mark>,
    /// How many keys it holds.
    pub keys: usize,
    /// When it was last known to be up to date.
    pub contact: Duration,
}

impl ManifestSync {
    /// Creates an empty state. VMs with different seeds make different pauses.
    pub fn new(seed: u64) -> Self {
        Self {
            roots: Roots::default(),
            in_use: None,
            lost: None,
            abandoned: false,
            job: Job::Load(None),
            outstanding: None,
            next_at: Duration::ZERO,
            failures: 0,
            restarts: 0,
            paid_until: Duration::ZERO,
            retired: Vec::new(),
            settle_step: SETTLE_STEP,
            journal: Journal::default(),
            clock: Journal::default(),
            random: Random::new(seed),
            last_request: 0,
        }
    }

    /// Adds a root context. It serves the table at once if its credential has been accepted before, and it polls.
    pub fn attach(&mut self, settings: Settings, now: Duration) -> RootId {
        // The new configuration may correct the cause of earlier failures.
        self.next_at = now;
        self.roots.attach(settings, now)
    }

    /// Gives a root context another token. It goes on serving the table if it did, because no failure changes which keys
    /// are served, and it shows the token to the service at once.
    pub fn renew(&mut self, root: RootId, token: Box<str>, now: Duration) {
        self.roots.renew(root, token);
        self.next_at = now;
    }

    /// Removes a root context. Its outstanding request has no outcome.
    pub fn detach(&mut self, root: RootId, now: Duration) {
        self.roots.detach(root);
        if self.outstanding.as_ref().is_some_and(|outstanding| outstanding.root == root) {
            self.outstanding = None;
            self.next_at = now;
        }
    }

    /// Gives up every key, because a change of the state ended in a panic and nobody knows how far it came. No fetched key
    /// is served until all of them are loaded again, and copies of them in a configuration do not answer meanwhile.
    /// Returns the table that was in use: freeing it takes time.
    pub fn abandon(&mut self) -> Option<KeyTable> {
        let table = self.in_use.take().map(|in_use| in_use.table);
        if table.is_some() {
            self.lost = Some(KeyTable::new());
        }
        self.job = Job::Load(None);
        self.outstanding = None;
        self.abandoned = true;
        table
    }

    /// Returns the request that this root context must send now. The caller asks at every tick and after every outcome.
    pub fn poll(&mut self, root: RootId, now: Duration, events: &mut Vec<Event>) -> Option<Request> {
        self.roots.seen(root, now);
        self.tell_staleness(root, now, events);
        if std::mem::take(&mut self.abandoned) {
            // Whoever gave the keys up has said so.
            self.pause_between_loads(now);
        }
        if self.outstanding.as_ref().is_some_and(|outstanding| now >= outstanding.deadline) {
            self.outstanding = None;
            self.fail(Failure::NoAnswer, None, now, events);
        }
        if self.roots.poller(now).is_none_or(|poller| poller.id != root) {
            return self.probe(root, now);
        }
        // A request of a root context that no longer polls is given up, because Envoy may have dropped it without
        // notice.
        if self.outstanding.as_ref().is_some_and(|outstanding| outstanding.root == root) || now < self.next_at {
            return None;
        }
        // The next changes are collected against a table that does not change.
        if self.in_use.as_mut().is_some_and(|in_use| in_use.table.settle(self.settle_step)) {
            return None;
        }
        let (since, base) = self.position();
        let accepted = self.roots.get(root)?.accepted;
        let patience = self.roots.patience(now);
        // A root context that was not accepted yet serves nothing until its first answer, which must not wait.
        let wait = if matches!(self.job, Job::Follow) && accepted { patience.wait() } else { Duration::ZERO };
        let timeout = wait + patience.for_answer();
        let request = self.request(since, base, wait, timeout, now);
        // A shorter limit applies from the moment at which the service may receive it.
        if let (Some(in_use), Some(limit)) = (&mut self.in_use, request.max_staleness) {
            in_use.told = Some(in_use.told.map_or(limit, |told| told.min(limit)));
        }
        self.outstanding = Some(Outstanding {
            id: request.id,
            root,
            since,
            follows: matches!(self.job, Job::Follow),
            wait,
            told: request.max_staleness,
            sent_at: now,
            deadline: now + timeout + OVERDUE,
        });
        Some(request)
    }

    /// Does a part of the deferred work, so that no call takes long, and returns whether there is more. The caller
    /// calls it at every tick.
    pub fn work(&mut self) -> bool {
        if let Some(table) = self.retired.last_mut()
            && !table.dismantle()
        {
            self.retired.pop();
        }
        let unsettled = self.in_use.as_mut().is_some_and(|in_use| in_use.table.settle(self.settle_step));
        unsettled || !self.retired.is_empty()
    }

    /// Changes the number of committed changes that one call moves to their final places: 500 without this.
    pub fn set_settle_step(&mut self, changes: usize) {
        self.settle_step = changes;
    }

    /// Hands over the tables that are in use no more, so that [`work`](Self::work) does not take them apart.
    pub fn take_retired(&mut self) -> Vec<KeyTable> {
        std::mem::take(&mut self.retired)
    }

    /// Returns the keys that this root context may serve now.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if there are no keys yet, or if they are too old.
    pub fn keys(&self, root: RootId, now: Duration) -> Result<&KeyTable, Unavailable> {
        let (Some(in_use), Some(root)) = (&self.in_use, self.roots.get(root)) else {
            return Err(Unavailable::NotYetLoaded);
        };
        if !root.accepted || root.settings.store.as_ref().is_some_and(|pinned| *pinned != in_use.store) {
            return Err(Unavailable::NotYetLoaded);
        }
        if is_stale(in_use, root.settings.max_staleness, now) {
            return Err(Unavailable::Stale);
        }
        Ok(&in_use.table)
    }

    /// Returns the last complete table, however old it is. It says which copies of its keys in a configuration may
    /// answer, and must not be used for other decisions.
    pub fn last_table(&self) -> Option<&KeyTable> {
        self.in_use.as_ref().map(|in_use| &in_use.table).or(self.lost.as_ref())
    }

    /// Returns the state of the store that the table in use equals, whether the table may be served or not.
    pub fn in_use(&self) -> Option<Position<'_>> {
        self.in_use.as_ref().map(|in_use| Position {
            store: &in_use.store,
            revision: in_use.revision,
            mark: in_use.mark,
            keys: in_use.table.len(),
            contact: in_use.contact,
        })
    }

    /// Returns whether a load takes place beside a table that serves, whose requests must not be delayed.
    fn loads_beside(&self, now: Duration) -> bool {
        let longest = self.roots.longest_staleness(now);
        matches!(self.job, Job::Load(Some(_)))
            && self.in_use.as_ref().is_some_and(|in_use| !is_stale(in_use, longest, now))
    }

    /// Returns when [`poll`](Self::poll) may return the next request, if nothing arrives before.
    pub fn next_at(&self) -> Duration {
        self.outstanding.as_ref().map_or(self.next_at, |outstanding| outstanding.deadline)
    }

    /// Returns `since` and `base` of the next request.
    fn position(&self) -> (u64, u64) {
        let revision = self.in_use.as_ref().map_or(0, |in_use| in_use.revision);
        match &self.job {
            Job::Load(None) => (0, 0),
            // With `base` equal to `since` the request would acknowledge a revision. One less asks for one needless
            // tombstone and acknowledges nothing.
            Job::Load(Some(load)) if load.since == load.base => (load.since, load.base.saturating_sub(1)),
            Job::Load(Some(load)) => (load.since, load.base),
            Job::Follow => (revision, revision),
            Job::CatchUp { since, .. } => (*since, revision),
        }
    }

    fn request(&mut self, since: u64, base: u64, wait: Duration, timeout: Duration, now: Duration) -> Request {
        self.last_request += 1;
        let max_staleness = self.roots.longest_staleness(now);
        let limit = if self.loads_beside(now) { PAGE_CHANGES_BESIDE } else { PAGE_CHANGES };
        // Only a table in use that is at `since` has a state to acknowledge.
        let at = self.in_use.as_ref().filter(|in_use| in_use.revision == since && base == since);
        let mark = at.filter(|_| !matches!(self.job, Job::Load(_))).and_then(|in_use| in_use.mark);
        Request {
            id: RequestId(self.last_request),
            since,
            base,
            mark,
            limit,
            wait,
            timeout,
            max_staleness,
            mode: self.roots.mode(now),
            inline_keys: self.roots.inline_keys(now),
        }
    }

    /// Returns a request that shows whether the service accepts the credential of a root context.
    fn probe(&mut self, root: RootId, now: Duration) -> Option<Request> {
        let since = self.in_use.as_ref()?.revision;
        let state = self.roots.get(root)?;
        let overdue = state.probe.outstanding.is_none_or(|(_, _, deadline)| now >= deadline);
        if state.accepted || !overdue || now < state.probe.next_at {
            return None;
        }
        let timeout = self.roots.patience(now).for_answer();
        let request = self.request(since, since, Duration::ZERO, timeout, now);
        self.roots.get_mut(root)?.probe.outstanding = Some((request.id, since, now + timeout + OVERDUE));
        Some(request)
    }

    /// Counts a failure, logs it if it is new, and makes a pause.
    fn fail(&mut self, failure: Failure, asked: Option<Duration>, now: Duration, events: &mut Vec<Event>) {
        self.failures = self.failures.saturating_add(1);
        let longest = self.roots.patience(now).longest_pause();
        let pause = self.random.pause(self.failures, longest).max(asked.unwrap_or_default().min(LONGEST_PAUSE));
        self.next_at = self.next_at.max(now + pause);
        let state = if self.in_use.is_some() { "the last good keys stay in use" } else { "no keys are loaded" };
        self.journal
            .trouble(Trouble::Failed(failure.kind()), now, events, || format!("cannot fetch keys: {failure}; {state}"));
        events.push(Event::Failed(failure));
    }

    /// Drops the collected changes and requests the complete table: at once the first time, after pauses if it repeats.
    fn start_over(&mut self, reason: Reason, now: Duration, events: &mut Vec<Event>) {
        self.set_job(Job::Load(None));
        self.pause_between_loads(now);
        let line = || format!("all keys are loaded again: {}", reason.describe());
        self.journal.trouble(Trouble::StartedOver(reason), now, events, line);
        events.push(Event::StartedOver(reason));
    }

    /// Counts a load that is begun anew, and makes a pause unless it is the first.
    fn pause_between_loads(&mut self, now: Duration) {
        self.restarts = self.restarts.saturating_add(1);
        if self.restarts > 1 {
            let pause = self.random.pause(self.restarts.saturating_add(1), LONGEST_PAUSE);
            self.next_at = self.next_at.max(now + pause);
        }
    }

    fn set_job(&mut self, job: Job) {
        if let Job::Load(Some(load)) = std::mem::replace(&mut self.job, job) {
            self.retire(load.table);
        }
    }

    fn retire(&mut self, table: KeyTable) {
        self.retired.push(table);
    }

    fn tell_staleness(&mut self, root: RootId, now: Duration, events: &mut Vec<Event>) {
        let (Some(in_use), Some(root)) = (&self.in_use, self.roots.get(root)) else { return };
        if root.accepted && is_stale(in_use, root.settings.max_staleness, now) {
            let seconds = now.saturating_sub(in_use.contact).as_secs();
            let line =
                || format!("no contact with the admin service for {seconds} s: fetched keys are refused from now on");
            self.journal.trouble(Trouble::Stale, now, events, line);
        }
    }

    /// Logs when the service's clock and this one differ, because expiry is judged by this one.
    fn compare_clocks(&mut self, date: Option<&str>, wall: Timestamp, now: Duration, events: &mut Vec<Event>) {
        let Some(date) = date.and_then(Timestamp::parse_http) else { return };
        let apart = wall.unix_ms().abs_diff(date.unix_ms()) / 1_000;
        if apart > 5 {
            let line = || {
                format!(
                    "this clock ({wall}) and the admin service's ({date}) differ by {apart} s: keys expire by this one"
                )
            };
            self.clock.trouble(Trouble::Clock, now, events, line);
        } else {
            self.clock.end(Trouble::Clock);
        }
    }
}

fn is_stale(in_use: &InUse, max_staleness: Option<Duration>, now: Duration) -> bool {
    let limits = [max_staleness, in_use.told];
    limits.into_iter().flatten().any(|max| now.saturating_sub(in_use.contact) >= max)
}

#[cfg(test)]
mod tests;

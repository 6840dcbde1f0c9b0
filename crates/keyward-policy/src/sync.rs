//! Keeping a VM's key table equal to the store: polls, loads, catches up, starts over, and says when keys are too old.
//!
//! [`ManifestSync`] does no I/O and reads no clock. Its caller asks [`poll`](ManifestSync::poll) for a request, carries
//! it out and gives back what came of it ([`on_outcome`](ManifestSync::on_outcome)); both bring the time along, which
//! must be monotonic. What to count and to log comes out as [`Event`]s.
//!
//! What holds at every moment:
//! - The table in use equals the store at one of its revisions. Changes that come in several pages are staged and become
//!   visible together; a load is built beside the table in use and takes its place when it is complete. Both only if
//!   count and checksum are those that the service states.
//! - The revision only rises, except by a load.
//! - Nothing that goes wrong changes what is served. Only time does: `max_staleness` after the last contact. Contact is a
//!   valid answer that brought the table in use up to date; the pages of a load are none until the load is complete, for
//!   the table in use may still hold what was revoked.
//! - One request at a time is outstanding. `base` equals `since` in it only where the table in use is at `since`: that is
//!   what makes it an acknowledgement.
//!
//! One object serves all root contexts of a VM that use the same service ([`attach`](ManifestSync::attach)).

mod backoff;
mod event;
mod failure;
mod journal;
mod load;
mod page;
mod receive;
mod request;
mod roots;
mod settings;

pub use event::{Event, Level, Reason};
pub use failure::{Failure, FailureKind};
pub use request::{Answer, MAX_PAGE_BYTES, Outcome, PAGE_CHANGES, PAGE_CHANGES_BESIDE, Request, RequestId};
pub use roots::RootId;
pub use settings::Settings;

use crate::policy::Unavailable;
use crate::table::{KeyTable, Staged};
use crate::timeline::Mark;
use crate::timestamp::Timestamp;
use backoff::Random;
use journal::{Journal, Trouble};
use load::Load;
use roots::Roots;
use std::time::Duration;

/// How many committed changes one call moves to where they stay.
const SETTLE_STEP: usize = 500;

/// More changes than that are not collected beside the table: loading anew takes less memory.
const MAX_STAGED: usize = 50_000;

/// An outcome that is this much overdue is not coming: its root context is gone.
const OVERDUE: Duration = Duration::from_secs(2);

/// The pause after an empty answer that came at once although the service was asked to wait.
const IDLE_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause between two loads that fail, and that a service can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How many polls may follow each other at once although each brings a change, and how long it takes until another one
/// may. A service that invents a revision with each answer is not asked thousands of times a second.
const BURST: u32 = 32;
const BURST_REFILL: Duration = Duration::from_millis(10);

/// The fetched keys of one service, and what keeps them fresh.
#[derive(Debug)]
pub struct ManifestSync {
    roots: Roots,
    in_use: Option<InUse>,
    job: Job,
    outstanding: Option<Outstanding>,
    next_at: Duration,
    /// Failures since the last good answer.
    failures: u32,
    /// Loads begun anew since the table in use was last brought up to date.
    restarts: u32,
    /// Up to when instant polls were paid for: each costs [`BURST_REFILL`], and up to [`BURST`] may be owed.
    paid_until: Duration,
    retired: Vec<KeyTable>,
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
    /// A moment at which the table was up to date: no later than the service's own reading of the store.
    contact: Duration,
    /// The limit of staleness that the service was told with the request that brought the contact. A longer one of a
    /// later configuration holds only once the service knows it, for receipts go by what it knows.
    told: Option<Duration>,
}

/// What the next answer is for.
#[derive(Debug)]
enum Job {
    /// A whole table; none: its first page.
    Load(Option<Load>),
    /// What changed since the table in use.
    Follow,
    /// The rest of what changed.
    CatchUp { staged: Staged, since: u64 },
}

#[derive(Debug)]
struct Outstanding {
    id: RequestId,
    root: RootId,
    since: u64,
    /// Whether it asks what is newer than the table in use.
    follows: bool,
    wait: Duration,
    /// The limit of staleness that the request tells.
    told: Option<Duration>,
    sent_at: Duration,
    deadline: Duration,
}

/// Where the table in use stands.
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
    /// Begins with nothing. VMs with different seeds make their pauses differently.
    pub fn new(seed: u64) -> Self {
        Self {
            roots: Roots::default(),
            in_use: None,
            job: Job::Load(None),
            outstanding: None,
            next_at: Duration::ZERO,
            failures: 0,
            restarts: 0,
            paid_until: Duration::ZERO,
            retired: Vec::new(),
            journal: Journal::default(),
            clock: Journal::default(),
            random: Random::new(seed),
            last_request: 0,
        }
    }

    /// A root context comes in. It serves the table at once where its credential was accepted before, and it polls.
    pub fn attach(&mut self, settings: Settings, now: Duration) -> RootId {
        // What stood in the way may be what the new configuration mends.
        self.next_at = now;
        self.roots.attach(settings, now)
    }

    /// A root context is gone. Whatever it had outstanding has no outcome.
    pub fn detach(&mut self, root: RootId, now: Duration) {
        self.roots.detach(root);
        if self.outstanding.as_ref().is_some_and(|outstanding| outstanding.root == root) {
            self.outstanding = None;
            self.next_at = now;
        }
    }

    /// The request that this root context is to send now. To be asked at every tick, and after every outcome.
    pub fn poll(&mut self, root: RootId, now: Duration, events: &mut Vec<Event>) -> Option<Request> {
        self.roots.seen(root, now);
        self.tell_staleness(root, now, events);
        if self.outstanding.as_ref().is_some_and(|outstanding| now >= outstanding.deadline) {
            self.outstanding = None;
            self.fail(Failure::NoAnswer, None, now, events);
        }
        if self.roots.poller(now).is_none_or(|poller| poller.id != root) {
            return self.probe(root, now);
        }
        // A request of a root that polls no more is given up: it may have been dropped without a word.
        if self.outstanding.as_ref().is_some_and(|outstanding| outstanding.root == root) || now < self.next_at {
            return None;
        }
        // The next changes are collected against a table that stands still.
        if self.in_use.as_mut().is_some_and(|in_use| in_use.table.settle(SETTLE_STEP)) {
            return None;
        }
        let (since, base) = self.position();
        let accepted = self.roots.get(root)?.accepted;
        let patience = self.roots.patience(now);
        // A root that was not accepted yet serves nothing until it has its first answer, which must not wait.
        let wait = if matches!(self.job, Job::Follow) && accepted { patience.wait() } else { Duration::ZERO };
        let timeout = wait + patience.for_answer();
        let request = self.request(since, base, wait, timeout, now);
        // A shorter limit holds from the moment that the service may hear of it.
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

    /// Work that is put off so that no call takes long; true while there is more. To be asked at every tick.
    pub fn work(&mut self) -> bool {
        if let Some(table) = self.retired.last_mut()
            && !table.dismantle()
        {
            self.retired.pop();
        }
        let unsettled = self.in_use.as_mut().is_some_and(|in_use| in_use.table.settle(SETTLE_STEP));
        unsettled || !self.retired.is_empty()
    }

    /// The keys that this root context may serve now.
    ///
    /// # Errors
    /// [`Unavailable`] where there are none yet, or where they are too old.
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

    /// The last complete table, however old it is. It says which copies of its keys in a configuration may answer, and
    /// nothing else may be decided by it.
    pub fn last_table(&self) -> Option<&KeyTable> {
        self.in_use.as_ref().map(|in_use| &in_use.table)
    }

    /// Where the table in use stands, whether it may be served or not.
    pub fn in_use(&self) -> Option<Position<'_>> {
        self.in_use.as_ref().map(|in_use| Position {
            store: &in_use.store,
            revision: in_use.revision,
            mark: in_use.mark,
            keys: in_use.table.len(),
            contact: in_use.contact,
        })
    }

    /// Whether a load goes on beside a table that serves: what is served meanwhile must not be held up.
    fn loads_beside(&self, now: Duration) -> bool {
        let longest = self.roots.longest_staleness(now);
        matches!(self.job, Job::Load(Some(_)))
            && self.in_use.as_ref().is_some_and(|in_use| !is_stale(in_use, longest, now))
    }

    /// When [`poll`](Self::poll) may have something to do next, if nothing comes in before.
    pub fn next_at(&self) -> Duration {
        self.outstanding.as_ref().map_or(self.next_at, |outstanding| outstanding.deadline)
    }

    /// `since` and `base` of the next request.
    fn position(&self) -> (u64, u64) {
        let revision = self.in_use.as_ref().map_or(0, |in_use| in_use.revision);
        match &self.job {
            Job::Load(None) => (0, 0),
            // Asking from exactly where the base is would say that the table in use is there. One below asks for a
            // tombstone more than is needed, and says nothing.
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
        // Only where the table in use is at `since` is there a state to acknowledge.
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

    /// A request that only shows whether the service accepts a root's credential.
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

    /// Counts a failure, tells it if it is news, and makes a pause.
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

    /// Drops what was collected and asks for everything: at once the first time, with pauses when it repeats.
    fn start_over(&mut self, reason: Reason, now: Duration, events: &mut Vec<Event>) {
        self.set_job(Job::Load(None));
        self.restarts = self.restarts.saturating_add(1);
        if self.restarts > 1 {
            let pause = self.random.pause(self.restarts + 1, LONGEST_PAUSE);
            self.next_at = self.next_at.max(now + pause);
        }
        let line = || format!("all keys are loaded again: {}", reason.describe());
        self.journal.trouble(Trouble::StartedOver(reason), now, events, line);
        events.push(Event::StartedOver(reason));
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

    /// Tells when the service's clock and this one differ: expiry goes by this one.
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

//! The effects of an outcome on the table. [`ManifestSync::on_outcome`] does all of it at once; [`Received`] says how to do
//! it in steps.

use super::collect::{Job, Received, Refused};
use super::event::{Event, Level, Reason};
use super::failure::Failure;
use super::journal::Trouble;
use super::request::{Outcome, RequestId};
use super::roots::RootId;
use super::{BURST, BURST_REFILL, IDLE_PAUSE, InUse, ManifestSync, Outstanding, is_stale};
use crate::checksum::Checksum;
use crate::count::ending;
use crate::manifest::Page;
use crate::table::Staged;
use crate::timestamp::Timestamp;
use std::time::Duration;

/// The result of a good answer.
enum Taken {
    /// A part of the changes; the next answer has more.
    Part,
    /// The table in use is up to date; the value says whether anything changed.
    UpToDate { changed: bool },
}

impl ManifestSync {
    /// Returns the `since` of a request that has no outcome yet. `None` means that it was given up.
    pub fn since(&self, id: RequestId) -> Option<u64> {
        let outstanding = self.outstanding.as_ref().filter(|outstanding| outstanding.id == id);
        outstanding.map(|outstanding| outstanding.since).or_else(|| self.roots.since_of_probe(id))
    }

    /// Lends what was collected before to an answer that continues it. Until [`apply`](Self::apply) takes it back, the
    /// state is one in which it was never collected: a caller that does not come back loses no more than that.
    pub fn lend(&mut self, received: &mut Received<'_>) {
        let continues = self.outstanding.as_ref().is_some_and(|outstanding| outstanding.id == received.id);
        if continues && received.page.is_ok() {
            let without = if matches!(self.job, Job::Load(_)) { Job::Load(None) } else { Job::Follow };
            received.job = Some(std::mem::replace(&mut self.job, without));
        }
    }

    /// Applies the outcome of a request. The outcome of a request that was given up changes nothing.
    ///
    /// `wall` is the time of day, which is compared with the service's.
    pub fn on_outcome(
        &mut self,
        id: RequestId,
        outcome: &Outcome<'_>,
        now: Duration,
        wall: Timestamp,
        events: &mut Vec<Event>,
    ) {
        let Some(since) = self.since(id) else { return };
        let mut received = Received::read(id, since, outcome);
        self.lend(&mut received);
        received.collect(self.last_table());
        self.apply(&mut received, outcome, now, wall, events);
    }

    /// Applies an outcome that was read and collected. The page stays with the caller, because freeing it takes time.
    pub fn apply(
        &mut self,
        received: &mut Received<'_>,
        outcome: &Outcome<'_>,
        now: Duration,
        wall: Timestamp,
        events: &mut Vec<Event>,
    ) {
        let Received { id, page, job, collected } = received;
        let collected = std::mem::replace(collected, Ok(()));
        let Some(outstanding) = self.outstanding.take_if(|outstanding| outstanding.id == *id) else {
            return self.on_probe(*id, page, now, events);
        };
        if let Some(job) = job.take() {
            self.set_job(job);
        }
        match &*page {
            Ok(_) => self.roots.refused(outstanding.root, None),
            Err(Failure::Unauthorized(_) | Failure::WrongRealm) => self.roots.refused(outstanding.root, Some(now)),
            Err(_) => {}
        }
        if let (Ok(_), Outcome::Answer(answer)) = (&*page, outcome) {
            self.compare_clocks(answer.date, wall, now, events);
        }
        let contact = contact(outcome, outstanding.sent_at, now);
        let taken = match page {
            Ok(page) => self.take_page(page, collected, &outstanding, contact, now, events),
            Err(Failure::Compacted) if outstanding.since > 0 => Err(Refused::start_over(Reason::Gone)),
            Err(failure) => Err(failure.clone().into()),
        };
        match taken {
            Ok(taken) => self.well(&taken, &outstanding, now, events),
            Err(Refused { failure, start_over }) => {
                let asked = match outcome {
                    Outcome::Answer(answer) => answer.retry_after,
                    Outcome::NoAnswer | Outcome::NotSent => None,
                };
                self.next_at = now;
                if let Some(failure) = failure {
                    // Another configuration may accept the store that this one refuses.
                    if matches!(failure, Failure::OtherThanPinned { .. } | Failure::SuspiciousStore { .. }) {
                        self.roots.refused(outstanding.root, Some(now));
                    }
                    self.fail(failure, asked, now, events);
                }
                if let Some(reason) = start_over {
                    self.start_over(reason, now, events);
                }
            }
        }
    }

    fn well(&mut self, taken: &Taken, outstanding: &Outstanding, now: Duration, events: &mut Vec<Event>) {
        self.failures = 0;
        self.next_at = now;
        let Taken::UpToDate { changed } = taken else {
            return;
        };
        if outstanding.follows {
            self.restarts = 0;
        }
        let at_once = now.saturating_sub(outstanding.sent_at) < (outstanding.wait / 2).min(IDLE_PAUSE * 2);
        if !changed && at_once {
            self.next_at = now + self.random.jitter(IDLE_PAUSE);
        } else if at_once {
            self.paid_until = self.paid_until.max(now.saturating_sub(BURST_REFILL * BURST)) + BURST_REFILL;
            self.next_at = now.max(self.paid_until);
        }
        let (keys, revision) = self.in_use().map_or((0, 0), |position| (position.keys, position.revision));
        self.journal.well(events, || format!("keys are up to date again: {keys} at revision {revision}"));
    }

    fn take_page(
        &mut self,
        page: &Page<'_>,
        collected: Result<(), Refused>,
        outstanding: &Outstanding,
        contact: Duration,
        now: Duration,
        events: &mut Vec<Event>,
    ) -> Result<Taken, Refused> {
        let root = outstanding.root;
        self.check_store(page, root, now)?;
        collected?;
        let taken = match &self.job {
            Job::Load(_) => self.take_load(page, contact, outstanding.told, events),
            Job::Follow | Job::CatchUp { .. } => self.take_changes(page, contact, outstanding.told, events),
        };
        if taken.is_ok() && self.in_use.as_ref().is_some_and(|in_use| *in_use.store == *page.store) {
            self.roots.accept(root);
        }
        taken
    }

    /// Checks whether this store may replace the one in use, or is the one in use.
    fn check_store(&mut self, page: &Page<'_>, root: RootId, now: Duration) -> Result<(), Refused> {
        let settings = self.roots.get(root).map(|root| &root.settings);
        let pinned = settings.and_then(|settings| settings.store.as_deref());
        let followed = if self.in_use.is_some() { Job::Follow } else { Job::Load(None) };
        let not_pinned = match (pinned, &self.in_use) {
            (Some(pinned), _) => *pinned != *page.store,
            // A store that any configuration names is not replaced for one that names none.
            (None, Some(in_use)) => *in_use.store != *page.store && self.roots.is_pinned(&in_use.store, now),
            (None, None) => false,
        };
        if not_pinned {
            let store = (&*page.store).into();
            self.set_job(followed);
            return Err(Failure::OtherThanPinned { store }.into());
        }
        if let Job::Load(Some(load)) = &self.job
            && *load.store != *page.store
        {
            self.set_job(followed);
            return Err(Failure::StoreChanged.into());
        }
        let Some(in_use) = self.in_use.as_ref() else { return Ok(()) };
        let other = *in_use.store != *page.store;
        // Changes since the table in use have a tombstone for each deleted key. A load has none, so that a store that
        // lost keys looks like one from which they were deleted.
        if !other && !matches!(self.job, Job::Load(_)) {
            return Ok(());
        }
        let held = in_use.table.len();
        let few = page.live.count == 0 || page.live.count < held.div_ceil(2) as u64;
        let outlived = settings.is_some_and(|settings| is_stale(in_use, settings.max_staleness, now));
        if held > 0 && few && !(other && pinned.is_some()) && !outlived {
            let failure = Failure::SuspiciousStore { store: (&*page.store).into(), keys: page.live.count, held };
            self.set_job(followed);
            return Err(failure.into());
        }
        match self.job {
            Job::Load(_) => Ok(()),
            _ if !other => Ok(()),
            Job::Follow | Job::CatchUp { .. } => Err(Refused::start_over(Reason::OtherStore)),
        }
    }

    fn take_load(
        &mut self,
        page: &Page<'_>,
        contact: Duration,
        told: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> Result<Taken, Refused> {
        let Job::Load(Some(load)) = &self.job else { return Ok(Taken::Part) };
        if page.more {
            return Ok(Taken::Part);
        }
        compare((load.table.len(), load.table.checksum()), page).map_err(Refused::mismatch)?;
        let Job::Load(Some(load)) = std::mem::replace(&mut self.job, Job::Follow) else { return Ok(Taken::Part) };
        let keys = load.table.len();
        let (revision, mark) = (page.revision, page.mark);
        let loaded = InUse { store: load.store, revision, mark, table: load.table, contact, told };
        if let Some(before) = self.in_use.replace(loaded) {
            self.retire(before.table);
        }
        events.push(Event::Loaded { keys, revision: page.revision });
        let (s, store) = (ending(keys as u64), page.store.escape_default());
        let line = format!("loaded {keys} key{s} of store `{store}` at revision {}", page.revision);
        events.push(Event::Log(Level::Info, line));
        Ok(Taken::UpToDate { changed: true })
    }

    fn take_changes(
        &mut self,
        page: &Page<'_>,
        contact: Duration,
        told: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> Result<Taken, Refused> {
        if page.more {
            return Ok(Taken::Part);
        }
        let staged = match std::mem::replace(&mut self.job, Job::Follow) {
            Job::CatchUp { staged, .. } => staged,
            Job::Follow | Job::Load(_) => Staged::default(),
        };
        let Some(in_use) = &mut self.in_use else { return Err(Refused::start_over(Reason::Mismatch)) };
        compare(staged.outcome(&in_use.table), page).map_err(Refused::mismatch)?;
        let changes = staged.len();
        if changes > 0 {
            in_use.table.commit(staged).map_err(|_| Refused::start_over(Reason::FarBehind))?;
            in_use.table.settle(self.settle_step);
        }
        in_use.contact = in_use.contact.max(contact);
        in_use.told = told;
        let changed = page.revision > in_use.revision;
        in_use.revision = page.revision;
        in_use.mark = page.mark;
        if changed {
            events.push(Event::Applied { changes, revision: page.revision });
        }
        Ok(Taken::UpToDate { changed })
    }

    /// Applies the outcome of a probe. It shows only whether a credential is accepted.
    fn on_probe(&mut self, id: RequestId, page: &Result<Page<'_>, Failure>, now: Duration, events: &mut Vec<Event>) {
        let Some(root) = self.roots.take_probe(id) else { return };
        let same_store = |page: &Page<'_>| self.in_use.as_ref().is_some_and(|in_use| *in_use.store == *page.store);
        match page {
            Ok(page) if same_store(page) => {
                self.roots.accept(root);
                // This root context may be the newest one now, and then takes over.
                self.next_at = now;
            }
            // The service accepts the credential. The next page says whether it has the same store.
            Ok(_) | Err(Failure::Compacted) => self.pause_probe(root, now),
            Err(failure) => {
                self.pause_probe(root, now);
                self.journal.trouble(Trouble::Failed(failure.kind()), now, events, || {
                    format!("a new plugin configuration cannot fetch keys: {failure}; it accepts no fetched key")
                });
                events.push(Event::Failed(failure.clone()));
            }
        }
    }

    fn pause_probe(&mut self, root: RootId, now: Duration) {
        let longest = self.roots.patience(now).longest_pause();
        let Some(root) = self.roots.get_mut(root) else { return };
        root.probe.failures = root.probe.failures.saturating_add(1);
        root.probe.next_at = now + self.random.pause(root.probe.failures, longest);
    }
}

/// Returns the latest moment at which this VM can be sure that the answer was true. The request was sent no later than
/// it arrived, and the service states how long after its arrival it last knew the answer to be true. No delay is
/// assumed.
fn contact(outcome: &Outcome<'_>, sent_at: Duration, now: Duration) -> Duration {
    let Outcome::Answer(answer) = outcome else { return sent_at };
    let offset = answer.as_of.unwrap_or_default();
    let later = Duration::from_millis(offset.unsigned_abs());
    if offset < 0 { sent_at.saturating_sub(later) } else { (sent_at + later).min(now) }
}

/// Compares count and checksum of a table with those that the service states.
fn compare((count, checksum): (usize, Checksum), page: &Page<'_>) -> Result<(), Failure> {
    let stated = page.live.checksum.as_deref().unwrap_or_default();
    if count as u64 == page.live.count && Checksum::parse(stated) == Some(checksum) {
        return Ok(());
    }
    let here = format!("{count} ({checksum})");
    let there = format!("{} ({})", page.live.count, stated.chars().take(16).collect::<String>().escape_default());
    Err(Failure::Checksum { here, there })
}

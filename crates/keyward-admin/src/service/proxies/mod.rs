//! Filter VMs: who is in contact, what each has applied, and until when those out of contact may serve.
//!
//! What is counted is a table of keys in a VM, for that is what serves: a VM with two admin services has two. Each poll says
//! what its table has applied, and its answer is contact. A table is in contact while a poll of it waits here (or at another
//! replica), and for a moment after: long enough to apply an answer and ask again, or to open another connection.
//! Afterwards it is unreachable until its own limit of staleness makes it refuse everything, and then gone.
//!
//! A table counts from before the first answer that makes it complete. Older filters do not say which table asks: they count
//! from their second request on, or where the first says that it has applied something.
//!
//! No wall clock plays a part: durations are measured here, and what replicas tell each other are ages. Times of day are
//! made only when somebody wants to read one.

mod cluster;
mod receipt;
mod timeline;
mod told;
mod vm;

pub use cluster::Message;
pub use receipt::{Applied, Doubts};
pub use told::{PollHeaders, Question, TableId};
pub use vm::{Answered, ContactState, ProxyView};

use crate::clock::Clock;
use crate::store::proxies::ProxyRecord;
use cluster::Replicas;
use keyward_policy::timeline::Point;
use keyward_policy::timestamp::Timestamp;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use timeline::Timeline;
use tokio::sync::Notify;
use tokio::time::Instant;
use vm::Vm;

/// How long after an answer a VM may take to ask again: it leaves `of` within five seconds of a lost connection.
const GRACE_ANSWERED: Duration = Duration::from_secs(4);
/// How long after a dropped poll: a new plugin config, or a lost connection that is opened again.
const GRACE_DROPPED: Duration = Duration::from_secs(1);
/// How long another replica that has fallen silent may still have given contact.
const SILENT_CONTACT: Duration = Duration::from_secs(5);
/// How long two polls that disagree leave a table in doubt after they ended.
const DISPUTE: Duration = Duration::from_secs(60);
/// Tables that never counted, or are gone, are forgotten after this long.
const FORGET: Duration = Duration::from_secs(3600);
/// The longest `max_staleness` of a filter that was told none.
const LONGEST_STALENESS: Duration = Duration::from_secs(3600);
/// No more tables than this are told apart.
const MAX_TABLES: usize = 200_000;

/// All filter VMs that this service knows of.
pub struct Proxies {
    clock: Clock,
    limits: Limits,
    state: Mutex<State>,
    /// Something about a VM changed that a receipt may wait for.
    changed: Notify,
    /// The service stops: receipts say what is known by now.
    closing: AtomicBool,
    /// Whoever holds it writes tables to the store, for all who wait for it.
    pub(super) turn: tokio::sync::Mutex<()>,
}

/// How many tables one token and one node may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most tables that are fetched with one token.
    pub per_token: usize,
    /// The most tables of one node.
    pub per_node: usize,
    /// The longest `max_staleness` that a table may have where the store can fail over. A process that may lack rows names
    /// no time for that long.
    pub longest_staleness: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_token: 50_000, per_node: 2_000, longest_staleness: LONGEST_STALENESS }
    }
}

/// A table that is not known yet, and one more than may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyTables(pub usize);

struct State {
    vms: HashMap<TableId, Vm>,
    /// How many tables each token and each node has.
    per_token: HashMap<Arc<str>, usize>,
    per_node: HashMap<Arc<str>, usize>,
    timeline: Timeline,
    /// How often the store had gone back when tables were last taken to be written.
    forks_when_taken: u64,
    /// Until when a table may serve whose row the store has lost.
    rows_unsure_until: Option<Instant>,
    longest_staleness: Duration,
    started: Instant,
    polls: u64,
    /// To be told to the other replicas.
    unshared: HashSet<TableId>,
    /// Being told to them.
    under_way: Vec<TableId>,
    /// To be written to the store.
    unsaved: HashSet<TableId>,
    /// To be removed from the store.
    forgotten: Vec<ProxyRecord>,
    /// `None` where no other replica can serve the store.
    replicas: Option<Replicas>,
    /// The newest change that was heard of, in the order in which everything is heard.
    heard_changes: u64,
    /// When this replica last told the others that it lives.
    beat_at: Option<Instant>,
    /// The others are to tell again what they know.
    ask_again: bool,
    overflow: bool,
}

/// A poll that is being served. Dropped without [`PollGuard::answered`]: its connection is gone.
pub struct PollGuard {
    proxies: Arc<Proxies>,
    id: TableId,
    poll: u64,
    is_first: bool,
    answered: Option<Answered>,
}

impl Proxies {
    /// Starts with the tables that the store remembers. They may have been in contact until now.
    pub fn new(clock: Clock, known: Vec<ProxyRecord>, head: Point, shared: bool, limits: Limits) -> Arc<Self> {
        let now = Instant::now();
        let mut state = State {
            vms: HashMap::new(),
            per_token: HashMap::new(),
            per_node: HashMap::new(),
            timeline: Timeline::new(head),
            forks_when_taken: 0,
            // A shared store may have failed over to a copy that lacks rows. Nothing in the copy shows it.
            rows_unsure_until: shared.then(|| now + limits.longest_staleness),
            longest_staleness: limits.longest_staleness,
            started: now,
            polls: 0,
            unshared: HashSet::new(),
            under_way: Vec::new(),
            unsaved: HashSet::new(),
            forgotten: Vec::new(),
            replicas: shared.then(Replicas::default),
            heard_changes: 0,
            beat_at: None,
            ask_again: false,
            overflow: false,
        };
        for record in known {
            let (id, vm) = vm::remember(record, now);
            state.count(&id);
            state.vms.insert(id, vm);
        }
        Arc::new(Self {
            clock,
            limits,
            state: Mutex::new(state),
            changed: Notify::new(),
            closing: AtomicBool::new(false),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// A poll came, with a token. The guard is to be held until it is answered; there is none for a caller that is not a
    /// filter.
    ///
    /// # Errors
    /// [`TooManyTables`] for a table that is not known yet, where the token or the node has as many as it may.
    pub fn begin(
        self: &Arc<Self>,
        headers: &PollHeaders,
        token: &Arc<str>,
        question: Question,
    ) -> Result<Option<PollGuard>, TooManyTables> {
        let Some(id) = headers.id(token) else { return Ok(None) };
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let now = Instant::now();
        if !state.vms.contains_key(&id) {
            state.admit(&id, self.limits, now)?;
        }
        state.polls += 1;
        let poll = state.polls;
        let is_older_filter = id.table.is_empty();
        let Some(vm) = state.vms.get_mut(&id) else { return Ok(None) };
        let is_first = vm.is_new_here();
        let told = (headers.poll, headers.told());
        let news = vm.asks(poll, told, question, is_older_filter, &state.timeline, now) && vm.counted;
        if vm.counted && !vm.is_recorded() {
            state.unsaved.insert(id.clone());
        }
        if news {
            state.unshared.insert(id.clone());
        }
        drop(guard);
        if news {
            self.changed.notify_waiters();
        }
        Ok(Some(PollGuard { proxies: Arc::clone(self), id, poll, is_first, answered: None }))
    }

    fn end(&self, id: &TableId, poll: u64, answered: Option<Answered>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(vm) = state.vms.get_mut(id) else { return };
        if vm.ends(poll, answered, Instant::now()) {
            state.unshared.insert(id.clone());
            drop(guard);
            self.changed.notify_waiters();
        }
    }

    /// The store moved on, from the newest state that was known.
    pub fn advance(&self, head: Point) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.timeline.advance(head);
        let timeline = &state.timeline;
        for (id, vm) in state.vms.iter_mut().filter(|(_, vm)| vm.pending.is_some()) {
            if vm.judge_again(timeline) {
                state.unshared.insert(id.clone());
            }
        }
        drop(guard);
        self.changed.notify_waiters();
    }

    /// The store went back: no acknowledgement counts until it is given again.
    pub fn fork(&self, head: Point) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.timeline.fork(head);
        // Another replica may have written rows that were lost before they were heard of here.
        state.rows_may_be_lost(Instant::now());
        state.heard_changes = state.heard_changes.min(head.revision);
        state.ask_again = true;
        let mut counted = Vec::new();
        for (id, vm) in &mut state.vms {
            vm.forget_claims();
            // The rows may have been lost with the rest.
            vm.recorded = None;
            counted.extend(vm.counted.then(|| id.clone()));
        }
        state.unsaved.extend(counted);
        drop(guard);
        self.changed.notify_waiters();
    }

    /// How often the store went back.
    pub fn forks(&self) -> u64 {
        self.state.lock().timeline.forks
    }

    /// The service stops: whoever waits for a receipt gets it as it is.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Looks who came into contact and who went out of it, and forgets who is long gone. Called several times a second.
    pub fn sweep(&self) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let now = Instant::now();
        let mut news = false;
        let mut gone = Vec::new();
        for (id, vm) in &mut state.vms {
            let here = vm.in_contact_here(now);
            if here != vm.was_in_contact_here {
                vm.was_in_contact_here = here;
                if vm.counted {
                    state.unshared.insert(id.clone());
                    news = true;
                }
            }
            if !vm.is_worth_keeping(now, state.replicas.as_ref()) {
                gone.push(id.clone());
            }
        }
        gone.iter().for_each(|id| state.remove(id));
        drop(guard);
        if news {
            self.changed.notify_waiters();
        }
    }

    /// A person forgets a VM, with all its tables. Returns whether it was known.
    pub fn forget(&self, vm: &str) -> bool {
        let was_known = self.state.lock().forget(vm);
        self.changed.notify_waiters();
        was_known
    }

    /// Up to `most` tables that are to be written to the store.
    pub fn take_unsaved(&self, most: usize) -> Vec<ProxyRecord> {
        let mut state = self.state.lock();
        state.forks_when_taken = state.timeline.forks;
        let mut ids: Vec<TableId> = state.unsaved.iter().take(most).cloned().collect();
        for id in &ids {
            state.unsaved.remove(id);
        }
        // In one order, so that two replicas never wait for each other's rows.
        ids.sort_unstable();
        let stamp = || i64::from_le_bytes(crate::random::bytes());
        ids.iter().filter_map(|id| Some(state.vms.get(id)?.record(id, stamp()))).collect()
    }

    /// The store holds what [`Proxies::take_unsaved`] gave.
    pub fn saved(&self, records: Vec<ProxyRecord>) {
        let mut state = self.state.lock();
        let now = Instant::now();
        // The store went back meanwhile: what was written may be lost again.
        let is_lost = state.forks_when_taken != state.timeline.forks;
        for record in records {
            let (id, written) = vm::remember(record, now);
            if is_lost {
                state.unsaved.insert(id);
                continue;
            }
            if let Some(vm) = state.vms.get_mut(&id) {
                vm.recorded = written.recorded;
            }
        }
    }

    /// What [`Proxies::take_unsaved`] gave could not be written.
    pub fn not_saved(&self, records: Vec<ProxyRecord>) {
        let mut state = self.state.lock();
        let now = Instant::now();
        state.unsaved.extend(records.into_iter().map(|record| vm::remember(record, now).0));
    }

    /// The tables that are to be removed from the store.
    pub fn take_forgotten(&self) -> Vec<ProxyRecord> {
        std::mem::take(&mut self.state.lock().forgotten)
    }

    /// What [`Proxies::take_forgotten`] gave could not be removed.
    pub fn not_forgotten(&self, records: Vec<ProxyRecord>) {
        self.state.lock().forgotten.extend(records);
    }

    /// Every table that counts, by node and VM.
    pub fn list(&self) -> Vec<ProxyView> {
        let state = self.state.lock();
        let (now, wall) = (Instant::now(), self.clock.now());
        let mut views: Vec<ProxyView> = state
            .vms
            .iter()
            .filter(|(_, vm)| vm.counted)
            .map(|(id, vm)| vm.view(id, now, wall, state.replicas.as_ref()))
            .collect();
        views.sort_unstable_by(|a, b| (&a.node, &a.vm).cmp(&(&b.node, &b.vm)));
        views
    }

    /// How many VMs are in contact, and how many are not and may still serve.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        let now = Instant::now();
        let mut counts = (0, 0);
        for vm in state.vms.values().filter(|vm| vm.counted) {
            match vm.state(now, state.replicas.as_ref()) {
                ContactState::InContact => counts.0 += 1,
                ContactState::Unreachable => counts.1 += 1,
                ContactState::Gone => {}
            }
        }
        counts
    }

    /// The moment, by this service's clock.
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl State {
    /// From now on, tables may serve whose rows are lost, each for no longer than the longest limit.
    fn rows_may_be_lost(&mut self, now: Instant) {
        self.rows_unsure_until = Some(now + self.longest_staleness);
    }

    fn count(&mut self, id: &TableId) {
        *self.per_token.entry(Arc::clone(&id.token)).or_default() += 1;
        *self.per_node.entry(Arc::clone(&id.node)).or_default() += 1;
    }

    /// Takes in a table that is not known yet.
    fn admit(&mut self, id: &TableId, limits: Limits, now: Instant) -> Result<(), TooManyTables> {
        // A row from before tokens were kept is that of whoever asks first.
        let before = TableId { token: "".into(), ..id.clone() };
        if let Some(mut vm) = self.vms.remove(&before) {
            self.uncount(&before);
            self.forgotten.extend(vm.recorded.as_ref().map(|(_, stamp)| vm.record(&before, *stamp)));
            self.count(id);
            vm.recorded = None;
            self.vms.insert(id.clone(), vm);
            return Ok(());
        }
        let full = |count: Option<&usize>, most: usize| count.is_some_and(|count| *count >= most).then_some(most);
        let full = full(self.per_token.get(&id.token), limits.per_token)
            .or_else(|| full(self.per_node.get(&id.node), limits.per_node))
            .or_else(|| (self.vms.len() >= MAX_TABLES).then_some(MAX_TABLES));
        if let Some(most) = full {
            return Err(TooManyTables(most));
        }
        self.count(id);
        self.vms.insert(id.clone(), Vm::new(now));
        Ok(())
    }

    fn uncount(&mut self, id: &TableId) {
        for (counts, name) in [(&mut self.per_token, &id.token), (&mut self.per_node, &id.node)] {
            if let Some(count) = counts.get_mut(name) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    counts.remove(name);
                }
            }
        }
    }

    fn remove(&mut self, id: &TableId) {
        let Some(vm) = self.vms.remove(id) else { return };
        self.uncount(id);
        self.unsaved.remove(id);
        self.forgotten.extend(vm.recorded.as_ref().map(|(_, stamp)| vm.record(id, *stamp)));
    }

    fn forget(&mut self, vm: &str) -> bool {
        let ids: Vec<TableId> = self.vms.keys().filter(|id| *id.vm == *vm).cloned().collect();
        for id in &ids {
            self.vms.remove(id);
            self.uncount(id);
            self.unsaved.remove(id);
        }
        !ids.is_empty()
    }
}

impl PollGuard {
    /// Whether the VM had no answer from here yet.
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// Whether the store has to hold the table before it may be answered.
    pub fn is_unrecorded(&self) -> bool {
        let state = self.proxies.state.lock();
        state.vms.get(&self.id).is_none_or(|vm| vm.counted && !vm.is_recorded())
    }

    /// A complete table is about to leave: from now on it counts.
    pub fn gives(&self) {
        let mut guard = self.proxies.state.lock();
        let state = &mut *guard;
        // Forgotten while it waited: it is simply new.
        if !state.vms.contains_key(&self.id) {
            state.count(&self.id);
            state.vms.insert(self.id.clone(), Vm::new(Instant::now()));
        }
        let Some(vm) = state.vms.get_mut(&self.id) else { return };
        let news = vm.is_given(self.id.table.is_empty());
        if vm.counted && !vm.is_recorded() {
            state.unsaved.insert(self.id.clone());
        }
        if news {
            state.unshared.insert(self.id.clone());
        }
    }

    /// A page went out.
    pub fn answered(mut self, answered: Answered) {
        self.answered = Some(answered);
    }
}

impl Drop for PollGuard {
    fn drop(&mut self) {
        self.proxies.end(&self.id, self.poll, self.answered);
    }
}

//! The registry of tables: loading them from the store, following them, and saving them.

use super::limits::Limits;
use super::replicas::Replicas;
use super::state::State;
use super::timeline::Timeline;
use super::told::TableId;
use super::vm::{ContactState, ProxyView, remember};
use crate::clock::Clock;
use crate::store::proxies::ProxyRecord;
use keyward_policy::timeline::Point;
use keyward_policy::timestamp::Timestamp;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;
use tokio::time::Instant;

/// All filter instances that this service knows.
pub struct Proxies {
    clock: Clock,
    pub(super) limits: Limits,
    pub(super) state: Mutex<State>,
    /// Signals a change of an instance that a receipt may wait for.
    pub(super) changed: Notify,
    /// Signals a message to the others or a reading of the store that an answer may wait for.
    pub(super) progress: Notify,
    /// Signals that the service stops, so that receipts end with what is known.
    closing: AtomicBool,
    /// Held by the task that writes tables to the store, on behalf of all that wait for it.
    turn: tokio::sync::Mutex<()>,
}

/// The state in which a process finds the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The store's newest state.
    pub head: Point,
    /// Whether the store names the server that it is on.
    pub has_lineage: bool,
    /// Whether the store's list of tables is known to be complete.
    pub has_all_tables: bool,
}

impl Proxies {
    /// Creates the registry with the tables of the store, which may have been in contact until now. `shared` says that
    /// other replicas may serve the same store.
    pub fn new(clock: Clock, known: Vec<ProxyRecord>, found: Found, shared: bool, limits: Limits) -> Arc<Self> {
        let now = Instant::now();
        let mut state = State::new(Timeline::new(found.head), shared.then(Replicas::default));
        state.has_lineage = found.has_lineage;
        state.missing_since = (!found.has_all_tables).then_some(now);
        state.remember(known, now);
        Arc::new(Self {
            clock,
            limits,
            state: Mutex::new(state),
            changed: Notify::new(),
            progress: Notify::new(),
            closing: AtomicBool::new(false),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Notes a newer state of the store that follows the newest known one.
    pub fn advance(&self, head: Point) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.timeline.advance(head);
        let timeline = &state.timeline;
        for (id, vm) in state.vms.iter_mut().filter(|(_, vm)| vm.pending.is_some()) {
            if vm.judge_again(timeline)
                && let Some(replicas) = &mut state.replicas
            {
                replicas.unshared.insert(id.clone());
            }
        }
        drop(guard);
        self.changed.notify_waiters();
    }

    /// Notes that the store is on another server, or at a state that does not follow the known one. Rows that this
    /// process wrote or heard of may be lost, and so may rows that it never heard of. If the store `went_back`, no
    /// acknowledgement counts until it is given again. Listening has to begin again.
    pub fn moved(&self, found: Found, went_back: bool) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if went_back {
            state.timeline.fork(found.head);
        } else {
            state.timeline.advance(found.head);
        }
        state.has_lineage = found.has_lineage;
        state.missing_since = (!found.has_all_tables).then(Instant::now);
        state.heard_changes = 0;
        if let Some(replicas) = &mut state.replicas {
            replicas.not_listening();
        }
        if went_back {
            state.vms.values_mut().for_each(super::vm::Vm::forget_claims);
        }
        state.lose_rows();
        drop(guard);
        self.changed.notify_waiters();
    }

    /// Returns how often the store went back or was found on another server.
    pub fn moves(&self) -> u64 {
        self.state.lock().moves
    }

    /// Returns how often the store went back.
    pub fn forks(&self) -> u64 {
        self.state.lock().timeline.forks
    }

    /// Notes that no table is missing, as the store or a person says.
    pub fn confirm(&self) {
        let was_missing = self.state.lock().missing_since.take().is_some();
        if was_missing {
            self.changed.notify_waiters();
        }
    }

    /// Returns whether unknown tables may serve.
    pub fn may_miss_tables(&self) -> bool {
        self.state.lock().missing_since.is_some()
    }

    /// Returns whether the store has the row of every known table that may serve. A row that it has not is noted as one to
    /// be written.
    pub fn has_all_rows(&self) -> bool {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let lacking: Vec<_> = state.vms.iter().filter(|(_, vm)| !vm.is_recorded()).map(|(id, _)| id.clone()).collect();
        let has_all = lacking.is_empty();
        state.unsaved.extend(lacking);
        has_all
    }

    /// Returns whether every missing table refuses everything by now, by the operator's promise about the time without
    /// contact. All known tables have to keep the promise, and the store has to have their rows.
    pub fn missing_tables_are_gone(&self) -> bool {
        let state = self.state.lock();
        let (Some(since), Some(longest)) = (state.missing_since, self.limits.longest_staleness) else { return false };
        let keeps_promise = |limit: Option<std::time::Duration>| limit.is_some_and(|limit| limit <= longest);
        since.elapsed() >= longest
            && state
                .vms
                .values()
                .filter(|vm| vm.may_serve())
                .all(|vm| vm.is_recorded() && keeps_promise(vm.told.limit()))
    }

    /// Notes that the newest state of the store was read, beginning at `begun`, and that pages have this state or a
    /// newer one.
    pub fn read(&self, begun: Instant) {
        if let Some(replicas) = &mut self.state.lock().replicas {
            replicas.contact.read(begun);
        }
        self.progress.notify_waiters();
    }

    /// Notes that the service stops, so that calls that wait for a receipt get it as it is.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Notes which tables came into contact and which left it, and forgets those that are long gone. It is called
    /// several times a second.
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
                if vm.may_serve() {
                    if let Some(replicas) = &mut state.replicas {
                        replicas.unshared.insert(id.clone());
                    }
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

    /// Forgets an instance with all its tables at a person's request. Returns whether it was known.
    pub fn forget(&self, vm: &str) -> bool {
        let was_known = self.state.lock().forget(vm);
        self.changed.notify_waiters();
        was_known
    }

    /// Waits for the turn to write tables to the store.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Returns up to `most` tables that have to be written to the store.
    pub fn take_unsaved(&self, most: usize) -> Vec<ProxyRecord> {
        let mut state = self.state.lock();
        state.moves_when_taken = state.moves;
        let mut ids: Vec<TableId> = state.unsaved.iter().take(most).cloned().collect();
        for id in &ids {
            state.unsaved.remove(id);
        }
        // All replicas write rows in the same order, so that two never wait for each other.
        ids.sort_unstable();
        let stamp = || i64::from_le_bytes(crate::random::bytes());
        ids.iter().filter_map(|id| Some(state.vms.get(id)?.record(id, stamp()))).collect()
    }

    /// Notes that the tables of [`Proxies::take_unsaved`] are in the store.
    pub fn saved(&self, records: Vec<ProxyRecord>) {
        let mut state = self.state.lock();
        let now = Instant::now();
        // The store moved meanwhile, so the rows may be lost.
        let is_lost = state.moves_when_taken != state.moves;
        for record in records {
            let (id, written) = remember(record, now);
            if is_lost {
                state.unsaved.insert(id);
            } else if let Some(vm) = state.vms.get_mut(&id) {
                vm.recorded = written.recorded;
                // The others may have received the row after a later message.
                state.share(&id);
            }
        }
        drop(state);
        self.progress.notify_waiters();
    }

    /// Notes that the tables of [`Proxies::take_unsaved`] could not be written.
    pub fn not_saved(&self, records: Vec<ProxyRecord>) {
        let mut state = self.state.lock();
        let now = Instant::now();
        state.unsaved.extend(records.into_iter().map(|record| remember(record, now).0));
    }

    /// Returns the tables that have to be removed from the store.
    pub fn take_forgotten(&self) -> Vec<ProxyRecord> {
        std::mem::take(&mut self.state.lock().forgotten)
    }

    /// Notes that the tables of [`Proxies::take_forgotten`] could not be removed.
    pub fn not_forgotten(&self, records: Vec<ProxyRecord>) {
        self.state.lock().forgotten.extend(records);
    }

    /// Returns every table that counts, by node and instance.
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

    /// Returns the number of instances in contact, and the number of those that are not and may still serve.
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

    /// Returns the moment by this service's clock.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

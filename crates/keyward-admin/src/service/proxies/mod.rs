//! Filter VMs: who is in contact, what each has applied, and until when those out of contact may serve.
//!
//! Each poll says what its VM has applied, and its answer is contact. A VM is in contact while a poll of it waits here
//! (or at another replica), and for a moment after: long enough to apply an answer and ask again, or to open another
//! connection. Afterwards it is unreachable until its own limit of staleness makes it refuse everything, and then gone.
//! A VM counts from its second request on, or where its first says that it has applied something: Envoy's canary VM,
//! whose only request is dropped again, never does.

mod cluster;
mod receipt;
#[cfg(test)]
mod tests;
mod vm;

pub use cluster::Message;
pub use receipt::Applied;
pub use vm::{ContactState, PollHeaders, ProxyView, VmId};

use crate::clock::Clock;
use crate::store::proxies::ProxyRecord;
use cluster::Replicas;
use keyward_policy::timestamp::Timestamp;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use vm::Vm;

/// How long after an answer a VM may take to ask again: it leaves `of` within five seconds of a lost connection.
const GRACE_ANSWERED: Duration = Duration::from_secs(4);
/// How long after a dropped poll: a new plugin config, or a lost connection that is opened again.
const GRACE_DROPPED: Duration = Duration::from_secs(1);
/// How long an answer may have been under way before its VM took it for contact.
const DELIVERY: Duration = Duration::from_secs(5);
/// How long another replica that has fallen silent may still have given contact: the time after which it gives none
/// without the store, and that between two of its signs of life.
const SILENT_CONTACT: Duration = Duration::from_secs(5);
/// VMs that never counted, or are gone, are forgotten after this long.
const FORGET: Duration = Duration::from_secs(3600);
/// No more VMs than this are told apart; beyond, receipts say that they do not know.
const MOST: usize = 200_000;

/// All filter VMs that this service knows of.
pub struct Proxies {
    clock: Clock,
    state: Mutex<State>,
    /// Something about a VM changed that a receipt may wait for.
    changed: Notify,
    /// The service stops: receipts say what is known by now.
    closing: AtomicBool,
}

struct State {
    vms: HashMap<VmId, Vm>,
    /// To be told to the other replicas.
    unshared: HashSet<VmId>,
    /// Being told to them.
    under_way: Vec<VmId>,
    /// To be written to the store.
    unsaved: HashSet<VmId>,
    forgotten: Vec<VmId>,
    /// None where no other replica can serve the store.
    replicas: Option<Replicas>,
    overflow: bool,
}

/// A poll that is being served. Dropped without [`PollGuard::answered`]: its connection is gone.
pub struct PollGuard {
    proxies: Arc<Proxies>,
    id: VmId,
    answered: Option<(bool, u64)>,
    /// What it says to have applied, where this service knew of less: true if the store has an answer to it.
    ahead: Option<u64>,
}

impl Proxies {
    /// Starts with the VMs that the store remembers. Those in contact when it was last written may have been until now.
    pub fn new(clock: Clock, known: Vec<ProxyRecord>, shared: bool) -> Arc<Self> {
        let now = clock.now();
        let vms = known.into_iter().map(|record| vm::remember(record, now)).collect();
        let replicas = shared.then(Replicas::default);
        let state = State {
            vms,
            unshared: HashSet::new(),
            under_way: Vec::new(),
            unsaved: HashSet::new(),
            forgotten: Vec::new(),
            replicas,
            overflow: false,
        };
        Arc::new(Self { clock, state: Mutex::new(state), changed: Notify::new(), closing: AtomicBool::new(false) })
    }

    /// A VM asks for what follows `since`, where the store is at `head` as far as is known. Whether it had no answer yet,
    /// and the guard to hold until it gets one.
    pub fn begin(
        self: &Arc<Self>,
        headers: &PollHeaders,
        since: u64,
        base: u64,
        head: u64,
    ) -> (bool, Option<PollGuard>) {
        let Some(id) = headers.id() else { return (false, None) };
        let mut state = self.state.lock();
        if !state.vms.contains_key(&id) && state.vms.len() >= MOST {
            state.overflow = true;
            return (true, None);
        }
        let now = self.clock.now();
        let vm = state.vms.entry(id.clone()).or_insert_with(|| Vm::new(now));
        let first = vm.is_new_here();
        let news = vm.asks(headers, since, base, head);
        if news.save {
            state.unsaved.insert(id.clone());
        }
        if news.share {
            state.unshared.insert(id.clone());
        }
        drop(state);
        if news.share {
            self.changed.notify_waiters();
        }
        let ahead = (since > head && base == since).then_some(since);
        (first, Some(PollGuard { proxies: Arc::clone(self), id, answered: None, ahead }))
    }

    fn end(&self, id: &VmId, answered: Option<(bool, u64)>, ahead: Option<u64>) {
        let now = self.clock.now();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(vm) = state.vms.get_mut(id) else { return };
        vm.ends(answered, now);
        if let (Some(_), Some(applied)) = (answered, ahead)
            && vm.has_applied(applied)
        {
            state.unshared.insert(id.clone());
            drop(guard);
            self.changed.notify_waiters();
        }
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
        let (instant, now) = (Instant::now(), self.clock.now());
        let mut news = false;
        let replicas = &state.replicas;
        state.vms.retain(|id, vm| {
            let here = vm.in_contact_here(instant);
            if here != vm.was_in_contact_here {
                vm.was_in_contact_here = here;
                if vm.counted {
                    state.unshared.insert(id.clone());
                    state.unsaved.insert(id.clone());
                    news = true;
                }
            }
            let keep = vm.is_worth_keeping(instant, now, replicas.as_ref());
            if !keep {
                state.forgotten.push(id.clone());
                state.unsaved.remove(id);
            }
            keep
        });
        drop(guard);
        if news {
            self.changed.notify_waiters();
        }
    }

    /// What is to be written to the store since the last call: the changed, and the forgotten.
    pub fn take_unsaved(&self) -> (Vec<ProxyRecord>, Vec<(String, String)>) {
        let mut state = self.state.lock();
        let mut ids: Vec<VmId> = state.unsaved.drain().collect();
        // In one order, so that two replicas never wait for each other's rows.
        ids.sort_unstable();
        let gone: Vec<VmId> = state.forgotten.drain(..).collect();
        // Who came back meanwhile stays.
        let gone = gone.into_iter().filter(|id| !state.vms.contains_key(id));
        let mut forgotten: Vec<(String, String)> = gone.map(|id| (id.node.to_string(), id.vm.to_string())).collect();
        forgotten.sort_unstable();
        let (instant, replicas) = (Instant::now(), state.replicas.as_ref());
        let changed = ids.iter().filter_map(|id| Some(state.vms.get(id)?.record(id, instant, replicas))).collect();
        (changed, forgotten)
    }

    /// What [`Proxies::take_unsaved`] gave could not be written: it is to be written later.
    pub fn not_saved(&self, changed: &[ProxyRecord], forgotten: Vec<(String, String)>) {
        let id = |node: &str, vm: &str| VmId { node: node.into(), vm: vm.into() };
        let mut state = self.state.lock();
        state.unsaved.extend(changed.iter().map(|record| id(&record.node, &record.vm)));
        state.forgotten.extend(forgotten.iter().map(|(node, vm)| id(node, vm)));
    }

    /// Every VM that counts, by node and name.
    pub fn list(&self) -> Vec<ProxyView> {
        let state = self.state.lock();
        let (instant, now) = (Instant::now(), self.clock.now());
        let mut views: Vec<ProxyView> = state
            .vms
            .iter()
            .filter(|(_, vm)| vm.counted)
            .map(|(id, vm)| vm.view(id, vm.state(instant, now, state.replicas.as_ref()), state.replicas.as_ref()))
            .collect();
        views.sort_unstable_by(|a, b| (&a.node, &a.vm).cmp(&(&b.node, &b.vm)));
        views
    }

    /// How many VMs are in contact, and how many are not and may still serve.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        let (instant, now) = (Instant::now(), self.clock.now());
        let mut counts = (0, 0);
        for vm in state.vms.values().filter(|vm| vm.counted) {
            match vm.state(instant, now, state.replicas.as_ref()) {
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

impl PollGuard {
    /// A page went out: with `more` to fetch, leading to `revision`.
    pub fn answered(mut self, more: bool, revision: u64) {
        self.answered = Some((more, revision));
    }
}

impl Drop for PollGuard {
    fn drop(&mut self) {
        self.proxies.end(&self.id, self.answered, self.ahead);
    }
}

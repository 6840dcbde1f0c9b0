//! The fetched keys of one admin service, as the main thread changes them and workers read them.
//!
//! Each worker takes the lock of a shard of its own ([`ShardedLock`]), so that workers do not wait for each other. They wait
//! while the main thread changes what they read, so the main thread keeps that short: it reads and collects a page before
//! it takes the locks, moves committed changes to their places a few at a time, and frees old tables afterwards.

use crate::guard;
use crate::primitives::{Mutex, ShardedLock, ShardedLockReadGuard};
use keyward_policy::sync::{Event, ManifestSync, Outcome, Received, RequestId};
use keyward_policy::table::KeyTable;
use keyward_policy::timestamp::Timestamp;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;
use std::time::Duration;

/// The number of committed changes that are moved while workers wait.
const SETTLE_STEP: usize = 32;

/// The number of such steps in one tick.
const STEPS: usize = 16;

/// The state, for as long as a reader looks at it.
pub type Reading<'a> = ShardedLockReadGuard<'a, ManifestSync>;

/// The state of synchronization, shared by all threads.
pub struct Keys {
    sync: ShardedLock<ManifestSync>,
    /// The tables that nobody reads any more.
    retired: Mutex<Vec<KeyTable>>,
}

impl Keys {
    /// Begins without keys. Processes with different seeds make different pauses.
    pub fn new(seed: u64) -> Self {
        let mut sync = ManifestSync::new(seed);
        sync.set_settle_step(SETTLE_STEP);
        Self { sync: ShardedLock::new(sync), retired: Mutex::default() }
    }

    /// Returns the state. `None` means that giving the keys up failed in its turn (see [`change`](Self::change)): what is
    /// there cannot be trusted, until Envoy starts anew.
    pub fn read(&self) -> Option<Reading<'_>> {
        self.sync.read().ok()
    }

    /// Changes the state, while all workers wait. A change that panics may have come halfway, so all keys are given up
    /// before anybody reads them, and are loaded again.
    pub fn change<R>(&self, change: impl FnOnce(&mut ManifestSync) -> R) -> R {
        let mut sync = self.sync.write().unwrap_or_else(PoisonError::into_inner);
        catch_unwind(AssertUnwindSafe(|| change(&mut sync))).unwrap_or_else(|panic| {
            guard::planted("giving_up");
            let table = sync.abandon();
            drop(sync);
            drop(table);
            resume_unwind(panic)
        })
    }

    /// Applies the outcome of a request. Workers wait for neither the reading nor the collecting of its page.
    pub fn on_outcome(
        &self,
        id: RequestId,
        outcome: &Outcome<'_>,
        now: Duration,
        wall: Timestamp,
        events: &mut Vec<Event>,
    ) {
        self.take(id, outcome, Received::collect, |sync, received| sync.apply(received, outcome, now, wall, events));
    }

    /// Takes the outcome of a request: `collect` runs beside the workers, and `apply` while they wait.
    pub fn take<'a>(
        &self,
        id: RequestId,
        outcome: &Outcome<'a>,
        collect: impl FnOnce(&mut Received<'a>, Option<&KeyTable>),
        apply: impl FnOnce(&mut ManifestSync, &mut Received<'a>),
    ) {
        let Some(since) = self.read().and_then(|sync| sync.since(id)) else { return };
        let mut received = Received::read(id, since, outcome);
        self.change(|sync| sync.lend(&mut received));
        if let Some(sync) = self.read() {
            collect(&mut received, sync.last_table());
        }
        guard::planted("collected");
        self.change(|sync| {
            apply(sync, &mut received);
            guard::planted("applied");
        });
    }

    /// Does a part of the work that was put off, and returns whether there is more. Called at every tick.
    pub fn work(&self) -> bool {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let mut busy = true;
        for _ in 0..STEPS {
            busy = busy
                && self.change(|sync| {
                    retired.append(&mut sync.take_retired());
                    sync.work()
                });
        }
        if let Some(table) = retired.last_mut()
            && !table.dismantle()
        {
            retired.pop();
        }
        busy || !retired.is_empty()
    }
}

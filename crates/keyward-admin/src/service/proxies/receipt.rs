//! The receipt of a change: how many VMs have applied it, and by when all others refuse.

use super::{ContactState, Proxies};
use keyward_policy::timestamp::Timestamp;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// How far a change has come. It speaks of requests that begin afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// VMs in contact that have applied it.
    pub vms: u64,
    /// VMs in contact; none: this replica cannot see those of the others.
    pub of: Option<u64>,
    /// VMs that were in contact lately and are not now.
    pub unreachable: u64,
    /// By when every VM refuses what the change took away, even those that never hear of it; none: one has no limit,
    /// or not all can be seen.
    pub refused_everywhere_by: Option<Timestamp>,
}

impl Applied {
    /// Whether every VM in contact has applied it.
    pub fn is_complete(&self) -> bool {
        self.of == Some(self.vms)
    }
}

/// VMs acknowledge in bursts: whoever waits for all of them counts once for many.
const BURST: Duration = Duration::from_millis(1);
/// How often a receipt looks again without news: a VM leaves by the clock.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Proxies {
    /// How far `revision` has come by now.
    pub fn applied(&self, revision: u64) -> Applied {
        let state = self.state.lock();
        let (instant, now) = (Instant::now(), self.now());
        let replicas = state.replicas.as_ref();
        let mut applied = Applied { vms: 0, of: Some(0), unreachable: 0, refused_everywhere_by: Some(now) };
        let mut of = 0;
        for vm in state.vms.values().filter(|vm| vm.counted) {
            let has = vm.applied >= revision;
            let last_contact = match vm.state(instant, now, replicas) {
                ContactState::InContact => {
                    of += 1;
                    applied.vms += u64::from(has);
                    // Cut off this moment, it would serve for its whole limit.
                    now
                }
                ContactState::Unreachable => {
                    applied.unreachable += 1;
                    vm.last_contact(replicas)
                }
                ContactState::Gone => continue,
            };
            if !has {
                let by = vm.refuses_by(last_contact, replicas);
                applied.refused_everywhere_by = applied.refused_everywhere_by.zip(by).map(|(all, by)| all.max(by));
            }
        }
        let sees_all = !state.overflow && replicas.is_none_or(|replicas| replicas.sees_all(instant));
        applied.of = sees_all.then_some(of);
        if !sees_all {
            applied.refused_everywhere_by = None;
        }
        applied
    }

    /// Waits until every VM in contact has applied `revision`, for `wait` at most, and no longer than the service runs: a
    /// regenerated key is in no other answer.
    pub async fn receipt(&self, revision: u64, wait: Duration) -> Applied {
        let deadline = Instant::now() + wait;
        loop {
            let changed = self.changed.notified();
            let applied = self.applied(revision);
            if applied.is_complete() || Instant::now() >= deadline || self.closing.load(Ordering::Acquire) {
                return applied;
            }
            let look_again = (Instant::now() + LOOK_AGAIN).min(deadline);
            if tokio::time::timeout_at(look_again, changed).await.is_ok() {
                tokio::time::sleep(BURST).await;
            }
        }
    }
}

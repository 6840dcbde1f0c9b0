//! The receipt of a change: how many VMs have applied it, and by when all others refuse.

use super::vm::shown;
use super::{ContactState, Proxies};
use keyward_policy::timeline::{Enforcement, InlineKeys};
use keyward_policy::timestamp::Timestamp;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// How far a change has come. It speaks of requests that begin afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// VMs in contact that have applied it.
    pub vms: u64,
    /// VMs in contact. `None` means that this replica cannot see those of the others.
    pub of: Option<u64>,
    /// VMs that were in contact lately and are not now.
    pub unreachable: u64,
    /// By when every VM refuses what the change took away, even those that never hear of it. `None` means that this
    /// cannot be said; `doubts` says why.
    pub refused_everywhere_by: Option<Timestamp>,
    /// What keeps the service from naming a time.
    pub doubts: Doubts,
}

/// Why no time can be named, as numbers of VMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Doubts {
    /// VMs in shadow mode: they refuse nothing.
    pub shadow: u64,
    /// VMs whose configuration has keys of its own, which answer whatever the store says.
    pub inline_keys: u64,
    /// VMs of older filters, which do not say in which mode they are.
    pub older_filters: u64,
    /// VMs for which two polls disagree.
    pub disputed: u64,
    /// VMs without a limit of staleness that have not applied the change.
    pub no_limit: u64,
    /// Whether the store went back and the change may be lost.
    pub store_went_back: bool,
    /// Whether the store may have lost rows of tables that still serve: this process started, or listens, or saw the store
    /// go back, less than the longest `max_staleness` ago.
    pub rows_unsure: bool,
    /// Whether this replica cannot see the VMs of the others.
    pub replicas_unseen: bool,
}

impl Doubts {
    /// The doubts that there are, by name, with the number of VMs where that is what counts.
    pub fn reasons(&self) -> Vec<(&'static str, Option<u64>)> {
        let counts = [
            ("shadow_mode", self.shadow),
            ("inline_keys", self.inline_keys),
            ("older_filter", self.older_filters),
            ("disputed", self.disputed),
            ("no_staleness_limit", self.no_limit),
        ];
        let flags = [
            ("store_went_back", self.store_went_back),
            ("started_lately", self.rows_unsure),
            ("replicas_unseen", self.replicas_unseen),
        ];
        let counts = counts.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name, Some(count)));
        counts.chain(flags.into_iter().filter(|(_, is)| *is).map(|(name, _)| (name, None))).collect()
    }
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
        self.applied_since(revision, Instant::now())
    }

    /// The same, where the change was committed no later than `committed`: a VM that has not applied it had its last
    /// contact before, for contact is a time at which its table was up to date.
    fn applied_since(&self, revision: u64, committed: Instant) -> Applied {
        let state = self.state.lock();
        let now = Instant::now();
        let replicas = state.replicas.as_ref();
        let mut doubts = Doubts::default();
        let (mut vms, mut of, mut unreachable, mut by) = (0, 0, 0, now);
        for vm in state.vms.values() {
            if !vm.counted {
                // It may be a VM that Envoy has thrown away, or one that serves.
                let limit = vm.told.max_staleness;
                let is_over = limit.and_then(|limit| vm.contact.checked_add(limit)).is_some_and(|by| by <= now);
                doubts.older_filters += u64::from(vm.may_hold && !is_over);
                continue;
            }
            let has = vm.applied >= Some(revision);
            let last_contact = match vm.state(now, replicas) {
                ContactState::InContact => {
                    of += 1;
                    vms += u64::from(has);
                    now
                }
                ContactState::Unreachable => {
                    unreachable += 1;
                    vm.last_contact(replicas)
                }
                ContactState::Gone => {
                    // Gone by what is known here, but perhaps not by what another replica has yet to tell.
                    let untold = replicas.and_then(|all| vm.refuses_by(all.last_heard()?.min(committed)));
                    if let (false, Some(refuses)) = (has, untold) {
                        by = by.max(refuses);
                    }
                    continue;
                }
            };
            doubts.shadow += u64::from(vm.told.mode == Some(Enforcement::Shadow));
            doubts.inline_keys +=
                u64::from(matches!(vm.told.inline_keys, Some(InlineKeys::Fallback | InlineKeys::Always)));
            doubts.older_filters += u64::from(vm.told.mode.is_none() || vm.told.inline_keys.is_none());
            doubts.disputed += u64::from(vm.is_disputed(now));
            if !has {
                match vm.refuses_by(
                    replicas
                        .and_then(|all| all.last_heard())
                        .map_or(last_contact, |at| at.max(last_contact))
                        .min(committed),
                ) {
                    Some(refuses) => by = by.max(refuses),
                    None => doubts.no_limit += u64::from(vm.told.max_staleness.is_none()),
                }
            }
        }
        doubts.store_went_back = !state.timeline.holds(revision);
        doubts.rows_unsure = state.rows_unsure_until.is_some_and(|until| now < until);
        doubts.replicas_unseen = state.overflow
            || !replicas.is_none_or(|replicas| replicas.sees_all(now) && state.heard_changes >= revision);
        let is_certain = doubts == Doubts::default();
        let refused_everywhere_by = is_certain.then(|| shown(by, now, self.now()));
        let of = (!doubts.replicas_unseen).then_some(of);
        Applied { vms, of, unreachable, refused_everywhere_by, doubts }
    }

    /// Waits until every VM in contact has applied `revision`, for `wait` at most, and no longer than the service runs: a
    /// regenerated key is in no other answer.
    pub async fn receipt(&self, revision: u64, wait: Duration) -> Applied {
        let begun = Instant::now();
        let deadline = begun + wait;
        let forks = self.forks();
        loop {
            let changed = self.changed.notified();
            let mut applied = self.applied_since(revision, begun);
            if self.forks() != forks {
                applied.doubts.store_went_back = true;
                applied.refused_everywhere_by = None;
                return applied;
            }
            let is_settled = applied.is_complete() && !applied.doubts.store_went_back;
            if is_settled || Instant::now() >= deadline || self.closing.load(Ordering::Acquire) {
                return applied;
            }
            let look_again = (Instant::now() + LOOK_AGAIN).min(deadline);
            if tokio::time::timeout_at(look_again, changed).await.is_ok() {
                tokio::time::sleep(BURST).await;
            }
        }
    }
}

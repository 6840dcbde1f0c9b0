//! The receipt of a change: how many instances have applied it, and by when all others refuse.

use super::registry::Proxies;
use super::told::TableId;
use super::vm::{ContactState, shown};
use keyward_policy::timeline::{Enforcement, InlineKeys};
use keyward_policy::timestamp::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

/// How far a change has spread. It is about requests that begin afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// The number of instances in contact that have applied the change.
    pub vms: u64,
    /// The number of instances in contact. `None` means that this replica does not know those of the others.
    pub of: Option<u64>,
    /// The number of instances that are not in contact and may still serve.
    pub unreachable: u64,
    /// The time by which every instance refuses what the change took away, even one that never receives it. `None`
    /// means that no time can be named; `doubts` says why.
    pub refused_everywhere_by: Option<Timestamp>,
    /// The reasons that keep the service from naming a time.
    pub doubts: Doubts,
}

/// What the log says where the list of instances is not known to be complete.
pub(crate) const VMS_MAY_BE_MISSING: &str = "filter instances may be missing in the store's list, because it failed over, came from \
    backup, or was kept by an older version: receipts name no time until somebody confirms the list, on the page Proxies or \
    by `keyward proxies confirm`";

/// The reasons why no time can be named, as numbers of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Doubts {
    /// Instances in shadow mode, which refuse nothing.
    pub shadow: u64,
    /// Instances whose configuration has inline keys, which work independently of the store.
    pub inline_keys: u64,
    /// Instances of older filters, which do not state their mode.
    pub older_filters: u64,
    /// Instances whose polls disagree.
    pub disputed: u64,
    /// Instances without a limit of staleness that have not applied the change.
    pub no_limit: u64,
    /// Whether the store went back and the change may be lost.
    pub store_went_back: bool,
    /// Whether unknown tables may serve: the store failed over, came from a backup, or was kept by an older version,
    /// and nobody has confirmed since then that its list is complete.
    pub vms_may_be_missing: bool,
    /// Whether this replica does not know the instances of the others.
    pub replicas_unseen: bool,
}

impl Doubts {
    /// Returns the existing doubts by name, with the number of instances where the doubt is about instances.
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
            ("vms_may_be_missing", self.vms_may_be_missing),
            ("replicas_unseen", self.replicas_unseen),
        ];
        let counts = counts.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name, Some(count)));
        counts.chain(flags.into_iter().filter(|(_, is)| *is).map(|(name, _)| (name, None))).collect()
    }
}

impl Applied {
    /// Returns whether every instance in contact has applied the change.
    pub fn is_complete(&self) -> bool {
        self.of == Some(self.vms)
    }
}

/// The time for which acknowledgements are gathered before a receipt is counted again, because they arrive in bursts.
const BURST: Duration = Duration::from_millis(1);
/// The interval at which a receipt is counted again without changes, because instances leave by the clock.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Proxies {
    /// Returns how far `revision` has spread by now.
    pub fn applied(&self, revision: u64) -> Applied {
        self.count(revision, Instant::now()).0
    }

    /// Returns how far `revision` has spread, for a change that was committed no later than `committed`, and a table in
    /// contact that has not applied it. The last contact of an instance that has not applied it was earlier, because
    /// contact is a time at which its table was up to date.
    fn count(&self, revision: u64, committed: Instant) -> (Applied, Option<TableId>) {
        let state = self.state.lock();
        let now = Instant::now();
        let replicas = state.replicas.as_ref();
        let mut doubts = Doubts::default();
        let (mut vms, mut of, mut unreachable, mut by) = (0, 0, 0, now);
        let mut lacking = None;
        for (id, vm) in &state.vms {
            let contact = vm.state(now, replicas);
            if !vm.counted {
                // Envoy may have discarded this instance, or it may serve.
                doubts.older_filters += u64::from(vm.may_hold && contact != ContactState::Gone);
                continue;
            }
            let has = vm.applied >= Some(revision);
            match contact {
                ContactState::InContact => {
                    of += 1;
                    vms += u64::from(has);
                    if !has {
                        lacking = lacking.or(Some(id));
                    }
                }
                ContactState::Unreachable => unreachable += 1,
                ContactState::Gone => continue,
            }
            doubts.shadow += u64::from(vm.told.mode == Some(Enforcement::Shadow));
            doubts.inline_keys +=
                u64::from(matches!(vm.told.inline_keys, Some(InlineKeys::Fallback | InlineKeys::Always)));
            doubts.older_filters += u64::from(vm.told.mode.is_none() || vm.told.inline_keys.is_none());
            doubts.disputed += u64::from(vm.is_disputed(now));
            if !has {
                let last = if contact == ContactState::InContact { now } else { vm.last_contact(replicas) };
                match vm.refuses_by(last.min(committed)) {
                    Some(refuses) => by = by.max(refuses),
                    None => doubts.no_limit += u64::from(vm.told.max_staleness.is_none()),
                }
            }
        }
        doubts.store_went_back = !state.timeline.holds(revision);
        doubts.vms_may_be_missing = state.missing_since.is_some();
        doubts.replicas_unseen =
            !replicas.is_none_or(|replicas| replicas.sees_all(now) && state.heard_changes >= revision);
        let is_certain = doubts == Doubts::default();
        let refused_everywhere_by = is_certain.then(|| shown(by, now, self.now()));
        let of = (!doubts.replicas_unseen).then_some(of);
        (Applied { vms, of, unreachable, refused_everywhere_by, doubts }, lacking.cloned())
    }

    /// Returns whether a table is in contact and has not applied `revision`, so that no receipt of it is complete.
    fn lacks(&self, id: &TableId, revision: u64) -> bool {
        let state = self.state.lock();
        let Some(vm) = state.vms.get(id).filter(|vm| vm.counted && vm.applied < Some(revision)) else { return false };
        vm.state(Instant::now(), state.replicas.as_ref()) == ContactState::InContact
    }

    /// Waits until every instance in contact has applied `revision`, for at most `wait`, and ends when the service
    /// stops, because the answer with a regenerated key exists only once.
    pub async fn receipt(&self, revision: u64, wait: Duration) -> Applied {
        let begun = Instant::now();
        let deadline = begun + wait;
        let moves = self.moves();
        let mut lacking: Option<TableId> = None;
        loop {
            let changed = self.changed.notified();
            let ends = Instant::now() >= deadline || self.is_closing() || self.moves() != moves;
            // While one table lacks the change there is no need to count all: ten thousand acknowledge one by one.
            if ends || !lacking.as_ref().is_some_and(|id| self.lacks(id, revision)) {
                let mut applied;
                (applied, lacking) = self.count(revision, begun);
                if self.moves() != moves {
                    applied.doubts.store_went_back = true;
                    applied.refused_everywhere_by = None;
                    return applied;
                }
                let is_settled = applied.is_complete() && !applied.doubts.store_went_back;
                if is_settled || ends {
                    return applied;
                }
            }
            let look_again = (Instant::now() + LOOK_AGAIN).min(deadline);
            if tokio::time::timeout_at(look_again, changed).await.is_ok() {
                tokio::time::sleep(BURST).await;
            }
        }
    }
}

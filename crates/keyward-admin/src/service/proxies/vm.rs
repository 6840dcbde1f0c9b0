//! One filter VM.

use super::cluster::Replicas;
use super::{DELIVERY, FORGET, GRACE_ANSWERED, GRACE_DROPPED, SILENT_CONTACT};
use crate::store::proxies::ProxyRecord;
use keyward_policy::timestamp::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Which VM: the Envoy it runs in, and its own name, which no other VM ever has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VmId {
    /// Of `x-keyward-node`.
    pub node: Arc<str>,
    /// Of `x-keyward-vm`.
    pub vm: Arc<str>,
}

/// What a poll says of the VM that sends it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PollHeaders {
    /// `x-keyward-node`.
    pub node: Option<String>,
    /// `x-keyward-vm`; whoever sends none is no filter and is not counted.
    pub vm: Option<String>,
    /// `x-keyward-realm`.
    pub realm: Option<String>,
    /// `x-keyward-filter`: its version.
    pub filter: Option<String>,
    /// `x-keyward-max-staleness`; none: no limit, or none that we know.
    pub max_staleness: Option<Duration>,
}

impl PollHeaders {
    pub(super) fn id(&self) -> Option<VmId> {
        let vm = self.vm.as_deref()?.into();
        Some(VmId { node: self.node.as_deref().unwrap_or_default().into(), vm })
    }
}

/// Whether a VM can be told of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContactState {
    /// It asks, and is told at once.
    InContact,
    /// It has not asked for some seconds, and may serve what it knew.
    Unreachable,
    /// It has been out of contact for longer than its limit of staleness: it serves nothing any more.
    Gone,
}

impl ContactState {
    /// How the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InContact => "in_contact",
            Self::Unreachable => "unreachable",
            Self::Gone => "gone",
        }
    }
}

/// A VM as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyView {
    /// Which Envoy.
    pub node: String,
    /// Which of its VMs.
    pub vm: String,
    /// Version of the filter; empty: not told.
    pub filter: String,
    /// The newest revision it has applied; 0: none yet.
    pub applied: u64,
    /// Its last contact.
    pub last_contact_at: Timestamp,
    /// How long it serves without contact; none: for ever.
    pub max_staleness: Option<Duration>,
    /// When it refuses everything at the latest, if no contact follows; none: never.
    pub refuses_by: Option<Timestamp>,
    /// Whether it can be told of a change.
    pub state: ContactState,
}

/// What another replica says of a VM.
#[derive(Debug, Clone)]
pub(super) struct Elsewhere {
    pub replica: Arc<str>,
    pub in_contact: bool,
}

#[derive(Debug)]
pub(super) struct Vm {
    pub filter: String,
    pub max_staleness: Option<Duration>,
    pub applied: u64,
    /// It is a VM that serves, and not the canary.
    pub counted: bool,
    pub last_contact_at: Timestamp,
    pub was_in_contact_here: bool,
    pub elsewhere: Vec<Elsewhere>,
    /// Polls of it that wait here.
    open: u32,
    /// It is in contact here until then, even with no poll.
    grace: Option<Instant>,
    /// The last answer from here: whether more was to follow, and up to which revision it went.
    last_answer: Option<(bool, u64)>,
    touched: Instant,
}

/// What a poll tells that was not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct News {
    /// Something that receipts and the other replicas want to know.
    pub share: bool,
    /// Something that the store keeps.
    pub save: bool,
}

/// A VM that the store remembers.
pub(super) fn remember(record: ProxyRecord, now: Timestamp) -> (VmId, Vm) {
    let id = VmId { node: record.node.into(), vm: record.vm.into() };
    let mut vm = Vm::new(now);
    vm.filter = record.filter;
    vm.max_staleness = record.max_staleness;
    vm.applied = record.applied;
    vm.counted = true;
    vm.last_contact_at = if record.in_contact { now } else { record.last_contact_at };
    (id, vm)
}

impl Vm {
    pub fn new(now: Timestamp) -> Self {
        Self {
            filter: String::new(),
            max_staleness: None,
            applied: 0,
            counted: false,
            last_contact_at: now,
            was_in_contact_here: false,
            elsewhere: Vec::new(),
            open: 0,
            grace: None,
            last_answer: None,
            touched: Instant::now(),
        }
    }

    /// Whether it has got nothing from here yet, and nothing is under way.
    pub fn is_new_here(&self) -> bool {
        self.open == 0 && self.last_answer.is_none()
    }

    /// It asks for what follows `since`, and the store is at `head`; what that tells that was not known.
    pub fn asks(&mut self, headers: &PollHeaders, since: u64, base: u64, head: u64) -> News {
        let filter = headers.filter.as_deref().unwrap_or_default();
        let differs = self.filter != filter || self.max_staleness != headers.max_staleness;
        let mut news = differs;
        if differs {
            filter.clone_into(&mut self.filter);
            self.max_staleness = headers.max_staleness;
        }
        // A poll that waits here and is asked again was lost on its way; both count until they end.
        self.open += 1;
        self.touched = Instant::now();
        if !self.counted && (since > 0 || self.last_answer.is_some()) {
            self.counted = true;
            news = true;
        }
        // While it loads or catches up page by page, the table in use is still the old one, and `base` tells it apart:
        // only a whole load or a whole catching up acknowledges.
        let loading = base != since || self.last_answer == Some((true, since));
        // Whoever is ahead of the store speaks of another one, which this one was before a backup was restored.
        if !loading && since <= head {
            news |= self.has_applied(since);
        }
        News { share: news && self.counted, save: differs && self.counted }
    }

    /// It has applied everything up to `revision`; whether that was not known.
    pub fn has_applied(&mut self, revision: u64) -> bool {
        let news = revision > self.applied;
        self.applied = self.applied.max(revision);
        news
    }

    /// A poll of it ended: with an answer, or with its connection.
    pub fn ends(&mut self, answered: Option<(bool, u64)>, now: Timestamp) {
        self.open = self.open.saturating_sub(1);
        self.touched = Instant::now();
        let grace = if answered.is_some() { GRACE_ANSWERED } else { GRACE_DROPPED };
        self.grace = Some(self.touched + grace);
        if answered.is_some() {
            self.last_answer = answered;
            self.last_contact_at = self.last_contact_at.max(now);
        }
    }

    pub fn in_contact_here(&self, now: Instant) -> bool {
        self.open > 0 || self.grace.is_some_and(|until| now < until)
    }

    fn in_contact_elsewhere(&self, instant: Instant, replicas: Option<&Replicas>) -> bool {
        let heard = |at: &Elsewhere| replicas.is_some_and(|all| all.is_heard(&at.replica, instant));
        self.elsewhere.iter().any(|at| at.in_contact && heard(at))
    }

    pub fn state(&self, instant: Instant, now: Timestamp, replicas: Option<&Replicas>) -> ContactState {
        if self.in_contact_here(instant) || self.in_contact_elsewhere(instant, replicas) {
            ContactState::InContact
        } else if self.refuses_by(self.last_contact(replicas), replicas).is_some_and(|by| by <= now) {
            ContactState::Gone
        } else {
            ContactState::Unreachable
        }
    }

    /// Its last contact. Of contact at another replica only the beginning and the end are told: while it lasts, each sign
    /// of life of that replica stands for one.
    pub fn last_contact(&self, replicas: Option<&Replicas>) -> Timestamp {
        let elsewhere = self.elsewhere.iter().filter(|at| at.in_contact);
        let heard = elsewhere.filter_map(|at| replicas?.heard_at(&at.replica)).max();
        heard.map_or(self.last_contact_at, |heard| heard.max(self.last_contact_at))
    }

    /// When it refuses everything, had it no contact after `last`.
    pub fn refuses_by(&self, last: Timestamp, replicas: Option<&Replicas>) -> Option<Timestamp> {
        let margin = if replicas.is_some() { DELIVERY + SILENT_CONTACT } else { DELIVERY };
        let limit = i64::try_from((self.max_staleness? + margin).as_millis()).ok()?;
        last.unix_ms().checked_add(limit).map(Timestamp::from_unix_ms)
    }

    pub fn is_worth_keeping(&self, instant: Instant, now: Timestamp, replicas: Option<&Replicas>) -> bool {
        if self.open > 0 {
            return true;
        }
        if !self.counted {
            return instant.duration_since(self.touched) < FORGET;
        }
        let forget = i64::try_from(FORGET.as_millis()).unwrap_or(i64::MAX);
        self.state(instant, now, replicas) != ContactState::Gone
            || self
                .refuses_by(self.last_contact(replicas), replicas)
                .is_none_or(|by| now.unix_ms() - by.unix_ms() < forget)
    }

    pub fn record(&self, id: &VmId, instant: Instant, replicas: Option<&Replicas>) -> ProxyRecord {
        ProxyRecord {
            node: id.node.to_string(),
            vm: id.vm.to_string(),
            filter: self.filter.clone(),
            max_staleness: self.max_staleness,
            applied: self.applied,
            // A VM that moved to another replica left this one, and did not lose contact.
            in_contact: self.was_in_contact_here || self.in_contact_elsewhere(instant, replicas),
            last_contact_at: self.last_contact(replicas),
        }
    }

    pub fn view(&self, id: &VmId, state: ContactState, replicas: Option<&Replicas>) -> ProxyView {
        let last_contact_at = self.last_contact(replicas);
        ProxyView {
            node: id.node.to_string(),
            vm: id.vm.to_string(),
            filter: self.filter.clone(),
            applied: self.applied,
            last_contact_at,
            max_staleness: self.max_staleness,
            refuses_by: self.refuses_by(last_contact_at, replicas),
            state,
        }
    }
}

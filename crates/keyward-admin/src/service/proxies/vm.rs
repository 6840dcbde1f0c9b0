//! One table of keys in a filter instance.

use super::limits::{DISPUTE, FORGET, GRACE_ANSWERED, GRACE_DROPPED};
use super::replicas::{Elsewhere, Replicas};
use super::timeline::{Timeline, Verdict};
use super::told::{Question, TableId, Told};
use crate::store::proxies::ProxyRecord;
use keyward_policy::timeline::{Enforcement, InlineKeys, Point};
use keyward_policy::timestamp::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

/// Whether an instance receives changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContactState {
    /// The instance polls and receives changes at once.
    InContact,
    /// The instance has not polled for some seconds and may serve its last keys.
    Unreachable,
    /// The instance has been out of contact for longer than its limit of staleness and serves no keys any more.
    Gone,
}

impl ContactState {
    /// Returns the API's name of the value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InContact => "in_contact",
            Self::Unreachable => "unreachable",
            Self::Gone => "gone",
        }
    }
}

/// A table as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyView {
    /// The Envoy that the instance runs in.
    pub node: String,
    /// The instance.
    pub vm: String,
    /// The name of the table in the instance, which is shown to nobody: whoever knows it could acknowledge for the
    /// table.
    pub table: String,
    /// The version of the filter. It is empty if the filter does not state it.
    pub filter: String,
    /// The newest revision that the table has applied. 0 means that none is known.
    pub applied: u64,
    /// The last contact, by this service's clock.
    pub last_contact_at: Timestamp,
    /// The time for which the instance serves without contact. `None` means no limit.
    pub max_staleness: Option<Duration>,
    /// The time by which the instance refuses everything if no contact follows. `None` means never.
    pub refuses_by: Option<Timestamp>,
    /// Whether the instance receives changes.
    pub state: ContactState,
    /// Whether the instance refuses requests. `None` means that it does not state it.
    pub mode: Option<Enforcement>,
    /// Whether the instance's configuration has inline keys. `None` means that it does not state it.
    pub inline_keys: Option<InlineKeys>,
    /// Whether polls for the table disagreed.
    pub disputed: bool,
}

/// The contents of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    /// Whether no more pages follow, so that the table is up to date after this one.
    pub complete: bool,
    /// The revision of the table after this answer.
    pub revision: u64,
    /// When the answer was last known to be true.
    pub as_of: Instant,
}

#[derive(Debug)]
pub(super) struct Vm {
    pub told: Told,
    /// The number of the newest poll.
    last_poll: Option<u64>,
    /// The newest revision of the store's timeline that the table has acknowledged.
    pub applied: Option<u64>,
    /// An acknowledgement that cannot be judged yet.
    pub pending: Option<Point>,
    /// Whether the instance has a complete table, or may have one.
    pub counted: bool,
    /// Whether an older filter received a complete table and has not polled again. Envoy may have discarded such an
    /// instance.
    pub may_hold: bool,
    /// A moment no earlier than the last one at which an answer from here brought the table up to date.
    pub contact: Instant,
    pub was_in_contact_here: bool,
    pub elsewhere: Vec<Elsewhere>,
    /// The table's polls that wait here, with what they acknowledge.
    open: Vec<(u64, Option<Point>)>,
    /// Until when the table is in contact here without a poll.
    grace: Option<Instant>,
    last_answer: Option<(bool, u64)>,
    touched: Instant,
    /// The contents of the table's row in the store.
    pub recorded: Option<Recorded>,
    /// When all other replicas were informed that the table is in contact here. `None` means that they were not.
    pub told_at: Option<Instant>,
    disputed_at: Option<Instant>,
}

/// A row of the store, as a process knows it.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    told: Told,
    counts: bool,
    stamp: i64,
    /// When this process learned of the row.
    pub at: Instant,
}

/// Creates a table from the store's row. It may have been in contact until this moment.
pub(super) fn remember(record: ProxyRecord, now: Instant) -> (TableId, Vm) {
    let id = TableId {
        node: record.node.into(),
        vm: record.vm.into(),
        table: record.table.into(),
        token: record.token.into(),
    };
    let mut vm = Vm::new(now);
    vm.told = Told {
        filter: record.filter,
        max_staleness: record.max_staleness,
        mode: record.mode,
        inline_keys: record.inline_keys,
    };
    vm.counted = record.counts;
    vm.may_hold = !record.counts;
    vm.is_written(record.stamp, now);
    (id, vm)
}

impl Vm {
    pub fn new(now: Instant) -> Self {
        Self {
            told: Told::default(),
            last_poll: None,
            applied: None,
            pending: None,
            counted: false,
            may_hold: false,
            contact: now,
            was_in_contact_here: false,
            elsewhere: Vec::new(),
            open: Vec::new(),
            grace: None,
            last_answer: None,
            touched: now,
            recorded: None,
            told_at: None,
            disputed_at: None,
        }
    }

    /// Returns whether the table has received nothing from this replica yet, and nothing is on its way.
    pub fn is_new_here(&self) -> bool {
        self.open.is_empty() && self.last_answer.is_none()
    }

    /// Takes in a poll. Returns whether it stated anything new.
    pub fn asks(
        &mut self,
        poll: u64,
        (number, told): (Option<u64>, Told),
        question: Question,
        is_older_filter: bool,
        timeline: &Timeline,
        now: Instant,
    ) -> bool {
        let Question { since, base, mark } = question;
        let point = mark.filter(|_| base == since).map(|mark| Point { revision: since, mark });
        // A poll that arrives after one that was sent later states outdated facts.
        let is_newest = number.is_none_or(|number| self.last_poll.is_none_or(|last| last < number));
        let mut news = false;
        if is_newest {
            self.last_poll = number;
            news |= self.told != told;
            self.told = told;
        }
        let loading = base != since || self.last_answer == Some((true, since));
        let claim = if is_older_filter {
            // Without a mark only the number can be compared.
            (!loading && since <= timeline.head().revision)
                .then_some(Point { revision: since, mark: Default::default() })
        } else {
            point
        };
        if self.open.iter().any(|(_, other)| claim.is_some() && other.is_some() && *other != claim) {
            self.disputed_at = Some(now);
        }
        self.open.push((poll, claim));
        self.touched = now;
        let holds = mark.is_some() || since > 0 || (is_older_filter && self.last_answer.is_some());
        if holds && !self.counted && (is_older_filter || mark.is_some()) {
            self.counted = true;
            news = true;
        }
        match claim {
            Some(point) if is_older_filter => news |= self.has_applied(point.revision),
            Some(point) if is_newest => news |= self.claims(point, timeline),
            _ => {}
        }
        news
    }

    /// Takes in an acknowledgement. Returns whether it is new.
    pub fn claims(&mut self, point: Point, timeline: &Timeline) -> bool {
        match timeline.judge(point) {
            Verdict::Passed => self.has_applied(point.revision),
            Verdict::Lost => false,
            Verdict::Unknown => {
                self.pending = self.pending.max(Some(point));
                false
            }
        }
    }

    /// Judges an acknowledgement again after the newest state has changed.
    pub fn judge_again(&mut self, timeline: &Timeline) -> bool {
        self.pending.take().is_some_and(|point| self.claims(point, timeline))
    }

    /// Drops the acknowledgements after the store went back, because acknowledged changes may be lost.
    pub fn forget_claims(&mut self) {
        self.applied = None;
        self.pending = None;
    }

    pub fn has_applied(&mut self, revision: u64) -> bool {
        let news = Some(revision) > self.applied;
        self.applied = self.applied.max(Some(revision));
        news
    }

    /// Notes that a complete table is about to be sent to the instance. Returns whether that is new.
    pub fn is_given(&mut self, is_older_filter: bool) -> bool {
        if is_older_filter {
            return !std::mem::replace(&mut self.may_hold, true) && !self.counted;
        }
        !std::mem::replace(&mut self.counted, true)
    }

    /// Returns whether the instance has a complete table, or may have one.
    pub fn may_serve(&self) -> bool {
        self.counted || self.may_hold
    }

    /// Notes that a poll ended, with an answer or with its connection.
    pub fn ends(&mut self, poll: u64, answered: Option<Answered>, now: Instant) -> bool {
        let at = self.open.iter().position(|(open, _)| *open == poll);
        let claim = at.and_then(|at| self.open.swap_remove(at).1);
        self.touched = now;
        self.grace = Some(now + if answered.is_some() { GRACE_ANSWERED } else { GRACE_DROPPED });
        let Some(answer) = answered else { return false };
        self.last_answer = Some((!answer.complete, answer.revision));
        if answer.complete {
            self.contact = self.contact.max(answer.as_of);
        }
        // The service answers only polls whose state led to the store's.
        let was_pending = claim.is_some() && self.pending == claim;
        was_pending && self.pending.take().is_some_and(|point| self.has_applied(point.revision))
    }

    pub fn in_contact_here(&self, now: Instant) -> bool {
        !self.open.is_empty() || self.grace.is_some_and(|until| now < until)
    }

    fn in_contact_elsewhere(&self, now: Instant, replicas: Option<&Replicas>) -> bool {
        let heard = |at: &Elsewhere| replicas.is_some_and(|all| all.is_heard(&at.replica, now));
        self.elsewhere.iter().any(|at| at.in_contact && heard(at))
    }

    /// Returns whether polls for the table disagree, or did so recently.
    pub fn is_disputed(&self, now: Instant) -> bool {
        let claims = || self.open.iter().filter_map(|(_, claim)| *claim);
        claims().any(|claim| claims().any(|other| other != claim))
            || self.disputed_at.is_some_and(|at| now.duration_since(at) < DISPUTE)
    }

    pub fn dispute(&mut self, now: Instant) {
        self.disputed_at = Some(now);
    }

    pub fn state(&self, now: Instant, replicas: Option<&Replicas>) -> ContactState {
        if self.in_contact_here(now) || self.in_contact_elsewhere(now, replicas) {
            ContactState::InContact
        } else if self.refuses_by(self.last_contact(replicas)).is_some_and(|by| by <= now) {
            ContactState::Gone
        } else {
            ContactState::Unreachable
        }
    }

    /// Returns a moment no earlier than the last contact. Replicas report only the beginning and the end of a contact,
    /// so that each message of the other replica counts as one while the contact lasts.
    pub fn last_contact(&self, replicas: Option<&Replicas>) -> Instant {
        let Some(replicas) = replicas else { return self.contact };
        let elsewhere = self.elsewhere.iter().filter(|at| at.in_contact);
        let heard = elsewhere.filter_map(|at| replicas.heard_at(&at.replica)).max();
        heard.max(replicas.stranger_heard_at()).map_or(self.contact, |heard| heard.max(self.contact))
    }

    /// Returns when the instance refuses everything if its last contact was at `last`.
    pub fn refuses_by(&self, last: Instant) -> Option<Instant> {
        last.checked_add(self.told.limit()?)
    }

    pub fn is_worth_keeping(&self, now: Instant, replicas: Option<&Replicas>) -> bool {
        if !self.open.is_empty() {
            return true;
        }
        if !self.may_serve() {
            return now.duration_since(self.touched) < FORGET;
        }
        self.state(now, replicas) != ContactState::Gone
            || self.refuses_by(self.last_contact(replicas)).is_none_or(|by| now < by + FORGET)
    }

    pub fn record(&self, id: &TableId, stamp: i64) -> ProxyRecord {
        ProxyRecord {
            node: id.node.to_string(),
            vm: id.vm.to_string(),
            table: id.table.to_string(),
            token: id.token.to_string(),
            filter: self.told.filter.clone(),
            max_staleness: self.told.max_staleness,
            mode: self.told.mode,
            inline_keys: self.told.inline_keys,
            counts: self.counted,
            stamp,
        }
    }

    /// Notes that the table's row in the store is up to date.
    pub fn is_written(&mut self, stamp: i64, now: Instant) {
        self.recorded = Some(Recorded { told: self.told.clone(), counts: self.counted, stamp, at: now });
    }

    /// Takes in the store's row of a known table. The table may have been in contact with another replica until now.
    pub fn take_row(&mut self, row: Self, now: Instant) {
        self.contact = now;
        self.counted |= row.counted;
        self.may_hold |= row.may_hold;
        if !self.in_contact_here(now) || row.told.serves_longer_than(&self.told) {
            self.told = row.told;
            self.recorded = row.recorded;
        }
    }

    /// Returns whether the store's row is complete.
    pub fn is_recorded(&self) -> bool {
        let is_as_now = |row: &Recorded| row.told == self.told && row.counts == self.counted;
        !self.may_serve() || self.recorded.as_ref().is_some_and(is_as_now)
    }

    /// Returns the contents of the store's row, if one was seen.
    pub fn row(&self, id: &TableId) -> Option<ProxyRecord> {
        self.recorded.as_ref().map(|row| self.record(id, row.stamp))
    }

    pub fn view(&self, id: &TableId, now: Instant, wall: Timestamp, replicas: Option<&Replicas>) -> ProxyView {
        let last = self.last_contact(replicas).min(now);
        ProxyView {
            node: id.node.to_string(),
            vm: id.vm.to_string(),
            table: id.table.to_string(),
            filter: self.told.filter.clone(),
            applied: self.applied.unwrap_or_default(),
            last_contact_at: shown(last, now, wall),
            max_staleness: self.told.max_staleness,
            refuses_by: self.refuses_by(last).map(|by| shown(by, now, wall)),
            state: self.state(now, replicas),
            mode: self.told.mode,
            inline_keys: self.told.inline_keys,
            disputed: self.is_disputed(now),
        }
    }
}

/// Converts a moment to the time of day, by its distance from now.
pub(super) fn shown(moment: Instant, now: Instant, wall: Timestamp) -> Timestamp {
    let ms = |distance: Duration| i64::try_from(distance.as_millis()).unwrap_or(i64::MAX);
    let at = if moment >= now {
        // The time is rounded up, so that it has surely passed when it is said to have passed.
        wall.unix_ms().saturating_add(ms(moment - now + Duration::from_micros(999)))
    } else {
        wall.unix_ms().saturating_sub(ms(now - moment))
    };
    Timestamp::from_unix_ms(at)
}

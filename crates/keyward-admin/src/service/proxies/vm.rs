//! One table of keys in a filter VM.

use super::limits::{DISPUTE, FORGET, GRACE_ANSWERED, GRACE_DROPPED};
use super::replicas::{Elsewhere, Replicas};
use super::timeline::{Timeline, Verdict};
use super::told::{Question, TableId, Told};
use crate::store::proxies::ProxyRecord;
use keyward_policy::timeline::{Enforcement, InlineKeys, Point};
use keyward_policy::timestamp::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

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

/// A table as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyView {
    /// The Envoy that the VM runs in.
    pub node: String,
    /// The VM.
    pub vm: String,
    /// The version of the filter. Empty means that it does not say.
    pub filter: String,
    /// The newest revision that it has applied; 0 means that none is known.
    pub applied: u64,
    /// Its last contact, by this service's clock.
    pub last_contact_at: Timestamp,
    /// How long it serves without contact. `None` means for ever.
    pub max_staleness: Option<Duration>,
    /// When it refuses everything at the latest, if no contact follows. `None` means never.
    pub refuses_by: Option<Timestamp>,
    /// Whether it can be told of a change.
    pub state: ContactState,
    /// Whether it refuses anything. `None` means that it does not say.
    pub mode: Option<Enforcement>,
    /// Whether its configuration has keys of its own. `None` means that it does not say.
    pub inline_keys: Option<InlineKeys>,
    /// Whether two polls for it told different things.
    pub disputed: bool,
}

/// What an answer was.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    /// Whether nothing more is to be fetched: the table in use is up to date once it is taken.
    pub complete: bool,
    /// The revision that it leads to.
    pub revision: u64,
    /// When it was last known to be true.
    pub as_of: Instant,
}

#[derive(Debug)]
pub(super) struct Vm {
    pub told: Told,
    /// The number of the newest poll that was understood.
    last_poll: Option<u64>,
    /// The newest revision of the store's timeline that it acknowledged.
    pub applied: Option<u64>,
    /// An acknowledgement that cannot be judged yet.
    pub pending: Option<Point>,
    /// It has a complete table, or may have.
    pub counted: bool,
    /// An older filter got a complete table and has not asked again: it may be a VM that Envoy has thrown away.
    pub may_hold: bool,
    /// No later than this the table was last brought up to date from here.
    pub contact: Instant,
    pub was_in_contact_here: bool,
    pub elsewhere: Vec<Elsewhere>,
    /// Polls of it that wait here, and what they acknowledge.
    open: Vec<(u64, Option<Point>)>,
    /// It is in contact here until then, even with no poll.
    grace: Option<Instant>,
    last_answer: Option<(bool, u64)>,
    touched: Instant,
    /// What the store holds of it.
    pub recorded: Option<Recorded>,
    /// Since when all other replicas have been told that it is in contact here. `None` means that they have not been.
    pub told_at: Option<Instant>,
    disputed_at: Option<Instant>,
}

/// A row of the store.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    told: Told,
    counts: bool,
    stamp: i64,
    /// When this process knew of the row.
    pub at: Instant,
}

/// A table that the store remembers. It may have been in contact until this moment.
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

    /// Whether it has got nothing from here yet, and nothing is under way.
    pub fn is_new_here(&self) -> bool {
        self.open.is_empty() && self.last_answer.is_none()
    }

    /// A poll came. Returns whether it told anything that was not known.
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
        // A poll that was sent before another one and arrives behind it tells what is no longer so.
        let is_newest = number.is_none_or(|number| self.last_poll.is_none_or(|last| last < number));
        let mut news = false;
        if is_newest {
            self.last_poll = number;
            news |= self.told != told;
            self.told = told;
        }
        let loading = base != since || self.last_answer == Some((true, since));
        let claim = if is_older_filter {
            // Without a mark the number is all that there is.
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

    /// It acknowledges a state. Returns whether that is news.
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

    /// The newest state is another one: what could not be judged may be now.
    pub fn judge_again(&mut self, timeline: &Timeline) -> bool {
        self.pending.take().is_some_and(|point| self.claims(point, timeline))
    }

    /// The store went back: what was acknowledged may have been lost.
    pub fn forget_claims(&mut self) {
        self.applied = None;
        self.pending = None;
    }

    pub fn has_applied(&mut self, revision: u64) -> bool {
        let news = Some(revision) > self.applied;
        self.applied = self.applied.max(Some(revision));
        news
    }

    /// A complete table is about to leave for it. Returns whether that is news.
    pub fn is_given(&mut self, is_older_filter: bool) -> bool {
        if is_older_filter {
            return !std::mem::replace(&mut self.may_hold, true) && !self.counted;
        }
        !std::mem::replace(&mut self.counted, true)
    }

    /// Whether it has a complete table, or may have.
    pub fn may_serve(&self) -> bool {
        self.counted || self.may_hold
    }

    /// A poll of it ended: with an answer, or with its connection.
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
        // The store answers only those whose state led to its own.
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

    /// Whether two polls for it disagree, or did so lately.
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

    /// No later than this it was last in contact. Of contact at another replica only the beginning and the end are told:
    /// while it lasts, each sign of life of that replica stands for one.
    pub fn last_contact(&self, replicas: Option<&Replicas>) -> Instant {
        let Some(replicas) = replicas else { return self.contact };
        let elsewhere = self.elsewhere.iter().filter(|at| at.in_contact);
        let heard = elsewhere.filter_map(|at| replicas.heard_at(&at.replica)).max();
        heard.max(replicas.stranger_heard_at()).map_or(self.contact, |heard| heard.max(self.contact))
    }

    /// When it refuses everything, had it no contact after `last`.
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

    /// The store has a row for it as it is now.
    pub fn is_written(&mut self, stamp: i64, now: Instant) {
        self.recorded = Some(Recorded { told: self.told.clone(), counts: self.counted, stamp, at: now });
    }

    /// A table that is known was found in the store. It may have been in contact at another replica until now.
    pub fn take_row(&mut self, row: Self, now: Instant) {
        self.contact = now;
        self.counted |= row.counted;
        self.may_hold |= row.may_hold;
        if !self.in_contact_here(now) || row.told.serves_longer_than(&self.told) {
            self.told = row.told;
            self.recorded = row.recorded;
        }
    }

    /// Whether the store has what is to be known of it.
    pub fn is_recorded(&self) -> bool {
        let is_as_now = |row: &Recorded| row.told == self.told && row.counts == self.counted;
        !self.may_serve() || self.recorded.as_ref().is_some_and(is_as_now)
    }

    /// What the store's row says, where there is one that was seen.
    pub fn row(&self, id: &TableId) -> Option<ProxyRecord> {
        self.recorded.as_ref().map(|row| self.record(id, row.stamp))
    }

    pub fn view(&self, id: &TableId, now: Instant, wall: Timestamp, replicas: Option<&Replicas>) -> ProxyView {
        let last = self.last_contact(replicas).min(now);
        ProxyView {
            node: id.node.to_string(),
            vm: id.vm.to_string(),
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

/// A moment as people read it: its distance from now, by the time of day.
pub(super) fn shown(moment: Instant, now: Instant, wall: Timestamp) -> Timestamp {
    let ms = |distance: Duration| i64::try_from(distance.as_millis()).unwrap_or(i64::MAX);
    let at = if moment >= now {
        // Rounded up: what is said to be over is over.
        wall.unix_ms().saturating_add(ms(moment - now + Duration::from_micros(999)))
    } else {
        wall.unix_ms().saturating_sub(ms(now - moment))
    };
    Timestamp::from_unix_ms(at)
}

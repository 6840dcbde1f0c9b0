//! Time, and everything that happens in it.

use crate::chaos::Plan;
use crate::dice::Dice;
use crate::fault::{Fault, Totals};
use crate::replica::{Replica, Writing};
use crate::store::Store;
use crate::table::{Sent, Table};
use keyward_admin::clock::Clock;
use keyward_admin::service::proxies::{Answered, Found, Limits, PollGuard, PollHeaders, Proxies, Question, Step};
use keyward_admin::store::proxies::ProxyRecord;
use keyward_policy::digest::Digest;
use keyward_policy::sync::{Answer, Outcome, Request, RequestId};
use keyward_policy::timeline::{Enforcement, InlineKeys, Point};
use keyward_policy::timestamp::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

const TICK_MS: u64 = 250;
const END_MS: u64 = 120_000;
/// The longest `max_staleness`, where one is promised.
const LONGEST_SECS: u64 = 10;
const EPOCH_MS: i64 = 1_800_000_000_000;

/// The place of a replica, and the process that ran there.
pub type Process = (usize, u64);

pub enum Event {
    Tick,
    Chaos,
    Arrives(Sent),
    GoesOn(Process, Sent),
    Committed(Process, Vec<String>),
    Told(Process, Instant),
    Planned(Plan),
    Written(Writing),
    Saved(Process, Vec<ProxyRecord>),
    Released(String, RequestId),
    Delivered { table: String, id: RequestId, status: u16, body: String, as_of: i64 },
}

pub struct World {
    pub dice: Dice,
    fault: Option<Fault>,
    pub now: u64,
    pub wall_ms: Arc<AtomicI64>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    sequence: u64,
    pub store: Store,
    pub copy: Store,
    /// Where the store lives, and where it lived when its list of tables was last known to be complete.
    pub lineage: u64,
    confirmed: u64,
    pub replicas: Vec<Replica>,
    pub shared: bool,
    /// The operator promises the longest limit.
    is_promised: bool,
    /// The store does not say where it lives.
    pub is_blind: bool,
    /// The longest time until a message to the other replicas is committed, and again until that is known.
    pub telling_ms: u64,
    pub tables: Vec<Table>,
    pub deletes: Vec<(Digest, Point)>,
    pub promises: Vec<crate::judge::Promise>,
    pub totals: Totals,
    pub broken: Option<String>,
}

impl World {
    pub fn new(seed: u64, fault: Option<Fault>) -> Self {
        let dice = Dice::new(seed);
        Self {
            dice,
            fault,
            now: 0,
            wall_ms: Arc::new(AtomicI64::new(EPOCH_MS)),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            store: Store::default(),
            copy: Store::default(),
            lineage: 1,
            confirmed: 1,
            replicas: Vec::new(),
            shared: false,
            is_promised: false,
            is_blind: false,
            telling_ms: 300,
            tables: Vec::new(),
            deletes: Vec::new(),
            promises: Vec::new(),
            totals: Totals::default(),
            broken: None,
        }
    }

    pub fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub async fn run(mut self) -> Result<Totals, String> {
        for _ in 0..1 + self.dice.below(8) {
            self.store.create(&mut self.dice);
        }
        self.copy = self.store.clone();
        // A store that is shared can fail over to a copy that lags behind; a file cannot.
        let needs_sharing =
            [Fault::NoTimeline, Fault::WallClocksDiffer, Fault::TrustsRows, Fault::ReadTooEarly, Fault::NotTold];
        self.shared = self.dice.chance(60) || self.fault.is_some_and(|fault| needs_sharing.contains(&fault));
        self.is_promised = self.dice.chance(60);
        self.is_blind = self.dice.chance(15);
        self.telling_ms = [300, 300, 3_000][self.dice.below(3) as usize];
        let count = if self.shared { 1 + self.dice.below(3) } else { 1 };
        for n in 0..count as usize {
            let replica = self.replica(n);
            self.replicas.push(replica);
        }
        for _ in 0..1 + self.dice.below(3) {
            self.new_vm();
        }
        self.after(1, Event::Tick);
        self.after(2_000, Event::Chaos);
        while let Some(Reverse((at, sequence))) = self.queue.pop() {
            if at > END_MS {
                break;
            }
            tokio::time::advance(Duration::from_millis(at - self.now)).await;
            self.wall_ms.fetch_add((at - self.now) as i64, Ordering::Relaxed);
            self.now = at;
            if let Some(event) = self.events.remove(&sequence) {
                self.happen(event);
            }
            if let Some(why) = self.broken.take() {
                return Err(why);
            }
        }
        self.forget_and_check().await?;
        Ok(self.totals)
    }

    /// Once every instance is dead and forgotten, a receipt names a time.
    async fn forget_and_check(&mut self) -> Result<(), String> {
        let names: Vec<String> = self.replicas[0].proxies.list().into_iter().map(|view| view.vm).collect();
        self.replicas.iter_mut().for_each(|replica| replica.held.clear());
        for replica in &self.replicas {
            if !self.has(Fault::NothingForgets) {
                for name in &names {
                    replica.proxies.forget(name);
                }
            }
        }
        if self.shared {
            return Ok(());
        }
        self.look(0);
        self.store.create(&mut self.dice);
        self.published(0);
        let receipt = self.replicas[0].proxies.applied(self.store.revision);
        if receipt.refused_everywhere_by.is_none() {
            return Err(format!(
                "every instance was forgotten and the receipt still names no time: {:?}",
                receipt.doubts
            ));
        }
        Ok(())
    }

    pub fn time(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    pub fn plan(&mut self, delay: u64, plan: Plan) {
        self.after(delay, Event::Planned(plan));
    }

    pub fn after(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + delay, self.sequence)));
        self.events.insert(self.sequence, event);
    }

    pub fn replica(&mut self, n: usize) -> Replica {
        let wall = Arc::clone(&self.wall_ms);
        let clock = Clock::from_fn(move || Timestamp::from_unix_ms(wall.load(Ordering::Relaxed)));
        let mut rows: Vec<_> = self.store.rows.values().cloned().collect();
        if self.has(Fault::WallClockJumps) {
            // By a clock that is hours ahead all limits have passed.
            rows.retain(|row| row.max_staleness.is_none());
        }
        let longest_staleness = self.is_promised.then_some(Duration::from_secs(LONGEST_SECS));
        let limits = Limits { longest_staleness, ..Limits::default() };
        let listens_at = self.now + self.dice.below(1_000);
        Replica {
            proxies: Proxies::new(clock, rows, self.found(), self.shared, limits),
            name: format!("replica {n} {}", self.dice.next()).into(),
            process: self.dice.next(),
            known: self.store.point(),
            lineage: self.lineage,
            pages: HashMap::new(),
            held: Vec::new(),
            looks_at: self.now,
            records_at: self.now,
            is_listening: false,
            listens_at,
            inbox: VecDeque::new(),
            heard_until: self.now,
            is_telling: false,
            is_writing: false,
        }
    }

    /// The store, as a process finds it now.
    pub fn found(&self) -> Found {
        let is_blind = self.shared && self.is_blind;
        let is_confirmed = self.confirmed == self.lineage || self.has(Fault::TrustsRows);
        Found { head: self.store.point(), has_lineage: !is_blind, has_all_tables: is_confirmed && !is_blind }
    }

    pub fn new_vm(&mut self) {
        let vm = format!("vm_{:016x}", self.dice.next());
        for _ in 0..1 + self.dice.below(2) {
            let (is_limited, now) = (self.shared && self.is_promised, self.time());
            self.tables.push(Table::new(&mut self.dice, &vm, is_limited, LONGEST_SECS, now));
        }
    }

    pub fn is_running(&self, (n, process): Process) -> bool {
        self.replicas[n].process == process
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick => self.tick(),
            Event::Chaos => {
                self.chaos();
                let pause = 200 + self.dice.below(4_000);
                self.after(pause, Event::Chaos);
            }
            Event::Arrives(sent) => self.arrives(sent),
            Event::GoesOn(process, sent) => self.goes_on(process, sent),
            Event::Committed(process, messages) => {
                if self.is_running(process) {
                    messages.into_iter().for_each(|message| self.notify(message));
                }
            }
            Event::Told((n, process), begun) => {
                if self.is_running((n, process)) {
                    self.replicas[n].is_telling = false;
                    if self.dice.chance(10) {
                        // The answer was lost: whether the others were told is not known.
                        self.replicas[n].proxies.not_told();
                    } else {
                        self.replicas[n].proxies.told_others(begun);
                    }
                }
            }
            Event::Written(writing) => self.written(writing),
            Event::Saved(process, records) => self.saved(process, records),
            Event::Planned(plan) => self.go_ahead(plan),
            Event::Released(table, id) => {
                for n in 0..self.replicas.len() {
                    let held = &mut self.replicas[n].held;
                    if let Some(at) = held.iter().position(|sent| sent.table == table && sent.request.id == id) {
                        let sent = held.swap_remove(at);
                        return self.comes_due(n, sent);
                    }
                }
            }
            Event::Delivered { table, id, status, body, as_of } => {
                let now = self.time();
                let arrival = self.has(Fault::ContactOnArrival);
                let Some(table) = self.tables.iter_mut().find(|known| known.id == table) else { return };
                if now < Duration::from_millis(table.cut_until) {
                    return;
                }
                let as_of = Some(if arrival { i64::MAX / 2 } else { as_of });
                let outcome = Outcome::Answer(Answer { status, body: body.as_bytes(), as_of, ..Answer::default() });
                table.sync.on_outcome(id, &outcome, now, Timestamp::from_unix_ms(0), &mut Vec::new());
            }
        }
    }

    fn tick(&mut self) {
        self.after(TICK_MS, Event::Tick);
        let now = self.time();
        for at in 0..self.tables.len() {
            let table = &mut self.tables[at];
            table.sync.work();
            let root = table.root;
            if let Some(request) = table.sync.poll(root, now, &mut Vec::new()) {
                self.totals.polls += 1;
                let delay = 1 + self.dice.below(table.delay_ms);
                let sent = Sent {
                    table: table.id.clone(),
                    until: self.now + delay + request.timeout.as_millis() as u64,
                    request,
                    arrived: None,
                    guard: None,
                    first: false,
                    is_due: false,
                };
                if self.now >= table.cut_until {
                    self.after(delay, Event::Arrives(sent));
                }
            }
        }
        for n in 0..self.replicas.len() {
            if self.replicas[n].looks_at <= self.now {
                // Now and then the store takes its time.
                self.replicas[n].looks_at = self.now + 250 + self.dice.below(1_000);
                self.look(n);
            }
            if self.replicas[n].records_at <= self.now {
                // What nobody waits for is written when the store has time.
                self.replicas[n].records_at = self.now + self.dice.below(8_000);
                self.record(n);
            }
            if self.shared && !self.replicas[n].is_listening && self.replicas[n].listens_at <= self.now {
                self.listen(n);
            }
            if !self.dice.chance(30) {
                self.hear(n);
            }
            if !self.dice.chance(20) {
                self.share(n);
            }
            self.replicas[n].proxies.sweep();
            if self.replicas[n].proxies.missing_tables_are_gone() {
                self.totals.confirmations += 1;
                self.confirm(n);
            }
        }
        self.ask_receipts();
        self.judge();
    }

    /// A replica keeps, or remembers, that no table is missing where it knows the store to live.
    pub fn confirm(&mut self, n: usize) {
        if self.is_blind {
            self.replicas[n].proxies.confirm();
        } else if self.replicas[n].lineage == self.lineage {
            self.confirmed = self.lineage;
            self.look(n);
        }
    }

    /// A poll was held for long enough, or there is something new.
    pub fn comes_due(&mut self, n: usize, mut sent: Sent) {
        sent.is_due = true;
        let process = self.replicas[n].process;
        self.after(0, Event::GoesOn((n, process), sent));
    }

    fn headers(&self, at: usize, request: &Request) -> PollHeaders {
        let table = &self.tables[at];
        let told = |fault, yes, no| if self.has(fault) { no } else { yes };
        PollHeaders {
            node: Some("node".to_owned()),
            vm: Some(table.vm.clone()),
            table: Some(told(Fault::OneIdPerVm, table.id.clone(), "same".to_owned())),
            poll: (!self.has(Fault::OneIdPerVm)).then(|| request.id.number()),
            realm: None,
            filter: None,
            max_staleness: request.max_staleness,
            mode: Some(if self.has(Fault::ShadowNotTold) { Enforcement::Enforce } else { request.mode }),
            inline_keys: Some(if self.has(Fault::InlineNotTold) { InlineKeys::None } else { request.inline_keys }),
        }
    }

    fn arrives(&mut self, mut sent: Sent) {
        let Some(at) = self.tables.iter().position(|table| table.id == sent.table) else { return };
        if self.now < self.tables[at].cut_until {
            return;
        }
        let n = self.dice.below(self.replicas.len() as u64) as usize;
        sent.arrived = Some(Instant::now());
        let Request { since, base, mark, .. } = sent.request;
        let headers = self.headers(at, &sent.request);
        let token = Arc::clone(&self.tables[at].token);
        let Ok(guard) = self.replicas[n].proxies.begin(&headers, &token, Question { since, base, mark }) else {
            return;
        };
        sent.first = guard.as_ref().is_some_and(PollGuard::is_first);
        sent.guard = guard;
        self.goes_on((n, self.replicas[n].process), sent);
    }

    /// What the service does with a poll, one step at a time.
    fn goes_on(&mut self, (n, process): Process, sent: Sent) {
        if !self.is_running((n, process)) || self.now >= sent.until {
            return;
        }
        match self.step(n, sent.guard.as_ref()) {
            Step::Record => self.record(n),
            Step::Tell => self.share(n),
            Step::Read => self.look(n),
            Step::Ready => return self.holds_or_answers(n, sent),
        }
        let pause = self.dice.below(100);
        self.after(pause, Event::GoesOn((n, process), sent));
    }

    fn step(&self, n: usize, guard: Option<&PollGuard>) -> Step {
        let skips = |faults: &[Fault]| faults.iter().any(|fault| self.has(*fault));
        match guard.map_or_else(|| self.replicas[n].proxies.step(), PollGuard::step) {
            Step::Record if skips(&[Fault::CountedLate, Fault::NotRecorded]) => Step::Ready,
            Step::Tell if skips(&[Fault::CountedLate, Fault::NotTold]) => Step::Ready,
            Step::Read if skips(&[Fault::ReadTooEarly]) => Step::Ready,
            step => step,
        }
    }

    fn holds_or_answers(&mut self, n: usize, sent: Sent) {
        let Request { since, base, mark, wait, .. } = sent.request;
        let known = self.replicas[n].known;
        let is_up_to_date =
            since == known.revision && mark.is_none_or(|mark| mark == known.mark) && base == since && !sent.first;
        if is_up_to_date && !wait.is_zero() && !sent.is_due {
            let (table, id) = (sent.table.clone(), sent.request.id);
            self.replicas[n].held.push(sent);
            return self.after(wait.as_millis() as u64, Event::Released(table, id));
        }
        self.answer(n, sent);
    }

    fn as_of(&self, n: usize) -> Option<Instant> {
        self.replicas[n].proxies.as_of()
    }

    fn answer(&mut self, n: usize, mut sent: Sent) {
        let Request { since, base, mark, id, .. } = sent.request;
        let mark = mark.filter(|_| !self.has(Fault::NoTimeline));
        let Some(as_of) = self.as_of(n) else { return };
        let store = &self.store;
        let page =
            self.replicas[n].pages.entry((since, base, mark)).or_insert_with(|| store.page(since, base, mark, 3));
        let page = page.clone();
        let arrived = sent.arrived.unwrap_or(as_of);
        if let (Ok((_, false, _)), Some(guard), false) = (&page, &sent.guard, self.has(Fault::CountedLate)) {
            guard.gives();
            if self.step(n, Some(guard)) != Step::Ready {
                sent.is_due = true;
                return self.goes_on((n, self.replicas[n].process), sent);
            }
        }
        let mut guard = sent.guard;
        let (status, body) = match page {
            Ok((body, more, revision)) => {
                let table = self.tables.iter_mut().find(|table| table.id == sent.table);
                if let (false, Some(table)) = (more, table) {
                    table.given_at.get_or_insert(self.now);
                }
                if let Some(guard) = guard.take() {
                    guard.answered(Answered { complete: !more, revision, as_of });
                }
                (200, body)
            }
            Err(status) => (status, "{}".to_owned()),
        };
        drop(guard);
        let offset = if as_of >= arrived {
            (as_of - arrived).as_millis() as i64
        } else {
            -((arrived - as_of).as_millis() as i64)
        };
        let delay_ms = self.tables.iter().find(|table| table.id == sent.table).map_or(1, |table| table.delay_ms);
        let delay = 1 + self.dice.below(delay_ms);
        if self.now + delay < sent.until {
            self.after(delay, Event::Delivered { table: sent.table, id, status, body, as_of: offset });
        }
    }
}

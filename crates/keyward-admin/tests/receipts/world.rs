//! Time, and everything that happens in it.

use crate::dice::Dice;
use crate::store::Store;
use keyward_admin::clock::Clock;
use keyward_admin::service::proxies::{Answered, Limits, Message, PollGuard, PollHeaders, Proxies, Question};
use keyward_policy::digest::Digest;
use keyward_policy::sync::{Answer, ManifestSync, Outcome, Request, RequestId, RootId, Settings};
use keyward_policy::timeline::{Enforcement, InlineKeys, Point};
use keyward_policy::timestamp::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

const TICK_MS: u64 = 250;
const END_MS: u64 = 120_000;
/// The longest `max_staleness` where the store can fail over.
const LONGEST_SECS: u64 = 10;
const EPOCH_MS: i64 = 1_800_000_000_000;

/// What was wrong with receipts once, planted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Acknowledgements count across timelines.
    NoTimeline,
    /// Two tables of a VM are counted as one.
    OneIdPerVm,
    /// A table counts from its second poll on, and is kept later.
    CountedLate,
    /// Contact is the time at which an answer arrives.
    ContactOnArrival,
    /// Keys of the configuration are not told.
    InlineNotTold,
    /// Shadow mode is not told.
    ShadowNotTold,
    /// A jump of the wall clock makes VMs look gone.
    WallClockJumps,
    /// Replicas send each other times of clocks that differ.
    WallClocksDiffer,
    /// Anybody can acknowledge for a table.
    ForgedAcknowledgement,
    /// A VM that never comes back counts for ever.
    NothingForgets,
}

impl Fault {
    pub const ALL: [Self; 10] = [
        Self::NoTimeline,
        Self::OneIdPerVm,
        Self::CountedLate,
        Self::ContactOnArrival,
        Self::InlineNotTold,
        Self::ShadowNotTold,
        Self::WallClockJumps,
        Self::WallClocksDiffer,
        Self::ForgedAcknowledgement,
        Self::NothingForgets,
    ];
}

/// How often things happened, over all seeds.
#[derive(Debug, Default)]
pub struct Totals {
    pub polls: u64,
    pub receipts: u64,
    pub times_named: u64,
    pub promises_judged: u64,
    pub failovers: u64,
    pub restarts: u64,
    pub cuts: u64,
    pub forged: u64,
}

impl Totals {
    pub fn add(&mut self, other: &Self) {
        self.polls += other.polls;
        self.receipts += other.receipts;
        self.times_named += other.times_named;
        self.promises_judged += other.promises_judged;
        self.failovers += other.failovers;
        self.restarts += other.restarts;
        self.cuts += other.cuts;
        self.forged += other.forged;
    }

    pub fn assert_everything_happened(&self) {
        let all = [self.polls, self.receipts, self.times_named, self.promises_judged, self.failovers, self.restarts];
        assert!(all.iter().all(|count| *count > 0) && self.cuts > 0 && self.forged > 0, "{self:?}");
    }
}

/// A table of keys in a VM.
struct Table {
    id: String,
    vm: String,
    token: Arc<str>,
    sync: ManifestSync,
    root: RootId,
    mode: Enforcement,
    inline_keys: InlineKeys,
    /// When the first page that completes it was made.
    given_at: Option<u64>,
    /// Until when the way to the service is cut.
    cut_until: u64,
    /// The longest delay each way.
    delay_ms: u64,
}

impl Table {
    /// Whether a request with this key would pass.
    fn accepts(&self, digest: &Digest, now: Duration) -> bool {
        let serves = self.sync.keys(self.root, now);
        match self.mode {
            Enforcement::Shadow => serves.is_ok(),
            // A configuration may hold a copy under another id.
            _ if self.inline_keys != InlineKeys::None => self.sync.in_use().is_some(),
            Enforcement::Enforce => serves.is_ok_and(|keys| keys.get(digest).is_some()),
        }
    }
}

struct Sent {
    table: String,
    request: Request,
    arrived: Option<Instant>,
    guard: Option<PollGuard>,
    until: u64,
    first: bool,
}

enum Event {
    Tick,
    Chaos,
    Arrives(Sent),
    Released(String, RequestId),
    Delivered { table: String, id: RequestId, status: u16, body: String, as_of: i64 },
}

struct Replica {
    proxies: Arc<Proxies>,
    name: Arc<str>,
    known: Point,
    read_at: Instant,
    held: Vec<Sent>,
    looks_at: u64,
}

/// A receipt that named a time.
struct Promise {
    digest: Digest,
    change: Point,
    made_ms: u64,
    by_ms: u64,
    /// Tables without a limit whose rows a failover had lost.
    excepted: Vec<String>,
}

pub struct World {
    dice: Dice,
    fault: Option<Fault>,
    now: u64,
    start: Instant,
    wall_ms: Arc<AtomicI64>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    sequence: u64,
    store: Store,
    copy: Store,
    replicas: Vec<Replica>,
    shared: bool,
    tables: Vec<Table>,
    /// Notifications in the order of their commits.
    notes: Vec<(usize, String)>,
    deletes: Vec<(Digest, Point)>,
    promises: Vec<Promise>,
    totals: Totals,
    broken: Option<String>,
}

impl World {
    pub fn new(seed: u64, fault: Option<Fault>) -> Self {
        let dice = Dice::new(seed);
        Self {
            dice,
            fault,
            now: 0,
            start: Instant::now(),
            wall_ms: Arc::new(AtomicI64::new(EPOCH_MS)),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            store: Store::default(),
            copy: Store::default(),
            replicas: Vec::new(),
            shared: false,
            tables: Vec::new(),
            notes: Vec::new(),
            deletes: Vec::new(),
            promises: Vec::new(),
            totals: Totals::default(),
            broken: None,
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub async fn run(mut self) -> Result<Totals, String> {
        self.start = Instant::now();
        for _ in 0..1 + self.dice.below(8) {
            self.store.create(&mut self.dice);
        }
        self.copy = self.store.clone();
        // A store that is shared can fail over to a copy that lags behind; a file cannot.
        let needs_failover = self.has(Fault::NoTimeline) || self.has(Fault::WallClocksDiffer);
        self.shared = self.dice.chance(60) || needs_failover;
        let count = if self.shared { 1 + self.dice.below(2) } else { 1 };
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

    /// Once every VM is dead and forgotten, a receipt names a time.
    async fn forget_and_check(&mut self) -> Result<(), String> {
        let names: Vec<String> = self.replicas[0].proxies.list().into_iter().map(|view| view.vm).collect();
        self.replicas.iter_mut().for_each(|replica| replica.held.clear());
        for replica in &self.replicas {
            if !self.has(Fault::NothingForgets) {
                names.iter().for_each(|name| drop(replica.proxies.forget(name)));
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
            return Err(format!("every VM was forgotten and the receipt still names no time: {:?}", receipt.doubts));
        }
        Ok(())
    }

    fn time(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + delay, self.sequence)));
        self.events.insert(self.sequence, event);
    }

    fn replica(&mut self, n: usize) -> Replica {
        let wall = Arc::clone(&self.wall_ms);
        let clock = Clock::from_fn(move || Timestamp::from_unix_ms(wall.load(Ordering::Relaxed)));
        let mut rows: Vec<_> = self.store.rows.values().cloned().collect();
        if self.has(Fault::WallClockJumps) {
            // By a clock that is hours ahead all limits have passed.
            rows.retain(|row| row.max_staleness.is_none());
        }
        let head = self.store.point();
        let limits = Limits { longest_staleness: Duration::from_secs(LONGEST_SECS), ..Limits::default() };
        let proxies = Proxies::new(clock, rows.clone(), head, self.shared, limits);
        if self.shared {
            proxies.listening(head.revision, rows);
        }
        let now = Instant::now();
        Replica {
            proxies,
            name: format!("replica {n} {}", self.dice.next()).into(),
            known: head,
            read_at: now,
            held: Vec::new(),
            looks_at: self.now,
        }
    }

    fn new_vm(&mut self) {
        let vm = format!("vm_{:016x}", self.dice.next());
        let mode = if self.dice.chance(15) { Enforcement::Shadow } else { Enforcement::Enforce };
        let inline = [InlineKeys::None, InlineKeys::None, InlineKeys::None, InlineKeys::Fallback, InlineKeys::Always];
        let inline_keys = self.dice.pick(&inline).copied().unwrap_or(InlineKeys::None);
        for _ in 0..1 + self.dice.below(2) {
            // Where rows can be lost, no table has a longer limit than the service was told.
            let limits = if self.shared {
                &[Some(3), Some(6), Some(LONGEST_SECS)][..]
            } else {
                &[Some(3), Some(6), Some(15), Some(40), None]
            };
            let settings = Settings {
                realm: "r".into(),
                token: None,
                store: None,
                max_staleness: self.dice.pick(limits).copied().flatten().map(Duration::from_secs),
                mode,
                inline_keys,
            };
            let mut sync = ManifestSync::new(self.dice.next());
            let root = sync.attach(settings, self.time());
            let delay_ms = [1, 20, 2_000, 60_000][self.dice.below(4) as usize];
            self.tables.push(Table {
                id: format!("{:032x}", self.dice.next()),
                vm: vm.clone(),
                token: "token".into(),
                sync,
                root,
                mode,
                inline_keys,
                given_at: None,
                cut_until: 0,
                delay_ms,
            });
        }
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
            Event::Released(table, id) => {
                for n in 0..self.replicas.len() {
                    let held = &mut self.replicas[n].held;
                    if let Some(at) = held.iter().position(|sent| sent.table == table && sent.request.id == id) {
                        let sent = held.swap_remove(at);
                        return self.answer(n, sent);
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
                };
                if self.now >= table.cut_until {
                    self.after(delay, Event::Arrives(sent));
                }
            }
        }
        for n in 0..self.replicas.len() {
            if self.replicas[n].looks_at <= self.now {
                self.replicas[n].looks_at = self.now + 500;
                self.look(n);
            }
            self.share(n);
            self.replicas[n].proxies.sweep();
        }
        self.hear();
        self.ask_receipts();
        self.judge();
    }

    /// Reads the newest state of the store, as the service does twice a second.
    fn look(&mut self, n: usize) {
        let point = self.store.point();
        let passed = self.store.passed(self.replicas[n].known) || self.has(Fault::NoTimeline);
        let replica = &mut self.replicas[n];
        if !passed {
            replica.proxies.fork(point);
        } else if replica.known.revision < point.revision {
            replica.proxies.advance(point);
        }
        let news = replica.known != point;
        replica.known = point;
        replica.read_at = Instant::now();
        self.record(n);
        if news {
            self.wake(n);
        }
    }

    fn wake(&mut self, n: usize) {
        for sent in std::mem::take(&mut self.replicas[n].held) {
            self.answer(n, sent);
        }
    }

    /// A replica committed a change: it knows at once, the others are told.
    fn published(&mut self, n: usize) {
        let point = self.store.point();
        self.replicas[n].known = point;
        self.replicas[n].proxies.advance(point);
        if self.shared {
            self.notes.push((n, format!("change {}", point.revision)));
        }
        self.wake(n);
    }

    fn share(&mut self, n: usize) {
        if !self.shared || self.dice.chance(20) {
            return;
        }
        let begun = Instant::now();
        let name = Arc::clone(&self.replicas[n].name);
        for text in self.replicas[n].proxies.take_messages(&name, true) {
            self.notes.push((n, text));
        }
        self.replicas[n].proxies.told_others(begun);
    }

    /// Delivers some of the notifications, in their order.
    fn hear(&mut self) {
        let count = self.notes.len().min(self.dice.below(20) as usize + 5);
        let notes: Vec<_> = self.notes.drain(..count).collect();
        for (from, text) in notes {
            for n in 0..self.replicas.len() {
                if let Some(revision) = text.strip_prefix("change ") {
                    if n != from {
                        self.look(n);
                    }
                    if let Ok(revision) = revision.parse() {
                        self.replicas[n].proxies.heard_change(revision);
                    }
                } else if let Ok(mut message) = serde_json::from_str::<serde_json::Value>(&text) {
                    if self.has(Fault::WallClocksDiffer) && n != from {
                        for news in message["vms"].as_array_mut().into_iter().flatten() {
                            news["g"] = (news["g"].as_u64().unwrap_or(0) + 1_800_000).into();
                        }
                    }
                    let replica = &self.replicas[n];
                    if let Ok(message) = serde_json::from_value::<Message>(message) {
                        replica.proxies.hear(&replica.name, message);
                    }
                }
            }
        }
    }

    /// Writes to the store what the replica has to write.
    fn record(&mut self, n: usize) {
        let replica = &self.replicas[n];
        let records = replica.proxies.take_unsaved(1_000);
        if records.is_empty() {
            return;
        }
        for message in replica.proxies.record_messages(&replica.name, &records) {
            self.notes.push((n, message));
        }
        for record in &records {
            let key = [&record.node, &record.vm, &record.table, &record.token].map(Clone::clone);
            self.store.rows.insert(key, record.clone());
        }
        replica.proxies.saved(records);
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
        let Request { since, base, mark, wait, .. } = sent.request;
        let headers = self.headers(at, &sent.request);
        let token = Arc::clone(&self.tables[at].token);
        let Ok(guard) = self.replicas[n].proxies.begin(&headers, &token, Question { since, base, mark }) else {
            return;
        };
        sent.first = guard.as_ref().is_some_and(PollGuard::is_first);
        sent.guard = guard;
        if !self.has(Fault::CountedLate) {
            self.record(n);
        }
        let known = self.replicas[n].known;
        let is_up_to_date =
            since == known.revision && mark.is_none_or(|mark| mark == known.mark) && base == since && !sent.first;
        if is_up_to_date && !wait.is_zero() {
            let (table, id) = (sent.table.clone(), sent.request.id);
            self.replicas[n].held.push(sent);
            return self.after(wait.as_millis() as u64, Event::Released(table, id));
        }
        self.answer(n, sent);
    }

    fn as_of(&self, n: usize) -> Instant {
        let replica = &self.replicas[n];
        if self.shared { replica.read_at.min(replica.proxies.contact_until()) } else { Instant::now() }
    }

    fn answer(&mut self, n: usize, sent: Sent) {
        let Request { since, base, mark, id, .. } = sent.request;
        let mark = mark.filter(|_| !self.has(Fault::NoTimeline));
        let mut as_of = self.as_of(n);
        let mut page = self.store.page(since, base, mark, 3);
        let arrived = sent.arrived.unwrap_or(as_of);
        let mut guard = sent.guard;
        if let (Ok((_, false, _)), Some(guard), false) = (&page, &guard, self.has(Fault::CountedLate)) {
            guard.gives();
            if guard.is_unrecorded() {
                self.record(n);
                as_of = self.as_of(n);
                page = self.store.page(since, base, mark, 3);
            }
        }
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

    /// Asks for the receipts of late deletes, and keeps what they promise.
    fn ask_receipts(&mut self) {
        let late: Vec<_> = self.deletes.iter().rev().take(3).copied().collect();
        for (digest, change) in late {
            let n = self.dice.below(self.replicas.len() as u64) as usize;
            self.ask_receipt(n, digest, change);
        }
    }

    fn ask_receipt(&mut self, n: usize, digest: Digest, change: Point) {
        self.totals.receipts += 1;
        // A receipt is judged by the store as it is.
        self.look(n);
        let receipt = self.replicas[n].proxies.applied(change.revision);
        let Some(by) = receipt.refused_everywhere_by else { return };
        // A number that was given out again is another change.
        if !self.store.passed(change) && !self.has(Fault::NoTimeline) {
            return;
        }
        self.totals.times_named += 1;
        let ahead = by.unix_ms() - self.wall_ms.load(Ordering::Relaxed);
        let by_ms = self.now.saturating_add_signed(ahead);
        let excepted =
            self.tables.iter().filter(|table| self.is_excepted(table)).map(|table| table.id.clone()).collect();
        self.promises.push(Promise { digest, change, made_ms: self.now, by_ms, excepted });
    }

    /// Whether a receipt cannot know of a table, and says so in the protocol document: it has no limit, and a failover lost
    /// its row. Such a table serves for ever, so no wait makes up for the row.
    fn is_excepted(&self, table: &Table) -> bool {
        let has_limit = table.mode == Enforcement::Enforce && table.inline_keys == InlineKeys::None;
        let is_row = |table_id: &str| table_id == table.id || self.has(Fault::OneIdPerVm);
        self.totals.failovers > 0 && !has_limit && !self.store.rows.values().any(|row| is_row(&row.table))
    }

    fn judge(&mut self) {
        let (now, store) = (self.time(), &self.store);
        if self.fault != Some(Fault::NoTimeline) {
            // A change that was lost is no promise any more: the key may be live again.
            self.promises.retain(|promise| store.passed(promise.change));
        }
        self.promises.retain(|promise| self.now < promise.by_ms + 20_000);
        for promise in self.promises.iter().filter(|promise| promise.by_ms <= self.now) {
            self.totals.promises_judged += 1;
            for table in &self.tables {
                // A VM in shadow mode, or with inline keys, never refuses. A receipt must know of it from the moment at which
                // a page that completes its table is made, for its row was written before. Until then it holds no table,
                // and the receipt does not speak of it. Every other table is judged from the start.
                let is_plain = table.mode == Enforcement::Enforce && table.inline_keys == InlineKeys::None;
                let is_known = is_plain || table.given_at.is_some_and(|at| at <= promise.made_ms);
                if is_known
                    && !promise.excepted.contains(&table.id)
                    && !store.is_live(&promise.digest)
                    && table.accepts(&promise.digest, now)
                {
                    self.broken = Some(format!(
                        "at {} ms the table {} of {} accepts a key that was to be refused everywhere by {} ms, as was \
                         said at {} ms ({:?}, {:?}, given at {:?}, {} replicas, {} failovers, {} restarts)",
                        self.now,
                        table.id,
                        table.vm,
                        promise.by_ms,
                        promise.made_ms,
                        table.mode,
                        table.inline_keys,
                        table.given_at,
                        self.replicas.len(),
                        self.totals.failovers,
                        self.totals.restarts
                    ));
                }
            }
        }
    }

    fn chaos(&mut self) {
        let n = self.dice.below(self.replicas.len() as u64) as usize;
        let table = self.dice.below(self.tables.len() as u64) as usize;
        match self.dice.below(16) {
            0 | 1 => {
                self.look(n);
                self.store.create(&mut self.dice);
                self.published(n);
            }
            2..=5 => {
                // The transaction finds the state that the replica knows, or the replica looks again.
                self.look(n);
                if let Some(digest) = self.store.delete(&mut self.dice) {
                    let change = self.store.point();
                    self.published(n);
                    self.deletes.push((digest, change));
                    self.ask_receipt(n, digest, change);
                }
            }
            6 => self.copy = self.store.clone(),
            7 if self.shared => {
                // The store fails over to a copy that lags behind.
                self.store = self.copy.clone();
                self.totals.failovers += 1;
            }
            8 | 9 => {
                // Killed and started again: what it knew is gone, and whoever waited is cut off.
                let replica = self.replica(n);
                self.replicas[n].held.clear();
                self.replicas[n] = replica;
                self.totals.restarts += 1;
            }
            10..=12 => {
                self.totals.cuts += 1;
                self.tables[table].cut_until = self.now + self.dice.below(60_000);
            }
            13 => {
                let delays = [1, 20, 2_000, 60_000];
                self.tables[table].delay_ms = delays[self.dice.below(4) as usize];
            }
            14 => {
                if self.tables.len() < 6 {
                    self.new_vm();
                }
                self.wall_ms.fetch_add(self.dice.below(7_200_000) as i64 - 3_600_000, Ordering::Relaxed);
            }
            15 => self.forge(n, table),
            _ => {}
        }
    }

    /// Somebody with a token of their own says that a VM has applied everything.
    fn forge(&mut self, n: usize, table: usize) {
        self.totals.forged += 1;
        let known = self.replicas[n].known;
        let table = &self.tables[table];
        let is_insider = self.has(Fault::ForgedAcknowledgement);
        let headers = PollHeaders {
            node: Some("node".to_owned()),
            vm: Some(table.vm.clone()),
            table: Some(if is_insider { table.id.clone() } else { "guessed".to_owned() }),
            poll: is_insider.then_some(u64::MAX / 2),
            max_staleness: Some(Duration::from_secs(1)),
            mode: Some(Enforcement::Enforce),
            inline_keys: Some(InlineKeys::None),
            ..PollHeaders::default()
        };
        let token: Arc<str> = if is_insider { Arc::clone(&table.token) } else { "another token".into() };
        let question = Question { since: known.revision, base: known.revision, mark: Some(known.mark) };
        if let Ok(Some(guard)) = self.replicas[n].proxies.begin(&headers, &token, question) {
            guard.answered(Answered { complete: true, revision: known.revision, as_of: Instant::now() });
        }
    }
}

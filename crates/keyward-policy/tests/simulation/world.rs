//! Time, and everything that happens in it.

use crate::dice::Dice;
use crate::network::{Weather, corrupt};
use crate::service::{Question, answer};
use crate::store::Store;
use crate::vm::{History, Vm};
use keyward_policy::digest::Digest;
use keyward_policy::sync::{Answer, Outcome, RequestId, RootId, Settings};
use keyward_policy::timeline::{Enforcement, InlineKeys};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;
use std::time::Duration;

const TICK_MS: u64 = 200;
const CHAOS_MS: u64 = 60_000;
/// Longer than any pause, any held request and any `max_staleness` in here.
const CALM_MS: u64 = 100_000;

/// How often things happened, over all seeds.
#[derive(Debug, Default)]
pub struct Totals {
    pub requests: u64,
    pub loads: u64,
    pub deltas: u64,
    pub tables_compared: u64,
    pub revocations_timed: u64,
    pub never_told: u64,
    pub started_over: BTreeMap<&'static str, u64>,
    pub failures: BTreeMap<&'static str, u64>,
}

impl Totals {
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.loads += other.loads;
        self.deltas += other.deltas;
        self.tables_compared += other.tables_compared;
        self.revocations_timed += other.revocations_timed;
        self.never_told += other.never_told;
        other.started_over.iter().for_each(|(name, count)| *self.started_over.entry(name).or_default() += count);
        other.failures.iter().for_each(|(name, count)| *self.failures.entry(name).or_default() += count);
    }

    pub fn assert_everything_happened(&self) {
        for name in keyward_policy::sync::FailureKind::ALL
            .map(|kind| kind.name())
            .into_iter()
            .filter(|name| *name != "too_large")
        {
            assert!(self.failures.contains_key(name), "no failure was `{name}`");
        }
        for name in ["gone", "other_store", "mismatch"] {
            assert!(self.started_over.contains_key(name), "nothing started over for `{name}`");
        }
        assert!(self.loads > 0 && self.deltas > 0 && self.revocations_timed > 0 && self.never_told > 0);
    }
}

/// What is on its way.
enum Event {
    Tick {
        vm: usize,
    },
    Chaos,
    Arrives(Sent),
    /// The service has held a request for as long as it was asked to.
    Released(u64),
    Delivered {
        vm: usize,
        epoch: u64,
        root: RootId,
        id: RequestId,
        status: Option<u16>,
        body: String,
        /// How long after the arrival of the request the answer was made.
        as_of: u64,
    },
}

#[derive(Debug, Clone)]
struct Sent {
    vm: usize,
    epoch: u64,
    root: RootId,
    id: RequestId,
    question: Question,
    token: Option<Box<str>>,
    /// When the service got it.
    arrived_at: Option<u64>,
    /// When the proxy gives up.
    gives_up_at: u64,
    number: u64,
}

pub struct World {
    dice: Dice,
    now: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    store: Store,
    backups: Vec<Store>,
    up: bool,
    page_max: usize,
    refused_token: Option<u64>,
    held: Vec<Sent>,
    weather: Weather,
    vms: Vec<Vm>,
    epochs: Vec<u64>,
    history: History,
    ever: BTreeMap<Digest, ()>,
    dead: BTreeMap<Digest, u64>,
    totals: Totals,
    trace: bool,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut world = Self {
            now: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            store: Store::new("st_1".into()),
            backups: Vec::new(),
            up: dice.chance(80),
            page_max: 1 + dice.below(8) as usize,
            refused_token: None,
            held: Vec::new(),
            weather: Weather::default(),
            vms: Vec::new(),
            epochs: Vec::new(),
            history: History::new(),
            ever: BTreeMap::new(),
            dead: BTreeMap::new(),
            totals: Totals::default(),
            trace: std::env::var_os("KEYWARD_SIM_SEED").is_some(),
            dice,
        };
        for _ in 0..world.dice.below(20) {
            world.store.create(&mut world.dice);
        }
        world.remember();
        for vm in 0..1 + world.dice.below(3) as usize {
            world.vms.push(Vm::new(world.dice.next()));
            world.epochs.push(0);
            world.attach(vm);
            world.after(0, Event::Tick { vm });
        }
        world.after(1, Event::Chaos);
        world
    }

    pub fn run(mut self) -> Totals {
        self.run_until(CHAOS_MS);
        self.calm();
        self.run_until(CHAOS_MS + CALM_MS);
        let refused = self.refused_token.map(|token| format!("token {token}"));
        let now = self.time();
        for vm in &self.vms {
            vm.check_well(now, &self.store, |settings| settings.token.as_deref() != refused.as_deref());
        }
        self.time_a_revocation(refused.as_deref());
        self.totals
    }

    /// With all well again, a deleted key is refused by every root that serves the store.
    fn time_a_revocation(&mut self, refused: Option<&str>) {
        let Some((_, key)) = self.store.any(&mut self.dice) else { return };
        let Ok(digest) = Digest::from_hex(&key.sha256) else { return };
        self.store.delete_key(key.id.into_owned(), &mut self.dice);
        self.changed();
        self.run_until(self.now + 1_000);
        let now = self.time();
        for vm in &self.vms {
            let at_store = vm.sync.in_use().is_some_and(|position| {
                *position.store == *self.store.id && position.mark == self.store.marks.get(&position.revision).copied()
            });
            for (root, settings) in vm.roots.iter().filter(|_| at_store) {
                if settings.token.as_deref() != refused {
                    let served = vm.sync.keys(*root, now).is_ok_and(|keys| keys.get(&digest).is_some());
                    assert!(!served, "{settings:?} serves a deleted key in good weather");
                    self.totals.revocations_timed += 1;
                }
            }
        }
    }

    fn run_until(&mut self, end: u64) {
        while let Some(Reverse((at, _))) = self.queue.peek() {
            if *at > end {
                break;
            }
            let Some(Reverse((at, sequence))) = self.queue.pop() else { break };
            self.now = at;
            if let Some(event) = self.events.remove(&sequence) {
                self.happen(event);
            }
        }
        self.now = end;
    }

    fn time(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + delay, self.sequence)));
        self.events.insert(self.sequence, event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { vm } => {
                self.after(TICK_MS, Event::Tick { vm });
                let Some(state) = self.vms.get_mut(vm) else { return };
                if self.now < state.stalled_until {
                    return;
                }
                state.sync.work();
                let roots: Vec<RootId> = state.roots.iter().map(|(root, _)| *root).collect();
                roots.into_iter().for_each(|root| self.poll(vm, root));
                self.check(vm);
                if self.now.is_multiple_of(1_000) {
                    let now = self.time();
                    self.vms.iter().for_each(|vm| vm.check_revoked(now, &self.dead));
                }
            }
            Event::Chaos if self.now < CHAOS_MS => {
                self.chaos();
                let pause = 1 + self.dice.below(3_000);
                self.after(pause, Event::Chaos);
            }
            Event::Chaos => {}
            Event::Arrives(sent) => self.arrives(sent, false),
            Event::Released(number) => {
                if let Some(at) = self.held.iter().position(|sent| sent.number == number) {
                    let sent = self.held.swap_remove(at);
                    self.arrives(sent, true);
                }
            }
            Event::Delivered { vm, epoch, root, id, status, body, as_of } => {
                let now = self.time();
                let alive = self.epochs.get(vm) == Some(&epoch);
                let Some(state) = self.vms.get_mut(vm).filter(|_| alive) else { return };
                if !state.roots.iter().any(|(known, _)| *known == root) {
                    return;
                }
                if self.now < state.stalled_until {
                    let wait = state.stalled_until - self.now;
                    self.after(wait, Event::Delivered { vm, epoch, root, id, status, body, as_of });
                    return;
                }
                if status == Some(200) {
                    state.answered(root);
                }
                let outcome = match status {
                    Some(0) => Outcome::NotSent,
                    Some(status) => Outcome::Answer(Answer {
                        status,
                        body: body.as_bytes(),
                        as_of: Some(as_of as i64),
                        ..Answer::default()
                    }),
                    None => Outcome::NoAnswer,
                };
                if self.trace {
                    println!("{} vm {vm} {root:?} {id:?} {status:?} {body}", self.now);
                }
                let wall = state.wall(now);
                state.sync.on_outcome(id, &outcome, now, wall, &mut state.events);
                self.check(vm);
                self.poll(vm, root);
            }
        }
    }

    fn check(&mut self, vm: usize) {
        let now = self.time();
        if let Some(state) = self.vms.get_mut(vm) {
            state.check(now, &self.history, &self.ever, &mut self.totals);
        }
    }

    fn poll(&mut self, vm: usize, root: RootId) {
        let now = self.time();
        let (Some(state), Some(epoch)) = (self.vms.get_mut(vm), self.epochs.get(vm).copied()) else { return };
        let Some(request) = state.sync.poll(root, now, &mut state.events) else { return };
        self.totals.requests += 1;
        if self.trace {
            println!("{} vm {vm} {root:?} asks {request:?}", self.now);
        }
        assert!(request.timeout > request.wait && request.base <= request.since.max(self.store.revision * 2 + 1_000));
        let token =
            state.roots.iter().find(|(known, _)| *known == root).and_then(|(_, settings)| settings.token.clone());
        let question = Question {
            since: request.since,
            base: request.base,
            mark: request.mark,
            wait_ms: request.wait.as_millis() as u64,
        };
        let gives_up_at = self.now + request.timeout.as_millis() as u64;
        let number = self.totals.requests;
        let sent = Sent { vm, epoch, root, id: request.id, question, token, arrived_at: None, gives_up_at, number };
        if self.dice.chance(self.weather.other_status / 8) {
            return self.deliver_at(self.now, &sent, Some(0), String::new());
        }
        let delay = self.weather.delay(&mut self.dice);
        if self.dice.chance(self.weather.loss) || self.now + delay >= gives_up_at {
            return self.deliver_at(gives_up_at, &sent, Some(504), String::new());
        }
        self.after(delay, Event::Arrives(sent));
    }

    fn arrives(&mut self, mut sent: Sent, held: bool) {
        sent.arrived_at.get_or_insert(self.now);
        let refused = self.refused_token.map(|token| format!("token {token}"));
        let (status, body) = if !self.up {
            (503, "upstream connect error".to_owned())
        } else if sent.token.as_deref() == refused.as_deref() && refused.is_some() {
            (401, String::new())
        } else if let Some(answer) = answer(&self.store, sent.question, self.page_max, held) {
            answer
        } else {
            let wait = sent.question.wait_ms;
            self.after(wait, Event::Released(sent.number));
            self.held.push(sent);
            return;
        };
        self.send_back(&sent, status, body);
    }

    fn send_back(&mut self, sent: &Sent, status: u16, body: String) {
        let weather = self.weather;
        let at = self.now + weather.delay(&mut self.dice);
        let dice = &mut self.dice;
        // A callback that never comes, though the proxy owes one.
        if dice.chance(weather.loss / 8) {
            self.totals.never_told += 1;
            return;
        }
        if dice.chance(weather.loss) || at >= sent.gives_up_at {
            let status = dice.chance(50).then_some(504);
            return self.deliver_at(sent.gives_up_at, sent, status, String::new());
        }
        let (status, body) = if dice.chance(weather.truncated) {
            if dice.chance(50) { (None, String::new()) } else { (Some(status), cut(&body, dice)) }
        } else if dice.chance(weather.corrupted) {
            (Some(status), corrupt(&body, dice))
        } else if dice.chance(weather.other_status) {
            (dice.pick(&[401, 409, 410, 429, 500, 503, 204]).copied(), body)
        } else {
            (Some(status), body)
        };
        if dice.chance(weather.repeated) {
            let again = self.now + self.weather.delay(&mut self.dice);
            self.deliver_at(again.min(sent.gives_up_at), sent, status, body.clone());
        }
        self.deliver_at(at, sent, status, body);
    }

    fn deliver_at(&mut self, at: u64, sent: &Sent, status: Option<u16>, body: String) {
        let Sent { vm, epoch, root, id, .. } = *sent;
        let as_of = sent.arrived_at.map_or(0, |at| self.now - at);
        let delivered = Event::Delivered { vm, epoch, root, id, status, body, as_of };
        self.after(at.saturating_sub(self.now), delivered);
    }

    /// The store changed: whoever waits is told, and what is not live any more is dead from now on.
    fn changed(&mut self) {
        self.remember();
        let held = std::mem::take(&mut self.held);
        for sent in held {
            // After a store went back there may still be nothing newer.
            self.arrives(sent, false);
        }
    }

    fn remember(&mut self) {
        let live: Vec<Digest> = self.store.live.values().filter_map(|key| Digest::from_hex(&key.sha256).ok()).collect();
        let now = self.now;
        for digest in &live {
            self.ever.insert(*digest, ());
        }
        for digest in self.ever.keys() {
            self.dead.entry(*digest).or_insert(now);
        }
        self.dead.retain(|digest, _| !live.contains(digest));
        self.history.entry(self.store.revision).or_default().push(Rc::new(self.store.live.clone()));
    }

    fn attach(&mut self, vm: usize) {
        let now = self.time();
        let seconds = [Some(3), Some(5), Some(10), Some(20), None];
        let settings = Settings {
            realm: "default".into(),
            token: Some(format!("token {}", self.dice.below(3)).into()),
            store: self.dice.chance(5).then(|| self.store.id.clone().into()),
            max_staleness: self.dice.pick(&seconds).copied().flatten().map(Duration::from_secs),
            mode: Enforcement::Enforce,
            inline_keys: InlineKeys::None,
        };
        if let Some(state) = self.vms.get_mut(vm) {
            let served = state.roots.iter().find(|(root, _)| state.sync.keys(*root, now).is_ok());
            let inherits = served.is_some_and(|(_, before)| {
                before.token == settings.token && settings.store.is_none() && settings.max_staleness.is_none()
            });
            let root = state.sync.attach(settings.clone(), now);
            assert!(!inherits || state.sync.keys(root, now).is_ok(), "a new configuration inherits the table");
            state.roots.push((root, settings));
        }
    }

    fn chaos(&mut self) {
        let vm = self.dice.below(self.vms.len() as u64) as usize;
        let now = self.time();
        let what = self.dice.below(24);
        if self.trace {
            println!("{} chaos {what} for vm {vm}, store {} at {}", self.now, self.store.id, self.store.revision);
        }
        match what {
            0..=2 => self.store.create(&mut self.dice),
            3..=5 => self.store.delete(&mut self.dice),
            6 => self.store.regenerate(&mut self.dice),
            7 => self.store.edit(&mut self.dice),
            8 => {
                for _ in 0..self.dice.below(40) {
                    let one = [Store::create, Store::delete, Store::regenerate, Store::edit];
                    if let Some(change) = self.dice.clone().pick(&one) {
                        change(&mut self.store, &mut self.dice);
                        self.remember();
                    }
                }
            }
            9 => {
                let up_to = self.store.revision.saturating_sub(self.dice.below(20));
                self.store.compact(up_to);
            }
            10 => self.backups.push(self.store.clone()),
            11 => {
                if let Some(backup) = self.dice.clone().pick(&self.backups) {
                    self.store = backup.clone();
                }
            }
            12 => {
                // A lost volume, a misrouted cluster, or a copy under a new identity.
                let mut other = Store::new(format!("st_{}", self.dice.next() % 1_000));
                for _ in 0..self.dice.below(12) {
                    other.create(&mut self.dice);
                }
                if self.dice.chance(30) {
                    other = Store { id: other.id, ..self.store.clone() };
                }
                self.backups.push(std::mem::replace(&mut self.store, other));
            }
            13 | 14 => {
                self.up = !self.up;
                if !self.up {
                    for sent in std::mem::take(&mut self.held) {
                        self.send_back(&sent, 503, String::new());
                    }
                }
            }
            15..=17 => self.weather = Weather::any(&mut self.dice),
            18 => self.weather = Weather::default(),
            19 => self.attach(vm),
            20 => {
                if let Some(state) = self.vms.get_mut(vm).filter(|state| state.roots.len() > 1) {
                    let (root, _) = state.roots.remove(0);
                    // Some are dropped without a word.
                    if self.dice.chance(50) {
                        state.sync.detach(root, now);
                    }
                }
            }
            21 => self.refused_token = self.dice.chance(50).then(|| self.dice.below(3)),
            22 => {
                if let (Some(state), Some(epoch)) = (self.vms.get_mut(vm), self.epochs.get_mut(vm)) {
                    // A trap: a new VM with the newest configuration and nothing else.
                    *epoch += 1;
                    let settings = state.roots.pop().map(|(_, settings)| settings);
                    *state = Vm::new(self.dice.next());
                    if let Some(settings) = settings {
                        let root = state.sync.attach(settings.clone(), now);
                        state.roots.push((root, settings));
                    }
                }
            }
            _ => {
                if let Some(state) = self.vms.get_mut(vm) {
                    if self.dice.chance(50) {
                        state.wall_offset_ms = self.dice.below(1 << 40) as i64 - (1 << 39);
                    } else {
                        state.stalled_until = self.now + self.dice.below(15_000);
                    }
                }
            }
        }
        self.changed();
    }

    fn calm(&mut self) {
        self.weather = Weather::default();
        self.up = true;
        for vm in &mut self.vms {
            vm.stalled_until = 0;
        }
    }
}

/// The body up to some character.
fn cut(body: &str, dice: &mut Dice) -> String {
    body.chars().take(dice.below(body.len() as u64) as usize).collect()
}

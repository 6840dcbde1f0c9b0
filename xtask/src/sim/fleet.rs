//! A large fleet: the needs that follow from unit costs, compared with a simulation of every poll.
//!
//! The formulas use averages, and each knows only the queue that it is about. The simulation is event-driven: each VM of
//! each proxy polls a replica over a network with latency, each replica has a number of processors that answer one poll
//! after another, changes arrive at random, and a VM polls again after each answer. If the two differ by more than a
//! tenth, the arithmetic of `docs/scale.md` is wrong, and the command fails.

use anyhow::{Result, bail};
use fastrand::Rng;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// The size of the fleet, and unit costs as `cargo xtask bench` measures them.
#[derive(Debug, Clone, clap::Args)]
pub struct Fleet {
    /// Number of Envoys
    #[arg(long, default_value_t = 10_000)]
    proxies: u32,
    /// Filter VMs in each Envoy: its workers and one for the main thread
    #[arg(long, default_value_t = 3)]
    vms: u32,
    /// Number of keys in the store
    #[arg(long, default_value_t = 10_000_000)]
    keys: u64,
    /// Number of replicas of the admin service
    #[arg(long, default_value_t = 3)]
    replicas: u32,
    /// Processors of each replica
    #[arg(long, default_value_t = 2)]
    processors: u32,
    /// Changes of keys per minute
    #[arg(long, default_value_t = 20.0)]
    changes: f64,
    /// Processor time to send one change to one VM, in microseconds (`fanout`)
    #[arg(long, default_value_t = 45.0)]
    told_us: f64,
    /// Processor time to answer a poll after 25 s without a change, in microseconds (`fanout`)
    #[arg(long, default_value_t = 72.0)]
    renewed_us: f64,
    /// Bytes of an answer with one change, including its head (`fanout`)
    #[arg(long, default_value_t = 474.0)]
    told_bytes: f64,
    /// Bytes of a poll as the proxy sends it
    #[arg(long, default_value_t = 450.0)]
    poll_bytes: f64,
    /// Memory of a waiting VM in the service, in KiB, without TLS (`fanout`)
    #[arg(long, default_value_t = 20.0)]
    waiter_kib: f64,
    /// Bytes of a key in a page of the manifest
    #[arg(long, default_value_t = 223.0)]
    key_bytes: f64,
    /// Memory of a key in a VM, in bytes (`table`)
    #[arg(long, default_value_t = 62.0)]
    table_bytes: f64,
    /// Keys in a page
    #[arg(long, default_value_t = 100)]
    page: u64,
    /// Processor time of a page that is encoded already, in microseconds
    #[arg(long, default_value_t = 90.0)]
    page_us: f64,
    /// Processor time of a page in the VM that loads it, in microseconds (`load`)
    #[arg(long, default_value_t = 215.0)]
    apply_us: f64,
    /// Bandwidth of a replica, in Gbit/s
    #[arg(long, default_value_t = 10.0)]
    network_gbit: f64,
    /// Round-trip time of the network, in milliseconds
    #[arg(long, default_value_t = 2.0)]
    round_trip_ms: f64,
}

/// The time that a poll waits for a change.
const WAIT_S: f64 = 25.0;
/// The limit of a table in a VM, and Envoy's limit for the memory of a VM.
const TABLE_LIMIT: f64 = 384.0 * 1_048_576.0;
/// The number of simulated changes.
const CHANGES: usize = 40;
/// The number of VMs that are simulated while they load. Each loads thousands of pages, and more VMs queue in the same way.
const LOADING: u32 = 30;
/// The largest relative difference between formulas and simulation.
const TOLERANCE: f64 = 0.1;

pub fn run(fleet: &Fleet, seed: u64) -> Result<()> {
    fleet.tell();
    let predicted = fleet.predict();
    let following = Following::simulate(fleet, seed);
    let load = simulate_load(fleet, seed);
    println!(
        "\n| {:<52} | {:>12} | {:>12} | {:>6} |\n| {:-<52} | {:->11}: | {:->11}: | {:->5}: |",
        "", "predicted", "simulated", "off", "", "", "", ""
    );
    let mut worst: f64 = 0.0;
    let mut row = |what: &str, predicted: f64, simulated: f64, digits: usize| {
        let off = (simulated - predicted).abs() / predicted;
        worst = worst.max(off);
        println!("| {what:<52} | {predicted:>12.digits$} | {simulated:>12.digits$} | {:>5.1}% |", off * 1e2);
    };
    row("all VMs told of a change, ms, alone", predicted.all_told_ms, following.alone_ms, 1);
    row("a VM told of a change, ms, mean, alone", predicted.mean_told_ms, following.mean_ms, 1);
    row("processors of a replica in use, %, at this rate", predicted.busy * 1e2, following.busy * 1e2, 2);
    row("egress of a replica, kbit/s, at this rate", predicted.egress_bits / 1e3, following.egress_bits / 1e3, 1);
    row("polls a second at a replica, nothing changing", predicted.renewals, following.renewals, 1);
    row("answers a second, changes without end", predicted.most_answers, following.most_answers, 0);
    row(&format!("{LOADING} VMs load {} keys from a replica, s", fleet.keys), predicted.load_s, load, 1);
    println!("\nseed {seed}; every figure by `cargo xtask sim --fleet`, unit costs by flags");
    if worst > TOLERANCE {
        bail!("the arithmetic is off by {:.0} %", worst * 1e2);
    }
    Ok(())
}

/// The results of the formulas.
struct Predicted {
    all_told_ms: f64,
    mean_told_ms: f64,
    busy: f64,
    egress_bits: f64,
    renewals: f64,
    most_answers: f64,
    load_s: f64,
}

impl Fleet {
    fn all_vms(&self) -> u32 {
        self.proxies * self.vms
    }

    /// The largest number of VMs that wait on one replica.
    fn waiters(&self) -> u32 {
        self.all_vms().div_ceil(self.replicas)
    }

    fn bytes_a_second(&self) -> f64 {
        self.network_gbit * 1e9 / 8.0
    }

    fn predict(&self) -> Predicted {
        let (waiters, processors) = (f64::from(self.waiters()), f64::from(self.processors));
        let telling_s = waiters * self.told_us / 1e6 / processors;
        let changes_a_second = self.changes / 60.0;
        // A poll ends with a change or after its wait, whichever comes first.
        let renewals = waiters / WAIT_S;
        let quiet = renewals_between(waiters, changes_a_second);
        let pages = self.keys.div_ceil(self.page) as f64;
        let page_s = self.page_us / 1e6 / processors;
        let page_bytes = self.page as f64 * self.key_bytes;
        // The slowest of three limits: the processors, the network, and a VM that loads one page after another.
        let alone_s =
            (self.page_us + self.apply_us) / 1e6 + self.round_trip_ms / 1e3 + page_bytes / self.bytes_a_second();
        let each_s =
            (f64::from(LOADING) * page_s).max(f64::from(LOADING) * page_bytes / self.bytes_a_second()).max(alone_s);
        Predicted {
            all_told_ms: telling_s * 1e3 + self.round_trip_ms / 2.0,
            mean_told_ms: telling_s * 1e3 / 2.0 + self.round_trip_ms / 2.0,
            busy: (changes_a_second * waiters * self.told_us + quiet * self.renewed_us) / 1e6 / processors,
            egress_bits: 8.0 * (changes_a_second * waiters * self.told_bytes + quiet * self.told_bytes / 2.0),
            renewals,
            most_answers: processors * 1e6 / self.told_us,
            load_s: pages * each_s,
        }
    }

    /// Returns the needs that follow from the unit costs without any queue.
    fn tell(&self) {
        let (all, waiters) = (f64::from(self.all_vms()), f64::from(self.waiters()));
        let keys = self.keys as f64;
        let gib = |bytes: f64| bytes / f64::from(1 << 30);
        let whole = keys * self.key_bytes;
        let table = keys * self.table_bytes;
        println!(
            "{} proxies with {} VMs each, {} keys, {} replicas\n",
            self.proxies, self.vms, self.keys, self.replicas
        );
        let line = |what: &str, value: String| println!("| {what:<52} | {value:>24} |");
        line("connections to the service", format!("{all:.0}"));
        line("connections to a replica", format!("{waiters:.0}"));
        line("memory of waiting VMs, each replica", format!("{:.2} GiB", gib(waiters * self.waiter_kib * 1_024.0)));
        line("egress of one change, all replicas", format!("{:.1} MB", all * self.told_bytes / 1e6));
        line("polls that come back at once, all replicas", format!("{:.1} MB", all * self.poll_bytes / 1e6));
        line("one load of all keys, one VM", format!("{:.2} GB", whole / 1e9));
        line("one load of all keys, the whole fleet", format!("{:.1} TB", whole * all / 1e12));
        let hours = whole * all / f64::from(self.replicas) / self.bytes_a_second() / 3_600.0;
        line("… through the replicas' network at least", format!("{hours:.1} h"));
        line("key table, one VM", format!("{:.2} GiB", gib(table)));
        line("key tables, one proxy", format!("{:.2} GiB", gib(table * f64::from(self.vms))));
        let most = (TABLE_LIMIT / self.table_bytes) as u64;
        line("keys that fit into one VM", format!("{most}"));
        if self.keys > most {
            println!(
                "\n{} keys do not fit into one VM: {} stores at least, each with proxies of its own",
                self.keys,
                self.keys.div_ceil(most)
            );
        }
    }
}

/// Returns the number of polls per second that end without a change, for changes that arrive at random: each poll ends so
/// with the probability that no change arrives in its wait.
fn renewals_between(waiters: f64, changes_a_second: f64) -> f64 {
    if changes_a_second == 0.0 {
        return waiters / WAIT_S;
    }
    let none = (-changes_a_second * WAIT_S).exp();
    // The mean length of a poll, which ends with a change or after its wait.
    let length = (1.0 - none) / changes_a_second;
    waiters / length * none
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct At(f64);

impl Eq for At {}

impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for At {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The store changes.
    Change,
    /// A poll of this VM arrives.
    Poll(usize),
    /// The wait of this VM's poll ends, unless the poll was answered before.
    Over(usize, u32),
    /// A processor has completed an answer for this VM.
    Done(usize),
}

/// One replica, and the VMs that poll it.
struct Replica<'a> {
    fleet: &'a Fleet,
    random: Rng,
    now: f64,
    events: BinaryHeap<Reverse<(At, Event)>>,
    revision: u64,
    changed_at: Vec<f64>,
    vms: Vec<Vm>,
    /// The VMs whose answers are queued, each with whether the answer holds changes.
    queue: VecDeque<(usize, bool)>,
    idle_processors: u32,
    busy_s: f64,
    bytes: f64,
    polls: u64,
    answers: u64,
    /// The delays after which VMs received a revision: their sum, their number, and the longest for each revision.
    delays: f64,
    told: u64,
    last_told: Vec<f64>,
}

#[derive(Clone, Copy, Default)]
struct Vm {
    revision: u64,
    /// The number of the VM's poll, so that the wait of an old poll does not end a new one.
    poll: u32,
    waits: bool,
    /// The revision that the queued answer contains.
    answer: u64,
}

impl<'a> Replica<'a> {
    fn new(fleet: &'a Fleet, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let waiters = fleet.waiters() as usize;
        // The waits began at random times.
        let events = (0..waiters).map(|vm| Reverse((At(random.f64() * WAIT_S), Event::Poll(vm)))).collect();
        Self {
            fleet,
            random,
            now: 0.0,
            events,
            revision: 0,
            changed_at: vec![0.0],
            vms: vec![Vm::default(); waiters],
            queue: VecDeque::new(),
            idle_processors: fleet.processors,
            busy_s: 0.0,
            bytes: 0.0,
            polls: 0,
            answers: 0,
            delays: 0.0,
            told: 0,
            last_told: vec![0.0],
        }
    }

    fn after(&mut self, seconds: f64, event: Event) {
        self.events.push(Reverse((At(self.now + seconds), event)));
    }

    /// Runs the simulation until a moment.
    fn run_until(&mut self, end: f64) {
        while let Some(Reverse((At(at), event))) = self.events.pop() {
            if at > end {
                self.events.push(Reverse((At(at), event)));
                break;
            }
            self.now = at;
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Change => {
                self.revision += 1;
                self.changed_at.push(self.now);
                self.last_told.push(0.0);
                for vm in 0..self.vms.len() {
                    if self.vms.get(vm).is_some_and(|vm| vm.waits) {
                        self.enqueue(vm, true);
                    }
                }
            }
            Event::Poll(vm) => {
                self.polls += 1;
                let revision = self.revision;
                let Some(state) = self.vms.get_mut(vm) else { return };
                state.poll += 1;
                state.waits = state.revision == revision;
                let (waits, poll) = (state.waits, state.poll);
                if waits {
                    self.after(WAIT_S, Event::Over(vm, poll));
                } else {
                    self.enqueue(vm, true);
                }
            }
            Event::Over(vm, poll) => {
                if self.vms.get(vm).is_some_and(|vm| vm.waits && vm.poll == poll) {
                    self.enqueue(vm, false);
                }
            }
            Event::Done(vm) => {
                self.idle_processors += 1;
                self.answers += 1;
                let half = self.fleet.round_trip_ms / 2e3;
                let arrives = self.now + half;
                if let Some(state) = self.vms.get_mut(vm) {
                    let known = state.revision;
                    state.revision = state.answer;
                    for revision in known + 1..=state.answer {
                        let at = revision as usize;
                        self.delays += arrives - self.changed_at.get(at).copied().unwrap_or(arrives);
                        self.told += 1;
                        if let Some(last) = self.last_told.get_mut(at) {
                            *last = last.max(arrives);
                        }
                    }
                }
                self.after(2.0 * half, Event::Poll(vm));
                self.serve();
            }
        }
    }

    fn enqueue(&mut self, vm: usize, news: bool) {
        if let Some(state) = self.vms.get_mut(vm) {
            state.waits = false;
        }
        self.queue.push_back((vm, news));
        self.serve();
    }

    /// Gives queued answers to idle processors.
    fn serve(&mut self) {
        while self.idle_processors > 0 {
            let Some((vm, news)) = self.queue.pop_front() else { break };
            self.idle_processors -= 1;
            let mean = if news { self.fleet.told_us } else { self.fleet.renewed_us } / 1e6;
            // Half of the latency is constant, the rest is random.
            let takes = mean / 2.0 + exponential(&mut self.random, mean / 2.0);
            self.busy_s += takes;
            self.bytes += if news { self.fleet.told_bytes } else { self.fleet.told_bytes / 2.0 };
            let revision = self.revision;
            if let Some(state) = self.vms.get_mut(vm) {
                state.answer = revision;
            }
            self.after(takes, Event::Done(vm));
        }
    }
}

/// The results of the simulation of VMs that follow the store.
struct Following {
    alone_ms: f64,
    mean_ms: f64,
    busy: f64,
    egress_bits: f64,
    renewals: f64,
    most_answers: f64,
}

impl Following {
    fn simulate(fleet: &Fleet, seed: u64) -> Self {
        // Nothing changes in this phase, and its first wait is left out.
        let mut replica = Replica::new(fleet, seed);
        replica.run_until(2.0 * WAIT_S);
        let before = replica.polls;
        replica.run_until(6.0 * WAIT_S);
        let renewals = (replica.polls - before) as f64 / (4.0 * WAIT_S);

        // Changes that do not overlap.
        (replica.delays, replica.told) = (0.0, 0);
        let mut alone = Vec::new();
        for _ in 0..CHANGES {
            replica.happen(Event::Change);
            let changed = replica.now;
            replica.run_until(changed + 30.0);
            alone.push(replica.last_told.last().copied().unwrap_or_default() - changed);
        }
        let alone_ms = alone.iter().sum::<f64>() / alone.len() as f64 * 1e3;
        let mean_ms = replica.delays / replica.told.max(1) as f64 * 1e3;

        // Changes that arrive at random at the given rate.
        let (busy, bytes, begin) = (replica.busy_s, replica.bytes, replica.now);
        let rate = fleet.changes / 60.0;
        let lasts = (400.0 / rate).min(3_600.0);
        let mut next = replica.now;
        while next < begin + lasts {
            next += exponential(&mut replica.random, 1.0 / rate);
            replica.run_until(next.min(begin + lasts));
            if next < begin + lasts {
                replica.happen(Event::Change);
            }
        }
        let changes_seen = replica.last_told.len() - 1 - CHANGES;
        // The cost is divided by the changes that did arrive, because the rate is an input and not a result.
        let scale = rate * lasts / changes_seen.max(1) as f64;
        let busy = (replica.busy_s - busy) / lasts / f64::from(fleet.processors) * scale;
        let egress_bits = (replica.bytes - bytes) * 8.0 / lasts * scale;

        // There are more changes than can be sent one by one, so each poll is answered with all that have gathered.
        let answers = replica.answers;
        let storm = 5.0;
        let begin = replica.now;
        while replica.now < begin + storm {
            replica.happen(Event::Change);
            let until = replica.now + 0.01;
            replica.run_until(until);
        }
        let most_answers = (replica.answers - answers) as f64 / storm;
        Self { alone_ms, mean_ms, busy, egress_bits, renewals, most_answers }
    }
}

/// Lets some VMs load all keys from one replica at once, and returns when the last VM has them.
fn simulate_load(fleet: &Fleet, seed: u64) -> f64 {
    let mut random = Rng::with_seed(seed ^ 0x10ad);
    let pages = fleet.keys.div_ceil(fleet.page);
    let page_bytes = fleet.page as f64 * fleet.key_bytes;
    // The pages that each VM still has to load, and the times at which processors and network are free again.
    let mut asks: BinaryHeap<Reverse<(At, u64, u32)>> = (0..LOADING).map(|vm| Reverse((At(0.0), pages, vm))).collect();
    let mut free: BinaryHeap<Reverse<At>> = (0..fleet.processors).map(|_| Reverse(At(0.0))).collect();
    let mut network_free: f64 = 0.0;
    let mut last: f64 = 0.0;
    while let Some(Reverse((At(asked), left, vm))) = asks.pop() {
        let processor = free.pop().map_or(0.0, |Reverse(At(at))| at);
        let mean = fleet.page_us / 1e6;
        let made = asked.max(processor) + mean / 2.0 + exponential(&mut random, mean / 2.0);
        free.push(Reverse(At(made)));
        network_free = network_free.max(made) + page_bytes / fleet.bytes_a_second();
        let applied = network_free + fleet.round_trip_ms / 2e3 + fleet.apply_us / 1e6;
        last = last.max(applied);
        if left > 1 {
            asks.push(Reverse((At(applied + fleet.round_trip_ms / 2e3), left - 1, vm)));
        }
    }
    last
}

/// Returns an exponentially distributed time: the time until an event that happens once in `mean` on average.
fn exponential(random: &mut Rng, mean: f64) -> f64 {
    -mean * (1.0 - random.f64()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        fleet: Fleet,
    }

    fn fleet(flags: &[&str]) -> Fleet {
        Flags::parse_from(["fleet"].iter().chain(flags)).fleet
    }

    #[test]
    fn the_formulas_hold_for_fleets_of_several_sizes() {
        for flags in [&["--proxies=30"][..], &["--proxies=300", "--replicas=1", "--changes=300"]] {
            let fleet = fleet(flags);
            let (predicted, simulated) = (fleet.predict(), Following::simulate(&fleet, 7));
            for (predicted, simulated) in [
                (predicted.renewals, simulated.renewals),
                (predicted.busy, simulated.busy),
                (predicted.egress_bits, simulated.egress_bits),
            ] {
                assert!(
                    (predicted - simulated).abs() / predicted < 2.0 * TOLERANCE,
                    "{flags:?}: {predicted} {simulated}"
                );
            }
        }
    }

    #[test]
    fn a_seed_gives_the_same_again_and_another_one_does_not() {
        let fleet = fleet(&["--proxies=30", "--keys=40000"]);
        let load = |seed| simulate_load(&fleet, seed).to_bits();
        assert_eq!(load(1), load(1));
        assert_ne!(load(1), load(2));
    }
}

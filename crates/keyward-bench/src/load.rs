//! `load`: loading all keys from the real admin service, first and again under traffic.
//!
//! The first load runs from the start of Envoy until both workers have keys. For the second the store gets another
//! identity, so that every VM loads all keys anew beside those in use, while requests arrive at an even rate. Their
//! latency is compared with that at the same rate before. Both loads are then repeated with a module that reads the
//! monotonic clock before and after each callback of loading (ticks and answers, but not requests, which are short).
//!
//! While latencies and callbacks are measured, Envoy and the clients run at a real-time priority if the system allows it.
//! The service uses the same two cores, and waiting for a core is not what is to be measured.

use crate::edge::{self, Edge};
use crate::paced::{Paced, Sample};
use crate::report::{self, Table};
use crate::service::{Database, Home};
use crate::stats::quantile;
use crate::wrk::Load;
use anyhow::{Context as _, Result};
use keyward_testbed::artifacts::Edition;
use keyward_testbed::{wait, workspace};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub struct Arguments {
    /// Number of keys
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000])]
    keys: Vec<u32>,
    /// Requests per second meanwhile
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// Database of the service
    #[arg(long, value_enum, default_value = "sqlite")]
    database: Database,
    /// Edition of the filter: `wasm` or `native`
    #[arg(long, default_value = "wasm")]
    edition: Edition,
    /// Leave out the times of callbacks. They are measured of the WebAssembly edition alone
    #[arg(long)]
    no_callbacks: bool,
}

const PATIENCE: Duration = Duration::from_secs(300);
/// The time for which the latency without loading is measured.
const IDLE: Duration = Duration::from_secs(10);
const LOADS: &str = "wasmcustom.keyward_manifest_loads";

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut times = Table::new(&[
        "keys",
        "first load: serving after, s",
        "loaded again after, s",
        "p99 idle, ms",
        "p99 meanwhile, ms",
        "×",
        "p999 idle, ms",
        "p999 meanwhile, ms",
        "requests meanwhile",
    ]);
    let mut callbacks =
        Table::new(&["keys", "load", "callbacks", "p50, µs", "p99", "99.9 %", "longest", "over 0.5 ms", "over 5 ms"]);
    let callbacks_too = arguments.edition == Edition::Wasm && !arguments.no_callbacks;
    let mut figures = Vec::new();
    for keys in &arguments.keys {
        let home = Home::new(arguments.database)?;
        eprintln!("making {keys} keys");
        let plain = home.seed(*keys)?;
        let shipped = once(&home, &plain, arguments, None)?;
        let [idle, meanwhile] = [&shipped.idle, &shipped.meanwhile]
            .map(|samples| [0.99, 0.999].map(|share| quantile(samples, share) / 1e3));
        times.row([
            keys.to_string(),
            format!("{:.2}", shipped.first.as_secs_f64()),
            format!("{:.2}", shipped.again.as_secs_f64()),
            format!("{:.2}", idle[0]),
            format!("{:.2}", meanwhile[0]),
            format!("{:.2}", meanwhile[0] / idle[0]),
            format!("{:.2}", idle[1]),
            format!("{:.2}", meanwhile[1]),
            shipped.meanwhile.len().to_string(),
        ]);
        let mut figure = json!({
            "keys": keys, "first_s": shipped.first.as_secs_f64(), "again_s": shipped.again.as_secs_f64(),
            "requests_per_second": arguments.rate, "requests_meanwhile": shipped.meanwhile.len(),
            "idle_ms": {"p99": idle[0], "p999": idle[1]}, "meanwhile_ms": {"p99": meanwhile[0], "p999": meanwhile[1]},
        });
        if callbacks_too {
            let timed = once(&home, &plain, arguments, Some(&timed_module()?))?;
            figure["real_time"] = json!(timed.real_time);
            for (name, took) in [("first", &timed.first_callbacks), ("again", &timed.again_callbacks)] {
                figure[name] = tell_callbacks(*keys, name, took, &mut callbacks);
            }
        }
        figures.push(figure);
    }
    println!(
        "\n{} edition, {}; {:.0} requests a second\n",
        arguments.edition.name(),
        arguments.database.name(),
        arguments.rate
    );
    times.print();
    if callbacks_too {
        println!();
        callbacks.print();
    }
    report::write(
        "load",
        json!({"edition": arguments.edition.name(), "database": arguments.database.name(), "sizes": figures}),
    )
}

struct Measured {
    first: Duration,
    again: Duration,
    /// The latency in microseconds.
    idle: Vec<f64>,
    meanwhile: Vec<f64>,
    first_callbacks: Vec<f64>,
    again_callbacks: Vec<f64>,
    real_time: bool,
}

fn once(home: &Home, plain: &[String], arguments: &Arguments, timed: Option<&PathBuf>) -> Result<Measured> {
    let service = home.serve();
    let begin = Instant::now();
    let edge = Edge::with(home.address(), arguments.edition, timed.map(PathBuf::as_path))?;
    let real_time = timed.is_some() && at_real_time_priority(edge.envoy.pid());
    edge.wait_until_ready()?;
    let first = begin.elapsed();
    wait_for_loads(&edge, edge.instances());
    settle();
    let first_callbacks = callbacks(&edge, 0)?;

    // Their wait for a core would otherwise count as the proxy's latency. The service keeps its normal priority.
    let real_time = (real_time || at_real_time_priority(edge.envoy.pid())) && at_real_time_priority(std::process::id());
    let load = load(plain);
    let paced = Paced::start(edge.address, &load, arguments.rate);
    std::thread::sleep(IDLE);
    let idle: Vec<f64> = paced.stop()?.iter().map(Sample::us).collect();

    let paced = Paced::start(edge.address, &load, arguments.rate);
    std::thread::sleep(Duration::from_millis(200));
    home.new_identity()?;
    let log = edge.envoy.log().len();
    // A change makes the service read its store.
    let begin = Instant::now();
    let (id, _) = service.admin()?.create("the first key of another store")?;
    wait_for_loads(&edge, 2 * edge.instances());
    let again = begin.elapsed();
    let samples = paced.stop()?;
    let within = |sample: &&Sample| sample.due >= begin && sample.due <= begin + again;
    let meanwhile: Vec<f64> = samples.iter().filter(within).map(Sample::us).collect();
    at_ordinary_priority(std::process::id());
    settle();
    let again_callbacks = callbacks(&edge, log)?;
    // The next measurement finds the store as this one found it.
    service.admin()?.delete(&id, "5s")?;
    Ok(Measured { first, again, idle, meanwhile, first_callbacks, again_callbacks, real_time })
}

fn wait_for_loads(edge: &Edge, loads: u64) {
    wait::until("every instance holds all keys", PATIENCE, || {
        // Printing all statistics costs Envoy more than a page of keys does.
        std::thread::sleep(Duration::from_millis(100));
        (edge.envoy.stat(LOADS) >= loads).then_some(())
    });
}

/// The time after a load in which deferred work ends and the last times are logged, which happens once a second.
fn settle() {
    std::thread::sleep(Duration::from_secs(4));
}

fn load(plain: &[String]) -> Load {
    let requests = (0..20_000_usize).map(|number| {
        // A fixed stride visits keys in all parts of the table.
        let key = plain.get(number * 7_919_317 % plain.len().max(1)).cloned().unwrap_or_default();
        (format!("{}/r{number}", edge::PATH), vec![("x-api-key", key)])
    });
    Load { requests: requests.collect(), status: 200 }
}

/// Returns the module that `cargo xtask bench load` builds with the feature `callback-times`.
fn timed_module() -> Result<PathBuf> {
    let file = workspace::root().join("target/dist/bench/keyward-callback-times.wasm");
    file.is_file().then_some(file).context("keyward-callback-times.wasm is missing: run `cargo xtask bench load`")
}

/// Raises the priority of a process and returns whether the system allowed it.
fn at_real_time_priority(pid: u32) -> bool {
    let status = Command::new("chrt").args(["--all-tasks", "--fifo", "--pid", "1", &pid.to_string()]).status();
    status.is_ok_and(|status| status.success())
}

fn at_ordinary_priority(pid: u32) {
    // A priority that was not raised does not have to be lowered.
    let _ = Command::new("chrt").args(["--all-tasks", "--other", "--pid", "0", &pid.to_string()]).status();
}

/// Returns the duration in microseconds of each callback that the log names after a position.
fn callbacks(edge: &Edge, from: usize) -> Result<Vec<f64>> {
    let log = edge.envoy.log();
    let lines = log.get(from..).unwrap_or_default().lines().filter_map(|line| line.split_once("callback times: "));
    let times = lines.flat_map(|(_, times)| times.split_ascii_whitespace().map(str::parse::<f64>));
    let times: Result<Vec<f64>, _> = times.map(|ns| ns.map(|ns| ns / 1e3)).collect();
    times.context("the log tells of callback times that are no numbers")
}

fn tell_callbacks(keys: u32, name: &str, took: &[f64], table: &mut Table) -> Value {
    let over = |limit: f64| took.iter().filter(|us| **us > limit).count();
    let [p50, p99, p999, longest] = [0.5, 0.99, 0.999, 1.0].map(|share| quantile(took, share));
    let shown = [p50, p99, p999, longest].map(|us| format!("{us:.0}"));
    let counts = [over(500.0).to_string(), over(5_000.0).to_string()];
    table.row([keys.to_string(), name.to_owned(), took.len().to_string()].into_iter().chain(shown).chain(counts));
    json!({
        "callbacks": took.len(), "over_500_us": over(500.0), "over_5_ms": over(5_000.0),
        "us": {"p50": p50, "p99": p99, "p999": p999, "longest": longest},
    })
}

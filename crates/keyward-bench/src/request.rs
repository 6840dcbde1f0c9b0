//! `request`: the cost of a request for an Envoy worker, with Keyward and with its alternatives.
//!
//! All variants are listeners of one Envoy, whose one worker has a core to itself; the load generator and the upstream
//! share the other core. A round sends a second of load to each variant in turn, in an order that changes, and reads the
//! worker's CPU time from the kernel before and after. The cost that a filter adds is the difference to the variant
//! without it in the same round. Envoy is started several times, because the layout of a process in memory matters too.

pub mod alternatives;
mod latency;
pub mod listener;
mod lua;
mod rules;
mod steps;
mod variants;

use crate::cpu::{self, Thread};
use crate::report::{self, Table};
use crate::stats::{Summary, bootstrap, quantile};
use crate::wrk::Script;
use anyhow::{Context as _, Result};
use keyward_testbed::envoy::Envoy;
use keyward_testbed::{http1, wait, workspace};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use variants::{Variant, YARDSTICK};

#[derive(clap::Args)]
pub struct Arguments {
    /// How many times Envoy is started
    #[arg(long, default_value_t = 4)]
    starts: usize,
    /// Rounds per start
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// Seconds of load for each variant in each round
    #[arg(long, default_value_t = 1)]
    seconds: u32,
    /// Measure only variants whose name contains one of these, and what they are compared with; separated by semicolons
    #[arg(long, value_delimiter = ';')]
    only: Vec<String>,
    /// What answers requests that pass: Envoy itself, or a server behind the shipped routes
    #[arg(long, value_enum, default_value = "direct")]
    upstream: listener::Upstream,
    /// Leave out the latencies at half load
    #[arg(long)]
    no_latency: bool,
    /// Count instructions in place of measuring time, for variants that do no other work meanwhile
    #[arg(long)]
    steps: bool,
    /// Compare with other builds of the module; each becomes variants whose names end with the file's name
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    other_module: Vec<PathBuf>,
}

/// The measurements of one variant, by round.
struct Measured {
    variant: Variant,
    cpu_us: Vec<f64>,
    rate: Vec<f64>,
    latency: Option<latency::Latency>,
}

/// The time within which a million keys must be loaded.
const PATIENCE: Duration = Duration::from_secs(300);

pub fn run(arguments: &Arguments) -> Result<()> {
    cpu::step_aside()?;
    let mut set = variants::all(arguments.upstream, &arguments.other_module)?;
    if !arguments.only.is_empty() {
        let wanted = |variant: &Variant| {
            arguments.only.iter().any(|part| variant.name.contains(&**part)) || variant.name == YARDSTICK
        };
        let bases: Vec<String> =
            set.variants.iter().filter(|variant| wanted(variant)).filter_map(|variant| variant.base.clone()).collect();
        set.variants.retain(|variant| wanted(variant) || bases.contains(&variant.name));
    }
    if arguments.steps {
        // Polls would be counted with the requests, and a proxy that is stepped through gives up waiting for other services.
        set.variants.retain(|variant| !variant.polls && !variant.name.starts_with("ext_authz"));
    }
    let mut measured: Vec<Measured> = set
        .variants
        .drain(..)
        .map(|variant| Measured { variant, cpu_us: Vec::new(), rate: Vec::new(), latency: None })
        .collect();
    let folder = workspace::scratch("bench");
    let scripts: Vec<Script> = measured
        .iter()
        .enumerate()
        .map(|(number, measured)| Script::new(folder.path(), &number.to_string(), &measured.variant.load))
        .collect::<Result<_>>()?;
    let listeners: Vec<Value> = measured.iter().map(|measured| measured.variant.listener.clone()).collect();
    let config = listener::bootstrap(listeners, set.clusters);

    for start in 0..arguments.starts {
        let envoy = Envoy::try_start(&config, 1)
            .map_err(|refused| anyhow::anyhow!("Envoy does not take the configuration:\n{}", refused.log))?;
        cpu::pin(envoy.pid(), cpu::MEASURED)?;
        let worker = Thread::named(envoy.pid(), "wrk:worker_0")?;
        let targets: Vec<_> = measured.iter().map(|measured| envoy.listener(&measured.variant.name)).collect();
        for (one, target) in measured.iter().zip(&targets).filter(|(one, _)| one.variant.fetches) {
            wait::until(&format!("{} has its keys", one.variant.name), PATIENCE, || {
                http1::get(*target, "/keyward/ready", &[]).ok().filter(|answer| answer.status == 200).map(|_| ())
            });
        }
        for (script, target) in scripts.iter().zip(&targets) {
            // V8 compiles the hot code within this time.
            script.run(*target, 2)?;
        }
        if arguments.steps {
            let mut counted = Vec::new();
            for (one, target) in measured.iter().zip(&targets) {
                eprintln!("stepping through {}", one.variant.name);
                counted.push(steps::count(envoy.pid(), worker.tid(), *target, &one.variant.load)?);
            }
            return tell_steps(&measured, &counted);
        }
        for round in 0..arguments.rounds {
            eprintln!("start {} of {}, round {} of {}", start + 1, arguments.starts, round + 1, arguments.rounds);
            for number in order(measured.len(), start * arguments.rounds + round) {
                let (Some(one), Some(script), Some(target)) =
                    (measured.get_mut(number), scripts.get(number), targets.get(number))
                else {
                    continue;
                };
                let before = worker.cpu_ns()?;
                let outcome = script.run(*target, arguments.seconds).with_context(|| one.variant.name.clone())?;
                one.cpu_us.push((worker.cpu_ns()? - before) as f64 / 1e3 / outcome.requests as f64);
                one.rate.push(outcome.rate);
            }
        }
        if start + 1 == arguments.starts && !arguments.no_latency {
            for (one, target) in measured.iter_mut().zip(&targets) {
                let rate = quantile(&one.rate, 0.5) / 2.0;
                one.latency = Some(latency::measure(*target, &one.variant.load, rate)?);
            }
        }
    }
    tell(&measured, if arguments.upstream == listener::Upstream::Direct { "direct" } else { "local" })
}

/// Returns the variants in an order that differs between rounds, so that none always follows the same other one.
fn order(count: usize, round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    fastrand::Rng::with_seed(round as u64).shuffle(&mut order);
    order
}

/// Returns the figure as text, or an empty text without one.
fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or(String::new(), |value| format!("{value:.digits$}"))
}

fn tell_steps(measured: &[Measured], counted: &[steps::Steps]) -> Result<()> {
    let find = |name: &str| Some(*counted.get(measured.iter().position(|one| one.variant.name == name)?)?);
    // The cost that a variant adds to its base.
    let added = |one: &Measured, steps: &steps::Steps| {
        let base = find(one.variant.base.as_deref()?)?;
        Some((steps.all - base.all, steps.lines - base.lines))
    };
    let yardstick = measured.iter().zip(counted).find(|(one, _)| one.variant.name == YARDSTICK);
    let yardstick = yardstick.and_then(|(one, steps)| added(one, steps));
    println!(
        "\ninstructions of a request outside of the kernel, and the cache lines of code that they are in; medians\n"
    );
    let mut table =
        Table::new(&["variant", "instructions", "added", "× empty", "in the module", "lines", "added", "× empty"]);
    let mut figures = Vec::new();
    for (one, steps) in measured.iter().zip(counted) {
        let added = added(one, steps);
        let over = added.zip(yardstick).map(|(added, yardstick)| (added.0 / yardstick.0, added.1 / yardstick.1));
        table.row([
            one.variant.name.clone(),
            format!("{:.0}", steps.all),
            shown(added.map(|added| added.0), 0),
            shown(over.map(|over| over.0), 2),
            format!("{:.0}", steps.module),
            format!("{:.0}", steps.lines),
            shown(added.map(|added| added.1), 0),
            shown(over.map(|over| over.1), 2),
        ]);
        figures.push(json!({
            "variant": one.variant.name, "base": one.variant.base,
            "instructions": steps.all, "in_the_module": steps.module, "lines_of_code": steps.lines,
        }));
    }
    table.print();
    report::write("request-steps", json!({"variants": figures}))
}

fn tell(measured: &[Measured], upstream: &str) -> Result<()> {
    let find = |name: &str| measured.iter().find(|measured| measured.variant.name == name);
    // The cost that a variant adds to its base, round by round.
    let added = |one: &Measured| -> Option<Vec<f64>> {
        let base = find(one.variant.base.as_deref()?)?;
        Some(one.cpu_us.iter().zip(&base.cpu_us).map(|(with, without)| with - without).collect())
    };
    let yardstick = find(YARDSTICK).and_then(added);
    let rounds = measured.first().map_or(0, |one| one.cpu_us.len());
    println!("\n{rounds} paired rounds; CPU of the worker for each request, median [quartiles]\n");
    let mut table =
        Table::new(&["variant", "CPU, µs", "added, µs", "95 %", "× empty", "95 %", "req/s", "p50, µs", "p99", "p999"]);
    let mut figures = Vec::new();
    for one in measured {
        let cpu = Summary::of(&one.cpu_us);
        let added_rounds = added(one);
        let added = added_rounds.as_deref().map(Summary::of);
        let ratio = added_rounds.as_deref().zip(yardstick.as_deref()).map(|(added, yardstick)| {
            let over = |values: &[f64], rounds: &[usize]| {
                quantile(&rounds.iter().filter_map(|round| values.get(*round).copied()).collect::<Vec<_>>(), 0.5)
            };
            let all: Vec<usize> = (0..rounds).collect();
            let of = |rounds: &[usize]| over(added, rounds) / over(yardstick, rounds);
            (of(&all), bootstrap(rounds, of))
        });
        let rate = quantile(&one.rate, 0.5);
        let latency = |pick: fn(&latency::Latency) -> f64| one.latency.as_ref().map(pick);
        let span = |span: Option<(f64, f64)>| span.map_or(String::new(), |(a, b)| format!("{a:.2}–{b:.2}"));
        table.row([
            one.variant.name.clone(),
            format!("{:.2} [{:.2}–{:.2}]", cpu.median, cpu.lower_quartile, cpu.upper_quartile),
            shown(added.map(|added| added.median), 2),
            span(added.map(|added| added.interval)),
            shown(ratio.map(|ratio| ratio.0), 2),
            span(ratio.map(|ratio| ratio.1)),
            format!("{rate:.0}"),
            shown(latency(|latency| latency.p50_us), 0),
            shown(latency(|latency| latency.p99_us), 0),
            shown(latency(|latency| latency.p999_us), 0),
        ]);
        figures.push(json!({
            "variant": one.variant.name,
            "base": one.variant.base,
            "cpu_us": cpu.json(),
            "cpu_us_by_round": one.cpu_us,
            "added_us": added.map(|added| added.json()),
            "times_empty": ratio.map(|(ratio, interval)| json!({"median": ratio, "interval_95": [interval.0, interval.1]})),
            "requests_per_second": rate,
            "latency_at_half_load": one.latency.as_ref().map(latency::Latency::json),
        }));
    }
    table.print();
    report::write("request", json!({"rounds": rounds, "upstream": upstream, "variants": figures}))
}

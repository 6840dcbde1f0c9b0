//! `revoke`: the time from the deletion of a key to its refusal by every worker of a proxy.
//!
//! All parts are real: an Envoy with two workers and the shipped configuration, the admin service in a process of its
//! own, and a deletion as an administrator sends it. Two connections to each worker send requests with the key that is
//! about to be deleted, one after the other; Envoy's counters show which connection belongs to which worker. The time
//! runs from the sending of the DELETE, so that the commit is part of it, to the first refusal by the worker that refuses
//! last. After the receipt every connection sends four more requests, none of which may pass.

use crate::edge::{self, Connection, Edge};
use crate::paced::{Paced, Sample};
use crate::report::{self, Table};
use crate::service::{self, Database, Home};
use crate::stats::quantile;
use crate::wrk::{Load, Script};
use anyhow::{Context as _, Result, bail};
use keyward_testbed::artifacts::Edition;
use keyward_testbed::service::Caller;
use keyward_testbed::workspace;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub struct Arguments {
    /// Number of deletions without load, and of deletions under load
    #[arg(long, default_value_t = 500)]
    deletions: usize,
    /// Number of other keys in the store
    #[arg(long, default_value_t = 1_000)]
    keys: u32,
    /// Database of the service
    #[arg(long, value_enum, default_value = "sqlite")]
    database: Database,
    /// Edition of the filter: `wasm` or `native`
    #[arg(long, default_value = "wasm")]
    edition: Edition,
}

/// The number of connections that send requests to each worker.
const ASKING: usize = 2;
/// The pause of a connection between two requests, so that the proxy is not busy with them.
const PAUSE: Duration = Duration::from_micros(200);
const ASK_AGAIN: usize = 4;

/// The measurements of one deletion.
struct Deletion {
    /// The time from sending the DELETE to the last worker's first refusal.
    refused: Duration,
    /// The time from sending the DELETE to the receipt.
    receipt: Duration,
    /// Whether the receipt counts every instance of the filter.
    complete: bool,
    /// The number of requests that were sent after the receipt and passed.
    passed_after: usize,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let home = Home::new(arguments.database)?;
    let plain = home.seed(arguments.keys + 2 * arguments.deletions as u32)?;
    let service = home.serve();
    let edge = Edge::start(home.address(), arguments.edition)?;
    edge.wait_until_ready()?;
    service::wait_for_vms(&service, edge.instances() as usize);
    let mut caller = service.admin()?;
    let ids = edge::seeded_ids(&mut caller, plain.len())?;
    let mut doomed = plain.iter().zip(&ids).skip(arguments.keys as usize);
    let mut asking = edge.connections(ASKING)?;

    let instances = edge.instances();
    let idle = series(&mut asking, &mut caller, instances, doomed.by_ref().take(arguments.deletions))?;
    let load = load(&plain, arguments.keys as usize);
    let scripts = workspace::scratch("bench-wrk");
    let most = Script::new(scripts.path(), "load", &load)?.run(edge.address, 3)?.rate;
    let paced = Paced::start(edge.address, &load, most / 2.0);
    std::thread::sleep(Duration::from_secs(1));
    let busy = series(&mut asking, &mut caller, instances, doomed.by_ref().take(arguments.deletions))?;
    let samples = paced.stop()?;
    let took: Vec<f64> = samples.iter().map(Sample::us).collect();

    let refused = edge.envoy.stat("wasmcustom.keyward_decisions.outcome.deny.reason.key_unknown");
    println!(
        "\n{} edition, {} with {} keys; load: {:.0} requests a second, half of what this machine manages, p99 {:.1} ms; \
         {refused} refusals in all\n",
        arguments.edition.name(),
        arguments.database.name(),
        arguments.keys,
        most / 2.0,
        quantile(&took, 0.99) / 1e3,
    );
    let mut table = Table::new(&[
        "",
        "deletions",
        "refused: p50, ms",
        "p99",
        "longest",
        "receipt: p50, ms",
        "p99",
        "longest",
        "receipts of all instances",
        "passed after the receipt",
    ]);
    let figures = [("idle", &idle), ("under load", &busy)].map(|(name, series)| tell(name, series, &mut table));
    table.print();
    report::write(
        "revoke",
        json!({
            "edition": arguments.edition.name(), "database": arguments.database.name(), "keys": arguments.keys, "load_per_second": most / 2.0,
            "load_p99_us": quantile(&took, 0.99), "series": figures,
        }),
    )
}

/// Deletes one key after another.
fn series<'a>(
    asking: &mut [Connection],
    caller: &mut Caller,
    instances: u64,
    doomed: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<Vec<Deletion>> {
    doomed.map(|(key, id)| one(asking, caller, instances, key, id)).collect()
}

fn one(asking: &mut [Connection], caller: &mut Caller, instances: u64, key: &str, id: &str) -> Result<Deletion> {
    let (receipt_is_there, passing) = (AtomicBool::new(false), AtomicUsize::new(0));
    let wanted = asking.len();
    let (first_refusals, sent, receipt_at, applied) = std::thread::scope(|scope| {
        let threads: Vec<_> = asking
            .iter_mut()
            .map(|connection| {
                let (receipt_is_there, passing) = (&receipt_is_there, &passing);
                scope.spawn(move || ask(connection, key, receipt_is_there, passing))
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(30);
        while passing.load(Ordering::SeqCst) < wanted && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
        // The pause varies, so that deletions fall into all parts of the pauses between requests.
        std::thread::sleep(Duration::from_micros(u64::from(id.bytes().map(u32::from).sum::<u32>() % 997)));
        let sent = Instant::now();
        let applied = caller.delete(id, "5s");
        let receipt_at = Instant::now();
        receipt_is_there.store(true, Ordering::SeqCst);
        let refusals: Result<Vec<Asked>> =
            threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a client failed"))?).collect();
        anyhow::Ok((refusals?, sent, receipt_at, applied?))
    })?;
    let count = |field: &str| applied.get(field).and_then(Value::as_u64);
    let last = first_refusals.iter().map(|asked| asked.first_refusal).max().context("nobody asked")?;
    Ok(Deletion {
        refused: last.saturating_duration_since(sent),
        receipt: receipt_at - sent,
        complete: (count("vms"), count("of"), count("unreachable")) == (Some(instances), Some(instances), Some(0)),
        passed_after: first_refusals.iter().map(|asked| asked.passed_after).sum(),
    })
}

struct Asked {
    first_refusal: Instant,
    passed_after: usize,
}

/// Sends requests until one is refused, then until the receipt is there, and then a few more.
fn ask(connection: &mut Connection, key: &str, receipt_is_there: &AtomicBool, passing: &AtomicUsize) -> Result<Asked> {
    let mut first_refusal = None;
    let (mut again, mut passed_after) = (0, 0);
    let mut allowed = 0;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        // Read before the request is sent, so that the request surely began after the receipt.
        let after = receipt_is_there.load(Ordering::SeqCst);
        match connection.status(edge::PATH, Some(key))? {
            401 => {
                first_refusal.get_or_insert_with(Instant::now);
                if allowed == 0 {
                    bail!("the key was refused before it was deleted");
                }
            }
            200 => {
                // A worker that allows a request after a refusal has not refused the key for good.
                first_refusal = None;
                if allowed == 0 {
                    passing.fetch_add(1, Ordering::SeqCst);
                }
                allowed += 1;
                passed_after += usize::from(after);
            }
            status => bail!("status {status}"),
        }
        again += usize::from(after);
        if let Some(first_refusal) = first_refusal.filter(|_| again >= ASK_AGAIN) {
            return Ok(Asked { first_refusal, passed_after });
        }
        if Instant::now() > deadline {
            bail!("worker {} still lets the key pass", connection.worker);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Returns requests with keys that are not deleted.
fn load(plain: &[String], keys: usize) -> Load {
    let requests = (0..20_000).map(|number| {
        let key = plain.get(number % keys.max(1)).cloned().unwrap_or_default();
        (format!("{}/r{number}", edge::PATH), vec![("x-api-key", key)])
    });
    Load { requests: requests.collect(), status: 200 }
}

fn tell(name: &str, series: &[Deletion], table: &mut Table) -> Value {
    let ms = |of: fn(&Deletion) -> Duration| -> Vec<f64> {
        series.iter().map(|deletion| of(deletion).as_secs_f64() * 1e3).collect()
    };
    let (refused, receipt) = (ms(|deletion| deletion.refused), ms(|deletion| deletion.receipt));
    let complete = series.iter().filter(|deletion| deletion.complete).count();
    let passed: usize = series.iter().map(|deletion| deletion.passed_after).sum();
    let three = |values: &[f64]| [0.5, 0.99, 1.0].map(|share| quantile(values, share));
    let figures = three(&refused).into_iter().chain(three(&receipt)).map(|value| format!("{value:.2}"));
    let counts = [format!("{complete} of {}", series.len()), passed.to_string()];
    table.row([name.to_owned(), series.len().to_string()].into_iter().chain(figures).chain(counts));
    let json = |values: &[f64]| {
        let [p50, p99, longest] = three(values);
        json!({"p50": p50, "p99": p99, "longest": longest})
    };
    json!({
        "series": name, "deletions": series.len(), "refused_ms": json(&refused), "receipt_ms": json(&receipt),
        "receipts_of_all_instances": complete, "passed_after_the_receipt": passed,
    })
}

//! `admin`: creating, listing and finding keys in a store of a million.
//!
//! Calls go over HTTP, as those of the page and the command do. Latencies are those of one client that sends a call after
//! the answer to the one before, so that no call waits in a queue. Creates per second are those of several clients at once.

use crate::report::{self, Table};
use crate::service::{Database, Home};
use crate::stats::quantile;
use anyhow::{Context as _, Result};
use keyward_policy::timestamp::Timestamp;
use keyward_testbed::service::{Caller, Service};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub struct Arguments {
    /// Number of keys in the store
    #[arg(long, default_value_t = 1_000_000)]
    keys: u32,
    /// Number of calls of each kind
    #[arg(long, default_value_t = 1_000)]
    calls: u32,
    /// Seconds for which keys are created
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Databases to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["sqlite", "postgres"])]
    database: Vec<Database>,
}

/// The number of clients that create keys at once.
const CLIENTS: [usize; 2] = [1, 16];

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut table = Table::new(&["store", "call", "calls", "p50, ms", "p99", "longest", "a second"]);
    let mut figures = Vec::new();
    for database in &arguments.database {
        let home = Home::new(*database)?;
        eprintln!("making {} keys on {}", arguments.keys, database.name());
        home.seed(arguments.keys)?;
        let service = home.serve();
        let mut report = |call: &str, took: &[f64], seconds: f64| {
            let three = [0.5, 0.99, 1.0].map(|share| quantile(took, share));
            let rate = took.len() as f64 / seconds;
            let shown = three.map(|value| format!("{value:.2}"));
            let row = [database.name().to_owned(), call.to_owned(), took.len().to_string()].into_iter();
            table.row(row.chain(shown).chain([format!("{rate:.0}")]));
            let [p50, p99, longest] = three;
            figures.push(json!({
                "database": database.name(), "call": call, "calls": took.len(), "a_second": rate,
                "ms": {"p50": p50, "p99": p99, "longest": longest},
            }));
        };
        for (call, targets) in reads(arguments, &mut service.admin()?)? {
            eprintln!("{}: {call}", database.name());
            let mut caller = service.admin()?;
            // The first calls read from disk what later ones find in memory.
            for target in targets.iter().take(10) {
                caller.get(target)?;
            }
            let begin = Instant::now();
            let took: Vec<f64> = targets.iter().map(|target| timed(|| caller.get(target))).collect::<Result<_, _>>()?;
            report(&call, &took, begin.elapsed().as_secs_f64());
        }
        for clients in CLIENTS {
            let (took, seconds) = create(&service, clients, Duration::from_secs(arguments.seconds))?;
            report(&format!("create, {clients} at once"), &took, seconds);
        }
    }
    println!("\n{} keys\n", arguments.keys);
    table.print();
    report::write("admin", json!({"keys": arguments.keys, "calls": figures}))
}

fn timed<T, E>(call: impl FnOnce() -> Result<T, E>) -> Result<f64, E> {
    let begin = Instant::now();
    call()?;
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

/// The kinds of calls that read, each with its targets.
fn reads(arguments: &Arguments, caller: &mut Caller) -> Result<Vec<(String, Vec<String>)>> {
    let calls = arguments.calls;
    // The targets are spread over the whole store and are the same in each run.
    let numbers = |salt: u32| (0..calls).map(move |call| (call ^ salt).wrapping_mul(2_654_435_761) % arguments.keys);
    let known: Vec<Value> = {
        let page = caller.get("/v1/keys?limit=200")?;
        page.get("keys").and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let some_id = |number: u32| -> String {
        let key = known.get(number as usize % known.len().max(1));
        key.and_then(|key| key.get("id")).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let search = |text: String| format!("/v1/keys?limit=50&q={text}");
    let letters = |number: u32, count: u32| -> String {
        (0..count).map(|place| char::from(b'a' + (number / 26_u32.pow(place) % 26) as u8)).collect()
    };
    // Ranges of days that end anywhere in the log.
    let log = caller.get("/v1/audit?limit=1")?;
    let actor = log.pointer("/entries/0/actor").and_then(Value::as_str).context("an actor")?.replace(' ', "%20");
    let newest = log.pointer("/entries/0/at").and_then(Value::as_str).context("an audit log")?;
    let newest = Timestamp::parse(newest).map_err(|_| anyhow::anyhow!("a time that cannot be read"))?;
    let day = |number: u32, days: i64| {
        let ago = i64::from(number % (arguments.keys / 1_440).max(1)) * 86_400_000;
        let at = |ms: i64| Timestamp::from_unix_ms(newest.unix_ms() - ago + ms).to_string();
        format!("/v1/audit?limit=50&since={}&until={}", at(-86_400_000 * days), at(0))
    };
    Ok(vec![
        ("list, first page of 50".into(), (0..calls).map(|_| "/v1/keys?limit=50".into()).collect()),
        ("list, page of 200 anywhere".into(), cursors(numbers(1), caller)?),
        ("list, by name".into(), lists(calls, "sort=name")),
        ("list, expires soonest".into(), lists(calls, "sort=expires")),
        ("list, pages by name".into(), walked(calls, "/v1/keys?limit=50&sort=name", caller)?),
        ("list, pages back by name".into(), walked_back(calls, "sort=name", caller)?),
        ("list, by name from the end".into(), lists(calls, "sort=-name")),
        ("list, pages by expiry".into(), walked(calls, "/v1/keys?limit=50&sort=expires", caller)?),
        ("list, pages back by expiry".into(), walked_back(calls, "sort=expires", caller)?),
        ("list, expires last".into(), lists(calls, "sort=-expires")),
        ("list, oldest first".into(), lists(calls, "sort=-created")),
        ("filter, expired (none)".into(), lists(calls, "status=expired")),
        ("filter, expired (none), by name".into(), lists(calls, "status=expired&sort=name")),
        ("filter, a permission, by expiry".into(), lists(calls, "permission=files%3Awrite&sort=expires")),
        ("audit, newest".into(), (0..calls).map(|_| "/v1/audit?limit=50".into()).collect()),
        ("audit, a day".into(), numbers(11).map(|number| day(number, 1)).collect()),
        ("audit, a year".into(), numbers(12).map(|number| day(number, 365)).collect()),
        (
            "audit, a day before all entries".into(),
            (0..calls).map(|_| "/v1/audit?until=2001-01-01T00:00:00Z".into()).collect(),
        ),
        (
            "audit, a rare action in a year".into(),
            numbers(13).map(|number| format!("{}&action=key.regenerate", day(number, 365))).collect(),
        ),
        (
            "audit, an action that never was, of the one actor".into(),
            (0..calls).map(|_| format!("/v1/audit?action=key.purge&actor={actor}")).collect(),
        ),
        // A quarter of the keys have it.
        ("filter, a rare permission".into(), lists(calls, "permission=files%3Awrite")),
        ("filter, a frequent permission".into(), lists(calls, "permission=records%3Aread")),
        ("filter, disabled (none)".into(), lists(calls, "status=disabled")),
        ("filter, active".into(), lists(calls, "status=active")),
        ("filter, never used".into(), lists(calls, "never_used=true")),
        ("filter, never expires".into(), lists(calls, "never_expires=true")),
        ("filter, expires within 30 days (none)".into(), lists(calls, "expires_within=30d")),
        ("filter, expires within 200 days".into(), lists(calls, "expires_within=200d")),
        (
            "filter, four together".into(),
            lists(calls, "permission=files%3Awrite&never_used=true&status=active&never_expires=true"),
        ),
        ("filter, what few pass, by name".into(), lists(calls, "status=disabled&sort=name")),
        (
            "filter and search".into(),
            numbers(10).map(|number| format!("{}&never_expires=true", search(letters(number, 1)))).collect(),
        ),
        ("search, one letter".into(), numbers(2).map(|number| search(letters(number, 1))).collect()),
        ("search, two letters".into(), numbers(3).map(|number| search(letters(number, 2))).collect()),
        // Every name begins with this text.
        ("search, \"se\"".into(), (0..calls).map(|_| search("se".into())).collect()),
        ("search, one or two digits".into(), numbers(4).map(|number| search((number % 100).to_string())).collect()),
        ("search, three letters".into(), numbers(5).map(|number| search(letters(number, 3))).collect()),
        ("search, \"seed\"".into(), (0..calls).map(|_| search("seed".into())).collect()),
        ("search, part of a name".into(), numbers(6).map(|number| search(format!("d-{number:07}"))).collect()),
        ("search, an id".into(), numbers(7).map(|number| search(some_id(number))).collect()),
        ("search, no match".into(), numbers(8).map(|number| search(format!("zz{number}zz"))).collect()),
        ("one key".into(), numbers(9).map(|number| format!("/v1/keys/{}", some_id(number))).collect()),
    ])
}

/// Returns targets of the first page of a list.
fn lists(calls: u32, query: &str) -> Vec<String> {
    (0..calls).map(|_| format!("/v1/keys?limit=50&{query}")).collect()
}

/// Returns targets of pages that follow each other.
fn walked(calls: u32, first: &str, caller: &mut Caller) -> Result<Vec<String>> {
    let mut targets = vec![first.to_owned()];
    while targets.len() < calls as usize {
        let last = targets.last().map_or(first, String::as_str);
        let page = caller.get(last)?;
        let Some(cursor) = page.get("next_cursor").and_then(Value::as_str) else { break };
        targets.push(format!("/v1/keys?limit=50&cursor={cursor}"));
    }
    Ok(targets)
}

/// Returns targets of pages that lead back to the first.
fn walked_back(calls: u32, query: &str, caller: &mut Caller) -> Result<Vec<String>> {
    let pages = walked(calls, &format!("/v1/keys?limit=50&{query}"), caller)?;
    let last = caller.get(pages.last().context("a page")?)?;
    let mut targets = Vec::new();
    let mut page = last;
    while targets.len() < calls as usize {
        let Some(cursor) = page.get("previous_cursor").and_then(Value::as_str) else { break };
        let target = format!("/v1/keys?limit=50&cursor={cursor}");
        page = caller.get(&target)?;
        targets.push(target);
    }
    anyhow::ensure!(!targets.is_empty(), "no page leads back");
    Ok(targets)
}

/// Returns targets of pages in all parts of the list. A cursor is opaque to clients, but this client knows its form.
fn cursors(numbers: impl Iterator<Item = u32>, caller: &mut Caller) -> Result<Vec<String>> {
    let page = caller.get("/v1/keys?limit=1")?;
    let cursor = page.get("next_cursor").and_then(Value::as_str).context("a store of more than one key")?;
    let newest = u32::from_str_radix(cursor.trim_start_matches('c'), 16).context("a cursor that is a number")?;
    Ok(numbers.map(|number| format!("/v1/keys?limit=200&cursor=c{:x}", 1 + number % newest)).collect())
}

/// Creates keys from several clients at once. Returns the latency of each call and the time of all.
fn create(service: &Service, clients: usize, lasts: Duration) -> Result<(Vec<f64>, f64)> {
    let (stop, number) = (AtomicBool::new(false), AtomicU64::new(0));
    let begin = Instant::now();
    let took = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|_| {
                let (stop, number) = (&stop, &number);
                scope.spawn(move || {
                    let (mut caller, mut took) = (service.admin()?, Vec::new());
                    while !stop.load(Ordering::Relaxed) {
                        let name = format!("made {clients} {}", number.fetch_add(1, Ordering::Relaxed));
                        took.push(timed(|| caller.create(&name))?);
                    }
                    anyhow::Ok(took)
                })
            })
            .collect();
        std::thread::sleep(lasts);
        stop.store(true, Ordering::Relaxed);
        let results = threads.into_iter().map(|thread| thread.join());
        results.map(|result| result.map_err(|_| anyhow::anyhow!("a client failed"))?).collect::<Result<Vec<_>>>()
    })?;
    Ok((took.concat(), begin.elapsed().as_secs_f64()))
}

//! `fanout`: the time until ten thousand filter VMs that wait on one service have received a change.
//!
//! The VMs are connections of this process, each with a poll as a filter sends it and a VM name of its own. The time runs
//! from the sending of a request that changes a key to the last byte of the last VM's answer. Memory is the growth of the
//! service's resident memory, and CPU is what the kernel accounts to the service; the memory of sockets belongs to the
//! kernel and is not included. Client and service share the machine, so part of the time is the client's.

use crate::process;
use crate::report::{self, Table};
use crate::service::{Database, Home};
use crate::stats::quantile;
use anyhow::{Context as _, Result, bail};
use keyward_testbed::service::EDGE_TOKEN;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[derive(clap::Args)]
pub struct Arguments {
    /// Number of VMs that wait
    #[arg(long, default_value_t = 10_000)]
    vms: usize,
    /// Number of changes
    #[arg(long, default_value_t = 30)]
    changes: usize,
    /// Number of other keys in the store
    #[arg(long, default_value_t = 1_000)]
    keys: u32,
    /// Databases to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["sqlite", "postgres"])]
    database: Vec<Database>,
}

/// The number of connections that are opened at the same time.
const AT_ONCE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(arguments: &Arguments) -> Result<()> {
    allow_descriptors(arguments.vms as u64 + 1_000)?;
    let mut table = Table::new(&[
        "store",
        "VMs",
        "all received: p50, ms",
        "p90",
        "longest",
        "receipt: p50, ms",
        "longest",
        "KiB a VM",
        "CPU of the service a change, ms",
        "CPU per VM, µs",
        "CPU while nothing happens",
    ]);
    let figures: Vec<Value> =
        arguments.database.iter().map(|database| measure(arguments, *database, &mut table)).collect::<Result<_>>()?;
    println!();
    table.print();
    report::write("fanout", json!({"stores": figures}))
}

fn measure(arguments: &Arguments, database: Database, table: &mut Table) -> Result<Value> {
    let home = Home::new(database)?;
    home.seed(arguments.keys)?;
    let service = home.serve();
    let mut caller = service.admin()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let received = Arc::new(Received::default());
    // The memory with a few VMs is the baseline, which does not depend on the number of VMs.
    runtime.block_on(connect(home.address(), 0..AT_ONCE, &received))?;
    wait_for(&received.waiting, AT_ONCE)?;
    std::thread::sleep(Duration::from_secs(1));
    let before = process::resident(service.pid())?;
    runtime.block_on(connect(home.address(), AT_ONCE..arguments.vms, &received))?;
    wait_for(&received.waiting, arguments.vms)?;
    std::thread::sleep(Duration::from_secs(1));
    let grown = process::resident(service.pid())?.saturating_sub(before);
    let idle_cpu = process::cpu(service.pid())?;
    std::thread::sleep(Duration::from_secs(10));
    let idle_cpu = (process::cpu(service.pid())? - idle_cpu) / 10;

    let (mut all_received, mut receipts) = (Vec::new(), Vec::new());
    let cpu_before = process::cpu(service.pid())?;
    for change in 0..arguments.changes {
        // Each round makes two changes, so that half of them are deletions, which wait for the receipt.
        let sent = received.begin(arguments.vms);
        let (id, _) = caller.create(&format!("change {change}"))?;
        all_received.push(received.wait(sent)?.as_secs_f64() * 1e3);
        wait_for(&received.waiting, arguments.vms)?;
        let sent = received.begin(arguments.vms);
        let applied = caller.delete(&id, "5s")?;
        receipts.push(sent.elapsed().as_secs_f64() * 1e3);
        let vms = applied.get("vms").and_then(Value::as_u64);
        if vms != Some(arguments.vms as u64) {
            bail!("the receipt is not of all VMs: {applied}");
        }
        all_received.push(received.wait(sent)?.as_secs_f64() * 1e3);
        wait_for(&received.waiting, arguments.vms)?;
    }
    let changes = 2 * arguments.changes;
    let cpu_ms = (process::cpu(service.pid())? - cpu_before).as_secs_f64() * 1e3 / changes as f64;
    let after = process::resident(service.pid())?.saturating_sub(before);
    let failed = received.failed.load(Ordering::SeqCst);
    if failed > 0 {
        bail!("{failed} VMs lost their connection");
    }

    let each = |bytes: u64| bytes as f64 / 1_024.0 / (arguments.vms - AT_ONCE.min(arguments.vms - 1)) as f64;
    let shown = |value: f64| format!("{value:.1}");
    table.row([
        database.name().to_owned(),
        arguments.vms.to_string(),
        shown(quantile(&all_received, 0.5)),
        shown(quantile(&all_received, 0.9)),
        shown(quantile(&all_received, 1.0)),
        shown(quantile(&receipts, 0.5)),
        shown(quantile(&receipts, 1.0)),
        format!("{:.1}, {:.1} after the changes", each(grown), each(after)),
        shown(cpu_ms),
        shown(cpu_ms * 1e3 / arguments.vms as f64),
        format!("{:.1} %", idle_cpu.as_secs_f64() * 1e2),
    ]);
    Ok(json!({
        "database": database.name(), "vms": arguments.vms, "changes": changes,
        "all_received_ms": {"p50": quantile(&all_received, 0.5), "p90": quantile(&all_received, 0.9), "longest": quantile(&all_received, 1.0)},
        "receipt_ms": {"p50": quantile(&receipts, 0.5), "longest": quantile(&receipts, 1.0)},
        "kib_a_vm": each(grown), "kib_a_vm_after_the_changes": each(after),
        "cpu_ms_a_change": cpu_ms, "cpu_us_a_vm": cpu_ms * 1e3 / arguments.vms as f64,
        "cpu_idle_share": idle_cpu.as_secs_f64(), "bytes_a_vm": received.bytes.load(Ordering::SeqCst) as f64
            / received.answers.load(Ordering::SeqCst).max(1) as f64,
    }))
}

/// What the VMs have received.
#[derive(Default)]
struct Received {
    /// The number of VMs that have all keys and wait for newer changes.
    waiting: AtomicUsize,
    /// The number of VMs that have not received the change yet.
    missing: AtomicUsize,
    /// When the last VM received it, in nanoseconds after `epoch`.
    last_ns: AtomicU64,
    epoch: std::sync::OnceLock<Instant>,
    failed: AtomicUsize,
    /// The number of answers with changes.
    answers: AtomicU64,
    bytes: AtomicU64,
}

impl Received {
    /// Prepares for a change that is about to be made.
    fn begin(&self, vms: usize) -> Instant {
        self.epoch.get_or_init(Instant::now);
        self.missing.store(vms, Ordering::SeqCst);
        Instant::now()
    }

    /// Waits until all VMs have received the change, and returns the time since `sent`.
    fn wait(&self, sent: Instant) -> Result<Duration> {
        let deadline = Instant::now() + PATIENCE;
        while self.missing.load(Ordering::SeqCst) > 0 {
            if Instant::now() > deadline {
                bail!("{} VMs have not received the change", self.missing.load(Ordering::SeqCst));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let epoch = *self.epoch.get_or_init(Instant::now);
        Ok((epoch + Duration::from_nanos(self.last_ns.load(Ordering::SeqCst))).saturating_duration_since(sent))
    }

    fn received(&self, bytes: usize) {
        let epoch = *self.epoch.get_or_init(Instant::now);
        self.last_ns.fetch_max(epoch.elapsed().as_nanos() as u64, Ordering::SeqCst);
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let _ = self.missing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |missing| missing.checked_sub(1));
    }
}

fn wait_for(count: &AtomicUsize, wanted: usize) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while count.load(Ordering::SeqCst) < wanted {
        if Instant::now() > deadline {
            bail!("only {} of {wanted} VMs wait", count.load(Ordering::SeqCst));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    // The last VM has sent its poll, but the service may not have read it yet.
    std::thread::sleep(Duration::from_millis(300));
    Ok(())
}

/// Opens the connections, some at a time, and lets each poll the service.
async fn connect(address: SocketAddr, vms: std::ops::Range<usize>, received: &Arc<Received>) -> Result<()> {
    for first in vms.clone().step_by(AT_ONCE) {
        let opening: Vec<_> = (first..(first + AT_ONCE).min(vms.end))
            .map(|vm| {
                let received = Arc::clone(received);
                tokio::spawn(async move {
                    let mut stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    let loaded = load(&mut stream, vm).await?;
                    tokio::spawn(async move {
                        if follow(&mut stream, vm, loaded, &received).await.is_err() {
                            received.failed.fetch_add(1, Ordering::SeqCst);
                        }
                    });
                    anyhow::Ok(())
                })
            })
            .collect();
        for one in opening {
            one.await.context("a VM failed")??;
        }
    }
    Ok(())
}

/// Loads all keys and returns the last answer.
async fn load(stream: &mut TcpStream, vm: usize) -> Result<Answer> {
    let (mut since, mut base) = (0, 0);
    loop {
        let answer = ask(stream, vm, since, base, "0s").await?;
        (since, base) = (answer.revision, answer.head);
        if !answer.more {
            return Ok(answer);
        }
    }
}

async fn follow(stream: &mut TcpStream, vm: usize, mut last: Answer, received: &Received) -> Result<()> {
    loop {
        let asking = request(vm, last.revision, last.revision, "25s", Some(&last.mark));
        stream.write_all(asking.as_bytes()).await?;
        received.waiting.fetch_add(1, Ordering::SeqCst);
        let answer = receive(stream).await;
        received.waiting.fetch_sub(1, Ordering::SeqCst);
        let answer = answer?;
        if answer.revision > last.revision {
            received.received(answer.bytes);
        }
        last = answer;
    }
}

struct Answer {
    revision: u64,
    head: u64,
    /// The mark of `revision`, with which the VM acknowledges it; empty where more pages follow.
    mark: String,
    more: bool,
    bytes: usize,
}

async fn ask(stream: &mut TcpStream, vm: usize, since: u64, base: u64, wait: &str) -> Result<Answer> {
    stream.write_all(request(vm, since, base, wait, None).as_bytes()).await?;
    receive(stream).await
}

/// Returns a poll as Envoy sends it for the filter.
fn request(vm: usize, since: u64, base: u64, wait: &str, mark: Option<&str>) -> String {
    let mark = mark.map(|mark| format!("&mark={mark}")).unwrap_or_default();
    format!(
        "GET /v1/manifest?since={since}&base={base}&limit=400&wait={wait}{mark} HTTP/1.1\r\nhost: keyward.internal\r\n\
         accept: application/json\r\nx-keyward-node: edge-{node:05}\r\nx-keyward-vm: vm_{vm:016x}\r\n\
         x-keyward-realm: databases\r\nx-keyward-filter: {version}\r\nx-keyward-max-staleness: 15m\r\n\
         x-keyward-table: {vm:032x}\r\nx-keyward-mode: enforce\r\nx-keyward-inline-keys: none\r\n\
         authorization: Bearer {EDGE_TOKEN}\r\nx-envoy-internal: true\r\nx-envoy-expected-rq-timeout-ms: 30000\r\n\r\n",
        // A proxy has three VMs: two workers and the main thread.
        node = vm / 3,
        version = env!("CARGO_PKG_VERSION"),
    )
}

async fn receive(stream: &mut TcpStream) -> Result<Answer> {
    // The buffer exists for this answer alone, because ten thousand waiting clients have to be small as well.
    stream.readable().await?;
    let mut pending = Vec::with_capacity(2_048);
    loop {
        if stream.read_buf(&mut pending).await? == 0 {
            bail!("the service closed the connection");
        }
        let Some(head) = pending.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(pending.get(..head).unwrap_or_default());
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let end = head + 4 + length.context("an answer without a length")?;
        if pending.len() < end {
            continue;
        }
        if !text.starts_with("HTTP/1.1 200") {
            bail!("{text}");
        }
        let page: Value = serde_json::from_slice(pending.get(head + 4..end).unwrap_or_default())?;
        let number = |field: &str| page.get(field).and_then(Value::as_u64).context("a page without its numbers");
        let more = page.get("more").and_then(Value::as_bool).unwrap_or_default();
        let mark = page.get("mark").and_then(Value::as_str).unwrap_or_default().to_owned();
        return Ok(Answer { revision: number("revision")?, head: number("head")?, mark, more, bytes: end });
    }
}

/// Raises the limit of open files, since each VM is one descriptor here and one in the service, which inherits the limit.
fn allow_descriptors(wanted: u64) -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let have = getrlimit(Resource::Nofile);
    if have.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let maximum = have.maximum.map(|maximum| maximum.max(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
        .with_context(|| format!("{wanted} open files are needed: raise the limit (ulimit -n)"))
}

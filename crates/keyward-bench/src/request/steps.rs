//! The cost of a request in instructions, and in the cache lines of code that they lie in.
//!
//! Times differ from run to run by more than most changes gain, while these counts hardly differ. The worker is
//! stepped through a few requests one instruction at a time (ptrace), which takes about a second for each.

use crate::stats::quantile;
use crate::wrk::Load;
use anyhow::{Context as _, Result, ensure};
use keyward_testbed::http1::{self, Client};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The number of requests that are stepped through. The first is not counted, because the worker may be busy with
/// something else when it begins.
const REQUESTS: usize = 8;

/// How long an answer may take. Stepping takes a second for each request, and longer on a machine that does something else.
const PATIENCE: Duration = Duration::from_secs(300);

/// The binary logarithm of the size of a cache line in bytes.
const LINE: u32 = 6;

/// The medians of one variant's requests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Steps {
    /// Instructions outside the kernel.
    pub all: f64,
    /// Instructions in the module's machine code, including the code that V8 puts around it.
    pub module: f64,
    /// The number of different cache lines that the instructions lie in.
    pub lines: f64,
}

/// The counts of one request.
#[derive(Default)]
struct Counted {
    all: usize,
    module: usize,
    lines: HashSet<u64>,
}

/// Steps through requests of a worker that serves nothing else meanwhile, and returns their medians.
///
/// # Errors
/// Returns an error when the thread cannot be traced, or an answer is not what was expected.
pub fn count(pid: u32, tid: u32, target: SocketAddr, load: &Load) -> Result<Steps> {
    let module = generated_code(pid)?;
    let worker = Pid::from_raw(i32::try_from(tid)?);
    let current = AtomicUsize::new(0);
    let mut counted: Vec<Counted> = (0..=REQUESTS).map(|_| Counted::default()).collect();
    let mut client = Client::connect(target)?;
    client.set_patience(PATIENCE)?;
    // The connection has served a request already, so accepting it is not counted.
    ask(&mut client, load, 0)?;
    std::thread::scope(|scope| {
        ptrace::attach(worker).context("the worker cannot be traced")?;
        stopped(worker)?;
        let requests = scope.spawn(|| {
            let done = (1..=REQUESTS).try_for_each(|number| {
                current.store(number, Ordering::SeqCst);
                ask(&mut client, load, number)
            });
            current.store(REQUESTS + 1, Ordering::SeqCst);
            // The worker sleeps in a system call, and the step ends when the call does.
            let woken = ask(&mut client, load, 0);
            done.and(woken)
        });
        loop {
            ptrace::step(worker, None)?;
            stopped(worker)?;
            let Some(counted) = counted.get_mut(current.load(Ordering::SeqCst)) else { break };
            let at = ptrace::getregs(worker)?.rip;
            counted.all += 1;
            counted.module += usize::from(module.iter().any(|(start, end)| (*start..*end).contains(&at)));
            counted.lines.insert(at >> LINE);
        }
        ptrace::detach(worker, None)?;
        requests.join().map_err(|_| anyhow::anyhow!("the client panicked"))?
    })?;
    let median = |of: fn(&Counted) -> usize| {
        quantile(&counted.iter().skip(2).map(|one| of(one) as f64).collect::<Vec<_>>(), 0.5)
    };
    Ok(Steps { all: median(|one| one.all), module: median(|one| one.module), lines: median(|one| one.lines.len()) })
}

fn ask(client: &mut Client, load: &Load, number: usize) -> Result<()> {
    let (path, headers) = load.requests.get(number % load.requests.len().max(1)).context("a load of nothing")?;
    let headers: Vec<(Vec<u8>, Vec<u8>)> = std::iter::once(("host", "api.example.com"))
        .chain(headers.iter().map(|(name, value)| (*name, &**value)))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    client.send(&http1::encode(b"GET", path.as_bytes(), &headers, b""))?;
    let status = client.receive("GET")?.status;
    ensure!(status == load.status, "{path} got {status}, not {}", load.status);
    Ok(())
}

fn stopped(worker: Pid) -> Result<()> {
    let status = waitpid(worker, Some(WaitPidFlag::__WALL))?;
    ensure!(matches!(status, WaitStatus::Stopped(..)), "the worker is not where it was expected: {status:?}");
    Ok(())
}

/// Returns the address ranges of a process's machine code that belongs to no file, as compiled WebAssembly does not.
fn generated_code(pid: u32) -> Result<Vec<(u64, u64)>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let range = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let executable = words.next()?.contains('x');
        let in_no_file = words.nth(3).is_none();
        let hex = |text| u64::from_str_radix(text, 16).ok();
        Some((hex(start)?, hex(end)?)).filter(|_| executable && in_no_file)
    };
    Ok(maps.lines().filter_map(range).collect())
}

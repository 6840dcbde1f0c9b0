//! Child processes that run at the same time until one ends or the user interrupts them.

use crate::workspace;
use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The time within which a process must end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
const GLANCE: Duration = Duration::from_millis(100);

/// Running child processes. Dropping the value stops them, the last started first.
pub struct Children {
    running: Vec<Running>,
    interrupted: Arc<AtomicBool>,
}

struct Running {
    name: &'static str,
    process: Child,
    log: PathBuf,
}

impl Children {
    /// Creates an empty list. From now on Ctrl-C, SIGTERM and SIGHUP stop the children before this process ends.
    ///
    /// # Errors
    /// Returns an error when the signals cannot be handled.
    pub fn new() -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = interrupted.clone();
        ctrlc::set_handler(move || flag.store(true, Ordering::SeqCst)).context("cannot handle signals")?;
        Ok(Self { running: Vec::new(), interrupted })
    }

    /// Starts a process whose output goes to `log`.
    ///
    /// # Errors
    /// Returns an error when it cannot be started.
    pub fn start(&mut self, name: &'static str, command: &mut Command, log: &Path) -> Result<()> {
        let file = File::create(log).with_context(|| format!("cannot write {}", workspace::shown(log)))?;
        let process = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            // The child gets a process group of its own, so that Ctrl-C in the terminal reaches only this process, which
            // then stops the children in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        self.running.push(Running { name, process, log: log.to_path_buf() });
        Ok(())
    }

    /// Waits until `ready` returns a value, while all children run.
    ///
    /// # Errors
    /// Returns an error when a child ends before (the message holds the end of its log), when it takes too long, and on
    /// Ctrl-C.
    pub fn wait_for<T>(&mut self, what: &str, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(value) = ready() {
                return Ok(value);
            }
            self.check()?;
            if self.interrupted.load(Ordering::SeqCst) {
                bail!("interrupted");
            }
            if Instant::now() > deadline {
                let log = self.running.last().map(|running| tail(&running.log)).unwrap_or_default();
                bail!("{what} did not become ready in a minute\n{log}");
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Waits for Ctrl-C.
    ///
    /// # Errors
    /// Returns an error when a child ends before. The message holds the end of its log.
    pub fn wait_for_interrupt(&mut self) -> Result<()> {
        while !self.interrupted.load(Ordering::SeqCst) {
            self.check()?;
            std::thread::sleep(GLANCE);
        }
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        for running in &mut self.running {
            if let Some(status) = running.process.try_wait()? {
                bail!("{} ended: {status}\n{}", running.name, tail(&running.log));
            }
        }
        Ok(())
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for running in self.running.iter_mut().rev() {
            stop(&mut running.process);
        }
    }
}

fn stop(process: &mut Child) {
    if let Some(pid) = i32::try_from(process.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        if !matches!(process.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(GLANCE);
    }
    let _ = process.kill();
    let _ = process.wait();
}

fn tail(log: &Path) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(20);
    format!("--- the end of {}\n{}", workspace::shown(log), lines.get(from..).unwrap_or_default().join("\n"))
}

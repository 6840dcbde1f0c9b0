//! The CPU time of threads and the core that they run on.

use anyhow::{Context as _, Result};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::fs;

/// The core of everything that is measured.
pub const MEASURED: usize = 0;
/// The core of everything else: the load generator and the upstream.
pub const OTHER: usize = 1;

/// One thread of a process.
#[derive(Debug, Clone, Copy)]
pub struct Thread {
    pid: u32,
    tid: u32,
}

impl Thread {
    /// Finds the thread of a process by its name (`/proc/PID/task/TID/comm`).
    ///
    /// # Errors
    /// Returns an error when no thread has this name.
    pub fn named(pid: u32, name: &str) -> Result<Self> {
        let found = threads(pid)?.into_iter().find(|tid| {
            fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).is_ok_and(|comm| comm.trim() == name)
        });
        found.map(|tid| Self { pid, tid }).with_context(|| format!("process {pid} has no thread {name}"))
    }

    /// Returns the thread's id in the kernel.
    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// Returns the CPU time that the thread has used so far, in nanoseconds: in user space and in the kernel, without the
    /// time it waited for a core.
    ///
    /// # Errors
    /// Returns an error when the thread is gone, or the kernel was built without `CONFIG_SCHED_INFO`.
    pub fn cpu_ns(&self) -> Result<u64> {
        let file = format!("/proc/{}/task/{}/schedstat", self.pid, self.tid);
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        let first = text.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
        first.with_context(|| format!("{file} holds no time"))
    }
}

/// Moves all threads of a process to one core. Threads that it starts later inherit the core.
///
/// # Errors
/// Returns an error when the kernel refuses.
pub fn pin(pid: u32, core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    for tid in threads(pid)? {
        let thread = i32::try_from(tid).ok().and_then(Pid::from_raw);
        // The thread may have ended meanwhile.
        let _ = sched_setaffinity(thread, &set);
    }
    Ok(())
}

/// Moves this process to the core of everything that is not measured. Child processes inherit the core.
///
/// # Errors
/// Returns an error when the machine has no second core.
pub fn step_aside() -> Result<()> {
    let mut set = CpuSet::new();
    set.set(OTHER);
    sched_setaffinity(None, &set).context("the measurements need a second core for the load")
}

fn threads(pid: u32) -> Result<Vec<u32>> {
    let folder = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

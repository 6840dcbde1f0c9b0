//! The memory and CPU time of a process, as the kernel accounts for them.

use anyhow::{Context as _, Result};
use keyward_testbed::process::memory_bytes;
use std::fs;
use std::time::Duration;

/// Returns the resident memory in bytes.
///
/// # Errors
/// Returns an error when the process is gone.
pub fn resident(pid: u32) -> Result<u64> {
    memory_bytes(pid, "VmRSS").with_context(|| format!("/proc/{pid}/status says nothing of memory"))
}

/// Returns the CPU time that all threads have used so far, including ended ones. Its resolution is 10 ms.
///
/// # Errors
/// Returns an error when the process is gone.
pub fn cpu(pid: u32) -> Result<Duration> {
    let file = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    // The program's name is in brackets and may contain any character, also brackets and spaces.
    let (_, fields) = text.rsplit_once(')').unwrap_or_default();
    let ticks = fields.split_ascii_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok());
    // The kernel reports in units of 1/100 s (`getconf CLK_TCK`) on every architecture that Envoy runs on.
    Ok(Duration::from_millis(ticks.sum::<u64>() * 10))
}

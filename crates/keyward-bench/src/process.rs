//! What a process takes: memory and CPU, as the kernel accounts for it.

use anyhow::{Context as _, Result};
use std::fs;
use std::time::Duration;

/// Resident memory in bytes.
///
/// # Errors
/// When the process is gone.
pub fn resident(pid: u32) -> Result<u64> {
    let file = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib: Option<u64> = line.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
    kib.map(|kib| kib << 10).with_context(|| format!("{file} says nothing of memory"))
}

/// CPU time used so far by all threads, ended ones too, to a hundredth of a second.
///
/// # Errors
/// When the process is gone.
pub fn cpu(pid: u32) -> Result<Duration> {
    let file = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    // The name of the program stands in brackets, and may hold anything.
    let (_, fields) = text.rsplit_once(')').unwrap_or_default();
    let ticks = fields.split_ascii_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok());
    // The kernel's unit towards programs is 1/100 s wherever Linux runs today (`getconf CLK_TCK`).
    Ok(Duration::from_millis(ticks.sum::<u64>() * 10))
}

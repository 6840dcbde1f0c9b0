//! What the kernel says of a process.

/// Returns the memory of a process in bytes: now (`VmRSS`), or at most so far (`VmHWM`). `None` means that the process is gone.
#[must_use]
pub fn memory_bytes(pid: u32, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kib: u64 = value.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

//! Measures how long callbacks take, for `cargo xtask bench load`. It is only in a module with the feature
//! `callback-times`, which is never shipped.

use crate::host;
use std::cell::RefCell;

/// Measures until it is dropped.
pub struct Stopwatch(u64);

/// The measurements that are not in the log yet, and the moment at which the log was last written.
struct Times {
    ns: Vec<u64>,
    written_at: u64,
}

thread_local! {
    static TIMES: RefCell<Times> = const { RefCell::new(Times { ns: Vec::new(), written_at: 0 }) };
}

const EVERY_NS: u64 = 1_000_000_000;

impl Stopwatch {
    /// Starts to measure.
    pub fn start() -> Self {
        Self(host::monotonic_ns())
    }
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        let now = host::monotonic_ns();
        TIMES.with_borrow_mut(|times| {
            times.ns.push(now.saturating_sub(self.0));
            if now.saturating_sub(times.written_at) > EVERY_NS {
                times.written_at = now;
                let line: String = times.ns.drain(..).map(|ns| format!("{ns} ")).collect();
                log::info!("callback times: {line}");
            }
        });
    }
}

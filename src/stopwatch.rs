//! How long callbacks take, for `cargo xtask bench load`. Only in a module built with the feature `callback-times`, which
//! is never shipped.

use crate::host;
use std::cell::RefCell;

/// Measures from here until it is dropped.
pub struct Stopwatch(u64);

/// What was measured and is not in the log yet, and when the log was last written.
struct Times {
    ns: Vec<u64>,
    written_at: u64,
}

thread_local! {
    static TIMES: RefCell<Times> = const { RefCell::new(Times { ns: Vec::new(), written_at: 0 }) };
}

const EVERY_NS: u64 = 1_000_000_000;

impl Stopwatch {
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

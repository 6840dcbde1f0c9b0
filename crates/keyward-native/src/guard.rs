//! The one place that catches panics, and that says what a hook still owes once it has panicked.
//!
//! A panic must not unwind into Envoy, and must open no door. So each hook runs in [`hook`], which takes three things: what
//! the hook does, what it owes to Envoy and to the request if that panics, and what it then returns. A request's own
//! state needs no repair: it counts as denied while a hook runs (`hooks::State`), and a panic leaves it so. The fetched keys
//! are given up by `keys` where a change of them panics.

use crate::abi;
#[cfg(any(test, feature = "failpoint"))]
use crate::failpoint;
use crate::host;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// The shortest time between two log lines about panics. A request that panics may come again and again.
const QUIET_NS: u64 = 1_000_000_000;

/// The number of panics since the library was loaded.
static PANICS: AtomicU64 = AtomicU64::new(0);
/// The number of panics that no counter of Envoy has yet.
static UNCOUNTED: AtomicU64 = AtomicU64::new(0);
/// When a panic was logged last. Zero means never.
static LOGGED_NS: AtomicU64 = AtomicU64::new(0);

/// Runs `body`, and returns what it returns. If it panics, runs `owed` and returns `otherwise`. `name` names the hook to tests
/// that plant a panic.
pub fn hook<R>(name: &'static str, body: impl FnOnce() -> R, owed: impl FnOnce(), otherwise: R) -> R {
    match catch(name, body) {
        Some(result) => result,
        None => {
            let _ = catch_unwind(AssertUnwindSafe(owed));
            otherwise
        }
    }
}

/// Runs `body`. `None` means that it panicked, which is in Envoy's log.
pub fn catch<R>(name: &'static str, body: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(|| {
        planted(name);
        body()
    }))
    .ok()
}

/// Panics where a test has asked for it. Nothing in the library that is shipped.
#[cfg(not(any(test, feature = "failpoint")))]
pub fn planted(_: &'static str) {}

/// Panics where a test has asked for it.
#[cfg(any(test, feature = "failpoint"))]
pub fn planted(name: &'static str) {
    failpoint::at(name);
}

/// Returns the number of panics since the last call, for a counter of Envoy. A panic may be where none can be reached: on the
/// thread that makes ticks, or while a request ends.
pub fn take_uncounted() -> u64 {
    if UNCOUNTED.load(Ordering::Relaxed) == 0 { 0 } else { UNCOUNTED.swap(0, Ordering::Relaxed) }
}

/// Lets panics write to Envoy's log. They say where they were and nothing else: a message may quote a request. The hook of
/// the standard library would write the message to standard error.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let count = PANICS.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        UNCOUNTED.fetch_add(1, Ordering::Relaxed);
        let now = host::monotonic_ns().max(1);
        let last = LOGGED_NS.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= QUIET_NS;
        if due && LOGGED_NS.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let line = format!(
                "keyward: a bug: panic at {place}; what was going on is denied, and keys that were being changed are loaded again (panics so far: {count})"
            );
            match host::abi() {
                Some(_) => host::log(abi::LOG_ERROR, &line),
                None => host::log_without_abi(&line),
            }
        }
    }));
}

//! What tests ask for: panics, and a clock that is ahead. It is only in tests and in a library with the feature `failpoint`,
//! which is never shipped: `cargo xtask dist` refuses a library that has it.

use std::cell::Cell;
use std::path::Path;

/// Names the folder in which a test asks for panics in a real Envoy.
const VARIABLE: &str = "KEYWARD_FAILPOINTS";

thread_local! {
    static PLANTED: Cell<&'static [&'static str]> = const { Cell::new(&[]) };
    static AHEAD_NS: Cell<u64> = const { Cell::new(0) };
}

/// Asks for a panic of this thread at each of these places, one after the other, in place of what was asked for before.
pub fn plant(places: &'static [&'static str]) {
    PLANTED.set(places);
}

/// Returns how many of the panics that this thread has asked for are still to come.
pub fn to_come() -> usize {
    PLANTED.get().len()
}

/// Sets how far the clock is ahead for this thread.
pub fn set_ahead_ns(ahead: u64) {
    AHEAD_NS.set(ahead);
}

/// Returns how far the clock is ahead for this thread.
pub fn ahead_ns() -> u64 {
    AHEAD_NS.get()
}

/// Panics once if this thread has asked for it, or if the test's folder has a file of this name, and removes the file.
pub fn at(name: &str) {
    // A message that must never be logged, as a value of a request in a real one.
    if let Some((first, rest)) = PLANTED.get().split_first()
        && *first == name
    {
        PLANTED.set(rest);
        panic!("kw_planted at {name}");
    }
    let Some(folder) = std::env::var_os(VARIABLE) else { return };
    if std::fs::remove_file(Path::new(&folder).join(name)).is_ok() {
        panic!("kw_planted at {name}");
    }
}

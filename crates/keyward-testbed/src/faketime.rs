//! A program under a clock that was moved.
//!
//! The library of libfaketime is preloaded, without its `faketime` wrapper: the wrapper makes a semaphore that is named after
//! its process id, and refuses to start where an earlier process of that id has left one behind.

use std::path::{Path, PathBuf};

/// Where the library is. `None` means that Debian's package `faketime` is not installed.
#[must_use]
pub fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|file| file.is_file())
}

/// The environment of a program whose wall clock begins at `moment`, in UTC, as `2031-02-03 04:05:06`, and then runs on. Its
/// monotonic clock is left alone, so that waiting takes as long as ever.
///
/// # Panics
/// Panics if the library is not installed.
#[must_use]
pub fn environment(moment: &str) -> Vec<(&'static str, String)> {
    let mut variables = preloaded();
    variables.push(("FAKETIME", format!("@{moment}")));
    variables
}

/// The environment of a program whose wall clock is ahead by what `file` says, as `+2h`, at each moment.
///
/// # Panics
/// Panics if the library is not installed.
#[must_use]
pub fn ahead_by(file: &Path) -> Vec<(&'static str, String)> {
    let mut variables = preloaded();
    variables.push(("FAKETIME_TIMESTAMP_FILE", file.display().to_string()));
    variables.push(("FAKETIME_NO_CACHE", "1".to_owned()));
    variables
}

fn preloaded() -> Vec<(&'static str, String)> {
    let library = library().expect("libfaketime, of Debian's package faketime");
    vec![
        ("LD_PRELOAD", library.display().to_string()),
        // Versions differ in the name.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("TZ", "UTC".to_owned()),
    ]
}

//! Panics that tests ask for. It is only in a library with the feature `failpoint`, which is never shipped: `cargo xtask dist`
//! refuses a library that has it.

use std::path::Path;

/// Names the folder in which a test asks for panics.
const VARIABLE: &str = "KEYWARD_FAILPOINTS";

/// Panics once if the test's folder has a file of this name, and removes the file.
pub fn at(name: &str) {
    let Some(folder) = std::env::var_os(VARIABLE) else { return };
    if std::fs::remove_file(Path::new(&folder).join(name)).is_ok() {
        // A message that must never be logged, as a value of a request in a real one.
        panic!("kw_planted at {name}");
    }
}

//! The inputs that are kept for each target, for the tests that run what the targets check.

use std::path::Path;

/// Returns the inputs in `fuzz/corpus` for a target, in the order of their files' names.
pub fn inputs(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no inputs");
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

//! Where things are in this workspace.

pub use tempfile::TempDir;

use std::path::{Path, PathBuf};

/// The top of the repository.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Returns what is in a folder of the repository, in the order of the names.
///
/// # Panics
/// Panics when the folder is empty or cannot be read.
pub fn files(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    let folder = root().join(folder);
    let listed = std::fs::read_dir(&folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut files: Vec<PathBuf> = listed.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

/// A new folder under `target/testbed/` that is removed with the value.
///
/// # Panics
/// Panics when it cannot be made.
pub fn scratch(name: &str) -> tempfile::TempDir {
    let base = target().join("testbed");
    std::fs::create_dir_all(&base).unwrap_or_else(|error| panic!("cannot make {}: {error}", base.display()));
    tempfile::Builder::new()
        .prefix(&format!("{name}-"))
        .tempdir_in(&base)
        .unwrap_or_else(|error| panic!("cannot make a folder in {}: {error}", base.display()))
}

/// Puts a file in the place of another one in one step, so that whoever watches or reads it never sees a part of it.
///
/// # Panics
/// Panics when the file cannot be written.
pub fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", new.display()));
    std::fs::rename(&new, file).unwrap_or_else(|error| panic!("cannot replace {}: {error}", file.display()));
}

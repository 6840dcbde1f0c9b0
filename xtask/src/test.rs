//! `cargo xtask test`: every check and every test, with everything they need.

use crate::{build, deny, envoy, helm, prerequisites, sh, workspace};
use anyhow::Result;
use std::time::Instant;

#[derive(clap::Args)]
pub struct Arguments {
    /// Only the tests, not formatting, lints and documentation
    #[arg(long)]
    tests_only: bool,
    /// Passed on to the test runner, for instance a part of a test's name
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    filter: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let began = Instant::now();
    step("what the tests need", prerequisites::install)?;
    let envoy = step("Envoy", envoy::find_or_install)?;
    if !arguments.tests_only {
        step("formatting", || sh::run(sh::cargo().args(["fmt", "--all", "--check"])))?;
        step("dependencies", deny::check)?;
        let lints = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
        step("the Helm chart and the alerts", helm::check)?;
        step("lints", || sh::run(sh::cargo().args(lints)))?;
    }
    let module = step("the module", build::shipped_module)?;
    let failpoint = step("the module that crashes for tests", build::failpoint_module)?;
    step("the command", || sh::run(sh::cargo().args(["build", "--package", "keyward-admin"])))?;
    step("tests", || {
        let mut command = sh::cargo();
        if prerequisites::has_cargo_tool("nextest") {
            command.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
        } else {
            command.args(["test", "--workspace", "--no-fail-fast", "--"]);
        }
        command
            .args(&arguments.filter)
            .env("ENVOY_BIN", &envoy)
            .env("KEYWARD_WASM", &module)
            .env("KEYWARD_FAILPOINT_WASM", &failpoint)
            .env("KEYWARD_BIN", workspace::target().join("debug/keyward"));
        sh::run(&mut command)
    })?;
    if !arguments.tests_only {
        step("examples in the documentation", || sh::run(sh::cargo().args(["test", "--workspace", "--doc"])))?;
        let mut documentation = sh::cargo();
        // For whoever works on it: private items too, and links to them.
        documentation.args(["doc", "--workspace", "--no-deps", "--document-private-items"]);
        documentation.env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private-intra-doc-links");
        step("documentation", || sh::run(&mut documentation))?;
    }
    println!("\nall passed in {} s", began.elapsed().as_secs());
    Ok(())
}

fn step<T>(name: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    println!("\n=== {name}");
    let result = run();
    println!("=== {name}: {} after {} s", if result.is_ok() { "done" } else { "failed" }, began.elapsed().as_secs());
    result
}

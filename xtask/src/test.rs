//! `cargo xtask test`: every check and every test, with everything they need.

use crate::{build, deny, envoy, helm, nextest, prerequisites, sh, unused, workspace};
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
    let nextest = step("the test runner", nextest::find_or_install)?;
    if !arguments.tests_only {
        step("formatting", || sh::run(sh::cargo().args(["fmt", "--all", "--check"])))?;
        step("dependencies", deny::check)?;
        step("unused dependencies", unused::check)?;
        step("the Helm chart and the alerts", helm::check)?;
        step("lints", || lint(&["--workspace", "--all-targets"]))?;
        step("lints of the module", || {
            build::add_wasm_target()?;
            lint(&["--package", "keyward-filter", "--target", build::WASM_TARGET])?;
            // Both are left out of the module that is shipped.
            let features = ["--lib", "--features", "failpoint,callback-times"];
            lint(&[&["--package", "keyward-filter", "--target", build::WASM_TARGET][..], &features[..]].concat())
        })?;
    }
    let module = step("the module", build::shipped_module)?;
    let failpoint = step("the module that crashes for tests", build::failpoint_module)?;
    step("the command", || sh::run(sh::cargo().args(["build", "--package", "keyward-admin"])))?;
    step("tests", || {
        let mut command = nextest;
        command
            .args(["run", "--workspace", "--no-fail-fast"])
            .args(&arguments.filter)
            .env("ENVOY_BIN", &envoy)
            .env("KEYWARD_WASM", &module)
            .env("KEYWARD_FAILPOINT_WASM", &failpoint)
            .env("KEYWARD_BIN", workspace::target().join("debug/keyward"));
        sh::run(&mut command)
    })?;
    if !arguments.tests_only {
        step("examples in the documentation", || sh::run(sh::cargo().args(["test", "--workspace", "--doc"])))?;
        step("documentation", || {
            document(&["--workspace"])?;
            document(&["--package", "keyward-filter", "--target", build::WASM_TARGET])
        })?;
    }
    println!("\nall passed in {} s", began.elapsed().as_secs());
    Ok(())
}

fn lint(what: &[&str]) -> Result<()> {
    sh::run(sh::cargo().arg("clippy").args(what).args(["--", "--deny", "warnings"]))
}

/// Documents private items too, and links to them: the documentation is for those who work on the code.
fn document(what: &[&str]) -> Result<()> {
    let mut command = sh::cargo();
    command.args(["doc", "--no-deps", "--document-private-items"]).args(what);
    sh::run(command.env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private-intra-doc-links"))
}

fn step<T>(name: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    println!("\n=== {name}");
    let result = run();
    println!("=== {name}: {} after {} s", if result.is_ok() { "done" } else { "failed" }, began.elapsed().as_secs());
    result
}

//! `cargo xtask test`: runs every check and every test, and installs what they need.

use crate::{build, deny, envoy, helm, nextest, prerequisites, sh, unused, workspace};
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

#[derive(clap::Args)]
pub struct Arguments {
    /// Run only the tests, without the checks of formatting, lints and documentation
    #[arg(long)]
    tests_only: bool,
    /// Run only the tests that start an Envoy, with other versions of it: `all`, or versions separated by commas
    #[arg(long, value_name = "VERSIONS")]
    envoy: Option<String>,
    /// Arguments for the test runner, for instance a part of a test's name
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    filter: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let began = Instant::now();
    if let Some(named) = &arguments.envoy {
        return run_with(&envoy::versions(named)?, &arguments.filter);
    }
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
            // The shipped module is built without these two features.
            let features = ["--lib", "--features", "failpoint,callback-times"];
            lint(&[&["--package", "keyward-filter", "--target", build::WASM_TARGET][..], &features[..]].concat())
        })?;
    }
    let built = Built::build()?;
    step("tests", || built.run(nextest, &envoy, &["--workspace"], &arguments.filter))?;
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

/// Runs the tests that start an Envoy with each of these versions.
fn run_with(versions: &[&str], filter: &[String]) -> Result<()> {
    prerequisites::install()?;
    let built = Built::build()?;
    let mut failed = Vec::new();
    for version in versions {
        // Of the whole workspace, so that dependencies have the features that they were built with for all tests.
        let suites = ["--workspace", "--test", "e2e", "--test", "decisions", "--test", "oracle"];
        let result = step(&format!("tests with Envoy {version}"), || {
            built.run(nextest::find_or_install()?, &envoy::install(version)?, &suites, filter)
        });
        failed.extend(result.is_err().then_some(*version));
    }
    ensure!(failed.is_empty(), "tests failed with Envoy {}", failed.join(", "));
    println!("\nall passed with Envoy {}", versions.join(", "));
    Ok(())
}

/// Builds the programs that the tests run.
struct Built {
    module: PathBuf,
    failpoint: PathBuf,
}

impl Built {
    fn build() -> Result<Self> {
        let module = step("the module", build::shipped_module)?;
        let failpoint = step("the module that crashes for tests", build::failpoint_module)?;
        step("the command and the tests", build::command_and_tests)?;
        Ok(Self { module, failpoint })
    }

    fn run(&self, mut nextest: Command, envoy: &Path, suites: &[&str], filter: &[String]) -> Result<()> {
        nextest
            .args(["run", "--no-fail-fast"])
            .args(suites)
            .args(filter)
            .env("ENVOY_BIN", envoy)
            .env("KEYWARD_WASM", &self.module)
            .env("KEYWARD_FAILPOINT_WASM", &self.failpoint)
            .env("KEYWARD_NATIVE", workspace::target().join("debug/libkeyward_native.so"))
            .env("KEYWARD_BIN", workspace::target().join("debug/keyward"))
            .env("RECORDS_API_BIN", workspace::target().join("debug/records-api"));
        sh::run(&mut nextest)
    }
}

fn lint(what: &[&str]) -> Result<()> {
    sh::run(sh::cargo().arg("clippy").args(what).args(["--", "--deny", "warnings"]))
}

/// Builds the documentation with private items, because its readers work on the code.
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

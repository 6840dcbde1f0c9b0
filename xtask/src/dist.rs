//! `cargo xtask dist`: writes the files of a release to `target/dist`.
//!
//! The same source gives the same bytes on every machine: no file holds a time, a user or a folder of the machine.

use crate::{build, oci, sbom, workspace};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the image layout in `target/dist`.
const IMAGE: &str = "image";
const MODULE: &str = "keyward.wasm";
const BILL_OF_MATERIALS: &str = "keyward.wasm.cdx.json";
const CHECKSUMS: &str = "SHA256SUMS";
const REPOSITORY: &str = "registry.example.com/keyward";

#[derive(clap::Args)]
pub struct Arguments {
    /// Repository that the image will be pushed to; it appears only in the printed lines
    #[arg(long, default_value = REPOSITORY)]
    repository: String,
    /// Package this module instead of building one
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Write to this folder instead of target/dist
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { repository: REPOSITORY.to_owned(), module: None, output: None }
    }
}

/// Writes the module, its image, its bill of materials and the checksums of all files.
///
/// # Errors
/// Returns an error when the module cannot be built or a file cannot be written.
pub fn run(arguments: &Arguments) -> Result<()> {
    let module = arguments.module.clone().map_or_else(build::shipped_module, Ok)?;
    let bytes = fs::read(&module).with_context(|| format!("cannot read {}", workspace::shown(&module)))?;
    let dist = arguments.output.clone().unwrap_or_else(workspace::dist);
    fs::create_dir_all(&dist).with_context(|| format!("cannot make {}", workspace::shown(&dist)))?;
    if module != dist.join(MODULE) {
        write(&dist.join(MODULE), &bytes)?;
    }
    let version = env!("CARGO_PKG_VERSION");
    let image = oci::write_layout(&dist.join(IMAGE), &bytes, version)?;
    write(&dist.join(BILL_OF_MATERIALS), sbom::of_module(&bytes)?.as_bytes())?;
    write(&dist.join(CHECKSUMS), checksums(&dist)?.as_bytes())?;
    println!("{}", announcement(arguments, &dist, version, &oci::sha256(&bytes), &image));
    Ok(())
}

/// Returns a line for each file of the release, in the form that `sha256sum --check` reads.
fn checksums(dist: &Path) -> Result<String> {
    let mut names = vec![MODULE.to_owned(), BILL_OF_MATERIALS.to_owned()];
    names.extend(oci::files(&dist.join(IMAGE))?.iter().map(|name| format!("{IMAGE}/{name}")));
    names.sort_unstable();
    let mut text = String::new();
    for name in names {
        let bytes = fs::read(dist.join(&name)).with_context(|| format!("cannot read {name}"))?;
        text.push_str(&format!("{}  {name}\n", oci::sha256(&bytes)));
    }
    Ok(text)
}

fn announcement(arguments: &Arguments, dist: &Path, version: &str, file: &str, image: &str) -> String {
    let (dist, repository) = (workspace::shown(dist), &arguments.repository);
    format!(
        "
In {dist}:
  {MODULE}           the module, for plain Envoy and for file:// and http(s):// addresses
  {IMAGE}                  the module as an OCI image, for oci:// addresses
  {BILL_OF_MATERIALS}  what it is made of (CycloneDX)
  {CHECKSUMS}             checksums: (cd {dist} && sha256sum --check {CHECKSUMS})

Digest of the image's manifest (oci://)            {image}
Digest of the module's file (file://, http(s)://)  {file}

Push the image:
  skopeo copy oci:{dist}/{IMAGE}:{version} docker://{repository}:{version}

deploy/istio, WasmPlugin:
  url: oci://{repository}@sha256:{image}

deploy/istio, TrafficExtension:
    url: oci://{repository}@sha256:{image}

deploy/envoy-gateway, EnvoyExtensionPolicy:
        url: {repository}@sha256:{image}"
    )
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(file, bytes).with_context(|| format!("cannot write {}", workspace::shown(file)))
}

//! `cargo xtask dist`: writes the files of a release to `target/dist`.
//!
//! The same source gives the same bytes on every machine: no file holds a time, a user or a folder of the machine.

use crate::library::{self, Architecture};
use crate::{build, oci, sbom, sh, workspace};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the image layout in `target/dist`.
const IMAGE: &str = "image";
const MODULE: &str = "keyward.wasm";
const BILL_OF_MATERIALS: &str = "keyward.wasm.cdx.json";
/// The folders of the command's completions and manual pages in `target/dist`.
const COMPLETIONS: &str = "completions";
const MANUAL: &str = "man";
/// Shells, and the names of the files that they look for.
const SHELLS: [(&str, &str); 5] = [
    ("bash", "keyward"),
    ("zsh", "_keyward"),
    ("fish", "keyward.fish"),
    ("elvish", "keyward.elv"),
    ("powershell", "_keyward.ps1"),
];
const VERSION: &str = env!("CARGO_PKG_VERSION");
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
    /// Take completions and manual pages from this command instead of building one; with `--module` alone there are none
    #[arg(long, value_name = "FILE")]
    command: Option<PathBuf>,
    /// Leave out the libraries of the native edition, which take a linker from PyPI; they are also left out with `--module`
    #[arg(long)]
    no_native: bool,
    /// Write to this folder instead of target/dist
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// Writes the module, its image, the libraries of the native edition, bills of materials, the completions and manual pages of the command, and the checksums
/// of all files.
///
/// # Errors
/// Returns an error when the module cannot be built or a file cannot be written.
pub fn run(arguments: &Arguments) -> Result<()> {
    let module = arguments.module.clone().map_or_else(build::shipped_module, Ok)?;
    let dist = arguments.output.clone().unwrap_or_else(workspace::dist);
    fs::create_dir_all(&dist).with_context(|| format!("cannot make {}", workspace::shown(&dist)))?;
    let (bytes, image) = write_image(&module, &dist)?;
    if module != dist.join(MODULE) {
        write(&dist.join(MODULE), &bytes)?;
    }
    sbom::write_beside(&dist.join(MODULE), "keyward-filter", build::WASM_TARGET)?;
    let command = match (&arguments.command, &arguments.module) {
        (Some(command), _) => Some(command.clone()),
        (None, None) => Some(build::command()?),
        (None, Some(_)) => None,
    };
    let mut others = command.map_or(Ok(Vec::new()), |command| write_texts(&command, &dist))?;
    if !arguments.no_native && arguments.module.is_none() {
        others.extend(write_libraries(&dist)?);
    }
    write(&dist.join(CHECKSUMS), checksums(&dist, others)?.as_bytes())?;
    println!("{}", announcement(arguments, &dist, &oci::sha256(&bytes), &image));
    Ok(())
}

/// Builds the module and writes its image: all that a gateway needs.
///
/// # Errors
/// Returns an error when the module cannot be built or a file cannot be written.
pub fn module_and_image() -> Result<()> {
    write_image(&build::shipped_module()?, &workspace::dist())?;
    Ok(())
}

/// Writes the image of a module. Returns the module's bytes and the digest of the image.
fn write_image(module: &Path, dist: &Path) -> Result<(Vec<u8>, String)> {
    let bytes = fs::read(module).with_context(|| format!("cannot read {}", workspace::shown(module)))?;
    let image = oci::write_layout(&dist.join(IMAGE), &bytes, VERSION)?;
    Ok((bytes, image))
}

/// Writes the libraries of the native edition and their bills of materials. Returns the names of the files.
fn write_libraries(dist: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for architecture in Architecture::ALL {
        let (name, target) = (architecture.file(), architecture.target());
        let bytes = library::build(architecture)?;
        // As a new file: an Envoy that has the old one loaded would not survive its being overwritten.
        let new = dist.join(format!("{name}.new"));
        write(&new, &bytes)?;
        fs::rename(&new, dist.join(&name)).with_context(|| format!("cannot write {name}"))?;
        let bill = sbom::write_beside(&dist.join(&name), "keyward-native", &target)?;
        names.extend([name, bill]);
    }
    Ok(names)
}

/// Writes what shells and `man` know of the command. Returns the names of the files.
fn write_texts(command: &Path, dist: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    fs::create_dir_all(dist.join(COMPLETIONS)).context("cannot make the folder of the completions")?;
    for (shell, file) in SHELLS {
        let name = format!("{COMPLETIONS}/{file}");
        write(&dist.join(&name), sh::read(Command::new(command).args(["completions", shell]))?.as_bytes())?;
        names.push(name);
    }
    sh::run(Command::new(command).arg("man").arg(dist.join(MANUAL)))?;
    for entry in fs::read_dir(dist.join(MANUAL)).context("cannot read the folder of the manual pages")? {
        names.push(format!("{MANUAL}/{}", entry?.file_name().to_string_lossy()));
    }
    Ok(names)
}

/// Returns a line for each file of the release, in the form that `sha256sum --check` reads.
fn checksums(dist: &Path, others: Vec<String>) -> Result<String> {
    let mut names = vec![MODULE.to_owned(), BILL_OF_MATERIALS.to_owned()];
    names.extend(others);
    names.extend(oci::files(&dist.join(IMAGE))?.iter().map(|name| format!("{IMAGE}/{name}")));
    names.sort_unstable();
    let mut text = String::new();
    for name in names {
        let bytes = fs::read(dist.join(&name)).with_context(|| format!("cannot read {name}"))?;
        text.push_str(&format!("{}  {name}\n", oci::sha256(&bytes)));
    }
    Ok(text)
}

fn announcement(arguments: &Arguments, dist: &Path, file: &str, image: &str) -> String {
    let (dist, repository) = (workspace::shown(dist), &arguments.repository);
    format!(
        "
In {dist}:
  {MODULE}           the module, for plain Envoy and for file:// and http(s):// addresses
  {IMAGE}                  the module as an OCI image, for oci:// addresses
  {BILL_OF_MATERIALS}  what it is made of (CycloneDX)
  libkeyward-{VERSION}-*.so  the native edition for x86_64 and aarch64, and what each is made of (docs/native.md)
  {COMPLETIONS}, {MANUAL}       what shells and `man` know of the command
  {CHECKSUMS}             checksums: (cd {dist} && sha256sum --check {CHECKSUMS})

Digest of the image's manifest (oci://)            {image}
Digest of the module's file (file://, http(s)://)  {file}

Push the image:
  skopeo copy oci:{dist}/{IMAGE}:{VERSION} docker://{repository}:{VERSION}

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

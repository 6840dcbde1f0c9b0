//! An OCI image layout that holds the module in the form that Istio and Envoy Gateway both accept.
//!
//! That form is called *compat*: one layer, a gzipped tar archive that holds `plugin.wasm`. An artifact with the module
//! itself as its layer is refused by some of the readers.

use crate::workspace;
use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::Write as _;
use std::path::Path;

const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
const BLOBS: &str = "blobs/sha256";
/// The name that Istio and Envoy Gateway look for in the layer.
const FILE_IN_LAYER: &str = "plugin.wasm";
/// The value for an unknown operating system in gzip's header. The real value would differ between machines.
const NO_OPERATING_SYSTEM: u8 = 255;

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Writes the layout and returns the digest of the image's manifest, as 64 hexadecimal digits.
///
/// # Errors
/// Returns an error when a file cannot be written.
pub fn write_layout(folder: &Path, module: &[u8], version: &str) -> Result<String> {
    if folder.exists() {
        // Blobs of an earlier module must not be shipped.
        fs::remove_dir_all(folder).with_context(|| format!("cannot replace {}", workspace::shown(folder)))?;
    }
    fs::create_dir_all(folder.join(BLOBS)).with_context(|| format!("cannot make {}", workspace::shown(folder)))?;
    let archive = archive(module)?;
    let layer = compressed(&archive)?;
    let config = json!({
        "architecture": "wasm",
        "os": "wasip1",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&archive))]},
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(CONFIG_TYPE, &config),
        "layers": [descriptor(LAYER_TYPE, &layer)],
        "annotations": {
            "module.wasm.image/variant": "compat",
            "org.opencontainers.image.title": "keyward",
            "org.opencontainers.image.version": version,
            "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
        },
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = descriptor(MANIFEST_TYPE, &manifest);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": version});
    // The layout's list of images stays in the layout; what is pushed is the manifest.
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    for blob in [&config, &layer, &manifest] {
        write(&folder.join(BLOBS).join(sha256(blob)), blob)?;
    }
    write(&folder.join(INDEX), index.to_string().as_bytes())?;
    write(&folder.join(LAYOUT), json!({"imageLayoutVersion": "1.0.0"}).to_string().as_bytes())?;
    Ok(sha256(&manifest))
}

/// Returns the files of a layout, relative to its folder.
///
/// # Errors
/// Returns an error when the folder cannot be read.
pub fn files(folder: &Path) -> Result<Vec<String>> {
    let mut names = vec![LAYOUT.to_owned(), INDEX.to_owned()];
    let blobs = folder.join(BLOBS);
    for entry in fs::read_dir(&blobs).with_context(|| format!("cannot read {}", workspace::shown(&blobs)))? {
        names.push(format!("{BLOBS}/{}", entry?.file_name().to_string_lossy()));
    }
    Ok(names)
}

/// Returns the SHA-256 of the bytes as 64 hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn archive(module: &[u8]) -> Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(module.len().try_into()?);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, FILE_IN_LAYER, module)?;
    Ok(archive.into_inner()?)
}

fn compressed(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder =
        GzBuilder::new().mtime(0).operating_system(NO_OPERATING_SYSTEM).write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{}", sha256(blob)), "size": blob.len()})
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(file, bytes).with_context(|| format!("cannot write {}", workspace::shown(file)))
}

//! An OCI registry on loopback that holds the images of `cargo xtask dist`, as they lie in their layout.

use keyward_testbed::upstream::{Received, Upstream};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// It serves any repository name, and each image by its digest alone: what the deploy files name.
pub struct Registry {
    server: Upstream,
}

impl Registry {
    /// Serves the image layouts in `layouts`.
    pub fn start(layouts: Vec<PathBuf>) -> Self {
        Self { server: Upstream::answering(move |request| answer(&layouts, request)) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

/// The digest of the one manifest of a layout, as 64 hexadecimal digits.
pub fn manifest_digest(layout: &Path) -> String {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    digest.strip_prefix("sha256:").unwrap().to_owned()
}

fn answer(layouts: &[PathBuf], request: &Received) -> Vec<u8> {
    let target = request.target();
    if target == "/v2/" {
        return response(&request.method, "200 OK", "application/json", b"{}");
    }
    let blob = target.rsplit_once("/sha256:").and_then(|(place, digest)| {
        let file = layouts.iter().map(|layout| layout.join("blobs/sha256").join(digest)).find(|file| file.is_file());
        Some((place.to_owned(), fs::read(file?).ok()?))
    });
    match blob {
        Some((place, bytes)) if place.ends_with("/manifests") => {
            response(&request.method, "200 OK", "application/vnd.oci.image.manifest.v1+json", &bytes)
        }
        Some((_, bytes)) => response(&request.method, "200 OK", "application/octet-stream", &bytes),
        None => response(&request.method, "404 Not Found", "application/json", b"{\"errors\":[]}"),
    }
}

fn response(method: &[u8], status: &str, media_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes =
        format!("HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n").into_bytes();
    if method != b"HEAD" {
        bytes.extend_from_slice(body);
    }
    bytes
}

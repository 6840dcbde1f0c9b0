//! The files of `deploy/`, with what is marked CHANGE filled in for a test.

use keyward_testbed::workspace;
use std::fs;
use std::net::SocketAddr;

/// The address in the shipped files, with a digest that no image has.
const IMAGE: &str =
    "registry.example.com/keyward@sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// A shipped file, to be changed as its reader would.
pub struct File {
    name: String,
    text: String,
}

impl File {
    /// The file of that name in `deploy/`.
    ///
    /// # Panics
    /// Panics when it is not there.
    pub fn read(name: &str) -> Self {
        let path = workspace::root().join("deploy").join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { name: name.to_owned(), text }
    }

    /// Puts `new` in the place of `old`.
    ///
    /// # Panics
    /// Panics when the file does not hold `old`: it was changed, and the test has to follow.
    #[must_use]
    pub fn with(mut self, old: &str, new: &str) -> Self {
        assert!(self.text.contains(old), "{} does not hold `{old}`", self.name);
        self.text = self.text.replace(old, new);
        self
    }

    /// Names the image in a registry, by the digest of its manifest.
    #[must_use]
    pub fn with_image(self, registry: SocketAddr, digest: &str) -> Self {
        self.with(IMAGE, &format!("{registry}/keyward@sha256:{digest}"))
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A file of the filter, which names the image in a registry.
pub fn filter(name: &str, registry: SocketAddr, digest: &str) -> File {
    File::read(name).with_image(registry, digest)
}

/// The documents of one kind.
pub fn only_kind(text: &str, kind: &str) -> String {
    let line = format!("\nkind: {kind}\n");
    text.split("\n---\n").filter(|document| document.contains(&line)).collect::<Vec<_>>().join("\n---\n")
}

/// The files in a folder of `deploy/`, but for documents.
pub fn files(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(workspace::root().join("deploy").join(folder)).unwrap().map(Result::unwrap);
    let names = entries.filter(|entry| entry.file_type().unwrap().is_file()).map(|entry| entry.file_name());
    let names = names.map(|name| name.into_string().unwrap()).filter(|name| !name.ends_with(".md"));
    let mut files: Vec<String> = names.map(|name| format!("deploy/{folder}/{name}")).collect();
    files.sort();
    files
}

/// Those of them that hold resources.
pub fn resources(folder: &str) -> Vec<String> {
    let is_resource = |file: &String| fs::read_to_string(workspace::root().join(file)).unwrap().contains("\nkind: ");
    files(folder).into_iter().filter(is_resource).collect()
}

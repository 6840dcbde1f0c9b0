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
    /// When it is not there.
    pub fn read(name: &str) -> Self {
        let path = workspace::root().join("deploy").join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { name: name.to_owned(), text }
    }

    /// Puts `new` in the place of `old`.
    ///
    /// # Panics
    /// When the file does not hold `old`: it was changed, and the test has to follow.
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

//! The files of `deploy/`, with what is marked CHANGE filled in for a test.

use crate::cluster::Cluster;
use crate::programs::{Module, Version};
use crate::report::Part;
use keyward_testbed::workspace;
use std::fs;
use std::net::SocketAddr;

/// The address in the shipped files, with a digest that no image has.
const IMAGE: &str =
    "registry.example.com/keyward@sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// A file that one release refuses although earlier and later ones take it: a fault of that release, which README.md names.
/// The CRD of Envoy Gateway 1.8.0 and 1.8.1 has a limit of `requests` that its own type cannot
/// hold, so Kubernetes 1.36 and later refuse every rate limit.
const REFUSED: (&str, &str) = ("envoy-gateway-1.8", "envoy-gateway/rate-limit.yaml");

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
    let files = workspace::files(format!("deploy/{folder}")).into_iter().filter(|file| file.is_file());
    let names = files.map(|file| file.file_name().unwrap().to_str().unwrap().to_owned());
    names.filter(|name| !name.ends_with(".md")).map(|name| format!("deploy/{folder}/{name}")).collect()
}

/// The first release that a file is for, as its first line says it. `None` means every release.
pub fn first_release(file: &str) -> Option<Version> {
    let text = fs::read_to_string(workspace::root().join(file)).unwrap();
    let (before, _) = text.lines().next()?.split_once(" and later.")?;
    Version::parse(before.rsplit(' ').next()?)
}

/// Gives the API server every file of a folder as it is shipped. It must take those of this release, and refuse those that
/// are for other ones, as their first lines say or as [`REFUSED`] does.
pub fn check_schemas(part: &mut Part<'_>, cluster: &Cluster, module: &Module, folder: &str) {
    let what = "the API server takes every file of this release as it is shipped, and refuses those of other ones";
    part.check(what, || {
        let version = module.version();
        for file in resources(folder) {
            let verdict = cluster.validate(&file);
            let refused = is_refused(module, file.trim_start_matches("deploy/"));
            let for_this = first_release(&file).is_none_or(|first| first <= version) && !refused;
            if for_this {
                assert_eq!(verdict, Ok(()), "{file} on {version}");
            } else {
                assert!(verdict.is_err(), "{file} is said not to be for {version}, which takes it");
            }
        }
    });
}

/// Returns whether a release refuses a file of `deploy/` by a fault of its own.
pub fn is_refused(module: &Module, file: &str) -> bool {
    REFUSED == (module.name(), file)
}

/// Those of them that hold resources.
pub fn resources(folder: &str) -> Vec<String> {
    let is_resource = |file: &String| fs::read_to_string(workspace::root().join(file)).unwrap().contains("\nkind: ");
    files(folder).into_iter().filter(is_resource).collect()
}

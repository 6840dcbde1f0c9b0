//! The control planes' programs, which `cargo xtask control-planes` builds.

use keyward_testbed::workspace;
use std::fmt;
use std::path::PathBuf;

/// A release of a control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// The release of that number.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Reads `1.31`. `None` means that the text is not a release.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A module of `modules/`: a program of the field in one version.
#[derive(Debug, Clone)]
pub struct Module {
    name: String,
}

impl Module {
    /// The module of that name.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    /// The module that a variable of the environment names.
    ///
    /// # Panics
    /// Panics when it is not set.
    pub fn from_environment(variable: &str) -> Self {
        let name = std::env::var(variable);
        Self::named(&name.unwrap_or_else(|_| panic!("{variable} is not set: run `cargo xtask control-planes`")))
    }

    /// The folder's name, which is also that of its fixtures.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The release of the control plane, which ends the name: `istio-1.31`, or `istio-1.31-alpha` for a commit before it.
    ///
    /// # Panics
    /// Panics when the name holds none.
    pub fn version(&self) -> Version {
        let of_name = self.name.split('-').find_map(Version::parse);
        of_name.unwrap_or_else(|| panic!("{} does not say which release it is", self.name))
    }

    /// A program that was built from it.
    ///
    /// # Panics
    /// Panics when it was not.
    pub fn program(&self, name: &str) -> PathBuf {
        let file = workspace::root().join("target/control-planes").join(&self.name).join(name);
        assert!(file.is_file(), "no {}: run `cargo xtask control-planes`", file.display());
        file
    }

    /// The folder that holds files of the sources of a Go module it depends on: CRDs and templates. `cargo xtask control-planes`
    /// keeps those that it lists beside the programs.
    ///
    /// # Panics
    /// Panics when there are none.
    pub fn sources(&self, of: &str) -> PathBuf {
        let folder = workspace::root().join("target/control-planes").join(&self.name).join("sources").join(of);
        assert!(folder.is_dir(), "no {}: run `cargo xtask control-planes`", folder.display());
        folder
    }
}

//! Debian packages that the tests need: a browser, PostgreSQL, a load generator.

use crate::sh;
use anyhow::{Result, bail};
use std::path::Path;

/// A Debian package that the tests need.
struct Need {
    package: &'static str,
    presence: Presence,
    why: &'static str,
}

/// How to see that a package is not needed any more: what it brings is there.
enum Presence {
    /// A program of this name is on the PATH.
    Program(&'static str),
    /// A file or folder of this name exists.
    Path(&'static str),
    /// A check of its own.
    Check(fn() -> bool),
}

impl Need {
    const fn program(package: &'static str, program: &'static str, why: &'static str) -> Self {
        Self { package, presence: Presence::Program(program), why }
    }

    fn is_met(&self) -> bool {
        match self.presence {
            Presence::Program(name) => sh::which(name).is_some(),
            Presence::Path(path) => Path::new(path).exists(),
            Presence::Check(check) => check(),
        }
    }
}

/// What the tests need. A line for each package; a font or a tool that a new test needs is one more line.
const NEEDS: &[Need] = &[
    Need::program("chromium", "chromium", "the page's tests drive it"),
    Need::program("chromium-driver", "chromedriver", "the page's tests drive it"),
    Need {
        package: "fonts-liberation",
        presence: Presence::Path("/usr/share/fonts/truetype/liberation"),
        why: "the page's tests show text in it",
    },
    Need {
        package: "postgresql",
        presence: Presence::Check(postgresql),
        why: "the admin service's tests run against it",
    },
    Need::program("npm", "npm", "the page's tests fetch axe-core with it"),
    Need::program("prometheus", "promtool", "it holds promtool, for the alerts"),
    Need::program("wrk", "wrk", "the benchmarks load Envoy with it"),
];

/// Installs the packages that are missing, on Debian and its derivatives, for root.
///
/// # Errors
/// Names what is missing and could not be installed.
pub fn install() -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !need.is_met()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if rustix::process::geteuid().is_root() && sh::which("apt-get").is_some() {
        let apt = || {
            let mut command = sh::command("apt-get");
            command.env("DEBIAN_FRONTEND", "noninteractive");
            command
        };
        // An old list of packages is no reason to stop: installing says what is wrong.
        let _ = sh::run(apt().args(["update", "--quiet"]));
        sh::run(apt().args(["install", "--quiet", "--yes", "--no-install-recommends"]).args(&packages))?;
    }
    let still: Vec<String> = missing
        .iter()
        .filter(|need| !need.is_met())
        .map(|need| format!("  {:<16} {}", need.package, need.why))
        .collect();
    if !still.is_empty() {
        bail!(
            "missing, and not installed from here (that takes root and apt-get):\n{}\nOn Debian and Ubuntu: \
             sudo apt-get install {}",
            still.join("\n"),
            packages.join(" ")
        );
    }
    Ok(())
}

/// Returns whether a PostgreSQL server is installed. Debian keeps its programs off the PATH.
fn postgresql() -> bool {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    sh::which("postgres").is_some() || debian.into_iter().any(|version| version.path().join("bin/postgres").is_file())
}

//! The programs that the tests need besides Rust: a browser, fonts, a clock that can be moved, PostgreSQL, what
//! shows manual pages, what reads JSON in a shell, a load generator.

use crate::sh;
use anyhow::{Result, bail};
use std::path::Path;

/// A Debian package, and a check whether its contents are installed.
struct Need {
    package: &'static str,
    present: fn() -> bool,
    why: &'static str,
}

const NEEDS: &[Need] = &[
    Need { package: "chromium", present: || sh::which("chromium").is_some(), why: "the page's tests drive it" },
    Need {
        package: "chromium-driver",
        present: || sh::which("chromedriver").is_some(),
        why: "the page's tests drive it",
    },
    Need {
        package: "faketime",
        present: || below("/usr/lib", "faketime"),
        why: "the page's tests move the clock with it",
    },
    Need { package: "fonts-dejavu-core", present: || font("dejavu"), why: "the page is shown in it" },
    Need { package: "fonts-liberation", present: || font("liberation"), why: "the page is shown in it" },
    Need { package: "fonts-roboto-unhinted", present: || font("roboto/unhinted"), why: "the page is shown in it" },
    Need { package: "postgresql", present: postgresql, why: "the admin service's tests run against it" },
    Need { package: "npm", present: || sh::which("npm").is_some(), why: "the page's tests fetch axe-core with it" },
    Need {
        package: "prometheus",
        present: || sh::which("promtool").is_some(),
        why: "it holds promtool, for the alerts",
    },
    Need { package: "jq", present: || sh::which("jq").is_some(), why: "a command of the recipes needs it" },
    Need { package: "groff-base", present: || sh::which("groff").is_some(), why: "it shows the manual pages" },
    Need { package: "wrk", present: || sh::which("wrk").is_some(), why: "the benchmarks load Envoy with it" },
];

/// Installs the packages that are missing, on Debian and its derivatives, for root.
///
/// # Errors
/// Returns an error that names what is missing and could not be installed.
pub fn install() -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.present)()).collect();
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
        // A failed update of the list of packages does not matter if the installation succeeds.
        let _ = sh::run(apt().args(["update", "--quiet"]));
        sh::run(apt().args(["install", "--quiet", "--yes", "--no-install-recommends"]).args(&packages))?;
    }
    let still: Vec<String> = missing
        .iter()
        .filter(|need| !(need.present)())
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

/// Returns whether there is a folder of this name in a folder of `base`, as there is in `/usr/lib/x86_64-linux-gnu`.
fn below(base: &str, name: &str) -> bool {
    let folders = std::fs::read_dir(base).into_iter().flatten().flatten();
    folders.into_iter().any(|folder| folder.path().join(name).is_dir())
}

fn font(folder: &str) -> bool {
    Path::new("/usr/share/fonts/truetype").join(folder).is_dir()
}

/// Returns whether a PostgreSQL server is installed. Debian keeps its programs off the PATH.
fn postgresql() -> bool {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    sh::which("postgres").is_some() || debian.into_iter().any(|version| version.path().join("bin/postgres").is_file())
}

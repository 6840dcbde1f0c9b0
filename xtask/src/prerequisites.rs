//! What the tests need besides Rust: a browser, PostgreSQL, a load generator.

use crate::sh;
use anyhow::{Result, bail};
use std::path::Path;

/// A Debian package and how to see that what it brings is there.
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
    Need { package: "postgresql", present: postgresql, why: "the admin service's tests run against it" },
    Need { package: "npm", present: || sh::which("npm").is_some(), why: "the page's tests fetch axe-core with it" },
    Need {
        package: "prometheus",
        present: || sh::which("promtool").is_some(),
        why: "it holds promtool, for the alerts",
    },
    Need { package: "wrk", present: || sh::which("wrk").is_some(), why: "the benchmarks load Envoy with it" },
];

/// Installs what is missing, where this is Debian or a kin of it and the user may.
///
/// # Errors
/// Names what is missing and could not be installed.
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
        // An old list of packages is no reason to stop: installing says what is wrong.
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

/// Debian keeps the server's programs off the PATH.
fn postgresql() -> bool {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    sh::which("postgres").is_some() || debian.into_iter().any(|version| version.path().join("bin/postgres").is_file())
}

/// Whether a file can be run; for tools that are used only where they are.
pub fn has_cargo_tool(name: &str) -> bool {
    let home = std::env::var_os("CARGO_HOME").map_or_else(|| Path::new("").to_path_buf(), Into::into);
    sh::which(&format!("cargo-{name}")).is_some() || home.join("bin").join(format!("cargo-{name}")).is_file()
}

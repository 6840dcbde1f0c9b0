//! The libraries of the native edition as they are shipped: built for an old C library, and what has to hold of them.
//!
//! Zig's linker, from a Python package, brings the C library of any version and architecture. The system's own would ask
//! for the C library of this machine, and could not link for another architecture.

use crate::{build, python, sh, workspace};
use anyhow::{Context as _, Result, bail, ensure};
use object::elf;
use object::read::elf::{Dyn as _, FileHeader as _, Sym as _};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

const ZIG: &str = "ziglang==0.17.1";
/// The C library that the libraries are linked for. Envoy's own binaries need 2.30.
const GLIBC: (u32, u32) = (2, 28);
/// The parts of the C library, which every image with Envoy has. Since 2.34 most of them are empty.
const C_LIBRARY: [&str; 5] =
    ["libc.so.6", "libpthread.so.0", "libdl.so.2", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"];
/// Hooks without which Envoy does not load an HTTP filter, or one by which requests would not be decided.
const HOOKS: [&str; 9] = [
    "program_init",
    "http_filter_config_new",
    "http_filter_config_destroy",
    "http_filter_config_scheduled",
    "http_filter_config_http_callout_done",
    "http_filter_new",
    "http_filter_request_headers",
    "http_filter_scheduled",
    "http_filter_destroy",
];
const PREFIX: &str = "envoy_dynamic_module_on_";

/// A processor architecture that the library is shipped for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    X86_64,
    Aarch64,
}

impl Architecture {
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Returns Rust's name of the target.
    pub fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.name())
    }

    /// Returns the name of the library's file. Without `lib` and `.so` it is a name for Envoy's search path.
    pub fn file(self) -> String {
        format!("libkeyward-{}-{}.so", env!("CARGO_PKG_VERSION"), self.name())
    }

    fn machine(self) -> u16 {
        match self {
            Self::X86_64 => elf::EM_X86_64.0,
            Self::Aarch64 => elf::EM_AARCH64.0,
        }
    }
}

/// Builds the library for an architecture and returns its bytes, which [`check`] has approved.
///
/// # Errors
/// Returns an error when the linker or Rust's target cannot be had, or the library does not compile or is not as it has to be.
pub fn build(architecture: Architecture) -> Result<Vec<u8>> {
    let target = architecture.target();
    python::install(ZIG).context("Zig's linker could not be installed; `--no-native` leaves the native edition out")?;
    build::add_target(&target).context("`--no-native` leaves the native edition out")?;
    let linker = linker(architecture)?;
    let config = format!("target.{target}.linker={}", serde_json::to_string(&linker)?);
    let flags = ["build", "--package", "keyward-native", "--lib", "--profile", "native", "--target", &target];
    let paths = format!("target.{target}.rustflags={}", serde_json::to_string(&build::without_paths()?)?);
    sh::run(sh::cargo().args(flags).args(["--config", &config, "--config", &paths]))?;
    let file = workspace::target().join(&target).join("native/libkeyward_native.so");
    let bytes = fs::read(&file).with_context(|| format!("cannot read {}", workspace::shown(&file)))?;
    check(&bytes, architecture).with_context(|| format!("{} is not fit to be shipped", workspace::shown(&file)))?;
    Ok(bytes)
}

/// Writes the program that Cargo calls as the linker.
fn linker(architecture: Architecture) -> Result<PathBuf> {
    let folder = workspace::root().join("target/zig");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", workspace::shown(&folder)))?;
    let file = folder.join(format!("cc-{}", architecture.name()));
    let python = python::venv().join("bin/python");
    let (major, minor) = GLIBC;
    let script = format!(
        "#!/bin/sh\nexec '{}' -m ziglang cc -target {}-linux-gnu.{major}.{minor} \"$@\"\n",
        python.display(),
        architecture.name()
    );
    fs::write(&file, script).with_context(|| format!("cannot write {}", workspace::shown(&file)))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(file)
}

/// Checks that a library runs wherever Envoy of its architecture does, and is a dynamic module with all hooks.
///
/// # Errors
/// Returns an error that says what is wrong.
pub fn check(library: &[u8], architecture: Architecture) -> Result<()> {
    let facts = Facts::read(library).context("it is no 64-bit ELF file")?;
    ensure!(facts.machine == architecture.machine(), "it is for another architecture than {}", architecture.name());
    for needed in &facts.needed {
        ensure!(C_LIBRARY.contains(&needed.as_str()), "it needs {needed}, which an image with Envoy may not have");
    }
    if let Some((major, minor)) = facts.glibc.filter(|version| *version > GLIBC) {
        bail!("it needs glibc {major}.{minor}, newer than {}.{}", GLIBC.0, GLIBC.1);
    }
    for hook in HOOKS {
        let name = format!("{PREFIX}{hook}");
        ensure!(facts.exports.contains(&name), "it does not export {name}");
    }
    build::check_no_failpoint(library)?;
    // Two libraries in one process must not get into each other's way.
    let foreign = facts.exports.iter().find(|name| !name.starts_with(PREFIX));
    ensure!(foreign.is_none(), "it exports {}", foreign.map_or("", String::as_str));
    Ok(())
}

/// What an ELF file says of itself.
#[derive(Debug)]
struct Facts {
    machine: u16,
    /// The libraries that it is loaded with.
    needed: Vec<String>,
    /// The highest version of glibc that one of its symbols has. `None` means that it uses none.
    glibc: Option<(u32, u32)>,
    /// The symbols that others can use.
    exports: Vec<String>,
}

impl Facts {
    fn read(bytes: &[u8]) -> Result<Self> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let header = elf::FileHeader64::<object::Endianness>::parse(bytes)?;
        let endian = header.endian()?;
        let sections = header.sections(endian, bytes)?;
        let mut facts =
            Self { machine: header.e_machine(endian).0, needed: Vec::new(), glibc: None, exports: Vec::new() };
        if let Some((entries, strings)) = sections.dynamic(endian, bytes)? {
            let strings = sections.strings(endian, bytes, strings)?;
            for entry in entries.iter().filter(|entry| entry.tag(endian) == elf::DT_NEEDED) {
                facts.needed.push(text(entry.string(endian, strings)?));
            }
        }
        if let Some((mut libraries, strings)) = sections.gnu_verneed(endian, bytes)? {
            let strings = sections.strings(endian, bytes, strings)?;
            while let Some((_, mut versions)) = libraries.next()? {
                while let Some(version) = versions.next()? {
                    facts.glibc = facts.glibc.max(glibc_version(&text(version.name(endian, strings)?)));
                }
            }
        }
        let symbols = sections.symbols(endian, bytes, elf::SHT_DYNSYM)?;
        for symbol in
            symbols.iter().filter(|symbol| symbol.st_shndx(endian) != elf::SHN_UNDEF && symbol.st_name(endian) != 0)
        {
            facts.exports.push(text(symbol.name(endian, symbols.strings())?));
        }
        Ok(facts)
    }
}

/// Reads the version in a name like `GLIBC_2.28` or `GLIBC_2.2.5`.
fn glibc_version(name: &str) -> Option<(u32, u32)> {
    let mut numbers = name.strip_prefix("GLIBC_")?.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(bytes: &[u8], architecture: Architecture) -> String {
        format!("{:#}", check(bytes, architecture).expect_err("it was approved"))
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_library_that_would_not_run_is_not_shipped() {
        // This program is linked as a library would be by the system's linker alone.
        let program = fs::read(std::env::current_exe().unwrap()).unwrap();
        let facts = Facts::read(&program).unwrap();
        assert!(facts.needed.iter().any(|name| name == "libgcc_s.so.1"), "{:?}", facts.needed);
        assert!(facts.glibc > Some((2, 2)), "{:?}", facts.glibc);
        assert_eq!(why(&program, Architecture::Aarch64), "it is for another architecture than aarch64");
        assert_eq!(
            why(&program, Architecture::X86_64),
            "it needs libgcc_s.so.1, which an image with Envoy may not have"
        );
        assert!(why(b"\x7fELF", Architecture::X86_64).starts_with("it is no 64-bit ELF file"));
        assert!(why(b"", Architecture::X86_64).starts_with("it is no 64-bit ELF file"));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_library_of_the_tests_lacks_nothing_but_an_old_c_library() {
        let library = fs::read(keyward_testbed::artifacts::native()).unwrap();
        let facts = Facts::read(&library).unwrap();
        assert!(facts.exports.len() >= HOOKS.len());
        match check(&library, Architecture::X86_64) {
            Ok(()) => assert!(facts.glibc <= Some(GLIBC)),
            Err(error) => assert!(error.to_string().starts_with("it needs glibc 2."), "{error:#}"),
        }
    }

    #[test]
    fn a_library_or_module_that_panics_for_tests_is_not_shipped() {
        let read = |file| fs::read(file).unwrap();
        assert!(!build::has_failpoint(&read(keyward_testbed::artifacts::module())));
        assert!(build::has_failpoint(&read(keyward_testbed::artifacts::failpoint_module())));
        assert!(build::check_no_failpoint(&read(keyward_testbed::artifacts::native())).is_ok());
        let refused = build::check_no_failpoint(&read(keyward_testbed::artifacts::failpoint_library()));
        assert!(refused.unwrap_err().to_string().contains("failpoint"));
    }

    #[test]
    fn versions_of_symbols_are_read() {
        for (name, version) in
            [("GLIBC_2.28", Some((2, 28))), ("GLIBC_2.2.5", Some((2, 2))), ("GLIBC_PRIVATE", None), ("GCC_3.0", None)]
        {
            assert_eq!(glibc_version(name), version, "{name}");
        }
    }
}

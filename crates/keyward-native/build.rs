//! Links the unwinder statically.
//!
//! Rust's standard library asks for `libgcc_s.so.1`, which the images that Envoy is shipped in do not have. A linker
//! script of that name, found before the system's library, names the static ones in its place.

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |name: &str| std::env::var(name).unwrap_or_default();
    if target("CARGO_CFG_TARGET_OS") == "linux" && target("CARGO_CFG_TARGET_ENV") == "gnu" {
        let folder = std::path::PathBuf::from(target("OUT_DIR"));
        std::fs::write(folder.join("libgcc_s.so"), "INPUT(-lgcc_eh -lgcc)\n")?;
        println!("cargo::rustc-link-search=native={}", folder.display());
    }
    Ok(())
}

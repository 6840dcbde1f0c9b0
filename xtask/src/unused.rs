//! The check for unused dependencies.
//!
//! `cargo metadata` says what each crate depends on and where its code is. A dependency is used when its name occurs in
//! that code: in the library and the programs for a normal dependency, and also in tests, benchmarks and examples for a
//! development dependency. A crate can keep others on purpose: `[package.metadata.unused] kept = ["…"]`.

use crate::{sh, workspace};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Checks every crate of the workspace, and the list of dependencies that they share.
///
/// # Errors
/// Returns an error when a dependency is not used: names the crates and their dependencies.
pub fn check() -> Result<()> {
    let metadata = sh::read(sh::cargo().args(["metadata", "--format-version", "1", "--no-deps", "--offline"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let mut inherited = BTreeSet::new();
    let mut unused = Vec::new();
    for package in list(&metadata, "packages") {
        let name = text(package, "name");
        inherited.extend(inherited_dependencies(Path::new(text(package, "manifest_path")))?);
        let code = Code::read(package)?;
        let kept = package.pointer("/metadata/unused/kept").and_then(Value::as_array);
        let kept: Vec<_> = kept.into_iter().flatten().filter_map(Value::as_str).collect();
        for dependency in list(package, "dependencies") {
            let known_as = dependency.get("rename").and_then(Value::as_str).unwrap_or(text(dependency, "name"));
            let development = dependency.get("kind").and_then(Value::as_str) == Some("dev");
            if kept.contains(&known_as) {
                continue;
            }
            if !code.mentions(&known_as.replace('-', "_"), development) {
                unused.push(format!("  {known_as} in {name}"));
            }
        }
    }
    for shared in shared_dependencies()?.difference(&inherited) {
        unused.push(format!("  {shared} in [workspace.dependencies]"));
    }
    if !unused.is_empty() {
        bail!("dependencies that no code uses:\n{}\nRemove them from Cargo.toml.", unused.join("\n"));
    }
    Ok(())
}

/// The code of one crate.
struct Code {
    /// The code of the library, the programs and the build script.
    ordinary: String,
    /// The code of tests, benchmarks and examples.
    development: String,
}

impl Code {
    fn read(package: &Value) -> Result<Self> {
        let (mut ordinary, mut development) = (BTreeSet::new(), BTreeSet::new());
        for target in list(package, "targets") {
            let file = Path::new(text(target, "src_path"));
            let kinds: Vec<_> = list(target, "kind").iter().filter_map(Value::as_str).collect();
            let of_development = kinds.iter().any(|kind| matches!(*kind, "test" | "bench" | "example"));
            let sources = if of_development { &mut development } else { &mut ordinary };
            if kinds.contains(&"custom-build") {
                sources.insert(file.to_path_buf());
            } else {
                add_sources(file.parent().unwrap_or(file), sources)?;
            }
        }
        Ok(Self { ordinary: join(&ordinary)?, development: join(&development)? })
    }

    fn mentions(&self, name: &str, development: bool) -> bool {
        // Unit tests are in the library's files.
        contains_word(&self.ordinary, name) || development && contains_word(&self.development, name)
    }
}

fn add_sources(folder: &Path, sources: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", workspace::shown(folder)))? {
        let path = entry?.path();
        if path.is_dir() {
            add_sources(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.insert(path);
        }
    }
    Ok(())
}

fn join(files: &BTreeSet<PathBuf>) -> Result<String> {
    let mut code = String::new();
    for file in files {
        code.push_str(&fs::read_to_string(file).with_context(|| format!("cannot read {}", workspace::shown(file)))?);
    }
    Ok(code)
}

fn contains_word(code: &str, word: &str) -> bool {
    let of_name = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    code.match_indices(word).any(|(start, _)| {
        let (before, after) = (code.as_bytes().get(start.wrapping_sub(1)), code.as_bytes().get(start + word.len()));
        !of_name(before) && !of_name(after)
    })
}

/// Returns the names in `[workspace.dependencies]`.
fn shared_dependencies() -> Result<BTreeSet<String>> {
    let manifest = fs::read_to_string(workspace::root().join("Cargo.toml")).context("cannot read Cargo.toml")?;
    let section = manifest.split("[workspace.dependencies]").nth(1).context("no [workspace.dependencies]")?;
    let lines = section.lines().skip(1).take_while(|line| !line.starts_with('['));
    Ok(lines.filter_map(|line| line.split_once(" =")).map(|(name, _)| name.trim().to_owned()).collect())
}

/// Returns the names of the dependencies that a crate inherits from the workspace.
fn inherited_dependencies(manifest: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(manifest).with_context(|| format!("cannot read {}", workspace::shown(manifest)))?;
    let inherited = text.lines().filter(|line| line.contains("workspace = true"));
    let names = inherited.filter_map(|line| line.split(['.', ' ']).next()).filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::contains_word;

    #[test]
    fn a_dependency_is_mentioned_as_a_word() {
        assert!(contains_word("use time::Duration;", "time") && contains_word("time", "time"));
        assert!(contains_word("x_time; ::time", "time"));
        assert!(!contains_word("use std::timer; runtime(); my_time", "time"));
    }
}

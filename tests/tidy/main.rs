//! That the repository is what its documents say: files exist, codes and counters are described, limits are kept.

mod counts;
mod documents;
mod imports;
mod reference;

use documents::quoted;
use keyward_policy::credential::KeySource;
use keyward_policy::decision::{Code, Decision, ProblemDetails};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files that belong to the repository: tracked ones, and new ones that are not ignored.
fn files(ending: &str) -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).unwrap();
    let files: Vec<PathBuf> = listed
        .lines()
        .filter(|file| file.ends_with(ending))
        .map(PathBuf::from)
        .filter(|file| root().join(file).exists())
        .collect();
    assert!(!files.is_empty(), "no {ending} files");
    files
}

#[test]
fn every_source_file_says_what_it_is_and_is_small_enough_to_read() {
    let mut wrong = Vec::new();
    for file in files(".rs") {
        let text = read(&file);
        let opens = text.starts_with("//!") || text.starts_with("#![");
        let lines = text.lines().count();
        if !opens || lines > 600 {
            wrong.push(format!("{}: opens with `//!`: {opens}, lines: {lines} of 600", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The folders that hold the source of a crate.
fn source_folders() -> Vec<PathBuf> {
    let roots = files(".rs").into_iter().filter(|file| file.ends_with("src/lib.rs") || file.ends_with("src/main.rs"));
    let mut folders: Vec<PathBuf> = roots.filter_map(|file| file.parent().map(Path::to_path_buf)).collect();
    folders.dedup();
    assert!(folders.len() > 5, "only {folders:?}");
    folders
}

#[test]
fn documents_name_files_that_exist() {
    let mut missing = Vec::new();
    for document in files(".md") {
        let text = read(&document);
        // Fenced blocks hold commands and output, not names.
        let prose: String = text.split("```").step_by(2).collect();
        for name in quoted(&text) {
            let looks_like_a_path = ["src/", "crates/", "tests/", "docs/", "xtask/", "examples/", "deploy/"]
                .iter()
                .any(|start| name.starts_with(start))
                && !name.contains([' ', '*', '{', '<', '…']);
            let name = name.split(':').next().unwrap_or(&name);
            if looks_like_a_path && !root().join(name).exists() {
                missing.push(format!("{}: {name}", document.display()));
            }
        }
        let links = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let folder = document.parent().unwrap_or(Path::new(""));
            let target = link.split('#').next().unwrap_or(link);
            if !root().join(folder).join(target).exists() {
                missing.push(format!("{}: link to {link}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// What a newcomer reads first is what they get.
#[test]
fn the_readme_shows_the_reply_of_the_filter() {
    let header = KeySource::Header { name: "x-api-key".into(), scheme: None };
    let decision = Decision { code: Code::KeyMissing, key: None, required: &[], rule: None, is_unmatched: false };
    let reply = ProblemDetails::of(&decision, &[header]).with_instance("…");
    let reply = serde_json::to_string(&reply).expect("JSON");
    assert!(read("README.md").lines().any(|line| line == reply), "{reply}");
}

#[test]
fn every_code_is_described_and_has_a_case() {
    let described = read("docs/configuration.md");
    let corpus: String = files(".toml").iter().filter(|file| file.starts_with("tests/decisions")).map(read).collect();
    for code in Code::ALL {
        assert!(described.contains(&format!("`{code}`")), "docs/configuration.md does not describe {code}");
        // Only a fetched record can ask for a feature; `crates/keyward-policy/src/decide/tests.rs` has the case.
        let has_case = corpus.contains(code.as_str()) || code == Code::KeyUnsupported;
        assert!(has_case, "tests/decisions has no case for {code}");
    }
}

#[test]
fn the_policy_core_stays_pure() {
    let manifest: toml::Table = read("crates/keyward-policy/Cargo.toml").parse().unwrap();
    let dependencies: Vec<&String> = manifest["dependencies"].as_table().unwrap().keys().collect();
    for name in ["tokio", "proxy-wasm", "sqlx", "axum", "log", "rand", "getrandom", "chrono"] {
        assert!(!dependencies.iter().any(|have| *have == name), "keyward-policy depends on {name}");
    }
    for file in files(".rs").iter().filter(|file| file.starts_with("crates/keyward-policy/src")) {
        let text = read(file);
        for word in ["SystemTime", "Instant::now", "std::fs", "std::net", "std::env", "std::thread"] {
            assert!(!text.contains(word), "{}: {word}", file.display());
        }
    }
}

#[test]
fn only_one_file_calls_the_proxy() {
    for file in files(".rs").iter().filter(|file| file.starts_with("src")) {
        let text = read(file);
        let calls = text.contains("hostcalls") || text.contains("wasm_import_module");
        // The failpoint is never in a module that is shipped.
        let may = file.ends_with("host.rs") || file.ends_with("failpoint.rs");
        assert!(!calls || may, "{} calls the proxy", file.display());
    }
}

#[test]
fn no_file_names_a_machine() {
    // Split, so that this file is none of them.
    let places = [concat!("/ro", "ot/"), concat!("/wo", "rk/")];
    for file in files("") {
        let Ok(text) = std::fs::read_to_string(root().join(&file)) else { continue };
        for place in places {
            assert!(!text.contains(place), "{}: {place}", file.display());
        }
    }
}

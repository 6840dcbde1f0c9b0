//! Keeps what a control plane made of the shipped files.

use crate::deploy;
use crate::programs::Module;
use keyward_testbed::{fixture, workspace};
use serde_json::{Value, json};

/// The releases of which fixtures are kept: the newest ones.
const KEPT: [&str; 2] = ["istio-1.31", "envoy-gateway-1.9"];

/// Writes a fixture, unless the release is none of [`KEPT`]. It holds what Envoy says of its configuration. `files` are those that were applied, `replaced` what
/// belongs to this run, such as ports, and what is recorded in its place.
///
/// # Panics
/// Panics when the fixture that is there says something else, and the environment is one that checks (`CI`).
pub fn keep(module: &Module, case: &str, dump: &Value, files: &[&str], replaced: &[(String, String)]) {
    if !KEPT.contains(&module.name()) {
        return;
    }
    let files: Vec<String> = files.iter().map(|file| format!("deploy/{file}")).collect();
    write(module, case, &fixture::from_dump(dump, &files, replaced));
}

/// Writes down which files passed every check: `cargo xtask control-planes --changed` compares them.
pub fn keep_inputs(module: &Module, folders: &[&str]) {
    let mut files: Vec<String> = folders.iter().flat_map(|folder| deploy::files(folder)).collect();
    files.extend(["go.mod", "go.sum"].map(|file| format!("tests/control-plane/modules/{}/{file}", module.name())));
    write(module, "inputs", &json!({"inputs": fixture::digests(&files)}));
}

fn write(module: &Module, name: &str, value: &Value) {
    let folder = workspace::root().join(fixture::FOLDER).join(module.name());
    let file = folder.join(format!("{name}.json"));
    let text = format!("{value:#}\n");
    if std::fs::read_to_string(&file).is_ok_and(|there| there == text) {
        return;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{} is not what the control plane makes now: run `cargo xtask control-planes` and commit it",
        file.display()
    );
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(&file, text).unwrap();
    println!("  --     recorded {}", file.strip_prefix(workspace::root()).unwrap().display());
}

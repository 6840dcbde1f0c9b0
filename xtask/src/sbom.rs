//! Bills of materials: the crates that the module, or a library, was compiled from, as CycloneDX JSON.

use crate::{oci, sh, workspace};
use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What a bill of materials is for.
struct Subject<'a> {
    /// The name of the file.
    name: &'a str,
    /// The package that it is compiled from.
    package: &'a str,
    /// Rust's target that it is compiled for.
    target: &'a str,
    /// Its content.
    bytes: &'a [u8],
}

/// Writes the bill of materials of `file`, which is compiled from `package` for `target`, beside it. Returns the name of the
/// bill.
///
/// # Errors
/// Returns an error when the file cannot be read, Cargo does not say what the package depends on, or the bill cannot be
/// written.
pub fn write_beside(file: &Path, package: &str, target: &str) -> Result<String> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", workspace::shown(file)))?;
    let bill = format!("{name}.cdx.json");
    let text = of(&Subject { name: &name, package, target, bytes: &bytes })?;
    fs::write(file.with_file_name(&bill), text).with_context(|| format!("cannot write {bill}"))?;
    Ok(bill)
}

/// Returns a bill of materials. It has no time and no serial number, so that two builds give the same one.
///
/// # Errors
/// Returns an error when Cargo does not say what the package depends on.
fn of(file: &Subject<'_>) -> Result<String> {
    let mut command = sh::cargo();
    command.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", file.target]);
    let metadata: Value = serde_json::from_str(&sh::read(&mut command)?).context("Cargo's metadata is no JSON")?;
    let graph = Graph::read(&metadata, file.package).context("Cargo's metadata has another form than expected")?;
    let itself = graph.subject.as_str();
    let reached = graph.reached();
    let components: Vec<Value> = reached.iter().filter(|id| **id != itself).map(|id| graph.component(id)).collect();
    let dependencies: Vec<Value> = reached
        .iter()
        .map(|id| {
            let on: BTreeSet<String> = graph.direct(id).map(|id| graph.reference(id)).collect();
            json!({"ref": graph.reference(id), "dependsOn": on})
        })
        .collect();
    let mut subject = graph.component(itself);
    subject["name"] = json!(file.name);
    subject["type"] = json!("application");
    subject["hashes"] = json!([{"alg": "SHA-256", "content": oci::sha256(file.bytes)}]);
    let document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": subject},
        "components": components,
        "dependencies": dependencies,
    });
    Ok(format!("{document:#}\n"))
}

/// The packages that `cargo metadata` names, with their dependencies.
struct Graph<'a> {
    /// The package that the bill of materials is for.
    subject: String,
    packages: BTreeMap<&'a str, &'a Value>,
    /// The packages that a package is linked with, without the dependencies of tests and build scripts.
    dependencies: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Graph<'a> {
    fn read(metadata: &'a Value, filter: &str) -> Option<Self> {
        let mut packages = BTreeMap::new();
        let mut subject = None;
        for package in metadata.get("packages")?.as_array()? {
            let id = package.get("id")?.as_str()?;
            if package.get("name")?.as_str()? == filter {
                subject = Some(id.to_owned());
            }
            packages.insert(id, package);
        }
        let mut dependencies = BTreeMap::new();
        for node in metadata.pointer("/resolve/nodes")?.as_array()? {
            let mut on = Vec::new();
            for dependency in node.get("deps")?.as_array()? {
                let kinds = dependency.get("dep_kinds")?.as_array()?;
                if kinds.iter().any(|kind| kind.get("kind").is_some_and(Value::is_null)) {
                    on.push(dependency.get("pkg")?.as_str()?);
                }
            }
            dependencies.insert(node.get("id")?.as_str()?, on);
        }
        Some(Self { subject: subject?, packages, dependencies })
    }

    fn direct(&self, id: &str) -> impl Iterator<Item = &'a str> {
        self.dependencies.get(id).into_iter().flatten().copied()
    }

    /// Returns the subject and all packages that it depends on.
    fn reached(&self) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut open = vec![self.subject.as_str()];
        while let Some(id) = open.pop() {
            if reached.insert(id) {
                open.extend(self.direct(id));
            }
        }
        reached
    }

    fn text(&self, id: &str, field: &str) -> &str {
        self.packages.get(id).and_then(|package| package.get(field)).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the package URL of a package.
    fn reference(&self, id: &str) -> String {
        format!("pkg:cargo/{}@{}", self.text(id, "name"), self.text(id, "version"))
    }

    fn component(&self, id: &str) -> Value {
        let reference = self.reference(id);
        let mut component = Map::new();
        component.insert("type".to_owned(), json!("library"));
        component.insert("bom-ref".to_owned(), json!(reference));
        component.insert("name".to_owned(), json!(self.text(id, "name")));
        component.insert("version".to_owned(), json!(self.text(id, "version")));
        component.insert("purl".to_owned(), json!(reference));
        let licence = self.text(id, "license");
        if !licence.is_empty() {
            // Older crates write a slash in place of SPDX's `OR`.
            component.insert("licenses".to_owned(), json!([{"expression": licence.replace('/', " OR ")}]));
        }
        Value::Object(component)
    }
}

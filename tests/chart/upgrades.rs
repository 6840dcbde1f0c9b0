//! An upgrade from each release of the chart that was ever recorded. `helm upgrade` replaces what is installed, and what
//! holds keys, tokens and connections has to have the same name before and after it.
//!
//! The rule is the other way round from a list of what matters: everything that an earlier release rendered is there as it
//! was, unless [`MAY_CHANGE`] or [`MOVED`] says otherwise, with the reason. New things may come beside it.

use crate::render::{chart, default_values, read, template};
use keyward_testbed::workspace;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each release may set anew: the kind of resource, and the end of the path (with everything below it).
const MAY_CHANGE: &[(&str, &str)] = &[
    // The versions of the chart and of Keyward.
    ("", "labels.helm.sh/chart"),
    ("", "labels.app.kubernetes.io/version"),
    ("Deployment", "containers[keyward].image"),
    // The alerts and the dashboard. Nothing refers to parts of them.
    ("PrometheusRule", "spec.groups"),
    ("ConfigMap", "data.keyward.json"),
];

/// What moved once: the release that had it elsewhere, and the ends of the paths.
const MOVED: &[(&str, &[&str])] = &[
    // A certificate's folder has had the name of its Secret since 0.1.1, so that the service's log names a Secret that is
    // missing. The variables moved with the mounts; the Secrets and their keys are the same.
    (
        "0.1.0",
        &[
            "volumeMounts[/etc/keyward/tls]",
            "volumeMounts[/etc/keyward/client-ca]",
            "env[KEYWARD_TLS_CERT].value",
            "env[KEYWARD_TLS_KEY].value",
            "env[KEYWARD_TLS_CLIENT_CA].value",
        ],
    ),
];

/// Fields that Kubernetes does not let anybody change, or that choose pods: nothing may come beside what is there.
const WHOLE: &[(&str, &str)] = &[
    ("Deployment", "spec.selector"),
    ("Service", "spec.selector"),
    ("PodDisruptionBudget", "spec.selector"),
    ("NetworkPolicy", "spec.podSelector"),
    ("ServiceMonitor", "spec.selector"),
    ("PersistentVolumeClaim", "spec"),
];

/// A difference between the resources of two releases.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    kind: String,
    /// The field, for instance `spec.template.spec.volumes[data].persistentVolumeClaim.claimName`; empty for the resource.
    path: String,
    what: String,
}

impl Difference {
    /// Returns whether an upgrade from this release may have this difference.
    fn is_allowed(&self, release: &str) -> bool {
        let is_below = |end: &str| {
            self.path.match_indices(end).any(|(at, _)| {
                let rest = &self.path[at + end.len()..];
                (at == 0 || self.path[..at].ends_with('.')) && (rest.is_empty() || rest.starts_with(['.', '[']))
            })
        };
        MAY_CHANGE.iter().any(|(kind, end)| (kind.is_empty() || *kind == self.kind) && is_below(end))
            || MOVED.iter().any(|(of, ends)| *of == release && ends.iter().any(|end| is_below(end)))
    }
}

/// Returns what is not in the newer resources as it was in the older ones.
fn compare(older: &[Value], newer: &[Value]) -> Vec<Difference> {
    let mut differences = Vec::new();
    for old in older {
        let kind = old["kind"].as_str().unwrap();
        let identity = |resource: &Value| (resource["kind"].clone(), resource["metadata"]["name"].clone());
        match newer.iter().find(|new| identity(new) == identity(old)) {
            Some(new) => compare_values(kind, "", old, new, &mut differences),
            None => {
                let what = format!("{} is gone", old["metadata"]["name"]);
                differences.push(Difference { kind: kind.to_owned(), path: String::new(), what });
            }
        }
    }
    differences
}

fn compare_values(kind: &str, path: &str, old: &Value, new: &Value, differences: &mut Vec<Difference>) {
    let mut differ = |path: &str, what: String| {
        differences.push(Difference { kind: kind.to_owned(), path: path.to_owned(), what });
    };
    let whole = WHOLE.contains(&(kind, path));
    match (old, new) {
        _ if old == new => {}
        (Value::Object(old), Value::Object(new)) if !whole => {
            for (key, value) in old {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match new.get(key) {
                    Some(new) => compare_values(kind, &path, value, new, differences),
                    None => differences.push(Difference { kind: kind.to_owned(), path, what: "is gone".to_owned() }),
                }
            }
        }
        (Value::Array(old), Value::Array(new)) if !whole && old.iter().all(|item| name(item).is_some()) => {
            for item in old {
                let path = format!("{path}[{}]", name(item).unwrap());
                match new.iter().find(|new| name(new) == name(item)) {
                    Some(new) => compare_values(kind, &path, item, new, differences),
                    None => differences.push(Difference { kind: kind.to_owned(), path, what: "is gone".to_owned() }),
                }
            }
        }
        (Value::Array(old), Value::Array(new)) if !whole && old.len() == new.len() => {
            for (number, (old, new)) in old.iter().zip(new).enumerate() {
                compare_values(kind, &format!("{path}[{number}]"), old, new, differences);
            }
        }
        _ => differ(path, format!("was {old} and is {new}")),
    }
}

/// Returns what an item of a list is known by: a mount by its place, everything else by its name.
fn name(item: &Value) -> Option<&str> {
    item.get("mountPath").or_else(|| item.get("name"))?.as_str()
}

/// Returns the packages of the releases, with their versions.
fn releases() -> Vec<(String, PathBuf)> {
    let version = |package: &Path| package.file_stem()?.to_str()?.strip_prefix("keyward-").map(str::to_owned);
    let packages = workspace::files("tests/chart/releases");
    packages.into_iter().map(|package| (version(&package).unwrap(), package)).collect()
}

/// Returns the names of the Secrets that the pods read.
fn secrets(resources: &[Value]) -> BTreeSet<String> {
    let deployment = resources.iter().find(|resource| resource["kind"] == "Deployment").unwrap();
    let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    volumes.iter().filter_map(|volume| volume["secret"]["secretName"].as_str().map(str::to_owned)).collect()
}

#[test]
fn an_upgrade_keeps_what_an_earlier_release_installed() {
    for (version, package) in releases() {
        for values in workspace::files(chart().join("ci")) {
            let of = format!("from {version} with {}", values.file_name().unwrap().to_string_lossy());
            let older = template(&package, &[&values]).unwrap();
            let newer = template(&chart(), &[&values]).unwrap();
            let mut differences = compare(&older, &newer);
            differences.retain(|difference| !difference.is_allowed(&version));
            assert_eq!(differences, [], "{of}");
            assert_eq!(secrets(&older), secrets(&newer), "{of}: the pods need Secrets that nobody has made");
        }
    }
}

/// `helm upgrade --reuse-values` gives the chart all values of the release that is installed, its defaults included.
#[test]
fn values_of_an_earlier_release_are_still_taken() {
    let folder = workspace::scratch("chart-values");
    for (version, package) in releases() {
        let defaults = folder.path().join("defaults.yaml");
        std::fs::write(&defaults, default_values(&package)).unwrap();
        for values in workspace::files(chart().join("ci")) {
            let reused = template(&chart(), &[&defaults, &values]);
            assert!(reused.is_ok(), "the values of {version} with {}: {}", values.display(), reused.unwrap_err());
        }
    }
}

#[test]
fn whatever_an_upgrade_would_change_is_noticed() {
    for values in workspace::files(chart().join("ci")) {
        let older = template(&chart(), &[&values]).unwrap();
        assert_eq!(compare(&older, &older), []);
        let mut tried = 0;
        for (number, resource) in older.iter().enumerate() {
            for pointer in leaves(resource, String::new()) {
                let mut newer = older.clone();
                let value = newer[number].pointer_mut(&pointer).unwrap();
                *value = if value.is_string() { json!(format!("{}x", value.as_str().unwrap())) } else { json!("x") };
                assert_ne!(compare(&older, &newer), [], "{} {pointer}", resource["kind"]);
                tried += 1;
            }
        }
        assert!(tried > 100, "only {tried} values of {}", values.display());
    }
    // A selector that asks for more chooses other pods.
    let values = chart().join("ci/postgres-values.yaml");
    let older = template(&chart(), &[&values]).unwrap();
    for (kind, selector) in [("Deployment", "/spec/selector/matchLabels"), ("Service", "/spec/selector")] {
        let mut newer = older.clone();
        let resource = newer.iter_mut().find(|resource| resource["kind"] == kind).unwrap();
        resource.pointer_mut(selector).unwrap()["more"] = json!("x");
        let found = compare(&older, &newer);
        assert!(found.len() == 1 && !found[0].is_allowed("0.1.0"), "{found:?}");
    }
}

fn leaves(value: &Value, pointer: String) -> Vec<String> {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().flat_map(|(key, value)| leaves(value, format!("{pointer}/{}", escaped(key)))).collect()
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().flat_map(|(at, item)| leaves(item, format!("{pointer}/{at}"))).collect()
        }
        _ => vec![pointer],
    }
}

#[test]
fn a_release_that_was_recorded_never_changes() {
    let version = read("Chart.yaml")["version"].as_str().unwrap().to_owned();
    let Some((_, package)) = releases().into_iter().find(|(release, _)| *release == version) else { return };
    let folder = workspace::scratch("chart-release");
    let status = Command::new("tar").arg("-xzf").arg(&package).arg("-C").arg(folder.path()).status().unwrap();
    assert!(status.success(), "{}", package.display());
    let mut compare = Command::new("diff");
    compare
        .args(["--recursive", "--exclude=ci", "--exclude=Chart.yaml"])
        .arg(folder.path().join("keyward"))
        .arg(chart());
    let output = compare.output().unwrap();
    let differences = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "the chart differs from release {version}: raise its version\n{differences}");
}

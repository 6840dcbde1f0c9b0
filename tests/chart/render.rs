//! The chart and its earlier releases, rendered by Helm.

use keyward_testbed::envoy_config::parse_yaml;
use keyward_testbed::workspace;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Returns the folder of the chart.
pub(crate) fn chart() -> PathBuf {
    workspace::root().join("deploy/helm/keyward")
}

/// Returns a YAML file of the chart.
pub(crate) fn read(name: &str) -> Value {
    let text = std::fs::read_to_string(chart().join(name)).unwrap();
    parse_yaml(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Renders a chart, and returns the resources or what Helm says against the values.
pub(crate) fn template(chart: &Path, values: &[&Path]) -> Result<Vec<Value>, String> {
    let mut command = helm();
    command.args(["template", "keyward", "--namespace", "keyward"]).arg(chart);
    for file in values {
        command.arg("--values").arg(file);
    }
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = text(&output);
    let documents = text.split("---\n# Source:").skip(1);
    Ok(documents.map(|document| parse_yaml(document.split_once('\n').unwrap().1).unwrap()).collect())
}

/// Returns the default values of a packaged chart.
pub(crate) fn default_values(package: &Path) -> String {
    let output = helm().args(["show", "values"]).arg(package).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    text(&output)
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Returns a command that runs Helm: `HELM_BIN`, which `cargo xtask test` names, or the one that it has installed before.
fn helm() -> Command {
    let installed = workspace::root().join("target/helm/bin/helm");
    let named = std::env::var_os("HELM_BIN").map(PathBuf::from);
    let found = named.or_else(|| installed.is_file().then_some(installed));
    Command::new(found.unwrap_or_else(|| "helm".into()))
}

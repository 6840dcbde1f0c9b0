//! The Helm chart, given to a real Helm and a real API server: installed, upgraded, rolled back and removed, with each file
//! of values in its folder `ci`; and upgraded from each release that is recorded. No pod runs: the API server is asked whether
//! it would take the pods.

use crate::cluster::{Cluster, succeed};
use crate::programs::Module;
use crate::record;
use crate::report::{Part, Report};
use keyward_testbed::workspace;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const CHART: &str = "deploy/helm/keyward";
/// The packages of earlier releases.
const RELEASES: &str = "tests/chart/releases";
const RELEASE: &str = "keyward";
const NAMESPACE: &str = "keyward";
/// The CRDs of the resources that the chart can make besides Kubernetes' own.
const CRDS: [(&str, &str); 3] = [
    ("github.com/cert-manager/cert-manager", "deploy/crds/cert-manager.io_certificates.yaml"),
    (
        "github.com/prometheus-operator/prometheus-operator",
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    ),
    (
        "github.com/prometheus-operator/prometheus-operator",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
];
/// What an operator changes with an upgrade. A label of every resource is among it: selectors must not follow it.
const CHANGES: [&str; 3] = ["--set=commonLabels.stage=second", "--set=image.tag=next", "--set=image.digest="];

struct Chart<'c> {
    cluster: &'c Cluster,
    helm: PathBuf,
    values: PathBuf,
}

#[test]
#[ignore = "needs the control planes: cargo xtask control-planes"]
fn the_chart_is_installed_upgraded_and_removed() {
    let module = Module::from_environment("KEYWARD_HELM_CHART");
    let folder = workspace::scratch("chart");
    let cluster = Cluster::start(folder.path());
    for (of, file) in CRDS {
        cluster.apply_file(&module.sources(of).join(file));
    }
    cluster.wait_for_crds();
    // Pods that are not restricted are refused here.
    cluster.apply(&format!(
        "apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}
---
# No controller makes it here.
apiVersion: v1
kind: ServiceAccount
metadata: {{name: default, namespace: {NAMESPACE}}}
"
    ));
    let mut report = Report::of(module.name());
    report.part("the namespace", |part| {
        part.check("the namespace refuses a pod that is not restricted, which these checks can tell", || {
            let refused =
                try_pod(&cluster, folder.path(), &json!({"containers": [{"name": "a", "image": "a"}]}), &json!({}));
            assert!(refused.unwrap_err().contains("violates PodSecurity"));
        });
    });
    for values in workspace::files(format!("{CHART}/ci")) {
        println!("  {}", shown(&values));
        let chart = Chart { cluster: &cluster, helm: helm(), values };
        report.part(&shown(&chart.values), |part| {
            part.steps(|part| chart.check(part, folder.path()));
            chart.remove();
        });
        for release in workspace::files(RELEASES) {
            let what = format!("{}, upgraded from {}", shown(&chart.values), shown(&release));
            report.part(&what, |part| {
                chart.check_upgrade(part, &release);
                chart.remove();
            });
        }
    }
    report.finish();
    let folders = ["helm/keyward", "helm/keyward/ci", "helm/keyward/files", "helm/keyward/templates"];
    record::keep_inputs(&module, &folders);
}

impl Chart<'_> {
    fn check(&self, part: &mut Part<'_>, folder: &Path) {
        part.check("it is installed", || self.helm("install", &[CHART]));
        let first = self.deployment();
        part.check("its pods are restricted", || {
            let pod = &first["spec"]["template"];
            try_pod(self.cluster, folder, &pod["spec"], &pod["metadata"]["labels"]).unwrap();
        });
        part.check("its account may do nothing, and its pods have no token of it", || {
            let account = first["spec"]["template"]["spec"]["serviceAccountName"].as_str().unwrap();
            self.cluster.get(&["serviceaccount", account, "--namespace", NAMESPACE]);
            let user = format!("--as=system:serviceaccount:{NAMESPACE}:{account}");
            for what in ["secrets", "pods", "deployments.apps"] {
                let allowed = self.cluster.kubectl(&["auth", "can-i", "get", what, &user, "--namespace", NAMESPACE]);
                assert_eq!(output(allowed).trim(), "no", "{what}");
            }
            assert_eq!(first["spec"]["template"]["spec"]["automountServiceAccountToken"], false);
        });
        part.check("it is upgraded in place", || {
            self.helm("upgrade", &[&[CHART][..], &CHANGES].concat());
            let second = self.deployment();
            assert_eq!(second["metadata"]["uid"], first["metadata"]["uid"], "the Deployment was replaced");
            assert_eq!(second["spec"]["selector"], first["spec"]["selector"]);
            assert_eq!(second["metadata"]["labels"]["stage"], "second");
            assert!(container(&second)["image"].as_str().unwrap().ends_with(":next"), "{second:#}");
            // What keys, tokens and the store's identity are kept in: the database's URL or the volume, and the Secrets.
            assert_eq!(container(&second)["env"], container(&first)["env"]);
            let volumes = |deployment: &Value| deployment["spec"]["template"]["spec"]["volumes"].clone();
            assert_eq!(volumes(&second), volumes(&first));
        });
        part.check("it is rolled back", || {
            self.helm("rollback", &["1"]);
            assert_eq!(self.deployment()["spec"]["template"], first["spec"]["template"]);
        });
        let claims = ["persistentvolumeclaims", "--namespace", NAMESPACE];
        let kept = self.cluster.get(&claims)["items"].as_array().unwrap().len();
        part.check("it is removed, and a claim with keys stays", || {
            self.helm("uninstall", &[]);
            let left = self.cluster.get(&["deployments,services,networkpolicies", "--namespace", NAMESPACE]);
            assert_eq!(left["items"], json!([]));
            assert_eq!(self.cluster.get(&claims)["items"].as_array().unwrap().len(), kept);
        });
    }

    /// Checks that the API server takes the chart in the place of an earlier release, and that nothing is made anew that must
    /// not be: the claim with the keys, and what finds the pods.
    fn check_upgrade(&self, part: &mut Part<'_>, release: &Path) {
        let package = release.to_str().unwrap();
        let made = || {
            let kinds = "deployments,services,serviceaccounts,persistentvolumeclaims";
            let items = self.cluster.get(&[kinds, "--namespace", NAMESPACE])["items"].as_array().unwrap().clone();
            let name = |item: &Value| (item["kind"].to_string(), item["metadata"]["name"].to_string());
            items.iter().map(|item| (name(item), item["metadata"]["uid"].to_string())).collect::<BTreeMap<_, _>>()
        };
        part.check(&format!("it is upgraded from {}, and back", shown(release)), || {
            // The claim of the installation before stays, and Helm leaves what it did not make alone unless it is asked.
            self.helm("install", &[package, "--take-ownership"]);
            let (first, before) = (self.deployment(), made());
            self.helm("upgrade", &[CHART]);
            let after = made();
            for (resource, uid) in &before {
                assert_eq!(after.get(resource), Some(uid), "{resource:?} is gone or was replaced");
            }
            self.helm("rollback", &["1"]);
            assert_eq!(self.deployment()["spec"]["template"], first["spec"]["template"]);
            self.helm("uninstall", &[]);
        });
    }

    fn deployment(&self) -> Value {
        self.cluster.get(&["deployment", RELEASE, "--namespace", NAMESPACE])
    }

    /// Removes what a check that failed has left, so that the next one can install.
    fn remove(&self) {
        self.helm("uninstall", &["--ignore-not-found"]);
    }

    fn helm(&self, verb: &str, further: &[&str]) {
        let mut command = Command::new(&self.helm);
        command.args([verb, RELEASE]).args(further).args(["--namespace", NAMESPACE, "--kubeconfig"]);
        command.arg(self.cluster.kubeconfig()).current_dir(workspace::root());
        if matches!(verb, "install" | "upgrade") {
            command.arg("--values").arg(&self.values);
        }
        succeed(&mut command);
    }
}

/// Asks the API server whether it would take a pod.
fn try_pod(cluster: &Cluster, folder: &Path, spec: &Value, labels: &Value) -> Result<(), String> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "tried", "namespace": NAMESPACE, "labels": labels}, "spec": spec,
    });
    let file = folder.join("pod.json");
    std::fs::write(&file, pod.to_string()).unwrap();
    let mut command = cluster.kubectl(&["create", "--dry-run=server", "--validate=strict", "--filename"]);
    let output = command.arg(file).output().unwrap();
    output.status.success().then_some(()).ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

fn container(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]["containers"][0]
}

fn shown(file: &Path) -> String {
    file.file_name().unwrap().to_string_lossy().into_owned()
}

/// What a command wrote, whatever its exit code.
fn output(mut command: Command) -> String {
    String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
}

fn helm() -> PathBuf {
    std::env::var_os("HELM_BIN").expect("HELM_BIN is not set: run `cargo xtask control-planes`").into()
}

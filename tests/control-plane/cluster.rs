//! A Kubernetes API server with nothing behind it: resources are validated and stored as in a cluster, no pod runs.

use crate::process::{Process, free_port};
use crate::programs::Module;
use keyward_testbed::workspace;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const TOKEN: &str = "token-of-the-test";

/// etcd and kube-apiserver; they end with the value.
pub struct Cluster {
    module: Module,
    folder: PathBuf,
    // In this order: the API server writes to etcd when it ends.
    _server: Process,
    _etcd: Process,
}

impl Cluster {
    /// Starts both and waits until the API server is ready. `folder` must outlive the value.
    pub fn start(folder: &Path) -> Self {
        let module = Module::named("kube-apiserver");
        let (client, peer, secure) = (free_port(), free_port(), free_port());
        let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let etcd = Process::start(
            "etcd",
            Command::new("etcd")
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                .args(["--initial-cluster", &format!("default={peer}")])
                // Nothing here has to survive a loss of power.
                .arg("--unsafe-no-fsync")
                .arg("--data-dir")
                .arg(folder.join("etcd")),
            folder,
        );
        let account_key = folder.join("service-account.key");
        succeed(Command::new("openssl").args(["genrsa", "-out"]).arg(&account_key).arg("2048"));
        let tokens = folder.join("tokens.csv");
        fs::write(&tokens, format!("{TOKEN},admin,1,\"system:masters\"\n")).unwrap();
        let server = Process::start(
            "kube-apiserver",
            Command::new(module.program("kube-apiserver"))
                .args(["--etcd-servers", &client, "--bind-address", "127.0.0.1"])
                .args(["--secure-port", &secure.to_string()])
                .args(["--service-account-issuer", "https://kubernetes.example.com"])
                .args(["--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.96.0.0/16"])
                // There is no network that its own address would be reached by.
                .args(["--endpoint-reconciler-type", "none"])
                .arg("--service-account-key-file")
                .arg(&account_key)
                .arg("--service-account-signing-key-file")
                .arg(&account_key)
                .arg("--token-auth-file")
                .arg(tokens)
                .arg("--cert-dir")
                .arg(folder.join("certificates")),
            folder,
        );
        fs::write(folder.join("kubeconfig"), kubeconfig(secure)).unwrap();
        let mut cluster = Self { module, folder: folder.to_owned(), _server: server, _etcd: etcd };
        let mut ready = cluster.kubectl(&["get", "--raw", "/readyz"]);
        cluster._server.wait_for("the API server is ready", || {
            ready.output().is_ok_and(|output| output.status.success()).then_some(())
        });
        cluster
    }

    /// For programs that ask the API server.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// A `kubectl` command.
    pub fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.module.program("kubectl"));
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments);
        command
    }

    /// A resource, or a list of them, as the API server has it.
    pub fn get(&self, what: &[&str]) -> Value {
        let output = succeed(self.kubectl(&["get", "--output", "json"]).args(what));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A value of a Secret.
    pub fn secret(&self, namespace: &str, name: &str, key: &str) -> String {
        let template = format!("{{{{index .data \"{key}\" | base64decode}}}}");
        let mut command = self.kubectl(&["get", "secret", name, "--namespace", namespace, "--output"]);
        let output = succeed(command.arg(format!("go-template={template}")));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Writes the values of a Secret to files, as a kubelet does.
    pub fn write_secret(&self, namespace: &str, name: &str, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        let secret = self.get(&["secret", name, "--namespace", namespace]);
        for key in secret["data"].as_object().into_iter().flatten().map(|(key, _)| key) {
            fs::write(folder.join(key), self.secret(namespace, name, key)).unwrap();
        }
    }

    /// Makes a namespace.
    pub fn make_namespace(&self, name: &str) {
        succeed(&mut self.kubectl(&["create", "namespace", name]));
    }

    /// Applies a file, or all files of a folder.
    pub fn apply_file(&self, file: &Path) {
        let mut command = self.kubectl(&["apply", "--server-side", "--force-conflicts", "--filename"]);
        succeed(command.arg(file));
    }

    /// Waits until all CRDs are served.
    pub fn wait_for_crds(&self) {
        let wait = ["wait", "--for", "condition=established", "--timeout", "120s", "crd", "--all"];
        succeed(&mut self.kubectl(&wait));
    }

    /// Applies resources. Fields that the API server does not know are errors.
    pub fn apply(&self, yaml: &str) {
        if let Err(message) = self.try_apply(yaml) {
            panic!("the API server refuses it: {message}\n{yaml}");
        }
    }

    /// Applies resources.
    ///
    /// # Errors
    /// Returns what the API server has against them.
    pub fn try_apply(&self, yaml: &str) -> Result<(), String> {
        let file = self.folder.join("resources.yaml");
        fs::write(&file, yaml).unwrap();
        let arguments = ["apply", "--server-side", "--force-conflicts", "--validate=strict", "--filename"];
        let output = self.kubectl(&arguments).arg(&file).output().unwrap();
        output.status.success().then_some(()).ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Asks whether a shipped file would be taken as it is.
    ///
    /// # Errors
    /// Returns what the API server has against it.
    pub fn validate(&self, file: &str) -> Result<(), String> {
        let mut command = self.kubectl(&["apply", "--server-side", "--dry-run=server"]);
        command.args(["--validate=strict", "--force-conflicts", "--filename"]);
        let output = command.arg(workspace::root().join(file)).output().unwrap();
        output.status.success().then_some(()).ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Deletes resources that were applied.
    pub fn delete(&self, yaml: &str) {
        let file = self.folder.join("resources.yaml");
        fs::write(&file, yaml).unwrap();
        succeed(self.kubectl(&["delete", "--ignore-not-found", "--filename"]).arg(file));
    }
}

fn kubeconfig(port: u16) -> String {
    format!(
        "apiVersion: v1
kind: Config
current-context: test
clusters:
- {{name: test, cluster: {{server: \"https://127.0.0.1:{port}\", insecure-skip-tls-verify: true}}}}
contexts:
- {{name: test, context: {{cluster: test, user: test}}}}
users:
- {{name: test, user: {{token: {TOKEN}}}}}
"
    )
}

/// Runs a command and returns what it wrote.
///
/// # Panics
/// Panics when it fails.
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    output
}

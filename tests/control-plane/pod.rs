//! A container of a pod that no kubelet runs: its command, started here with what the pod's template says.

use crate::cluster::Cluster;
use crate::process::Process;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the process finds at which path. Paths are fixed in the programs, so each process gets them in a mount namespace
/// of its own, and the machine's files stay as they are.
pub type Mounts = Vec<(PathBuf, String)>;

/// A command that runs another one with these mounts. It takes root.
pub fn with_mounts(mounts: &Mounts) -> Command {
    let mut script = String::new();
    for (source, target) in mounts {
        if source.is_dir() {
            // What is mounted on has to be there; the folder stays empty outside of the namespace.
            script.push_str(&format!("mkdir -p {target} && "));
        }
        script.push_str(&format!("mount --bind {} {target} && ", source.display()));
    }
    script.push_str("exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh"]);
    command
}

/// Starts the container of a Deployment that is named `container`, with the program `binary`.
pub fn start(
    name: &'static str,
    cluster: &Cluster,
    deployment: &Value,
    container: &str,
    binary: &Path,
    further: &Mounts,
    folder: &Path,
) -> Process {
    let namespace = deployment["metadata"]["namespace"].as_str().unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    let container = list(&pod["containers"]).find(|one| one["name"] == container).unwrap();
    let mut mounts = further.clone();
    for volume in list(&pod["volumes"]) {
        let place = list(&container["volumeMounts"]).find(|mount| mount["name"] == volume["name"]);
        if let Some(place) = place {
            let source = folder.join(volume["name"].as_str().unwrap());
            write_volume(cluster, namespace, volume, &source);
            mounts.push((source, place["mountPath"].as_str().unwrap().to_owned()));
        }
    }
    let environment: BTreeMap<String, String> = list(&container["env"])
        .map(|variable| (variable["name"].as_str().unwrap().to_owned(), value_of(cluster, namespace, name, variable)))
        .collect();
    let arguments = list(&container["args"]).map(|argument| expanded(argument.as_str().unwrap(), &environment));
    let mut command = with_mounts(&mounts);
    // Other Envoys run on this machine.
    command.arg(binary).args(arguments).arg("--disable-hot-restart").envs(&environment).current_dir(folder);
    Process::start(name, &mut command, folder)
}

fn write_volume(cluster: &Cluster, namespace: &str, volume: &Value, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    if let Some(name) = volume["configMap"]["name"].as_str() {
        for (file, text) in cluster.get(&["configmap", name, "--namespace", namespace])["data"].as_object().unwrap() {
            fs::write(folder.join(file), text.as_str().unwrap()).unwrap();
        }
    }
    if let Some(name) = volume["secret"]["secretName"].as_str() {
        cluster.write_secret(namespace, name, folder);
    }
}

/// The value of a variable, as a kubelet would find it.
fn value_of(cluster: &Cluster, namespace: &str, pod: &str, variable: &Value) -> String {
    let source = &variable["valueFrom"];
    if let Some(secret) = source["secretKeyRef"]["name"].as_str() {
        return cluster.secret(namespace, secret, source["secretKeyRef"]["key"].as_str().unwrap());
    }
    match source["fieldRef"]["fieldPath"].as_str() {
        Some("metadata.name") => pod.to_owned(),
        Some("metadata.namespace") => namespace.to_owned(),
        // Labels of a node that is not there.
        Some(_) => String::new(),
        None => variable["value"].as_str().unwrap_or_default().to_owned(),
    }
}

/// `$(NAME)` stands for a variable.
fn expanded(text: &str, environment: &BTreeMap<String, String>) -> String {
    environment.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("$({name})"), value))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

//! What a plugin needs to reach the admin service: the variable with the edge token, and the cluster.

use super::around::Lint;
use super::finding::{is_placeholder, join, list, text};
use serde_json::Value;

const NO_TOKEN: &str = "the admin service refuses the polls, and the filter has no keys";
const NO_WAY: &str = "the filter cannot reach the admin service, and has no keys";
const STANDS_IN: &str = "this is not an edge token: it stands in for one";

impl Lint<'_> {
    /// Checks that Istio gives the VM the variable of `admin.token_env`. `path` is that of the plugin.
    pub(super) fn istio_variable(&mut self, plugin: &Value, path: &str) {
        let Some(name) = self.config.admin.as_ref().and_then(|admin| admin.token_env.as_deref()) else { return };
        let place = join(path, "vmConfig.env");
        let entries = list(&plugin["vmConfig"]["env"]);
        let Some(index) = entries.iter().position(|entry| entry["name"] == name) else {
            return self.findings.error(
                place,
                format!("the VM does not get the variable `{name}` of `admin.token_env`: {NO_TOKEN}"),
                format!("add `vmConfig: {{env: [{{name: {name}, valueFrom: HOST}}]}}`"),
            );
        };
        let from_host = format!("use `valueFrom: HOST`, and set the variable `{name}` in the proxy's container");
        let value = text(&entries[index]["value"]);
        let place = format!("{place}[{index}]");
        if entries[index]["valueFrom"] == "HOST" {
        } else if value.is_empty() {
            self.findings.error(place, format!("the variable `{name}` has no value: {NO_TOKEN}"), from_host);
        } else if is_placeholder(value) {
            self.findings.warn(join(&place, "value"), STANDS_IN, from_host);
        } else {
            let message = "the edge token is in the resource, for everybody who may read it";
            self.findings.warn(join(&place, "value"), message, from_host);
        }
    }

    /// Checks that Envoy Gateway's VM gets the variable of `admin.token_env`. `place` is that of the plugin.
    pub(super) fn gateway_variable(&mut self, wasm: &Value, place: &str) {
        let Some(name) = self.config.admin.as_ref().and_then(|admin| admin.token_env.as_deref()) else { return };
        if !list(&wasm["env"]["hostKeys"]).iter().any(|key| text(key) == name) {
            self.findings.error(
                join(place, "env.hostKeys"),
                format!("the VM does not get the variable `{name}` of `admin.token_env`: {NO_TOKEN}"),
                format!("add `env: {{hostKeys: [{name}]}}`"),
            );
        }
    }

    /// Checks that an EnvoyProxy sets the variable in the container of the proxies.
    pub(super) fn proxy_variable(&mut self, spec: &Value, path: &str) {
        let Some(name) = self.config.admin.as_ref().and_then(|admin| admin.token_env.as_deref()) else { return };
        let mut is_set = false;
        for kind in ["envoyDeployment", "envoyDaemonSet"] {
            let env = &spec["provider"]["kubernetes"][kind]["container"]["env"];
            for (index, entry) in list(env).iter().enumerate().filter(|(_, entry)| entry["name"] == name) {
                is_set = true;
                let place = join(path, &format!("provider.kubernetes.{kind}.container.env[{index}].value"));
                let help = "use `valueFrom: {secretKeyRef: {name: …, key: …}}`";
                if entry["value"].is_null() && !entry["valueFrom"]["secretKeyRef"].is_object() {
                    self.findings.warn(place, format!("the variable `{name}` has no value: {NO_TOKEN}"), help);
                } else if is_placeholder(text(&entry["value"])) {
                    self.findings.warn(place, STANDS_IN, help);
                } else if !entry["value"].is_null() {
                    let message = "the edge token is in the resource, for everybody who may read it";
                    self.findings.warn(place, message, help);
                }
            }
        }
        // A patch of the Deployment may set it, too.
        let is_patched = ["envoyDeployment", "envoyDaemonSet"]
            .iter()
            .any(|kind| spec["provider"]["kubernetes"][*kind]["patch"].to_string().contains(name));
        if !is_set && !is_patched {
            self.findings.warn(
                join(path, "provider"),
                format!("the proxies' container does not get the variable `{name}` of `admin.token_env`: {NO_TOKEN}"),
                format!(
                    "add an entry with `name: {name}` to `envoyDeployment.container.env`, as envoy-proxy.yaml does"
                ),
            );
        }
    }

    /// Checks that `admin.cluster` has the form of Istio's names, or is a cluster that the files add.
    pub(super) fn istio_cluster(&mut self, config: &str) {
        let Some(name) = self.config.admin.as_ref().map(|admin| admin.cluster.to_string()) else { return };
        let place = join(config, "admin.cluster");
        let help = "use `outbound|<port>||<host>`, as `istioctl proxy-config clusters` shows it";
        let added: Vec<&str> = self
            .all
            .iter()
            .filter(|document| document["kind"] == "EnvoyFilter")
            .flat_map(|document| list(&document["spec"]["configPatches"]))
            .filter(|patch| patch["applyTo"] == "CLUSTER" && patch["patch"]["operation"] == "ADD")
            .map(|patch| text(&patch["patch"]["value"]["name"]))
            .collect();
        let parts: Vec<&str> = name.split('|').collect();
        match &parts[..] {
            _ if added.contains(&name.as_str()) => {}
            ["outbound", port, _, host] if port.parse::<u16>().is_ok() && !host.is_empty() => {}
            [_] if !name.contains(['.', ':', '/']) && added.is_empty() => {}
            [_] if !added.is_empty() => {
                let help = format!("use `{}`, or `outbound|<port>||<host>`", added.join("` or `"));
                self.findings.error(place, format!("no file adds a cluster `{name}`: {NO_WAY}"), help);
            }
            _ => self.findings.error(place, format!("`{name}` is not a name of Istio's clusters: {NO_WAY}"), help),
        }
    }

    /// Checks that `admin.cluster` is one that Envoy Gateway can have.
    pub(super) fn gateway_cluster(&mut self, config: &str) {
        let Some(name) = self.config.admin.as_ref().map(|admin| admin.cluster.to_string()) else { return };
        let place = join(config, "admin.cluster");
        let patches = self
            .all
            .iter()
            .filter(|document| document["kind"] == "EnvoyPatchPolicy")
            .flat_map(|document| list(&document["spec"]["jsonPatches"]));
        let added: Vec<&str> = patches
            .filter(|patch| text(&patch["type"]).ends_with("envoy.config.cluster.v3.Cluster"))
            .map(|patch| text(&patch["name"]))
            .collect();
        let is_of_route = name.starts_with("httproute/") || name.starts_with("grpcroute/");
        if name.contains('|') {
            let message = format!("`{name}` has the form of Istio's names: {NO_WAY}");
            self.findings.error(place, message, "use the name of the cluster in admin.yaml");
        } else if !added.is_empty() && !added.contains(&name.as_str()) && !is_of_route {
            let message = format!("no file adds a cluster `{name}`: {NO_WAY}");
            self.findings.error(place, message, format!("use `{}`", added.join("` or `")));
        }
    }
}

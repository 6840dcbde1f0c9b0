//! What is known of Envoy Gateway's resources, and of the Gateway API's.

use super::around::{FAILS_OPEN, Lint, any};
use super::backstop;
use super::find::looks_like_ours;
use super::finding::{is_placeholder_digest, join, list, text};
use super::versions::Version;
use keyward_policy::config::Mode;
use serde_json::Value;

/// The first version with `timeout.http.streamIdleTimeout` of ClientTrafficPolicy.
const STREAM_IDLE_TIMEOUT_SINCE: Version = Version(1, 5);

impl Lint<'_> {
    /// Checks an EnvoyExtensionPolicy.
    pub(super) fn extension_policy(&mut self, resource: &Value, spec: &Value, path: &str) {
        let mut ours = false;
        for (index, wasm) in list(&spec["wasm"]).iter().enumerate() {
            if !looks_like_ours(wasm, &wasm["config"]) {
                continue;
            }
            ours = true;
            let place = join(path, &format!("wasm[{index}]"));
            if wasm["failOpen"] == true {
                self.findings.warn(join(&place, "failOpen"), FAILS_OPEN, "use `false`");
            }
            if !self.all.iter().any(|document| any(document, &reloads)) {
                self.findings.warn(
                    &place,
                    "Envoy Gateway sets FAIL_CLOSED: after a crash of the filter that worker answers 503 until Envoy restarts",
                    "add `failure_policy: FAIL_RELOAD` by an EnvoyPatchPolicy, as deploy/envoy-gateway/ does; where it is in \
                     another file, check both together",
                );
            }
            for (source, help) in [
                ("image", "the manifest digest of the image is what `cargo xtask dist` prints"),
                ("http", "put the SHA-256 of `keyward.wasm` here"),
            ] {
                let code = &wasm["code"][source];
                let digest = text(&code["sha256"]);
                let in_url = text(&code["url"]).split_once("@sha256:").map_or("", |(_, digest)| digest);
                if code.is_object() && is_placeholder_digest(if digest.is_empty() { in_url } else { digest }) {
                    let message = "this is not the digest of the module";
                    self.findings.warn(join(&place, &format!("code.{source}.sha256")), message, help);
                }
            }
        }
        let with_ours =
            |other: &Value| list(&other["spec"]["wasm"]).iter().any(|wasm| looks_like_ours(wasm, &wasm["config"]));
        let on_route =
            list(&spec["targetRefs"]).iter().chain([&spec["targetRef"]]).any(|target| target["kind"] == "HTTPRoute");
        let elsewhere = self.all.iter().any(|other| other["kind"] == "EnvoyExtensionPolicy" && with_ours(other));
        if !ours && on_route && elsewhere && spec["mergeType"].is_null() {
            self.findings.warn(
                path,
                format!(
                    "`{}` takes the place of Keyward's policy on its route: the backstop refuses every request there",
                    text(&resource["metadata"]["name"])
                ),
                "set `mergeType` (Envoy Gateway 1.9), or put Keyward into this policy too",
            );
        }
    }

    /// Checks an EnvoyPatchPolicy that adds the backstop.
    pub(super) fn patch_policy(&mut self, spec: &Value, path: &str) {
        for (index, patch) in list(&spec["jsonPatches"]).iter().enumerate() {
            let value = &patch["operation"]["value"];
            if !backstop::is_in_force(value) {
                continue;
            }
            let place = join(path, &format!("jsonPatches[{index}].operation.value"));
            for fault in backstop::faults(value) {
                self.findings.error(join(&place, &fault.path), fault.message, fault.help);
            }
            if self.config.mode == Mode::Shadow {
                self.findings.warn(
                    join(&place, "typed_config.rules"),
                    "the backstop refuses what shadow mode lets pass",
                    "rename `rules` to `shadow_rules` while the mode is `shadow`",
                );
            }
        }
    }

    /// Checks that every listener of a Gateway has a backstop.
    pub(super) fn gateway(&mut self, resource: &Value, spec: &Value, path: &str) {
        let has_policy = self.all.iter().any(|document| document["kind"] == "EnvoyExtensionPolicy");
        if !has_policy
            || text(&resource["apiVersion"]).starts_with("networking.istio.io")
            || self.config.mode == Mode::Shadow
        {
            return;
        }
        let covered: Vec<&str> = self
            .all
            .iter()
            .filter(|document| document["kind"] == "EnvoyPatchPolicy")
            .flat_map(|document| list(&document["spec"]["jsonPatches"]))
            .filter(|patch| backstop::is_in_force(&patch["operation"]["value"]))
            .map(|patch| text(&patch["name"]))
            .collect();
        let quic = self
            .all
            .iter()
            .any(|document| document["kind"] == "ClientTrafficPolicy" && !document["spec"]["http3"].is_null());
        let namespace = text(&resource["metadata"]["namespace"]);
        let namespace = if namespace.is_empty() { "default" } else { namespace };
        for (index, listener) in list(&spec["listeners"]).iter().enumerate() {
            let name = format!("{namespace}/{}/{}", text(&resource["metadata"]["name"]), text(&listener["name"]));
            let port = listener["port"].as_u64().unwrap_or_default();
            let mut wanted = vec![(name.clone(), format!("tcp-{port}"))];
            if quic && listener["protocol"] == "HTTPS" {
                wanted.push((format!("{name}-quic"), format!("udp-{port}")));
            }
            for (name, by_port) in wanted {
                if !covered.iter().any(|have| *have == name || *have == by_port) {
                    self.findings.error(
                        join(path, &format!("listeners[{index}]")),
                        format!("no backstop covers the listener `{name}`"),
                        format!(
                            "add a patch to the EnvoyPatchPolicy with `name: {name}` (`{by_port}` with XDSNameSchemeV2)"
                        ),
                    );
                }
            }
        }
    }

    /// Checks an HTTPRoute or a GRPCRoute.
    pub(super) fn http_route(&mut self, spec: &Value, path: &str) {
        for (rule, route) in list(&spec["rules"]).iter().enumerate() {
            let place = join(path, &format!("rules[{rule}]"));
            for (index, condition) in list(&route["matches"]).iter().enumerate() {
                let place = join(&place, &format!("matches[{index}]"));
                for (at, header) in list(&condition["headers"]).iter().enumerate() {
                    self.matched_header(text(&header["name"]), &join(&place, &format!("headers[{at}]")));
                }
                for (at, parameter) in list(&condition["queryParams"]).iter().enumerate() {
                    self.matched_parameter(text(&parameter["name"]), &join(&place, &format!("queryParams[{at}]")));
                }
            }
            for (index, filter) in list(&route["filters"]).iter().enumerate() {
                let place = join(&place, &format!("filters[{index}]"));
                if !filter["urlRewrite"]["path"].is_null() {
                    self.rewritten(&join(&place, "urlRewrite.path"));
                }
                for (at, name) in list(&filter["requestHeaderModifier"]["remove"]).iter().enumerate() {
                    self.removed_header(text(name), &join(&place, &format!("requestHeaderModifier.remove[{at}]")));
                }
            }
        }
    }

    /// Checks the limits of a ClientTrafficPolicy against the stated version.
    pub(super) fn client_traffic_policy(&mut self, spec: &Value, path: &str) {
        if let Some(version) = self.versions.envoy_gateway.filter(|version| *version < STREAM_IDLE_TIMEOUT_SINCE)
            && !spec["timeout"]["http"]["streamIdleTimeout"].is_null()
        {
            self.findings.error(
                join(path, "timeout.http.streamIdleTimeout"),
                format!("Envoy Gateway {version} does not have this field"),
                format!("use Envoy Gateway {STREAM_IDLE_TIMEOUT_SINCE} or later"),
            );
        }
    }
}

/// Whether a patch sets the filter's failure policy to FAIL_RELOAD.
fn reloads(value: &Value) -> bool {
    let by_path = text(&value["path"]).ends_with("failure_policy") && value["value"] == "FAIL_RELOAD";
    by_path || value["failure_policy"] == "FAIL_RELOAD"
}

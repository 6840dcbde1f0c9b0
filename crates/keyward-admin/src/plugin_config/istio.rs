//! What is known of Istio's resources.

use super::around::{Lint, any};
use super::backstop;
use super::find::looks_like_ours;
use super::finding::{is_placeholder, is_placeholder_digest, join, list, text};
use super::known::{ENVOY_FILTER, ENVOY_FILTER_PATCH};
use super::past::FAILS_OPEN;
use super::pods::{self, GATEWAY_NAME, Relation};
use super::versions::Version;
use keyward_policy::config::{CorsPreflight, Mode};
use serde_json::Value;

/// The first version whose `failStrategy` can be `FAIL_RELOAD`.
const FAIL_RELOAD_SINCE: Version = Version::new(1, 27);
/// The first version in which `targetRefs` of an EnvoyFilter choose its gateways (istio/istio#56417).
const ENVOY_FILTER_TARGETS_SINCE: Version = Version::new(1, 27);
/// The first version with TrafficExtension.
const TRAFFIC_EXTENSION_SINCE: Version = Version::new(1, 30);

impl Lint<'_> {
    /// Checks a WasmPlugin.
    pub(super) fn wasm_plugin(&mut self, resource: &Value, spec: &Value, path: &str) {
        if looks_like_ours(spec, &spec["pluginConfig"]) {
            self.installation(resource, spec, path);
            self.plugin(spec, path);
        }
    }

    /// Checks a TrafficExtension.
    pub(super) fn traffic_extension(&mut self, resource: &Value, spec: &Value, path: &str) {
        let wasm = &spec["wasm"];
        if !looks_like_ours(wasm, &wasm["pluginConfig"]) {
            return;
        }
        if let Some(version) = self.versions.istio.filter(|version| *version < TRAFFIC_EXTENSION_SINCE) {
            self.findings.error(
                "kind",
                format!("Istio {version} does not have TrafficExtension"),
                format!("use a WasmPlugin, or Istio {TRAFFIC_EXTENSION_SINCE} or later"),
            );
        }
        self.installation(resource, spec, path);
        self.plugin(wasm, &join(path, "wasm"));
    }

    /// Checks where the filter is installed: which listeners, in which place of the chain.
    fn installation(&mut self, resource: &Value, spec: &Value, path: &str) {
        let (gateway, sidecar) = (self.is_for_gateway(spec), self.has_context("SIDECAR_INBOUND"));
        for (index, condition) in list(&spec["match"]).iter().enumerate() {
            let place = join(path, &format!("match[{index}].mode"));
            match text(&condition["mode"]) {
                "SERVER" if gateway && !sidecar => self.findings.error(
                    place,
                    "`SERVER` never matches a gateway, whose listeners count as CLIENT: the filter is not installed, and the \
                     backstop refuses every request",
                    "remove `mode`; SERVER is for sidecars",
                ),
                "CLIENT" if sidecar && !gateway => self.findings.gap(
                    place,
                    "`CLIENT` is for requests that the application sends: those that it receives are not checked",
                    "use `mode: SERVER`",
                ),
                _ => {}
            }
        }
        let is_incoming = |condition: &Value| condition["mode"] == "SERVER";
        let conditions = list(&spec["match"]);
        if sidecar && !gateway && (conditions.is_empty() || !conditions.iter().all(is_incoming)) {
            self.findings.warn(
                join(path, "match"),
                "the filter is also on what the application sends: these requests need a key, too",
                "use `match: [{mode: SERVER}]`",
            );
        }
        match text(&spec["phase"]) {
            "AUTHN" => {}
            // Other texts are not values of this field.
            phase @ ("" | "AUTHZ" | "STATS" | "UNSPECIFIED_PHASE" | "UNSPECIFIED") => {
                let now = if phase.is_empty() { "no phase is stated" } else { "this phase is a later one" };
                self.findings.warn(
                    join(path, "phase"),
                    format!("{now}: Istio's authentication and authorisation, and other plugins, run before Keyward"),
                    "use `phase: AUTHN`",
                );
            }
            _ => {}
        }
        self.has_backstop(path, true);
        self.other_plugins(resource, path);
        self.coverage(resource, spec, path);
    }

    /// Compares the pods and the ports of the filter with those of the backstop.
    fn coverage(&mut self, resource: &Value, spec: &Value, path: &str) {
        let backstops: Vec<(&Value, &Value)> = self
            .all
            .iter()
            .filter(|document| document["kind"] == "EnvoyFilter")
            .flat_map(|document| list(&document["spec"]["configPatches"]).iter().map(move |patch| (document, patch)))
            .filter(|(_, patch)| backstop::is_in_force(&patch["patch"]["value"]))
            .collect();
        if backstops.is_empty() {
            return;
        }
        let related = backstops.iter().map(|(document, _)| (pods::relation(resource, document), *document));
        if let Some((relation, document)) = related.min_by_key(|(relation, _)| *relation)
            && relation != Relation::Same
        {
            let field = if resource["metadata"]["namespace"] != document["metadata"]["namespace"] {
                "metadata.namespace".to_owned()
            } else {
                join(path, if spec["targetRefs"].is_null() { "selector" } else { "targetRefs" })
            };
            let message = format!(
                "the backstop selects other pods ({}) than the filter ({}): those of the filter may be without it",
                pods::shown(document),
                pods::shown(resource)
            );
            let help = "give the EnvoyFilter the same namespace and the same labels or targetRefs";
            if relation == Relation::Other {
                self.gap(field, message, help);
            } else {
                self.findings.possible_gap(field, message, help);
            }
        }
        let port = |patch: &Value| patch["match"]["listener"]["portNumber"].as_u64();
        let covered: Vec<Option<u64>> = backstops.iter().map(|(_, patch)| port(patch)).collect();
        let ports: Vec<(usize, usize, u64)> = list(&spec["match"])
            .iter()
            .enumerate()
            .flat_map(|(at, condition)| {
                let ports = list(&condition["ports"]).iter().enumerate();
                ports.filter_map(move |(index, port)| Some((at, index, port["number"].as_u64()?)))
            })
            .collect();
        for (at, index, number) in &ports {
            if !covered.iter().any(|port| port.is_none_or(|port| port == *number)) {
                self.findings.gap(
                    join(path, &format!("match[{at}].ports[{index}].number")),
                    format!("no backstop covers port {number}"),
                    format!("add a patch with `listener.portNumber: {number}` to the EnvoyFilter"),
                );
            }
        }
        if ports.is_empty() && covered.iter().all(Option::is_some) {
            self.findings.gap(
                join(path, "match"),
                "the filter is on every port, and the backstop only on some: the others have none",
                "name the same ports here, or remove `portNumber` from the backstop",
            );
        }
        // A backstop for one virtual host only is what a gateway that is shared by host needs.
        if !ports.is_empty()
            && backstops.iter().any(|(_, patch)| patch["applyTo"] == "HTTP_FILTER" && port(patch).is_none())
        {
            self.findings.error(
                join(path, "match"),
                "the backstop is on every port, and the filter only on some: the others answer 403",
                "add `listener.portNumber` to the backstop",
            );
        }
    }

    /// Checks module, digest and behaviour after a crash.
    fn plugin(&mut self, plugin: &Value, path: &str) {
        let place = join(path, "failStrategy");
        match (text(&plugin["failStrategy"]), self.versions.istio) {
            ("FAIL_RELOAD", Some(version)) if version < FAIL_RELOAD_SINCE => self.findings.error(
                place,
                format!(
                    "Istio {version} does not know `FAIL_RELOAD`: the API server refuses this resource, and the backstop \
                     then refuses every request"
                ),
                format!("use Istio {FAIL_RELOAD_SINCE} or later, or `FAIL_CLOSE` with a restart after each crash"),
            ),
            ("FAIL_RELOAD", _) => {}
            ("FAIL_OPEN", version) => {
                let is_known = version.is_none_or(|version| version >= FAIL_RELOAD_SINCE);
                self.gap(place, FAILS_OPEN, if is_known { "use `FAIL_RELOAD`" } else { "use `FAIL_CLOSE`" });
            }
            // It knows nothing better.
            (_, Some(version)) if version < FAIL_RELOAD_SINCE => {}
            ("" | "FAIL_CLOSE", _) => self.findings.warn(
                place,
                "a crashed filter stays down until the proxy restarts",
                format!("use `FAIL_RELOAD`, which exists since Istio {FAIL_RELOAD_SINCE}"),
            ),
            // Other texts are not values of this field.
            _ => {}
        }
        self.istio_variable(plugin, path);
        self.istio_cluster(&join(path, "pluginConfig"));
        self.url(plugin, path);
    }

    /// Checks where the module is fetched from, and by what it is known.
    fn url(&mut self, plugin: &Value, path: &str) {
        let (url, digest) = (text(&plugin["url"]), text(&plugin["sha256"]));
        let image =
            url.strip_prefix("oci://").or_else(|| (!url.contains("://")).then_some(url)).filter(|url| !url.is_empty());
        let in_url = image.and_then(|image| image.split_once("@sha256:")).map(|(_, digest)| digest);
        const DIGEST: &str = "the manifest digest of the image is what `cargo xtask dist` prints";
        if is_placeholder(url) || in_url.is_some_and(is_placeholder_digest) {
            self.findings.warn(join(path, "url"), "this is not the digest of an image", DIGEST);
        } else if image.is_some() && in_url.is_none() && digest.is_empty() {
            self.findings.warn(
                join(path, "url"),
                "this names no manifest by its SHA-256: what runs is what the registry has under this name at the time",
                format!("write `oci://…@sha256:<manifest digest>`; {DIGEST}"),
            );
        }
        let scheme = url.split_once("://").map_or("oci", |(scheme, _)| scheme);
        if !matches!(scheme, "oci" | "http" | "https" | "file") {
            let message = format!("`{scheme}` is not a scheme by which Istio fetches a module");
            self.findings.error(join(path, "url"), message, "use `oci://`, `https://` with `sha256`, or `file:///`");
        }
        if url.strip_prefix("file://").is_some_and(|file| !file.starts_with('/')) {
            let message = "after `file://` the path of the file begins with a slash: this one names no file";
            self.findings.error(
                join(path, "url"),
                message,
                "use `file:///…`, as module-from-configmap.values.yaml does",
            );
        }
        if image.is_some() && !digest.is_empty() {
            let help = format!("write `url: oci://…@sha256:<manifest digest>` and remove `sha256`; {DIGEST}");
            let message = if is_placeholder_digest(digest) {
                "this is not a digest; for an image it is compared with the digest of the manifest, not with the hash of the \
                 module's file"
            } else {
                "for an image this is compared with the digest of the manifest: the hash of the module's file never matches"
            };
            self.findings.warn(join(path, "sha256"), message, help);
        }
        if url.starts_with("http") && is_placeholder_digest(digest) {
            let message = "the module is fetched without its hash";
            self.findings.warn(join(path, "sha256"), message, "put the SHA-256 of `keyward.wasm` here");
        }
    }

    /// Checks an EnvoyFilter: which gateways it is for, and the backstop that it adds.
    pub(super) fn envoy_filter(&mut self, resource: &Value, spec: &Value, path: &str) {
        self.without_filter(resource, path);
        if let Some(version) = self.versions.istio.filter(|version| *version < ENVOY_FILTER_TARGETS_SINCE)
            && let Some(target) = list(&spec["targetRefs"]).first()
        {
            self.findings.warn(
                join(path, "targetRefs"),
                format!(
                    "Istio {version} does not look at this field: the EnvoyFilter is in force in every pod of its \
                     namespace, and a backstop refuses the requests of other gateways"
                ),
                format!("use `workloadSelector: {{labels: {{{GATEWAY_NAME}: {}}}}}`", text(&target["name"])),
            );
        }
        for (index, patch) in list(&spec["configPatches"]).iter().enumerate() {
            let place = join(path, &format!("configPatches[{index}]"));
            let value = &patch["patch"]["value"];
            self.removal(patch, &place);
            if backstop::is_backstop(value) {
                self.expect_known(spec, &ENVOY_FILTER, path);
                self.expect_known(patch, &ENVOY_FILTER_PATCH, &place);
                self.context(resource, &patch["match"]["context"], &join(&place, "match.context"));
            }
            let value_place = join(&place, "patch.value");
            if !backstop::is_in_force(value) {
                if backstop::is_backstop(value) && self.config.mode == Mode::Enforce {
                    self.findings.gap(
                        join(&value_place, "typed_config"),
                        "without `rules`, the backstop refuses nothing",
                        "rename `shadow_rules` to `rules` while the mode is `enforce`",
                    );
                }
                continue;
            }
            for fault in backstop::faults(value) {
                self.findings.gap(join(&value_place, &fault.path), fault.message, fault.help);
            }
            for fault in self.narrow(value) {
                self.findings.error(join(&value_place, &fault.path), fault.message, fault.help);
            }
            if self.config.mode == Mode::Shadow {
                self.findings.warn(
                    join(&value_place, "typed_config.rules"),
                    "the backstop refuses what shadow mode lets pass",
                    "rename `rules` to `shadow_rules` while the mode is `shadow`",
                );
            }
            if patch["applyTo"] == "HTTP_FILTER" {
                let next = text(&patch["match"]["listener"]["filterChain"]["filter"]["subFilter"]["name"]);
                if text(&patch["patch"]["operation"]) != "INSERT_BEFORE" || next != "envoy.filters.http.router" {
                    self.findings.error(
                        join(&place, "patch.operation"),
                        "the backstop is not put right before the router: in front of Keyward it refuses every request",
                        "use `INSERT_BEFORE` with `subFilter: {name: envoy.filters.http.router}`",
                    );
                }
            }
            if text(&value["typed_config"]["rules_stat_prefix"]).is_empty() {
                self.findings.warn(
                    join(&value_place, "typed_config"),
                    "its counter `rbac.denied` is also that of AuthorizationPolicy, so an alert on it means nothing",
                    "add `rules_stat_prefix: \"keyward_backstop_rbac.\"`",
                );
            }
            if spec["priority"].is_null() {
                self.findings.warn(
                    path,
                    "without `priority` another EnvoyFilter may put a filter between this one and the router",
                    "add `priority: 100`",
                );
            }
        }
    }

    /// Checks that a patch takes neither the filter nor the backstop away.
    fn removal(&mut self, patch: &Value, place: &str) {
        let operation = text(&patch["patch"]["operation"]);
        if patch["applyTo"] != "HTTP_FILTER" || !matches!(operation, "REMOVE" | "REPLACE") {
            return;
        }
        let name = text(&patch["match"]["listener"]["filterChain"]["filter"]["subFilter"]["name"]);
        let is_ours = |value: &Value| backstop::is_backstop(value) && value["name"] == *name;
        // Without a name, the patch is for every HTTP filter.
        if name.is_empty()
            || name.to_ascii_lowercase().contains("keyward")
            || self.all.iter().any(|document| any(document, &is_ours))
        {
            self.findings.gap(
                join(place, "patch.operation"),
                format!("`{operation}` takes the filter `{name}` away: requests are not checked"),
                "remove this patch",
            );
        }
    }

    /// Checks that the pods of a backstop have a filter.
    fn without_filter(&mut self, resource: &Value, path: &str) {
        let filters: Vec<&Value> = self.all.iter().filter(|document| is_filter(document)).collect();
        let is_here = |filter: &&Value| pods::relation(filter, resource) != Relation::Other;
        if any(&resource["spec"], &backstop::is_in_force) && !filters.is_empty() && !filters.iter().any(is_here) {
            self.findings.warn(
                path,
                format!(
                    "no filter is on the pods of this backstop ({}): it refuses every request there",
                    pods::shown(resource)
                ),
                "give it together with the file of its filter, or name the pods of the filter in it",
            );
        }
    }

    /// Checks that the backstop of a gateway's filter is for gateways.
    fn context(&mut self, resource: &Value, context: &Value, place: &str) {
        let is_gateway = |spec: &Value| {
            let named = |text: &str| text.contains("gateway") || text.contains("ingress");
            let labels = spec["selector"]["matchLabels"].as_object().into_iter().flatten();
            list(&spec["targetRefs"]).iter().any(|target| target["kind"] == "Gateway")
                || labels.into_iter().any(|(name, value)| named(name) || named(text(value)))
        };
        // A backstop of other pods is for another filter.
        let is_here = |filter: &&Value| is_filter(filter) && pods::relation(filter, resource) != Relation::Other;
        let filters = || self.all.iter().filter(is_here);
        if context == "SIDECAR_INBOUND"
            && filters().next().is_some()
            && filters().all(|filter| is_gateway(&filter["spec"]))
        {
            self.findings.gap(
                place,
                "the filter is on a gateway, and this context is that of sidecars: the gateway has no backstop",
                "use `GATEWAY`",
            );
        }
    }

    /// Checks a VirtualService.
    pub(super) fn virtual_service(&mut self, spec: &Value, path: &str) {
        for (index, route) in list(&spec["http"]).iter().enumerate() {
            let place = join(path, &format!("http[{index}]"));
            for (at, condition) in list(&route["match"]).iter().enumerate() {
                let place = join(&place, &format!("match[{at}]"));
                for field in ["headers", "withoutHeaders"] {
                    for name in condition[field].as_object().into_iter().flat_map(|fields| fields.keys()) {
                        self.matched_header(name, &join(&place, &format!("{field}.{name}")));
                    }
                }
                for name in condition["queryParams"].as_object().into_iter().flat_map(|fields| fields.keys()) {
                    self.matched_parameter(name, &join(&place, &format!("queryParams.{name}")));
                }
            }
            for field in ["uri", "uriRegexRewrite"] {
                if !route["rewrite"][field].is_null() {
                    self.rewritten(&join(&place, &format!("rewrite.{field}")));
                }
            }
            for (at, name) in list(&route["headers"]["request"]["remove"]).iter().enumerate() {
                self.removed_header(text(name), &join(&place, &format!("headers.request.remove[{at}]")));
            }
            if !route["corsPolicy"].is_null() && self.config.cors_preflight == CorsPreflight::Deny {
                self.findings.warn(
                    join(&place, "corsPolicy"),
                    "Istio's CORS filter runs behind Keyward, which denies preflights",
                    "set `cors_preflight: pass` in the plugin configuration",
                );
            }
        }
    }

    /// Whether the resource selects a gateway, as far as the files show it.
    fn is_for_gateway(&self, spec: &Value) -> bool {
        let named = |text: &str| text.contains("gateway") || text.contains("ingress");
        let labels = spec["selector"]["matchLabels"].as_object().into_iter().flatten();
        list(&spec["targetRefs"]).iter().any(|target| target["kind"] == "Gateway")
            || labels.into_iter().any(|(name, value)| named(name) || named(text(value)))
            || self.has_context("GATEWAY")
    }

    fn has_context(&self, context: &str) -> bool {
        self.all.iter().any(|document| {
            document["kind"] == "EnvoyFilter" && any(document, &|value| value["match"]["context"] == *context)
        })
    }
}

/// Whether a document is one of Istio's with Keyward's filter.
fn is_filter(document: &Value) -> bool {
    let plugin = match text(&document["kind"]) {
        "WasmPlugin" => &document["spec"],
        "TrafficExtension" => &document["spec"]["wasm"],
        _ => return false,
    };
    looks_like_ours(plugin, &plugin["pluginConfig"])
}

//! What is known of Envoy Gateway's resources, and of the Gateway API's.

use super::around::{Lint, any};
use super::backstop;
use super::find::looks_like_ours;
use super::finding::{is_placeholder_digest, join, list, text};
use super::known::{BACKSTOP, EXTENSION_POLICY, JSON_PATCH, PATCH_POLICY};
use super::native::patches;
use super::past::FAILS_OPEN;
use super::versions::Version;
use keyward_policy::config::Mode;
use serde_json::Value;

/// The first version with `timeout.http.streamIdleTimeout` of ClientTrafficPolicy.
const STREAM_IDLE_TIMEOUT_SINCE: Version = Version::new(1, 5);
/// The first version with the same of BackendTrafficPolicy.
const ROUTE_IDLE_TIMEOUT_SINCE: Version = Version::new(1, 8);
/// The first version with `mergeType` of EnvoyExtensionPolicy.
const MERGE_TYPE_SINCE: Version = Version::new(1, 9);
/// The first version with `dynamicModule` of EnvoyExtensionPolicy.
const DYNAMIC_MODULE_SINCE: Version = Version::new(1, 8);
/// The releases whose CRD gives a rate limit's `requests` a largest number that its own type does not hold.
const RATE_LIMITS_REFUSED: [Version; 2] = [Version::patch(1, 8, 0), Version::patch(1, 8, 1)];
/// The first release after them.
const RATE_LIMITS_MENDED: Version = Version::patch(1, 8, 2);
/// Fields of EnvoyExtensionPolicy with plugins, and what Envoy's names of their filters are made of.
const PLUGINS: [(&str, &str, &str); 2] = [
    ("wasm", "envoy.filters.http.wasm", "wasm"),
    ("dynamicModule", "envoy.filters.http.dynamic_modules", "dynamic-module"),
];

impl Lint<'_> {
    /// Checks an EnvoyExtensionPolicy.
    pub(super) fn extension_policy(&mut self, resource: &Value, spec: &Value, path: &str) {
        self.exists_since(&spec["mergeType"], join(path, "mergeType"), MERGE_TYPE_SINCE);
        self.exists_since(&spec["dynamicModule"], join(path, "dynamicModule"), DYNAMIC_MODULE_SINCE);
        let mut ours = self.gateway_modules(spec, path);
        for (index, wasm) in list(&spec["wasm"]).iter().enumerate() {
            if !looks_like_ours(wasm, &wasm["config"]) {
                continue;
            }
            ours = true;
            let place = join(path, &format!("wasm[{index}]"));
            if wasm["failOpen"] == true {
                self.gap(join(&place, "failOpen"), FAILS_OPEN, "use `false`");
            }
            self.gateway_variable(wasm, &place);
            self.gateway_cluster(&join(&place, "config"));
            self.source(&wasm["code"], &join(&place, "code"));
            if !self.all.iter().any(|document| any(document, &sets_failure_policy)) {
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
        if ours {
            // Envoy refuses a listener whose local library it cannot load; `envoy_proxy` looks at those that are fetched.
            self.has_backstop(path, list(&spec["wasm"]).iter().any(|wasm| looks_like_ours(wasm, &wasm["config"])));
            self.expect_known(spec, &EXTENSION_POLICY, path);
            self.plugins_of_policy(spec, path);
            self.targets(resource, path);
        }
        let on_route =
            list(&spec["targetRefs"]).iter().chain([&spec["targetRef"]]).any(|target| target["kind"] == "HTTPRoute");
        let elsewhere = self.all.iter().any(has_filter);
        if !ours && on_route && elsewhere && spec["mergeType"].is_null() {
            self.findings.warn(
                path,
                format!(
                    "`{}` takes the place of Keyward's policy on its route: the backstop refuses every request there",
                    text(&resource["metadata"]["name"])
                ),
                format!("set `mergeType` (Envoy Gateway {MERGE_TYPE_SINCE}), or put Keyward into this policy too"),
            );
        }
    }

    /// Checks that the module is fetched from where the policy says.
    fn source(&mut self, code: &Value, place: &str) {
        let wanted = match text(&code["type"]) {
            "Image" => "image",
            "HTTP" => "http",
            "" => return,
            other => {
                let message = format!("`{other}` is not a source: the API server refuses this resource");
                self.findings.error(join(place, "type"), message, "use `Image` or `HTTP`");
                return;
            }
        };
        if !code[wanted].is_object() {
            self.findings.error(
                join(place, "type"),
                format!("there is no `{wanted}` for this type: the API server refuses this resource"),
                format!("add `{wanted}`, or use the type of the field that is there"),
            );
        }
    }

    /// Checks that every Gateway and every listener that a policy with the filter names has a backstop.
    fn targets(&mut self, resource: &Value, path: &str) {
        // Backstops of another mode, and those of other means, are looked at elsewhere.
        let named: Vec<(&Value, &Value)> =
            backstops(self.all).into_iter().filter(|(policy, _)| gateway_of(policy).is_some()).collect();
        if self.config.mode == Mode::Shadow || named.is_empty() {
            return;
        }
        let spec = &resource["spec"];
        let several = list(&spec["targetRefs"]).iter().enumerate();
        let places = several.map(|(index, target)| (format!("targetRefs[{index}]"), target));
        let single = (!spec["targetRef"].is_null()).then(|| ("targetRef".to_owned(), &spec["targetRef"]));
        for (place, target) in places.chain(single).filter(|(_, target)| target["kind"] == "Gateway") {
            let name = text(&target["name"]);
            let place = join(path, &place);
            let listeners: Vec<&str> = named
                .iter()
                .filter(|(policy, _)| gateway_of(policy) == Some(name) && in_one_namespace(policy, resource))
                .map(|(_, patch)| text(&patch["name"]))
                .collect();
            if listeners.is_empty() {
                self.findings.gap(
                    join(&place, "name"),
                    format!("no EnvoyPatchPolicy in this namespace adds a backstop to the Gateway `{name}`"),
                    "name the same Gateway here and in `targetRef` of the EnvoyPatchPolicy, in the same namespace",
                );
                continue;
            }
            let section = text(&target["sectionName"]);
            // A listener of Envoy that is named by its port may be the one.
            let may_be = |have: &&str| have.split('/').nth(2).is_none_or(|listener| listener == section);
            // With the Gateway itself, each listener is looked at.
            let is_given = self.all.iter().any(|document| is_gateway(document, name));
            if !section.is_empty() && !is_given && !listeners.iter().any(may_be) {
                self.findings.gap(
                    join(&place, "sectionName"),
                    format!("no backstop covers the listener `{section}`"),
                    format!("keep the EnvoyPatchPolicy whose patches have the name `<namespace>/{name}/{section}`"),
                );
            }
        }
    }

    /// Checks that an EnvoyPatchPolicy is for a Gateway of the filter, and that its patches name listeners of it.
    fn patch_target(&mut self, resource: &Value, path: &str) {
        let Some(name) = gateway_of(resource) else { return };
        let filters: Vec<&Value> = self.all.iter().filter(|document| has_filter(document)).collect();
        let here: Vec<&Value> = filters.iter().copied().filter(|filter| in_one_namespace(filter, resource)).collect();
        if here.is_empty() && !filters.is_empty() {
            let others: Vec<&str> = filters.iter().map(|filter| text(&filter["metadata"]["namespace"])).collect();
            self.findings.gap(
                "metadata.namespace",
                format!(
                    "the EnvoyExtensionPolicy with the filter and its Gateway are in the namespace `{}`, and this policy is in \
                     `{}`, where it has no effect",
                    others.join("` or `"),
                    text(&resource["metadata"]["namespace"])
                ),
                "use the namespace of the Gateway",
            );
        }
        let targets: Vec<&str> =
            here.iter().flat_map(|filter| gateways(filter)).map(|target| text(&target["name"])).collect();
        if !targets.is_empty() && !targets.contains(&name) {
            self.findings.gap(
                join(path, "targetRef.name"),
                format!("the filter is not on the Gateway `{name}`, and those that it is on are without this policy"),
                format!("use `{}`", targets.join("` or `")),
            );
        }
        let namespace = text(&resource["metadata"]["namespace"]);
        for (index, patch) in list(&resource["spec"]["jsonPatches"]).iter().enumerate() {
            if !is_for_filter(&patch["operation"]) {
                continue;
            }
            let listener = text(&patch["name"]);
            let by_port = listener.strip_prefix("tcp-").or_else(|| listener.strip_prefix("udp-"));
            let is_port = by_port.is_some_and(|port| port.parse::<u16>().is_ok());
            let parts: Vec<&str> = listener.split('/').collect();
            let is_listener = matches!(&parts[..], [have, gateway, section]
                if (namespace.is_empty() || *have == namespace) && *gateway == name && !section.is_empty());
            if let [_, _, section] = &parts[..]
                && is_listener
            {
                self.patched_section(name, section, &join(path, &format!("jsonPatches[{index}].name")));
            }
            let all = backstops(self.all).into_iter().filter(|(policy, _)| gateway_of(policy) == Some(name));
            if is_port && all.map(|(_, patch)| text(&patch["name"])).any(|other| other.contains('/')) {
                self.findings.warn(
                    join(path, &format!("jsonPatches[{index}].name")),
                    format!("`{listener}` is a name with XDSNameSchemeV2, and other patches have names without: one half changes nothing"),
                    "use either backstop.yaml or backstop-v2.yaml",
                );
            }
            if !is_port && !is_listener {
                let namespace = if namespace.is_empty() { "<namespace>" } else { namespace };
                self.findings.gap(
                    join(path, &format!("jsonPatches[{index}].name")),
                    format!("`{listener}` is not a listener of the Gateway `{name}`: the patch changes nothing"),
                    format!(
                        "use `{namespace}/{name}/<listener>`, or with XDSNameSchemeV2 `tcp-<port>` or `udp-<port>`"
                    ),
                );
            }
        }
    }

    /// Checks an EnvoyPatchPolicy: the patches that set the failure policy, and those that add the backstop.
    pub(super) fn patch_policy(&mut self, resource: &Value, spec: &Value, path: &str) {
        let patches = list(&spec["jsonPatches"]);
        if patches.iter().any(|patch| is_for_filter(&patch["operation"])) {
            self.expect_known(spec, &PATCH_POLICY, path);
            self.patch_target(resource, path);
        }
        for (index, patch) in patches.iter().enumerate() {
            let operation = &patch["operation"];
            let place = join(path, &format!("jsonPatches[{index}].operation"));
            if changes_filter(operation) {
                self.patched_filter(text(&operation["jsonPath"]), &join(&place, "jsonPath"));
            }
            let value = &operation["value"];
            if is_for_filter(operation) {
                self.expect_known(patch, &JSON_PATCH, &join(path, &format!("jsonPatches[{index}]")));
                let pointer = text(&operation["path"]);
                if !pointer.is_empty() && !pointer.starts_with('/') {
                    self.findings.error(
                        join(&place, "path"),
                        format!("`{pointer}` is not a JSON pointer: the patch changes nothing"),
                        format!("use `/{pointer}`"),
                    );
                }
            }
            if changes_filter(operation) && self.config.mode == Mode::Enforce {
                let covered = backstops(self.all);
                if !covered.is_empty() && !covered.iter().any(|(_, other)| other["name"] == patch["name"]) {
                    self.findings.gap(
                        join(path, &format!("jsonPatches[{index}].name")),
                        format!("the filter is on the listener `{}`, and no backstop is", text(&patch["name"])),
                        "add the patch with the backstop for this listener, too",
                    );
                }
            }
            if opens(operation) {
                self.gap(join(&place, "value"), FAILS_OPEN, "use `FAIL_RELOAD`");
            }
            if backstop::is_backstop(value) {
                self.expect_known(value, &BACKSTOP, &join(&place, "value"));
                if !backstop::is_in_force(value) && self.config.mode == Mode::Enforce {
                    self.findings.gap(
                        join(&place, "value.typed_config"),
                        format!(
                            "without `rules`, the backstop on the listener `{}` refuses nothing",
                            text(&patch["name"])
                        ),
                        "rename `shadow_rules` to `rules` while the mode is `enforce`",
                    );
                }
            }
            if !backstop::is_in_force(value) {
                continue;
            }
            let before_router = text(&operation["op"]) == "add"
                && is_of_all_chains(text(&operation["jsonPath"]))
                && text(&operation["jsonPath"]).contains("envoy.filters.http.router")
                && text(&operation["path"]).is_empty();
            if !before_router {
                self.findings.gap(
                    join(&place, "jsonPath"),
                    "the backstop is not put right before the router: in front of Keyward it refuses every request",
                    "use `op: add`, `jsonPath: \"..http_filters[?(@.name=='envoy.filters.http.router')]\"` and `path: \"\"`",
                );
            }
            let reloaded =
                patches.iter().any(|other| other["name"] == patch["name"] && sets_failure_policy(&other["operation"]));
            if !reloaded && self.all.iter().any(|document| any(document, &reloads)) {
                self.findings.warn(
                    join(path, &format!("jsonPatches[{index}].name")),
                    format!("the filter on the listener `{}` keeps FAIL_CLOSED", text(&patch["name"])),
                    "add the patch that sets `failure_policy: FAIL_RELOAD` for this listener, too",
                );
            }
            let place = join(&place, "value");
            for fault in backstop::faults(value) {
                self.findings.gap(join(&place, &fault.path), fault.message, fault.help);
            }
            for fault in self.narrow(value) {
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

    /// Checks that a patch of the filter finds the filter: its name is made of the policy's namespace and name.
    fn patched_filter(&mut self, json_path: &str, place: &str) {
        let mut names = Vec::new();
        for policy in self.all.iter().filter(|document| document["kind"] == "EnvoyExtensionPolicy") {
            let metadata = &policy["metadata"];
            let namespace = if metadata["namespace"].is_null() { "default" } else { text(&metadata["namespace"]) };
            let policy_name = format!("envoyextensionpolicy/{namespace}/{}", text(&metadata["name"]));
            for (field, filter, kind) in PLUGINS {
                for (index, plugin) in list(&policy["spec"][field]).iter().enumerate() {
                    if looks_like_ours(plugin, &plugin["config"]) {
                        names.push(format!("{filter}/{policy_name}/{kind}/{index}"));
                    }
                }
            }
        }
        let finds = |name: &String| is_of_all_chains(json_path) && json_path.contains(name);
        if !json_path.is_empty() && !names.is_empty() && !names.iter().any(finds) {
            self.findings.error(
                place,
                "no filter has this name: the patch changes nothing, and the filter keeps Envoy Gateway's settings",
                format!("the filter's name is `{}`", names.join("` or `")),
            );
        }
    }

    /// Checks that every listener of a Gateway has a backstop.
    pub(super) fn gateway(&mut self, resource: &Value, spec: &Value, path: &str) {
        if text(&resource["apiVersion"]).starts_with("networking.istio.io") || self.config.mode == Mode::Shadow {
            return;
        }
        // A policy without targets may be for this Gateway.
        let mut sections = Vec::new();
        let mut is_whole = false;
        for policy in self.all.iter().filter(|policy| has_filter(policy) && in_one_namespace(policy, resource)) {
            let names_none = policy["spec"]["targetRef"].is_null() && policy["spec"]["targetRefs"].is_null();
            is_whole |= names_none;
            for target in gateways(policy).into_iter().filter(|target| target["name"] == resource["metadata"]["name"]) {
                match target["sectionName"].as_str() {
                    Some(section) => sections.push(section),
                    None => is_whole = true,
                }
            }
        }
        let covered: Vec<&str> = backstops(self.all)
            .into_iter()
            .filter(|(policy, _)| {
                gateway_of(policy).is_none_or(|name| resource["metadata"]["name"] == *name)
                    && in_one_namespace(policy, resource)
            })
            .map(|(_, patch)| text(&patch["name"]))
            .collect();
        let quic = self
            .all
            .iter()
            .any(|document| document["kind"] == "ClientTrafficPolicy" && !document["spec"]["http3"].is_null());
        let namespace = text(&resource["metadata"]["namespace"]);
        let namespace = if namespace.is_empty() { "default" } else { namespace };
        for (index, listener) in list(&spec["listeners"]).iter().enumerate() {
            if !is_http(listener) || !(is_whole || sections.contains(&text(&listener["name"]))) {
                continue;
            }
            let section = first_on_port(spec, listener);
            let name = format!("{namespace}/{}/{section}", text(&resource["metadata"]["name"]));
            let port = listener["port"].as_u64().unwrap_or_default();
            let mut wanted = vec![(name.clone(), format!("tcp-{port}"))];
            if quic && listener["protocol"] == "HTTPS" {
                wanted.push((format!("{name}-quic"), format!("udp-{port}")));
            }
            for (name, by_port) in wanted {
                if !covered.iter().any(|have| *have == name || *have == by_port) {
                    self.findings.gap(
                        join(path, &format!("listeners[{index}]")),
                        if section == text(&listener["name"]) {
                            format!("no backstop covers the listener `{name}`")
                        } else {
                            format!(
                                "no backstop covers the listener `{name}`, whose port {port} is also that of this one"
                            )
                        },
                        format!(
                            "add a patch to the EnvoyPatchPolicy with `name: {name}` (`{by_port}` with XDSNameSchemeV2)"
                        ),
                    );
                }
            }
        }
    }

    /// Checks that a patch names a listener that Envoy has for the Gateway.
    fn patched_section(&mut self, gateway: &str, section: &str, place: &str) {
        let section = section.strip_suffix("-quic").unwrap_or(section);
        let Some(resource) = self.all.iter().find(|document| is_gateway(document, gateway)) else { return };
        let spec = &resource["spec"];
        match list(&spec["listeners"]).iter().find(|listener| listener["name"] == section) {
            None => self.findings.gap(
                place,
                format!("the Gateway `{gateway}` has no listener `{section}`: the patch changes nothing"),
                "name one of its listeners",
            ),
            Some(listener) if first_on_port(spec, listener) != section => self.findings.gap(
                place,
                format!("Envoy has no listener `{section}`: it shares its port with another one, whose name both have"),
                format!("use `{}`", first_on_port(spec, listener)),
            ),
            Some(_) => {}
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
    pub(super) fn client_traffic_policy(&mut self, resource: &Value, spec: &Value, path: &str) {
        let filters: Vec<&Value> = self.all.iter().filter(|document| has_filter(document)).collect();
        let targets = |policy: &Value| -> Vec<String> {
            gateways(policy).iter().map(|target| text(&target["name"]).to_owned()).collect()
        };
        let of_filter: Vec<String> = filters.iter().flat_map(|filter| targets(filter)).collect();
        let is_here = |policy: &Value| {
            filters.iter().any(|filter| in_one_namespace(filter, policy))
                && targets(policy).iter().any(|name| of_filter.contains(name))
        };
        let mut policies = self.all.iter().filter(|document| document["kind"] == "ClientTrafficPolicy");
        if !of_filter.is_empty() && !targets(resource).is_empty() && !policies.any(is_here) {
            self.findings.warn(
                join(path, "targetRefs"),
                "the filter is on another Gateway: what this policy protects is not protected there",
                format!("name `{}`, in its namespace", of_filter.join("` or `")),
            );
        }
        let place = join(path, "timeout.http.streamIdleTimeout");
        self.exists_since(&spec["timeout"]["http"]["streamIdleTimeout"], place, STREAM_IDLE_TIMEOUT_SINCE);
    }

    /// Checks the limits of a BackendTrafficPolicy against the stated version.
    pub(super) fn backend_traffic_policy(&mut self, spec: &Value, path: &str) {
        let place = join(path, "timeout.http.streamIdleTimeout");
        self.exists_since(&spec["timeout"]["http"]["streamIdleTimeout"], place, ROUTE_IDLE_TIMEOUT_SINCE);
        if let Some(version) = self.versions.envoy_gateway.filter(|version| RATE_LIMITS_REFUSED.contains(version))
            && !spec["rateLimit"].is_null()
        {
            self.findings.warn(
                join(path, "rateLimit"),
                format!(
                    "on Kubernetes 1.36 and later, the API server refuses every rate limit with the CRD of Envoy Gateway \
                     {version}"
                ),
                format!("use Envoy Gateway {RATE_LIMITS_MENDED} or later, or 1.7"),
            );
        }
    }

    /// Checks that the stated version has a field, if the field is given.
    fn exists_since(&mut self, field: &Value, place: String, since: Version) {
        if let Some(version) = self.versions.envoy_gateway.filter(|version| *version < since)
            && !field.is_null()
        {
            self.findings.error(
                place,
                format!("Envoy Gateway {version} does not have this field"),
                format!("use Envoy Gateway {since} or later"),
            );
        }
    }
}

/// Whether a JSON path finds the filters of every chain of a listener.
fn is_of_all_chains(json_path: &str) -> bool {
    json_path.strip_prefix('$').unwrap_or(json_path).starts_with("..http_filters[")
}

/// Whether a listener has HTTP filters: those of TCP and TLS have none.
fn is_http(listener: &Value) -> bool {
    matches!(text(&listener["protocol"]), "" | "HTTP" | "HTTPS")
}

/// Returns the name of the first listener with the port of this one. Envoy has one listener for both, with that name.
fn first_on_port<'v>(spec: &'v Value, listener: &'v Value) -> &'v str {
    let is_same = |other: &&Value| is_http(other) && other["port"] == listener["port"];
    text(&list(&spec["listeners"]).iter().find(is_same).unwrap_or(listener)["name"])
}

/// Whether a document is the Gateway of this name, of the Gateway API.
fn is_gateway(document: &Value, name: &str) -> bool {
    document["kind"] == "Gateway"
        && !text(&document["apiVersion"]).starts_with("networking.istio.io")
        && document["metadata"]["name"] == *name
}

/// Whether a patch changes a setting of the filter.
fn changes_filter(operation: &Value) -> bool {
    let is_nack = patches(operation, "nack_on_cache_miss", &true.into());
    let changed = text(&operation["path"]);
    sets_failure_policy(operation) || is_nack || changed.ends_with("metrics_namespace")
}

/// Returns the patches of EnvoyPatchPolicies that add a backstop in force, each with its policy.
fn backstops(all: &[Value]) -> Vec<(&Value, &Value)> {
    let policies = all.iter().filter(|document| document["kind"] == "EnvoyPatchPolicy");
    policies
        .flat_map(|policy| list(&policy["spec"]["jsonPatches"]).iter().map(move |patch| (policy, patch)))
        .filter(|(_, patch)| backstop::is_in_force(&patch["operation"]["value"]))
        .collect()
}

/// Whether a document is an EnvoyExtensionPolicy with Keyward's filter.
fn has_filter(document: &Value) -> bool {
    let mut plugins = PLUGINS.iter().flat_map(|(field, ..)| list(&document["spec"][*field]));
    document["kind"] == "EnvoyExtensionPolicy" && plugins.any(|plugin| looks_like_ours(plugin, &plugin["config"]))
}

/// Returns the Gateways that an EnvoyExtensionPolicy names.
fn gateways(policy: &Value) -> Vec<&Value> {
    let spec = &policy["spec"];
    let all = list(&spec["targetRefs"]).iter().chain([&spec["targetRef"]]);
    all.filter(|target| target["kind"] == "Gateway").collect()
}

/// Returns the name of the Gateway that an EnvoyPatchPolicy is for. `None` means that it does not say.
fn gateway_of(policy: &Value) -> Option<&str> {
    let target = &policy["spec"]["targetRef"];
    if target["kind"] == "Gateway" { target["name"].as_str() } else { None }
}

/// Whether two resources are in one namespace. One that does not name its namespace may be in any.
fn in_one_namespace(one: &Value, other: &Value) -> bool {
    let (one, other) = (text(&one["metadata"]["namespace"]), text(&other["metadata"]["namespace"]));
    one.is_empty() || other.is_empty() || one == other
}

/// Whether a patch is for the filter, or adds the backstop.
fn is_for_filter(operation: &Value) -> bool {
    changes_filter(operation) || backstop::is_backstop(&operation["value"])
}

/// Whether a patch sets the filter's failure policy.
fn sets_failure_policy(operation: &Value) -> bool {
    reloads(operation) || opens(operation)
}

/// Whether a patch sets the filter's failure policy to FAIL_OPEN.
fn opens(operation: &Value) -> bool {
    patches(operation, "failure_policy", &"FAIL_OPEN".into())
}

/// Whether a patch sets the filter's failure policy to FAIL_RELOAD.
fn reloads(value: &Value) -> bool {
    patches(value, "failure_policy", &"FAIL_RELOAD".into())
}

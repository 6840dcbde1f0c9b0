//! What is known of the native edition, a dynamic module: in Envoy's own configuration and in Envoy Gateway's resources.

use super::around::{ADD_BACKSTOP, Lint, any};
use super::backstop;
use super::find::looks_like_ours;
use super::finding::{is_placeholder_digest, join, list, text};
use keyward_policy::config::Mode;
use serde_json::Value;

/// The namespace under which the metrics have the names that dashboards and alerts use.
const NAMESPACE: &str = "wasmcustom";
const OTHER_NAMES: &str = "the metrics get other names than those that the dashboard and the alerts use";
/// A remote module without a backstop.
const SKIPPED: &str =
    "while the library cannot be fetched, Envoy leaves the filter out without a word, and every request passes";
/// A remote module that Envoy does not insist on.
const STARTS_WITHOUT: &str = "Envoy starts without the filter when the library cannot be fetched";
const UNVERSIONED: &str =
    "the file's name has no version: an update in place ends Envoy, and one by renaming is not loaded";
const VERSION: &str = "use a name with the version, like `libkeyward-0.1.0.so`, and a new one for each version";
const GLOBAL: &str = "all modules have functions of the same names, which get mixed up if one is loaded globally";
const TERMINAL: &str = "Keyward passes requests on, and a terminal filter must answer all of them";

impl Lint<'_> {
    /// Checks the settings of a dynamic module in Envoy's configuration. `place` is that of the `DynamicModuleFilter`.
    pub(super) fn dynamic_module(&mut self, filter: &Value, place: &str) {
        if filter["terminal_filter"] == true {
            self.findings.error(join(place, "terminal_filter"), TERMINAL, "remove it");
        }
        let module = &filter["dynamic_module_config"];
        let place = join(place, "dynamic_module_config");
        if module["load_globally"] == true {
            self.findings.warn(join(&place, "load_globally"), GLOBAL, "remove it");
        }
        match module.get("metrics_namespace") {
            Some(namespace) if namespace == NAMESPACE => {}
            given => {
                let place = if given.is_some() { join(&place, "metrics_namespace") } else { place.clone() };
                self.findings.warn(place, OTHER_NAMES, format!("use `metrics_namespace: {NAMESPACE}`"));
            }
        }
        let source = &module["module"];
        if source.is_null() {
            self.version_of(
                text(&module["name"]),
                &join(&place, "name"),
                "put the version into it, like `keyward-0.1.0`",
            );
        }
        self.version_of(text(&source["local"]["filename"]), &join(&place, "module.local.filename"), VERSION);
        let remote = join(&place, "module.remote");
        if source["remote"].is_object() {
            self.digest(text(&source["remote"]["sha256"]), &join(&remote, "sha256"));
            if module["nack_on_cache_miss"] != true {
                self.findings.warn(remote, STARTS_WITHOUT, "set `nack_on_cache_miss: true` beside `module`");
            }
        }
    }

    /// Notes that a dynamic module has no backstop behind it, if Envoy fetches it. Returns whether it does.
    pub(super) fn remote_without_backstop(&mut self, filter: &Value, place: &str) -> bool {
        let is_remote = filter["dynamic_module_config"]["module"]["remote"].is_object();
        if is_remote {
            self.findings.gap(join(place, "dynamic_module_config.module.remote"), SKIPPED, ADD_BACKSTOP);
        }
        is_remote
    }

    /// Checks the dynamic modules of an EnvoyExtensionPolicy. Returns whether Keyward is one of them.
    pub(super) fn gateway_modules(&mut self, spec: &Value, path: &str) -> bool {
        let all = self.all;
        let mut ours = false;
        for (index, module) in list(&spec["dynamicModule"]).iter().enumerate() {
            if !looks_like_ours(module, &module["config"]) {
                continue;
            }
            ours = true;
            let place = join(path, &format!("dynamicModule[{index}]"));
            if module["terminalFilter"] == true {
                self.findings.error(join(&place, "terminalFilter"), TERMINAL, "remove it");
            }
            let name = text(&module["name"]);
            let proxies = || all.iter().filter(|document| document["kind"] == "EnvoyProxy");
            let lists =
                |proxy: &Value| list(&proxy["spec"]["dynamicModules"]).iter().any(|entry| entry["name"] == name);
            if proxies().next().is_some() && !proxies().any(lists) {
                self.findings.error(
                    join(&place, "name"),
                    format!("the EnvoyProxy does not list the module `{name}`: Envoy Gateway refuses the policy"),
                    "add it to the EnvoyProxy's `spec.dynamicModules`",
                );
            }
            if !all
                .iter()
                .any(|document| any(document, &|value| patches(value, "metrics_namespace", &NAMESPACE.into())))
            {
                let help = format!(
                    "add `metrics_namespace: {NAMESPACE}` by an EnvoyPatchPolicy, as deploy/envoy-gateway/ does"
                );
                self.findings.warn(place, OTHER_NAMES, help);
            }
        }
        ours
    }

    /// Checks the entries of an EnvoyProxy's list of modules that policies with Keyward name.
    pub(super) fn envoy_proxy(&mut self, spec: &Value, path: &str) {
        let all = self.all;
        self.proxy_variable(spec, path);
        let names: Vec<&str> = all
            .iter()
            .filter(|document| document["kind"] == "EnvoyExtensionPolicy")
            .flat_map(|policy| list(&policy["spec"]["dynamicModule"]))
            .filter(|module| looks_like_ours(module, &module["config"]))
            .map(|module| text(&module["name"]))
            .collect();
        for (index, entry) in list(&spec["dynamicModules"]).iter().enumerate() {
            if !names.contains(&text(&entry["name"])) {
                continue;
            }
            let place = join(path, &format!("dynamicModules[{index}]"));
            if entry["loadGlobally"] == true {
                self.findings.warn(join(&place, "loadGlobally"), GLOBAL, "remove it");
            }
            let source = &entry["source"];
            self.version_of(text(&source["local"]["path"]), &join(&place, "source.local.path"), VERSION);
            if !source["remote"].is_object() {
                continue;
            }
            let remote = join(&place, "source.remote");
            self.digest(text(&source["remote"]["sha256"]), &join(&remote, "sha256"));
            if self.config.mode == Mode::Enforce && !all.iter().any(|document| any(document, &backstop::is_in_force)) {
                self.findings.gap(&remote, SKIPPED, ADD_BACKSTOP);
            }
            if !all.iter().any(|document| any(document, &|value| patches(value, "nack_on_cache_miss", &true.into()))) {
                let help = "Envoy Gateway has no field for it: set `nack_on_cache_miss` by an EnvoyPatchPolicy, or put the file \
                            into the image and use `type: Local`";
                self.findings.warn(remote, STARTS_WITHOUT, help);
            }
        }
    }

    /// Checks that the name of a library, or of its file, has a version in it. Without a name there is nothing to check.
    fn version_of(&mut self, file: &str, place: &str, help: &str) {
        let name = file.rsplit('/').next().unwrap_or_default();
        // What Cargo built is loaded where it is only to try it.
        let is_build = file.starts_with("target/");
        if !name.is_empty() && !is_build && !name.bytes().any(|byte| byte.is_ascii_digit()) {
            self.findings.warn(place, UNVERSIONED, help);
        }
    }

    fn digest(&mut self, digest: &str, place: &str) {
        if is_placeholder_digest(digest) {
            self.findings.warn(
                place,
                "this is not the digest of a library",
                "put the SHA-256 of the library's file here",
            );
        }
    }
}

/// Returns whether a patch gives a field of the filter this value.
pub(super) fn patches(operation: &Value, field: &str, wanted: &Value) -> bool {
    let by_path = text(&operation["path"]).ends_with(field) && operation["value"] == *wanted;
    by_path || operation[field] == *wanted
}

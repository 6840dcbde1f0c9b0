//! What is known of Envoy's own configuration: listeners, the order of their filters, and routes.

use super::around::{ADD_BACKSTOP, Lint, NO_BACKSTOP, is_keyward};
use super::backstop;
use super::find::{dynamic_module, wasm_plugin};
use super::finding::{is_placeholder_digest, join, list, text};
use super::past;
use keyward_policy::config::Mode;
use serde_json::Value;

/// Filters that can change a request, by the end of their type, and whether they can clear the route cache.
const CHANGING: [(&str, &str); 8] = [
    ("http.lua.v3.Lua", "lua"),
    ("http.ext_proc.v3.ExternalProcessor", "ext_proc"),
    ("http.golang.v3alpha.Config", "golang"),
    ("http.dynamic_modules.v3.DynamicModuleFilter", "dynamic_modules"),
    ("http.grpc_json_transcoder.v3.GrpcJsonTranscoder", "grpc_json_transcoder"),
    ("http.header_mutation.v3.HeaderMutation", "header_mutation"),
    ("http.wasm.v3.Wasm", "wasm"),
    ("http.composite.v3.Composite", "composite"),
];

/// Further filters that can clear the route cache.
const CLEARING: [(&str, &str); 4] = [
    ("http.jwt_authn.v3.JwtAuthentication", "jwt_authn"),
    ("http.ext_authz.v3.ExtAuthz", "ext_authz"),
    ("http.set_metadata.v3.Config", "set_metadata"),
    ("http.json_to_metadata.v3.JsonToMetadata", "json_to_metadata"),
];

/// Filters that answer from a cache.
const CACHES: [&str; 2] = ["http.cache.v3.CacheConfig", "http.cache_v2.v3.CacheV2Config"];

fn kind_of(filter: &Value, kinds: &[(&str, &'static str)]) -> Option<&'static str> {
    let kind = text(&filter["typed_config"]["@type"]);
    kinds.iter().find(|(end, _)| kind.ends_with(end)).map(|(_, name)| *name)
}

impl Lint<'_> {
    /// Checks one HTTP connection manager.
    pub(super) fn connection_manager(&mut self, manager: &Value, path: &str) {
        let filters = list(&manager["http_filters"]);
        let Some(ours) = filters.iter().position(is_keyward) else {
            return self.findings.possible_gap(
                join(path, "http_filters"),
                "this listener does not run Keyward",
                "add the filter here too, or make sure that nothing protected is behind it",
            );
        };
        let place = join(path, &format!("http_filters[{ours}]"));
        self.filter(&filters[ours], &place);
        self.backstop(filters, path, ours);
        self.order(filters, path, ours);
        for field in ["normalize_path", "merge_slashes"] {
            if manager[field] != true {
                self.findings.warn(
                    join(path, field),
                    "Envoy does not normalise paths, and the filter refuses ambiguous ones",
                    format!("set `{field}: true`"),
                );
            }
        }
        for (index, upgrade) in list(&manager["upgrade_configs"]).iter().enumerate() {
            let own = list(&upgrade["filters"]);
            let place = join(path, &format!("upgrade_configs[{index}].filters"));
            if !own.is_empty() && !own.iter().any(is_keyward) {
                self.gap(
                    place,
                    "upgrade requests take this list, and the filter is not in it",
                    "remove `filters`, or put Keyward and its backstop into it",
                );
            } else if !own.is_empty() && self.config.mode == Mode::Enforce && !own.iter().any(backstop::is_sound) {
                self.findings.gap(place, NO_BACKSTOP, ADD_BACKSTOP);
            }
        }
    }

    /// Checks the settings of the filter.
    fn filter(&mut self, filter: &Value, place: &str) {
        let fails_open = past::fails_open(filter);
        for fault in past::off(filter, "filter").into_iter().chain(fails_open.clone()) {
            self.gap(join(place, &fault.path), fault.message, fault.help);
        }
        if let Some((prefix, module)) = dynamic_module(&filter["typed_config"]) {
            self.dynamic_module(module, join(place, &format!("typed_config.{prefix}")).trim_end_matches('.'));
        }
        let Some(plugin) = wasm_plugin(&filter["typed_config"]) else { return };
        let place = join(place, "typed_config.config");
        if fails_open.is_none() && plugin["failure_policy"] != "FAIL_RELOAD" {
            self.findings.warn(
                join(&place, "failure_policy"),
                "a crashed filter stays down until Envoy restarts",
                "use `FAIL_RELOAD`",
            );
        }
        if plugin["allow_on_headers_stop_iteration"] == true {
            let message = "held requests depend on it being off";
            self.findings.warn(join(&place, "allow_on_headers_stop_iteration"), message, "remove it");
        }
        let remote = &plugin["vm_config"]["code"]["remote"];
        if remote.is_object() && is_placeholder_digest(text(&remote["sha256"])) {
            self.findings.warn(
                join(&place, "vm_config.code.remote.sha256"),
                "this is not the digest of a module",
                "put the SHA-256 of `keyward.wasm` here",
            );
        }
    }

    fn backstop(&mut self, filters: &[Value], path: &str, ours: usize) {
        let place = |at: usize, field: &str| join(path, &format!("http_filters[{at}].{field}"));
        let behind = || filters.iter().enumerate().skip(ours + 1).filter(|(_, filter)| backstop::is_in_force(filter));
        if self.config.mode == Mode::Shadow {
            for (at, _) in behind() {
                self.findings.warn(
                    place(at, "typed_config.rules"),
                    "the backstop refuses what shadow mode lets pass",
                    "rename `rules` to `shadow_rules` while the mode is `shadow`",
                );
            }
            return;
        }
        for (at, filter) in filters.iter().enumerate().take(ours) {
            if backstop::is_in_force(filter) {
                self.findings.error(
                    join(path, &format!("http_filters[{at}]")),
                    "the backstop is in front of Keyward, where no decision exists yet: it refuses every request",
                    "move it behind Keyward, right before the router",
                );
            }
        }
        let sound: Vec<(usize, &Value)> = behind().filter(|(_, filter)| backstop::is_sound(filter)).collect();
        if sound.is_empty() {
            let mut faults =
                behind().flat_map(|(at, filter)| backstop::faults(filter).into_iter().map(move |f| (at, f)));
            let mut any = false;
            for (at, fault) in faults.by_ref() {
                any = true;
                self.findings.gap(place(at, &fault.path), fault.message, fault.help);
            }
            let fetched = dynamic_module(&filters[ours]["typed_config"]).is_some_and(|(prefix, module)| {
                let place = place(ours, &format!("typed_config.{prefix}"));
                !any && self.remote_without_backstop(module, place.trim_end_matches('.'))
            });
            if !any && !fetched {
                let path = join(path, "http_filters");
                // Envoy refuses a listener whose local library it cannot load.
                if dynamic_module(&filters[ours]["typed_config"]).is_some() {
                    self.findings.possible_gap(path, NO_BACKSTOP, ADD_BACKSTOP);
                } else {
                    self.findings.gap(path, NO_BACKSTOP, ADD_BACKSTOP);
                }
            }
        }
        for (at, filter) in &sound {
            for fault in self.narrow(filter) {
                self.findings.error(place(*at, &fault.path), fault.message, fault.help);
            }
        }
        if !sound.is_empty() && sound.iter().all(|(_, filter)| past::off(filter, "backstop").is_some()) {
            for (at, fault) in sound.iter().filter_map(|(at, filter)| Some((*at, past::off(filter, "backstop")?))) {
                self.findings.gap(place(at, &fault.path), fault.message, fault.help);
            }
        }
    }

    /// Checks the filters in front of Keyward and behind it.
    fn order(&mut self, filters: &[Value], path: &str, ours: usize) {
        for (at, filter) in filters.iter().enumerate() {
            let place = join(path, &format!("http_filters[{at}]"));
            let name = text(&filter["name"]);
            if CACHES.iter().any(|end| text(&filter["typed_config"]["@type"]).ends_with(end)) {
                let (message, help) = if at < ours {
                    ("it answers from its cache before Keyward has checked anything", "put it behind Keyward")
                } else {
                    (
                        "it gives one key's answer to other keys",
                        "remove it, or make sure that the upstream's answers do not depend on the key",
                    )
                };
                self.findings.warn(&place, format!("`{name}`: {message}"), help);
            }
            if any_state_of_ours(filter) {
                self.findings.gap(
                    &place,
                    format!("`{name}` sets Keyward's own filter state, by which the backstop lets requests pass"),
                    "let it set another name",
                );
            }
            if at <= ours {
                continue;
            }
            let changing = kind_of(filter, &CHANGING);
            if let Some(kind) = changing {
                self.findings.warn(
                    &place,
                    format!(
                        "`{name}` ({kind}) runs behind Keyward and can change what was checked: path, method, identity"
                    ),
                    "put it in front of Keyward, or make sure that it changes none of them",
                );
            }
            if self.config.route_metadata
                && let Some(kind) = changing.or_else(|| kind_of(filter, &CLEARING))
            {
                self.findings.warn(
                    &place,
                    format!(
                        "`{name}` ({kind}) can clear the route cache behind Keyward: the request may then take a route whose \
                         metadata was not read"
                    ),
                    "put it in front of Keyward, or use rules instead of `route_metadata`",
                );
            }
        }
    }

    /// Checks a route.
    pub(super) fn route(&mut self, route: &Value, path: &str) {
        for (index, header) in list(&route["match"]["headers"]).iter().enumerate() {
            self.matched_header(text(&header["name"]), &join(path, &format!("match.headers[{index}]")));
        }
        for (index, parameter) in list(&route["match"]["query_parameters"]).iter().enumerate() {
            self.matched_parameter(text(&parameter["name"]), &join(path, &format!("match.query_parameters[{index}]")));
        }
        if !route["route"]["internal_redirect_policy"].is_null() {
            self.findings.warn(
                join(path, "route.internal_redirect_policy"),
                "a redirected request has lost its key, and is denied",
                "leave it off on protected routes",
            );
        }
        for field in ["prefix_rewrite", "regex_rewrite", "path_rewrite_policy", "path_rewrite"] {
            if !route["route"][field].is_null() {
                self.rewritten(&join(path, &format!("route.{field}")));
            }
        }
    }
}

/// Whether a filter sets a filter state under one of Keyward's names.
pub(super) fn any_state_of_ours(filter: &Value) -> bool {
    text(&filter["typed_config"]["@type"]).contains("http.set_filter_state.")
        && super::around::any(filter, &|value| text(&value["object_key"]).starts_with("wasm.keyward."))
}

//! Each kind of file that carries a configuration, and each thing worth a look.

mod faults;
mod mutations;
mod native;
mod planes;
mod releases;
mod severity;

use super::document::{ReadError, Source};
use super::report::{self, Options, Report};

const CONFIG: &str = r#"{"manifest":{"keys":[]},"rules":[{"path":"/a","access":"public"}]}"#;

fn check_with(text: &str, options: &Options) -> Result<Vec<Report>, ReadError> {
    report::check(&[Source { name: "file", text }], options).map_err(|(_, error)| error)
}

fn check_text(text: &str) -> Result<Vec<Report>, ReadError> {
    check_with(text, &Options::default())
}

fn check(text: &str) -> Vec<Report> {
    check_text(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn warnings(text: &str) -> Vec<String> {
    let warnings = check(text).into_iter().flat_map(|report| report.warnings);
    warnings.map(|warning| format!("{}: {}", warning.path, warning.message)).collect()
}

fn errors(text: &str) -> Vec<String> {
    let errors = check(text).into_iter().flat_map(|report| report.errors);
    errors.map(|error| format!("{}: {}", error.path, error.message)).collect()
}

/// The mistakes by which a request can pass without a key.
fn gaps(text: &str) -> Vec<String> {
    let errors = check(text).into_iter().flat_map(|report| report.errors).filter(|error| error.lets_pass);
    errors.map(|error| format!("{}: {}", error.path, error.message)).collect()
}

fn indent(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

/// An HTTP connection manager with a Keyward filter, and more fields.
fn manager(plugin: &str, filters_after: &str, more: &str) -> String {
    format!(
        r#"static_resources:
  listeners:
  - filter_chains:
    - filters:
      - typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          normalize_path: true
          merge_slashes: true
{more}          http_filters:
          - name: keyward
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
              config:
                name: keyward
                failure_policy: FAIL_RELOAD
                configuration: {plugin}
{filters_after}"#
    )
}

const BACKSTOP: &str = r#"          - name: backstop
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
              rules: {action: ALLOW, policies: {decided: {permissions: [{any: true}], principals: [{filter_state: {key: wasm.keyward.decision, string_match: {exact: allowed}}}, {filter_state: {key: wasm.keyward.decision, string_match: {exact: public}}}]}}}
"#;

/// A backstop beside a resource of Istio's or Envoy Gateway's.
const PATCH: &str = r#"---
kind: EnvoyFilter
spec:
  priority: 100
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: GATEWAY, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: keyward_backstop
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
          rules_stat_prefix: keyward_backstop_rbac.
          rules: {action: ALLOW, policies: {decided: {permissions: [{any: true}], principals: [{filter_state: {key: wasm.keyward.decision, string_match: {exact: allowed}}}, {filter_state: {key: wasm.keyward.decision, string_match: {exact: public}}}]}}}
"#;

/// What makes Envoy Gateway's filter come back after a crash.
const RELOAD: &str = r#"---
kind: EnvoyPatchPolicy
spec:
  jsonPatches:
  - {type: type.googleapis.com/envoy.config.listener.v3.Listener, name: a/g/https, operation: {op: add, path: /failure_policy, value: FAIL_RELOAD}}
"#;

fn wasm_plugin(config: &str) -> String {
    format!(
        "kind: WasmPlugin\nspec:\n  pluginName: keyward\n  phase: AUTHN\n  failStrategy: FAIL_RELOAD\n  pluginConfig: {config}\n"
    )
}

fn policy(config: &str) -> String {
    format!(
        "kind: EnvoyExtensionPolicy\nspec:\n  wasm:\n  - name: other\n    config: {{a: 1}}\n  - name: keyward\n    config: {config}\n"
    )
}

fn string_value() -> String {
    format!(r#"{{"@type": type.googleapis.com/google.protobuf.StringValue, value: '{CONFIG}'}}"#)
}

#[test]
fn every_kind_of_file_is_understood() {
    let struct_value = format!(r#"{{"@type": type.googleapis.com/google.protobuf.Struct, value: {CONFIG}}}"#);
    let wasm_plugin = format!("apiVersion: v1\nkind: Service\n---\n{}{PATCH}", wasm_plugin(CONFIG));
    let policy = format!("{}{PATCH}{RELOAD}", policy(CONFIG));
    for text in [
        CONFIG.to_owned(),
        "manifest: {keys: []}\nrules:\n- {path: /a, access: public}\n".to_owned(),
        manager(&string_value(), BACKSTOP, ""),
        manager(&struct_value, BACKSTOP, ""),
        wasm_plugin,
        policy,
    ] {
        let reports = check(&text);
        assert_eq!(reports.len(), 1, "{text}");
        assert_eq!((reports[0].errors.len(), reports[0].rules), (0, 1), "{text}\n{:?}", reports[0].errors);
        assert_eq!(reports[0].warnings, [], "{text}");
    }
}

#[test]
fn mistakes_are_the_filters_own_words() {
    let reports = check(r#"{"rules":[],"mode":"enforce","mode":"shadow","manifest":{}}"#);
    let errors: Vec<String> =
        reports[0].errors.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
    assert_eq!(errors, ["manifest: field `keys` is missing", "mode: the field is given twice"]);
    let reports = check("kind: WasmPlugin\nspec: {pluginName: keyward}\n");
    assert_eq!(reports[0].errors[0].message, "there is no `pluginConfig`, which holds the filter's configuration");
}

#[test]
fn a_file_without_a_configuration_says_so() {
    for text in ["a: 1\n", "kind: WasmPlugin\nspec: {pluginName: other, pluginConfig: {a: 1}}\n", ""] {
        let error = check_text(text).unwrap_err();
        assert!(matches!(error, ReadError::NoConfiguration(_)), "{error}");
    }
    let error = check_text("a: [").unwrap_err();
    assert!(error.to_string().starts_with("neither YAML nor JSON: "), "{error}");
}

#[test]
fn as_many_keys_as_the_filter_takes_are_read_from_yaml() {
    let key = |n: u64| {
        let start = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("  - {{id: key_{n}, name: key, sha256: '{start:016x}{n:048x}', permissions: [a:read]}}\n")
    };
    let keys: String = (0..28_000).map(key).collect();
    let reports = check(&format!("rules:\n- {{path: /a, require: [a:read]}}\nmanifest:\n  keys:\n{keys}"));
    assert!(reports[0].errors.is_empty(), "{:?}", reports[0].errors);
}

#[test]
fn a_field_that_is_given_twice_is_told_in_words_for_people() {
    let error = check_text("rules: []\nrealm: a\nrealm: b\n").unwrap_err().to_string();
    assert!(error.contains("realm") && error.contains("line 3") && !error.contains("Policy"), "{error}");
}

#[test]
fn ways_around_the_filter_are_pointed_out() {
    assert_eq!(gaps(&manager(&string_value(), "", "")).len(), 1);
    assert!(gaps(&manager(&string_value(), "", ""))[0].contains("no RBAC backstop"));
    let upgrade =
        "          upgrade_configs: [{upgrade_type: websocket, filters: [{name: envoy.filters.http.router}]}]\n";
    assert!(gaps(&manager(&string_value(), BACKSTOP, upgrade))[0].contains("the filter is not in it"));
    let route = |inner: &str| {
        format!("          route_config: {{virtual_hosts: [{{routes: [{{match: {{prefix: /{inner}}}]}}]}}\n")
    };
    let by_key = route(", headers: [{name: X-Api-Key, present_match: true}]}, route: {cluster: c}");
    assert!(warnings(&manager(&string_value(), BACKSTOP, &by_key))[0].contains("the filter changes `x-api-key`"));
    let redirect = route("}, route: {cluster: c, internal_redirect_policy: {}}");
    assert!(warnings(&manager(&string_value(), BACKSTOP, &redirect))[0].contains("has lost its key"));
    let disabled = route("}, route: {cluster: c}, typed_per_filter_config: {keyward: {disabled: true}}");
    assert!(gaps(&manager(&string_value(), BACKSTOP, &disabled))[0].contains("is off here"));
    let open = manager(&string_value(), BACKSTOP, "").replace("FAIL_RELOAD", "FAIL_OPEN");
    assert!(gaps(&open)[0].contains("pass unchecked"));
    let raw = manager(&string_value(), BACKSTOP, "").replace("normalize_path: true", "normalize_path: false");
    assert!(warnings(&raw)[0].contains("does not normalise paths"));
}

#[test]
fn settings_per_route_are_seen_wherever_they_stand() {
    let routes = |at: &str| {
        let off = "typed_per_filter_config: {keyward: {disabled: true}}";
        let (all, host, route, part) = match at {
            "route_config" => (off, "", "", ""),
            "virtual_host" => ("", off, "", ""),
            "route" => ("", "", off, ""),
            _ => ("", "", "", off),
        };
        let field = |text: &str| if text.is_empty() { String::new() } else { format!(", {text}") };
        format!(
            "          route_config: {{name: r{}, virtual_hosts: [{{name: v{}, routes: [{{match: {{prefix: /}}{}, route: \
             {{weighted_clusters: {{clusters: [{{name: c{}}}]}}}}}}]}}]}}\n",
            field(all),
            field(host),
            field(route),
            field(part)
        )
    };
    for at in ["route_config", "virtual_host", "route", "weighted_cluster"] {
        let gaps = gaps(&manager(&string_value(), BACKSTOP, &routes(at)));
        assert_eq!(gaps.len(), 1, "{at}: {gaps:?}");
        assert!(gaps[0].contains("typed_per_filter_config.keyward: the filter `keyward` is off here"), "{gaps:?}");
    }
    let other = routes("route").replace("{keyward:", "{envoy.filters.http.cors:");
    assert_eq!(check(&manager(&string_value(), BACKSTOP, &other))[0].errors, []);
    assert_eq!(warnings(&manager(&string_value(), BACKSTOP, &other)), Vec::<String>::new());
    let backstop = routes("route").replace("{keyward:", "{backstop:");
    assert!(gaps(&manager(&string_value(), BACKSTOP, &backstop))[0].contains("`backstop` is off here"));
    let rules = backstop.replace(
        "{disabled: true}",
        "{'@type': type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute}",
    );
    assert!(gaps(&manager(&string_value(), BACKSTOP, &rules))[0].contains("`backstop` has other rules here"));
    // Routes that come without their listener, in a document of their own.
    let rds = "---\nname: r\nvirtual_hosts:\n- name: v\n  routes:\n  - match: {prefix: /}\n    route: {cluster: c}\n    \
               typed_per_filter_config: {keyward: {disabled: true}}\n";
    let found = gaps(&format!("{}{rds}", manager(&string_value(), BACKSTOP, "")));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("document 2: virtual_hosts[0].routes[0].typed_per_filter_config.keyward:"),
        "{found:?}"
    );
}

#[test]
fn a_backstop_that_does_not_fit_the_mode_is_pointed_out() {
    let shadow = string_value().replace(r#"{"manifest""#, r#"{"mode":"shadow","manifest""#);
    let found = warnings(&manager(&shadow, BACKSTOP, ""));
    assert!(found.iter().any(|warning| warning.contains("refuses what shadow mode lets pass")), "{found:?}");
    let shadow_rules = BACKSTOP.replace("rules:", "shadow_rules:");
    assert_eq!(warnings(&manager(&shadow, &shadow_rules, "")).len(), 1);
    assert!(gaps(&manager(&string_value(), &shadow_rules, ""))[0].contains("no RBAC backstop"));
    let off = BACKSTOP.replace("- name: backstop", "- name: backstop\n            disabled: true");
    assert!(gaps(&manager(&string_value(), &off, ""))[0].contains("the backstop is off"));
    for alone in [wasm_plugin(CONFIG), policy(CONFIG)] {
        assert!(warnings(&alone).iter().any(|warning| warning.contains("no RBAC backstop")), "{alone}");
    }
    let closed = wasm_plugin(CONFIG).replace("  failStrategy: FAIL_RELOAD\n", "");
    assert!(warnings(&format!("{closed}{PATCH}"))[0].contains("stays down"));
}

#[test]
fn a_key_that_nobody_removes_is_pointed_out() {
    let shown = string_value().replace(r#"{"manifest""#, r#"{"hide_key":false,"manifest""#);
    assert!(warnings(&manager(&shown, BACKSTOP, ""))[0].contains("nothing removes `x-api-key`"));
    let removed = "          route_config: {request_headers_to_remove: [X-Api-Key]}\n";
    assert_eq!(warnings(&manager(&shown, BACKSTOP, removed)), Vec::<String>::new());
}

#[test]
fn resources_that_choose_a_route_by_the_key_are_pointed_out() {
    let service = "---\nkind: VirtualService\nspec: {http: [{match: [{headers: {X-Api-Key: {exact: a}}}, {uri: {prefix: /}}]}]}\n";
    let route = "---\nkind: HTTPRoute\nspec: {rules: [{matches: [{headers: [{name: x-a}, {name: x-api-key-id}]}]}]}\n";
    let found = warnings(&format!("{}{PATCH}{service}{route}", wasm_plugin(CONFIG)));
    assert_eq!(
        found,
        [
            "document 3: spec.http[0].match[0].headers.X-Api-Key: the filter changes `x-api-key`, and then Envoy chooses the route again",
            "document 4: spec.rules[0].matches[0].headers[1]: the filter changes `x-api-key-id`, and then Envoy chooses the route again",
        ]
    );
}

#[test]
fn an_upgrade_list_needs_the_backstop_too() {
    let wasm = r#"{name: keyward, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm, config: {name: keyward}}}"#;
    let upgrade = format!("          upgrade_configs: [{{upgrade_type: websocket, filters: [{wasm}]}}]\n");
    let found = gaps(&manager(&string_value(), BACKSTOP, &upgrade));
    assert!(
        found.iter().any(|warning| warning.contains("upgrade_configs[0].filters: there is no RBAC backstop")),
        "{found:?}"
    );
}

#[test]
fn rules_that_are_never_reached_are_pointed_out() {
    let config = |rules: &str| format!("manifest: {{keys: []}}\nrules:\n{}", indent(rules, 0));
    let text =
        config("- {path: /a/**, access: deny}\n- {path: '/a/{b}', access: public}\n- {path: /c, access: public}\n");
    assert_eq!(warnings(&text), ["rules[1]: `any method /a/{b}` is never reached: rules[0] matches all of it"]);
    let text = config(
        "- {methods: [GET], path: '/a/{b}', access: public}\n- {path: '/a/{b}', access: public}\n- {path: /a/b/, access: public}\n",
    );
    assert_eq!(warnings(&text), Vec::<String>::new());
}

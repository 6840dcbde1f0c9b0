//! Each kind of file that carries a configuration, and each thing worth a look.

use super::*;

const CONFIG: &str = r#"{"manifest":{"keys":[]},"rules":[{"path":"/a","access":"public"}]}"#;

fn check(text: &str) -> Vec<Report> {
    check_text(Path::new("file"), text).unwrap_or_else(|(_, message)| panic!("{message}\n{text}"))
}

fn warnings(text: &str) -> Vec<String> {
    check(text)
        .into_iter()
        .flat_map(|report| report.warnings)
        .map(|warning| format!("{}: {}", warning.path, warning.message))
        .collect()
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
              rules: {action: ALLOW, policies: {decided: {principals: [{filter_state: {key: wasm.keyward.decision}}]}}}
"#;

fn string_value() -> String {
    format!(r#"{{"@type": type.googleapis.com/google.protobuf.StringValue, value: '{CONFIG}'}}"#)
}

#[test]
fn every_kind_of_file_is_understood() {
    let struct_value = format!(r#"{{"@type": type.googleapis.com/google.protobuf.Struct, value: {CONFIG}}}"#);
    let wasm_plugin = format!(
        "apiVersion: v1\nkind: Service\n---\nkind: WasmPlugin\nspec:\n  pluginName: keyward\n  pluginConfig: {CONFIG}\n"
    );
    let policy = format!(
        "kind: EnvoyExtensionPolicy\nspec:\n  wasm:\n  - name: other\n    config: {{a: 1}}\n  - name: keyward\n    config: {CONFIG}\n"
    );
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
    assert_eq!(errors, ["manifest: field `keys` is missing", "mode: the field is there twice"]);
    let reports = check("kind: WasmPlugin\nspec: {pluginName: keyward}\n");
    assert_eq!(reports[0].errors[0].message, "there is no configuration");
}

#[test]
fn a_file_without_a_configuration_says_so() {
    for text in ["a: 1\n", "kind: WasmPlugin\nspec: {pluginName: other, pluginConfig: {a: 1}}\n", ""] {
        let (exit, message) = check_text(Path::new("file"), text).unwrap_err();
        assert_eq!(exit, Exit::Invalid);
        assert!(message.starts_with("file: no Keyward configuration in it"), "{message}");
    }
    let (exit, message) = check_text(Path::new("file"), "a: [").unwrap_err();
    assert!(exit == Exit::Invalid && message.starts_with("file: not YAML or JSON: "), "{message}");
}

#[test]
fn ways_around_the_filter_are_pointed_out() {
    assert_eq!(warnings(&manager(&string_value(), "", "")).len(), 1);
    assert!(warnings(&manager(&string_value(), "", ""))[0].contains("no RBAC backstop"));
    let upgrade =
        "          upgrade_configs: [{upgrade_type: websocket, filters: [{name: envoy.filters.http.router}]}]\n";
    assert!(warnings(&manager(&string_value(), BACKSTOP, upgrade))[0].contains("the filter is not in it"));
    let route = |inner: &str| {
        format!("          route_config: {{virtual_hosts: [{{routes: [{{match: {{prefix: /{inner}}}]}}]}}\n")
    };
    let by_key = route(", headers: [{name: X-Api-Key, present_match: true}]}, route: {cluster: c}");
    assert!(warnings(&manager(&string_value(), BACKSTOP, &by_key))[0].contains("the filter changes `x-api-key`"));
    let redirect = route("}, route: {cluster: c, internal_redirect_policy: {}}");
    assert!(warnings(&manager(&string_value(), BACKSTOP, &redirect))[0].contains("has lost its key"));
    let disabled = route("}, route: {cluster: c}, typed_per_filter_config: {keyward: {disabled: true}}");
    assert!(warnings(&manager(&string_value(), BACKSTOP, &disabled))[0].contains("is off on this route"));
    let open = manager(&string_value(), BACKSTOP, "").replace("FAIL_RELOAD", "FAIL_OPEN");
    assert!(warnings(&open)[0].contains("pass unchecked"));
    let raw = manager(&string_value(), BACKSTOP, "").replace("normalize_path: true", "normalize_path: false");
    assert!(warnings(&raw)[0].contains("leaves paths as they come"));
}

#[test]
fn rules_that_are_never_reached_are_pointed_out() {
    let config = |rules: &str| format!("manifest: {{keys: []}}\nrules:\n{}", indent(rules, 0));
    let text =
        config("- {path: /a/**, access: deny}\n- {path: '/a/{b}', access: public}\n- {path: /c, access: public}\n");
    assert_eq!(warnings(&text), ["rules[1]: `any method /a/{b}` is never reached: rule 0 matches all of it"]);
    let text = config(
        "- {methods: [GET], path: '/a/{b}', access: public}\n- {path: '/a/{b}', access: public}\n- {path: /a/b/, access: public}\n",
    );
    assert_eq!(warnings(&text), Vec::<String>::new());
}

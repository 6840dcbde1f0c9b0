//! The native edition: a dynamic module in Envoy's files, and in those of Envoy Gateway.

use super::faults::{expect, expect_with};
use super::*;
use crate::plugin_config::document::read_one;
use crate::plugin_config::versions::{Version, Versions};

const LOCAL: &str = "{local: {filename: /opt/keyward/libkeyward-0.1.0.so}}";
const DIGEST: &str = "sha256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// An HTTP connection manager with the native edition in place of the WebAssembly one.
fn native(config: &str, module: &str, more: &str, filters_after: &str) -> String {
    let wasm = manager("X", filters_after, "");
    let at = wasm.find("            typed_config:\n              \"@type\": type.googleapis.com/envoy.extensions.filters.http.wasm").unwrap();
    let end = wasm.find("configuration: X\n").unwrap() + "configuration: X\n".len();
    let filter = format!(
        r#"            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter
              dynamic_module_config:
                metrics_namespace: wasmcustom
                module: {module}
{more}              filter_name: keyward
              filter_config: {config}
"#
    );
    format!("{}{filter}{}", &wasm[..at], &wasm[end..])
}

fn sound() -> String {
    native(&string_value(), LOCAL, "", BACKSTOP)
}

/// Envoy Gateway's policy and the list of modules, with the backstop.
fn gateway(source: &str, more: &str) -> String {
    format!(
        "kind: EnvoyExtensionPolicy\nmetadata: {{name: keyward, namespace: databases}}\nspec:\n  dynamicModule:\n  - name: keyward\n    \
         filterName: keyward\n    config: {CONFIG}\n---\nkind: EnvoyProxy\nspec:\n  dynamicModules:\n  - name: keyward\n{more}    \
         source: {source}\n{PATCH}{}",
        metrics("databases/keyward/dynamic-module/0")
    )
}

fn metrics(name: &str) -> String {
    format!(
        r#"---
kind: EnvoyPatchPolicy
spec:
  jsonPatches:
  - type: type.googleapis.com/envoy.config.listener.v3.Listener
    name: a/b/c
    operation:
      op: add
      jsonPath: "..http_filters[?(@.name=='envoy.filters.http.dynamic_modules/envoyextensionpolicy/{name}')].typed_config.dynamic_module_config"
      path: /metrics_namespace
      value: wasmcustom
"#
    )
}

#[test]
fn a_secret_for_the_token_is_for_the_native_edition() {
    let config =
        "{admin: {cluster: keyward_admin, token_secret: {name: edge}}, rules: [{path: /a, access: authenticated}]}";
    let errors = |text: &str| -> Vec<String> {
        let reports = check(text);
        reports[0].errors.iter().map(|error| format!("{}: {}", error.path, error.message)).collect()
    };
    let refused = "admin.token_secret: only the native edition can read secrets of Envoy";
    let istio = format!("kind: WasmPlugin\nspec:\n  url: oci://example.com/keyward\n  pluginConfig: {config}\n");
    let wasm = format!("kind: EnvoyExtensionPolicy\nspec:\n  wasm:\n  - name: keyward\n    config: {config}\n");
    for text in [&istio, &wasm] {
        assert!(errors(text).iter().any(|error| error == refused), "{:?}", errors(text));
    }
    // A configuration by itself may be for either.
    let module = wasm.replace("wasm:", "dynamicModule:");
    for text in [module.as_str(), config] {
        assert!(!errors(text).iter().any(|error| error == refused), "{:?}", errors(text));
    }
}

#[test]
fn both_encodings_are_read_and_checked() {
    let as_struct = format!(r#"{{"@type": type.googleapis.com/google.protobuf.Struct, value: {CONFIG}}}"#);
    for config in [string_value(), as_struct.clone()] {
        let reports = check(&native(&config, LOCAL, "", BACKSTOP));
        assert_eq!(reports.len(), 1);
        assert!(reports[0].place.ends_with("http_filters[0].typed_config.filter_config"), "{}", reports[0].place);
        assert_eq!((&reports[0].errors[..], &reports[0].warnings[..], reports[0].rules), (&[][..], &[][..], 1));
        let (read, normalisation) = read_one(&native(&config, LOCAL, "", BACKSTOP)).unwrap();
        assert_eq!(read.routes.rules().len(), 1);
        assert!(normalisation.is_some());
    }
    let mistaken = as_struct.replace("rules:", "rulez:").replace(r#""rules""#, r#""rulez""#);
    expect(&[("mistake", native(&mistaken, LOCAL, "", BACKSTOP), true, "rulez", "unknown field", "")]);
    let nothing = native("{}", LOCAL, "", BACKSTOP);
    assert!(errors(&nothing)[0].contains("there is no configuration"), "{:?}", errors(&nothing));
    let wrapped = sound().replace(
        "\"@type\": type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter\n",
        "\"@type\": type.googleapis.com/xds.type.v3.TypedStruct\n              \
         type_url: type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter\n              \
         value: {filter_name: keyward, dynamic_module_config: {metrics_namespace: wasmcustom, name: keyward-1}, \
         filter_config: {value: '{}'}}\n",
    );
    assert!(check(&wrapped)[0].place.ends_with("typed_config.value.filter_config"), "{}", check(&wrapped)[0].place);
    let other = sound().replace("keyward", "other").replace(CONFIG, "{}");
    assert!(matches!(check_text(&other), Err(ReadError::NoConfiguration(_))));
}

#[test]
fn a_missing_backstop_is_pointed_out_and_refused_where_the_library_is_fetched() {
    expect(&[(
        "local",
        native(&string_value(), LOCAL, "", ""),
        false,
        "http_filters",
        "no RBAC backstop",
        "wasm.keyward.decision",
    )]);
    let remote = format!("{{remote: {{http_uri: {{uri: 'https://a/lib.so', cluster: c, timeout: 5s}}, {DIGEST}}}}}");
    let nack = "                nack_on_cache_miss: true\n";
    assert_eq!(warnings(&native(&string_value(), &remote, nack, BACKSTOP)), Vec::<String>::new());
    let refused = native(&string_value(), &remote, nack, "");
    expect(&[
        (
            "open",
            refused.clone(),
            true,
            "module.remote",
            "without a word, and every request passes",
            "wasm.keyward.decision",
        ),
        (
            "no nack",
            native(&string_value(), &remote, "", BACKSTOP),
            false,
            "module.remote",
            "starts without the filter",
            "nack_on_cache_miss: true",
        ),
        (
            "digest",
            native(&string_value(), &remote.replace(DIGEST, "sha256: REPLACE"), nack, BACKSTOP),
            false,
            "module.remote.sha256",
            "not the digest",
            "SHA-256",
        ),
    ]);
    assert_eq!(errors(&refused).len(), 1, "{:?}", errors(&refused));
    let shadow_rules = BACKSTOP.replace("rules:", "shadow_rules:");
    assert!(errors(&native(&string_value(), &remote, nack, &shadow_rules))[0].contains("module.remote"));
}

#[test]
fn settings_of_the_module_that_go_wrong_later_are_pointed_out() {
    let module = "dynamic_module_config";
    let of = |from: &str, to: &str| {
        assert!(sound().contains(from), "{from}");
        sound().replace(from, to)
    };
    expect(&[
        (
            "version",
            of("libkeyward-0.1.0.so", "libkeyward.so"),
            false,
            "module.local.filename",
            "no version",
            "libkeyward-",
        ),
        (
            "search path",
            of(&format!("module: {LOCAL}"), "name: keyward"),
            false,
            "dynamic_module_config.name",
            "no version",
            "keyward-",
        ),
        (
            "namespace",
            of("metrics_namespace: wasmcustom", "metrics_namespace: other"),
            false,
            "metrics_namespace",
            "other names",
            "wasmcustom",
        ),
        ("none", of("                metrics_namespace: wasmcustom\n", ""), false, module, "other names", "wasmcustom"),
        (
            "global",
            of("metrics_namespace", "load_globally: true\n                metrics_namespace"),
            false,
            "load_globally",
            "same names",
            "remove",
        ),
        (
            "terminal",
            of("filter_name", "terminal_filter: true\n              filter_name"),
            true,
            "terminal_filter",
            "passes requests on",
            "remove",
        ),
        (
            "off",
            of("- name: keyward", "- name: keyward\n            disabled: true"),
            true,
            "disabled",
            "the filter is off",
            "remove",
        ),
    ]);
    // A build of the repository, which is loaded to try it.
    assert_eq!(warnings(&of("/opt/keyward/libkeyward-0.1.0.so", "target/dist/libkeyward.so")), Vec::<String>::new());
}

#[test]
fn a_policy_of_envoy_gateway_with_a_dynamic_module_is_checked() {
    let local = "{type: Local, local: {path: /opt/keyward/libkeyward-0.1.0.so}}";
    let text = gateway(local, "");
    let reports = check(&text);
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!(reports[0].place, "document 1: spec.dynamicModule[0].config");
    assert_eq!((&reports[0].errors[..], &reports[0].warnings[..]), (&[][..], &[][..]));
    let of = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    };
    let remote = format!("{{type: Remote, remote: {{url: 'https://a/lib.so', {DIGEST}}}}}");
    let nack = metrics("databases/keyward/dynamic-module/0")
        .replace("/metrics_namespace\n      value: wasmcustom", "/nack_on_cache_miss\n      value: true");
    expect(&[
        (
            "not listed",
            of("dynamicModules:\n  - name: keyward", "dynamicModules:\n  - name: other"),
            true,
            "spec.dynamicModule[0].name",
            "does not list",
            "spec.dynamicModules",
        ),
        (
            "version",
            of("libkeyward-0.1.0.so", "libkeyward.so"),
            false,
            "source.local.path",
            "no version",
            "libkeyward-",
        ),
        ("global", gateway(local, "    loadGlobally: true\n"), false, "loadGlobally", "same names", "remove"),
        (
            "terminal",
            of("    filterName", "    terminalFilter: true\n    filterName"),
            true,
            "terminalFilter",
            "passes requests on",
            "remove",
        ),
        ("no nack", gateway(&remote, ""), false, "source.remote", "starts without the filter", "nack_on_cache_miss"),
        (
            "wrong name",
            of("dynamic-module/0", "dynamic-module/1"),
            true,
            "operation.jsonPath",
            "no filter has this name",
            "keyward/dynamic-module/0",
        ),
        (
            "names of metrics",
            text.replace(&metrics("databases/keyward/dynamic-module/0"), ""),
            false,
            "spec.dynamicModule[0]",
            "other names",
            "wasmcustom",
        ),
    ]);
    assert_eq!(warnings(&format!("{}{nack}", gateway(&remote, ""))), Vec::<String>::new());
    let open = format!("{}{nack}", gateway(&remote, "")).replace(PATCH, "");
    assert!(errors(&open)[0].contains("without a word, and every request passes"), "{:?}", errors(&open));
    let old = Options {
        versions: Versions { envoy_gateway: Some(Version::new(1, 7)), ..Versions::default() },
        ..Options::default()
    };
    expect_with("old", &text, &old, true, "spec.dynamicModule", "does not have this field", "1.8");
}

//! Files with one mistake each: the message names the field, the reason, the mend and the line.

use super::*;
use crate::plugin_config::versions::{Version, Versions};

/// A file, whether it is refused, and what is said: the field, a part of the message, a part of the help.
pub(super) type Case<'c> = (&'c str, String, bool, &'c str, &'c str, &'c str);

#[track_caller]
pub(super) fn expect(cases: &[Case<'_>]) {
    for (name, text, refused, path, message, help) in cases {
        expect_with(name, text, &Options::default(), *refused, path, message, help);
    }
}

#[track_caller]
pub(super) fn expect_with(
    name: &str,
    text: &str,
    options: &Options,
    refused: bool,
    path: &str,
    message: &str,
    help: &str,
) {
    let reports = check_with(text, options).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
    let found = |findings: &[crate::plugin_config::finding::Finding]| {
        findings
            .iter()
            .any(|f| f.path.ends_with(path) && f.message.contains(message) && f.help.contains(help) && f.line.is_some())
    };
    let report = &reports[0];
    let findings = if refused { &report.errors } else { &report.warnings };
    assert!(found(findings), "{name}: no such finding\nerrors {:#?}\nwarnings {:#?}", report.errors, report.warnings);
    assert_eq!(refused, !report.errors.is_empty(), "{name}: {:#?}", report.errors);
}

fn principal(text: &str) -> String {
    let sound = "{filter_state: {key: wasm.keyward.decision, string_match: {exact: allowed}}}";
    manager(&string_value(), &BACKSTOP.replace(sound, &format!("{sound}, {text}")), "")
}

/// A filter of this type behind Keyward, and the backstop behind it.
fn behind(kind: &str, more: &str) -> String {
    let filter = format!(
        "          - name: other\n            typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.{kind}{more}}}\n"
    );
    manager(&string_value(), &format!("{filter}{BACKSTOP}"), "")
}

#[test]
fn a_backstop_has_to_refuse_what_keyward_has_not_allowed() {
    let with = |from: &str, to: &str| {
        assert!(BACKSTOP.contains(from), "{from}");
        manager(&string_value(), &BACKSTOP.replace(from, to), "")
    };
    let exact = "string_match: {exact: allowed}";
    expect(&[
        ("LOG", with("action: ALLOW", "action: LOG"), true, "rules.action", "refuses nothing", "ALLOW"),
        ("DENY", with("action: ALLOW", "action: DENY"), true, "rules.action", "lets the rest pass", "ALLOW"),
        (
            "a second policy",
            with("{decided:", "{open: {principals: [{any: true}]}, decided:"),
            true,
            "policies.open.principals[0]",
            "`any` does not ask",
            "wasm.keyward.decision",
        ),
        (
            "not_id",
            principal("{not_id: {any: false}}"),
            true,
            "principals[1]",
            "`not_id` does not ask",
            "exact: allowed",
        ),
        ("or_ids", principal("{or_ids: {ids: [{any: true}]}}"), true, "principals[1]", "`any` does not ask", ""),
        ("and_ids", principal("{and_ids: {ids: [{any: true}]}}"), true, "principals[1]", "nothing in `and_ids`", ""),
        (
            "a header",
            principal("{header: {name: x-admin, present_match: true}}"),
            true,
            "principals[1]",
            "`header`",
            "",
        ),
        (
            "a prefix",
            with(exact, "string_match: {prefix: allowed}"),
            true,
            "principals[0]",
            "not compared by `exact`",
            "",
        ),
        ("a denial", with(exact, "string_match: {exact: key_missing}"), true, "principals[0]", "one that refuses", ""),
    ]);
    for sound in [
        principal("{or_ids: {ids: [{filter_state: {key: wasm.keyward.decision, string_match: {exact: public}}}]}}"),
        principal(
            "{and_ids: {ids: [{any: true}, {filter_state: {key: wasm.keyward.decision, string_match: {exact: public}}}]}}",
        ),
    ] {
        assert_eq!(errors(&sound), Vec::<String>::new(), "{sound}");
    }
}

#[test]
fn the_order_of_filters_is_looked_at() {
    expect(&[
        (
            "lua",
            behind("http.lua.v3.Lua", ""),
            false,
            "http_filters[1]",
            "(lua) runs behind Keyward",
            "in front of Keyward",
        ),
        (
            "ext_proc",
            behind("http.ext_proc.v3.ExternalProcessor", ""),
            false,
            "http_filters[1]",
            "(ext_proc)",
            "in front",
        ),
        ("cache", behind("http.cache.v3.CacheConfig", ""), false, "http_filters[1]", "other keys", "remove it"),
        (
            "transcoder",
            behind("http.grpc_json_transcoder.v3.GrpcJsonTranscoder", ""),
            false,
            "http_filters[1]",
            "(grpc_json_transcoder)",
            "in front",
        ),
        (
            "filter state",
            behind("http.set_filter_state.v3.Config", ", on_request_headers: [{object_key: wasm.keyward.decision}]"),
            true,
            "http_filters[1]",
            "sets Keyward's own filter state",
            "another name",
        ),
    ]);
    let metadata = |text: String| text.replace(r#"{"manifest""#, r#"{"route_metadata":true,"manifest""#);
    for kind in ["http.jwt_authn.v3.JwtAuthentication", "http.ext_authz.v3.ExtAuthz", "http.lua.v3.Lua"] {
        let text = metadata(behind(kind, ""));
        expect(&[(kind, text, false, "http_filters[1]", "can clear the route cache", "in front of Keyward")]);
    }
    let front = manager(&string_value(), "", "")
        .replace("          - name: keyward\n", &format!("{BACKSTOP}          - name: keyward\n"));
    expect(&[("in front", front, true, "http_filters[0]", "in front of Keyward", "right before the router")]);
}

#[test]
fn routes_must_not_undo_what_was_checked() {
    let route = |inner: &str| {
        let routes =
            format!("          route_config: {{virtual_hosts: [{{routes: [{{match: {{prefix: /}}, {inner}}}]}}]}}\n");
        manager(&string_value(), BACKSTOP, &routes)
    };
    let stamp = |more: &str| {
        let add = "request_headers_to_add: [{header: {key: x-api-key-id, value: '%FILTER_STATE(wasm.keyward.key_id:PLAIN)%'}}]";
        let config = r#"{"hide_key":false,"identity_headers":{"id":null,"name":null},"manifest""#;
        manager(
            &string_value().replace(r#"{"manifest""#, config),
            BACKSTOP,
            &format!("          route_config: {{{add}, request_headers_to_remove: [x-api-key{more}]}}\n"),
        )
    };
    expect(&[
        (
            "prefix_rewrite",
            route("route: {cluster: c, prefix_rewrite: /b}"),
            false,
            "route.prefix_rewrite",
            "another path",
            "",
        ),
        (
            "regex_rewrite",
            route("route: {cluster: c, regex_rewrite: {}}"),
            false,
            "route.regex_rewrite",
            "another path",
            "",
        ),
        ("identity", stamp(""), false, "header.key", "nothing removes `x-api-key-id`", "request_headers_to_remove"),
    ]);
    assert_eq!(warnings(&stamp(", x-api-key-id")), Vec::<String>::new());
}

#[test]
fn shadow_mode_leaves_the_key_in_and_stamps_no_refused_key() {
    let shadow = string_value().replace(r#"{"manifest""#, r#"{"mode":"shadow","hide_key":false,"manifest""#);
    let remove = "          route_config: {request_headers_to_remove: [X-Api-Key]}\n";
    let text = manager(&shadow, "", remove);
    expect(&[("the key", text, true, "request_headers_to_remove[0]", "still needs the key", "leave the header in")]);
    let stamp = |name: &str| {
        let add = format!("{{header: {{key: x-api-key-id, value: '%FILTER_STATE(wasm.keyward.{name}:PLAIN)%'}}}}");
        manager(&shadow, "", &format!("          route_config: {{request_headers_to_add: [{add}]}}\n"))
    };
    expect(&[("key_id", stamp("key_id"), true, "header.value", "would be refused", "wasm.keyward.identity_id")]);
    assert_eq!(errors(&stamp("identity_id")), Vec::<String>::new());
}

#[test]
fn the_configuration_itself_is_looked_at() {
    let key = format!("{{id: key_1, name: a, sha256: {}, permissions: [records:read]}}", "ab".repeat(32));
    let admin = |more: &str| format!("admin: {{cluster: c{more}}}\nrules:\n- {{path: /a, access: public}}\n");
    let rule = |name: &str| {
        format!(
            "manifest: {{keys: []}}\nrules:\n- {{path: /a, require: [records:read]}}\n- {{path: /b, require: [{name}]}}\n"
        )
    };
    expect(&[
        (
            "inline",
            format!("manifest: {{keys: [{key}]}}\n{}", admin("")),
            false,
            "manifest.keys",
            "also after they were deleted",
            "remove them",
        ),
        (
            "a token",
            admin(", token: REPLACE-WITH-AN-EDGE-TOKEN"),
            false,
            "admin.token",
            "stands in for one",
            "admin.token_env",
        ),
        (
            "a slip",
            rule("records:raed"),
            false,
            "rules[1].require[0]",
            "not a permission of the catalogue",
            "did you mean `records:read`?",
        ),
    ]);
    let line = check(&rule("records:raed"))[0].warnings[0].line;
    assert_eq!(line, Some(4));
    // Another catalogue is not known here, and one that is given is what counts.
    let own = "manifest: {keys: []}\nrules: [{path: /a, require: [orders:read]}]\n";
    assert_eq!(warnings(own), Vec::<String>::new());
    let options = Options { catalogue: Some(crate::catalogue::Catalogue::databases_api()), ..Options::default() };
    expect_with(
        "given",
        own,
        &options,
        false,
        "rules[0].require[0]",
        "`orders:read` is not a permission",
        "--catalogue",
    );
}

#[test]
fn what_istio_does_to_a_file_is_known() {
    let plugin = |from: &str, to: &str| {
        let text = wasm_plugin(CONFIG);
        assert!(text.contains(from), "{from}");
        format!("{}{PATCH}", text.replace(from, to))
    };
    let add = |line: &str| plugin("spec:\n", &format!("spec:\n  {line}\n"));
    let zeros = "0".repeat(64);
    let real = "0123456789abcdef".repeat(4);
    expect(&[
        (
            "mode",
            add("match: [{mode: SERVER}]"),
            true,
            "spec.match[0].mode",
            "never matches a gateway",
            "remove `mode`",
        ),
        ("phase", plugin("  phase: AUTHN\n", ""), false, "spec.phase", "run before Keyward", "AUTHN"),
        (
            "zeros",
            add(&format!("url: oci://r.example/k@sha256:{zeros}")),
            false,
            "spec.url",
            "not the digest",
            "cargo xtask dist",
        ),
        (
            "file hash",
            add(&format!("url: oci://r.example/k:1\n  sha256: '{real}'")),
            false,
            "spec.sha256",
            "the hash of the module's file never matches",
            "@sha256:<manifest digest>",
        ),
        ("no hash", add("url: https://r.example/k.wasm"), false, "spec.sha256", "without its hash", "keyward.wasm"),
        ("labels", add("selector: {matchLabels: {a: b}}"), false, "spec.selector", "selects other pods", "same labels"),
        (
            "ports",
            add("match: [{ports: [{number: 8443}]}]").replace("listener: {", "listener: {portNumber: 8080, "),
            true,
            "spec.match[0].ports[0].number",
            "no backstop covers port 8443",
            "portNumber: 8443",
        ),
        (
            "every port",
            plugin("keyward", "keyward").replace("listener: {", "listener: {portNumber: 8080, "),
            true,
            "spec.match",
            "only on some",
            "portNumber",
        ),
        (
            "order",
            plugin("keyward", "keyward").replace("operation: INSERT_BEFORE", "operation: INSERT_FIRST"),
            true,
            "patch.operation",
            "not put right before the router",
            "INSERT_BEFORE",
        ),
        (
            "counter",
            plugin("keyward", "keyward").replace("          rules_stat_prefix: keyward_backstop_rbac.\n", ""),
            false,
            "typed_config",
            "AuthorizationPolicy",
            "rules_stat_prefix",
        ),
        (
            "priority",
            plugin("keyward", "keyward").replace("  priority: 100\n", ""),
            false,
            "spec",
            "another EnvoyFilter",
            "priority: 100",
        ),
        (
            "log",
            plugin("keyward", "keyward").replace("action: ALLOW", "action: LOG"),
            true,
            "rules.action",
            "refuses nothing",
            "ALLOW",
        ),
        (
            "cors",
            format!(
                "{}---\nkind: VirtualService\nspec: {{http: [{{corsPolicy: {{}}}}]}}\n",
                plugin("keyward", "keyward")
            ),
            false,
            "http[0].corsPolicy",
            "denies preflights",
            "cors_preflight: pass",
        ),
    ]);
    let versions = |istio| Options { versions: Versions { istio, ..Versions::default() }, ..Options::default() };
    let old = versions(Some(Version::new(1, 26)));
    let text = plugin("keyward", "keyward");
    expect_with("1.26", &text, &old, true, "spec.failStrategy", "does not know `FAIL_RELOAD`", "1.27");
    assert_eq!(check_with(&text, &versions(Some(Version::new(1, 27)))).unwrap()[0].errors, []);
    let extension = format!(
        "kind: TrafficExtension\nspec:\n  phase: AUTHN\n  wasm: {{pluginName: keyward, failStrategy: FAIL_RELOAD, pluginConfig: {CONFIG}}}\n{PATCH}"
    );
    assert_eq!(warnings(&extension), Vec::<String>::new());
    let old = versions(Some(Version::new(1, 29)));
    expect_with("1.29", &extension, &old, true, "kind", "does not have TrafficExtension", "1.30");
    // In a sidecar it is the other way round.
    let sidecar = add("match: [{mode: SERVER}]").replace("context: GATEWAY", "context: SIDECAR_INBOUND");
    assert_eq!(errors(&sidecar), Vec::<String>::new());
    let client = sidecar.replace("mode: SERVER", "mode: CLIENT");
    expect(&[("client", client, true, "spec.match[0].mode", "those that it receives", "SERVER")]);
}

#[test]
fn what_envoy_gateway_does_to_a_file_is_known() {
    let zeros = "0".repeat(64);
    let gateway = "---\nkind: Gateway\nmetadata: {name: g, namespace: a}\nspec:\n  listeners:\n  - {name: https, port: 443, \
                   protocol: HTTPS}\n  - {name: http, port: 80, protocol: HTTP}\n";
    let patch = |name: &str| {
        let value = "{name: keyward_backstop, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, \
                     rules: {action: ALLOW, policies: {p: {permissions: [{any: true}], principals: [{filter_state: {key: wasm.keyward.decision, \
                     string_match: {exact: allowed}}}, {filter_state: {key: wasm.keyward.decision, string_match: {exact: \
                     public}}}]}}}}}";
        format!(
            "---\nkind: EnvoyPatchPolicy\nspec: {{jsonPatches: [{{type: type.googleapis.com/envoy.config.listener.v3.Listener, name: {name}, operation: {{op: add, jsonPath: \
             \"..http_filters[?(@.name=='envoy.filters.http.router')]\", path: '', value: {value}}}}}]}}\n"
        )
    };
    let all = |patches: &str| format!("{}{RELOAD}{gateway}{patches}", policy(CONFIG));
    expect(&[
        (
            "reload",
            format!("{}{}", policy(CONFIG), patch("a/g/https")),
            false,
            "spec.wasm[1]",
            "FAIL_CLOSED",
            "FAIL_RELOAD",
        ),
        (
            "digest",
            format!(
                "{}{RELOAD}{}",
                policy(CONFIG).replace(
                    "name: keyward\n",
                    &format!("name: keyward\n    code: {{image: {{url: x, sha256: '{zeros}'}}}}\n")
                ),
                patch("a/g/https")
            ),
            false,
            "code.image.sha256",
            "not the digest",
            "cargo xtask dist",
        ),
        (
            "one of two",
            all(&patch("a/g/https")),
            true,
            "spec.listeners[1]",
            "no backstop covers the listener `a/g/http`",
            "tcp-80",
        ),
        (
            "quic",
            format!(
                "{}---\nkind: ClientTrafficPolicy\nspec: {{http3: {{}}}}\n",
                all(&format!("{}{}", patch("a/g/https"), patch("a/g/http")))
            ),
            true,
            "spec.listeners[0]",
            "`a/g/https-quic`",
            "udp-443",
        ),
        (
            "another policy",
            format!(
                "{}---\nkind: EnvoyExtensionPolicy\nmetadata: {{name: lua}}\nspec: {{targetRefs: [{{kind: HTTPRoute, name: r}}], lua: []}}\n",
                all(&format!("{}{}", patch("a/g/https"), patch("a/g/http")))
            ),
            false,
            "spec",
            "takes the place of Keyward's policy",
            "mergeType",
        ),
    ]);
    let named = policy(CONFIG).replacen("spec:", "metadata: {name: k, namespace: a}\nspec:", 1);
    let reload = |listener: &str, filter: &str| {
        format!(
            "---\nkind: EnvoyPatchPolicy\nspec: {{jsonPatches: [{{type: type.googleapis.com/envoy.config.listener.v3.Listener, name: {listener}, operation: {{op: add, jsonPath: \
             \"..http_filters[?(@.name=='{filter}')].typed_config.config\", path: /failure_policy, value: FAIL_RELOAD}}}}]}}\n"
        )
    };
    let filter = "envoy.filters.http.wasm/envoyextensionpolicy/a/k/wasm/1";
    let token = CONFIG
        .replacen('{', "{admin: {cluster: c, token_env: KEYWARD_EDGE_TOKEN}, ", 1)
        .replace("manifest: {keys: []}, ", "");
    expect(&[
        (
            "the filter's name",
            format!("{named}{}{}", reload("l", &filter.replace("/a/", "/b/")), patch("l")),
            true,
            "jsonPatches[0].operation.jsonPath",
            "no filter has this name",
            filter,
        ),
        (
            "one listener without FAIL_RELOAD",
            format!("{named}{}{}{}", reload("l", filter), patch("l"), patch("m")),
            false,
            "jsonPatches[0].name",
            "the listener `m` keeps FAIL_CLOSED",
            "for this listener",
        ),
        (
            "order",
            format!("{named}{}{}", reload("l", filter), patch("l").replace("http.router", "http.cors")),
            true,
            "jsonPatches[0].operation.jsonPath",
            "not put right before the router",
            "envoy.filters.http.router",
        ),
        (
            "the variable of the token",
            format!("{}{RELOAD}{}", policy(&token), patch("l")),
            true,
            "spec.wasm[1].env.hostKeys",
            "does not get the variable `KEYWARD_EDGE_TOKEN`",
            "hostKeys: [KEYWARD_EDGE_TOKEN]",
        ),
    ]);
    let sound = format!("{named}{}{}", reload("l", filter), patch("l"));
    assert_eq!(errors(&sound), Vec::<String>::new());
    for (kind, field, since) in [
        ("ClientTrafficPolicy", "timeout: {http: {streamIdleTimeout: 30s}}", Version::new(1, 5)),
        ("BackendTrafficPolicy", "timeout: {http: {streamIdleTimeout: 30s}}", Version::new(1, 8)),
        ("EnvoyExtensionPolicy", "mergeType: StrategicMerge", Version::new(1, 9)),
    ] {
        let text = format!("{sound}---\nkind: {kind}\nspec: {{{field}}}\n");
        let of = |version| Options {
            versions: Versions { envoy_gateway: Some(version), ..Versions::default() },
            ..Options::default()
        };
        let before = of(Version::new(1, since.minor - 1));
        expect_with(kind, &text, &before, true, "", "does not have this field", &format!("Envoy Gateway {since}"));
        assert_eq!(check_with(&text, &of(since)).unwrap()[0].errors, []);
    }
    let covered = all(&format!("{}{}", patch("a/g/https"), patch("tcp-80")));
    assert_eq!(errors(&covered), Vec::<String>::new());
}

#[test]
fn every_listener_needs_its_backstop() {
    let covered = manager(&string_value(), BACKSTOP, "");
    let second = manager(&string_value(), "", "");
    let found = gaps(&format!("{covered}---\n{second}"));
    assert!(found.iter().any(|w| w.starts_with("document 2: ") && w.contains("no RBAC backstop")), "{found:?}");
}

#[test]
fn files_that_belong_together_are_checked_together() {
    let plugin = wasm_plugin(CONFIG);
    let sources = [Source { name: "gateway.yaml", text: &plugin }, Source { name: "backstop.yaml", text: PATCH }];
    let reports = report::check(&sources, &Options::default()).unwrap();
    assert_eq!((reports.len(), reports[0].place.as_str()), (1, "gateway.yaml: spec.pluginConfig"));
    assert_eq!((&reports[0].errors[..], &reports[0].warnings[..]), (&[][..], &[][..]));
    let log = PATCH.replace("action: ALLOW", "action: LOG");
    let sources = [sources[0], Source { name: "backstop.yaml", text: &log }];
    let errors = report::check(&sources, &Options::default()).unwrap().remove(0).errors;
    assert!(errors[0].path.starts_with("backstop.yaml: spec.configPatches[0]"), "{errors:?}");
    assert_eq!(errors[0].line, Some(15));
}

#[test]
fn mistakes_that_the_filter_refuses_have_their_line() {
    let text = "manifest: {keys: []}\nrules:\n- {path: /a, access: public}\n- {path: x, access: deny}\n";
    let report = &check(text)[0];
    assert_eq!(
        (report.refused, report.errors[0].path.as_str(), report.errors[0].line),
        (true, "rules[1].path", Some(4))
    );
    let plugin = wasm_plugin("{manifest: {keys: []}, rules: [{path: x, access: deny}]}");
    assert_eq!(check(&plugin)[0].errors[0].line, Some(6));
}

#[test]
fn a_proxy_that_rewrites_escaped_slashes_does_not_fit_paths_that_keep_them() {
    let keeps = CONFIG.replace(r#"{"manifest""#, r#"{"paths":{"encoded_slash":"segment"},"manifest""#);
    let value = string_value().replace(CONFIG, &keeps);
    let action =
        |action: &str| manager(&value, BACKSTOP, &format!("          path_with_escaped_slashes_action: {action}\n"));
    let istio = |normalization: &str| {
        format!(
            "{}{PATCH}---\nmeshConfig:\n  pathNormalization: {{normalization: {normalization}}}\n",
            wasm_plugin(&keeps)
        )
    };
    let gateway =
        |path: &str| format!("{}{PATCH}{RELOAD}---\nkind: ClientTrafficPolicy\nspec: {{{path}}}\n", policy(&keeps));
    let slashes = "path_with_escaped_slashes_action";
    let gateway_slashes = "spec.path.escapedSlashesAction";
    expect(&[
        ("redirect", action("UNESCAPE_AND_REDIRECT"), true, slashes, "redirects", "KEEP_UNCHANGED"),
        ("forward", action("UNESCAPE_AND_FORWARD"), true, slashes, "decodes `%2F`", "KEEP_UNCHANGED"),
        ("reject", action("REJECT_REQUEST"), true, slashes, "refuses", "KEEP_UNCHANGED"),
        ("Istio", istio("DECODE_AND_MERGE_SLASHES"), true, "normalization", "decodes `%2F`", "MERGE_SLASHES"),
        ("Gateway", gateway("path: {escapedSlashesAction: RejectRequest}"), true, gateway_slashes, "refuses", "Keep"),
        ("Gateway's default", gateway("path: {}"), true, gateway_slashes, "redirects", "KeepUnchanged"),
        ("Gateway without `path`", gateway("timeout: {}"), true, gateway_slashes, "redirects", "KeepUnchanged"),
    ]);
    let alone = format!("{}{PATCH}{RELOAD}", policy(&keeps));
    assert!(warnings(&alone).iter().any(|w| w.contains("Envoy Gateway decodes `%2F`")), "{:?}", warnings(&alone));
    for fits in [
        action("KEEP_UNCHANGED"),
        action("IMPLEMENTATION_SPECIFIC_DEFAULT"),
        manager(&value, BACKSTOP, ""),
        istio("MERGE_SLASHES"),
        gateway("path: {escapedSlashesAction: KeepUnchanged}"),
        // Without the setting the filter refuses what is left of such paths.
        action("UNESCAPE_AND_REDIRECT").replace(&value, &string_value()),
        gateway("path: {}").replace(&keeps, CONFIG),
    ] {
        assert_eq!((errors(&fits), warnings(&fits)), (Vec::new(), Vec::new()), "{fits}");
    }
    // A listener without Keyward may do as it likes.
    let other = manager(&value, BACKSTOP, "").replace("- filters:", "- filters:\n      - typed_config: {http_filters: [{name: r}], path_with_escaped_slashes_action: REJECT_REQUEST}");
    assert_eq!(errors(&other), Vec::<String>::new());
}

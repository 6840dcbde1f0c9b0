//! The shipped files with one change each: what is said, where, and whether it is a mistake.

use super::*;

macro_rules! shipped {
    ($name:literal) => {
        include_str!(concat!("../../../../../deploy/", $name))
    };
}

const ISTIO: [&str; 2] = [shipped!("istio/gateway.yaml"), shipped!("istio/backstop.yaml")];
const EXTENSION: [&str; 2] = [shipped!("istio/traffic-extension.yaml"), shipped!("istio/backstop.yaml")];
const GATEWAY: [&str; 2] = [shipped!("envoy-gateway/gateway.yaml"), shipped!("envoy-gateway/backstop.yaml")];
const PROXY: [&str; 2] = [shipped!("envoy-gateway/envoy-proxy.yaml"), shipped!("envoy-gateway/admin.yaml")];

/// A change of some files: the text, what takes its place, whether it is a mistake, the end of the field's path with a part of
/// the message behind it.
type Change<'c> = (&'c str, &'c str, bool, &'c str);

fn found(files: &[String]) -> (Vec<String>, Vec<String>) {
    let digest = "0123456789abcdef".repeat(4);
    let texts: Vec<String> = files.iter().map(|text| text.replace(&"0".repeat(64), &digest)).collect();
    let sources: Vec<Source<'_>> = texts.iter().map(|text| Source { name: "file", text }).collect();
    let reports = report::check(&sources, &Options::default()).unwrap_or_else(|(_, error)| panic!("{error}"));
    let shown = |finding: crate::plugin_config::finding::Finding| {
        assert!(!finding.help.is_empty() && finding.line.is_some(), "{finding:?}");
        format!("{}: {}; {}", finding.path, finding.message, finding.help)
    };
    let (errors, warnings): (Vec<_>, Vec<_>) =
        reports.into_iter().map(|report| (report.errors, report.warnings)).unzip();
    let all = |findings: Vec<Vec<_>>| findings.into_iter().flatten().map(shown).collect();
    (all(errors), all(warnings))
}

#[track_caller]
fn expect_changes(files: &[&str], changes: &[Change<'_>]) {
    let sound: Vec<String> = files.iter().map(|text| (*text).to_owned()).collect();
    assert_eq!(found(&sound), (Vec::new(), Vec::new()));
    let mut silent = Vec::new();
    for (from, to, refused, wanted) in changes {
        let at = sound.iter().position(|text| text.contains(from)).unwrap_or_else(|| panic!("no `{from}`"));
        let mut changed = sound.clone();
        changed[at] = changed[at].replacen(from, to, 1);
        let (errors, warnings) = found(&changed);
        let is_named = if *refused { &errors } else { &warnings }.iter().any(|finding| finding.contains(wanted));
        if !is_named || *refused == errors.is_empty() {
            silent.push(format!("{from} -> {to}\n  wanted {wanted}\n  errors {errors:?}\n  warnings {warnings:?}"));
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

/// A digest as the files have it.
const ZEROS: &str = "@sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn a_wasm_plugin_with_one_change() {
    let token = "cluster: outbound|8081||keyward.keyward.svc.cluster.local";
    expect_changes(
        &ISTIO,
        &[
            (ZEROS, ":v1", false, "spec.url: this names no manifest by its SHA-256"),
            (ZEROS, "", false, "spec.url: this names no manifest"),
            ("@sha256:", "@sha512:", false, "spec.url: this names no manifest"),
            (
                ZEROS,
                "@sha256:0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF",
                false,
                "spec.url: this is not",
            ),
            (
                "oci://registry.example.com/keyward@sha256:",
                "http://example.com/",
                false,
                "spec.sha256: the module is fetched",
            ),
            ("oci://", "docker://", true, "spec.url: `docker` is not a scheme"),
            ("oci://registry.example.com/keyward@sha256:", "file://etc/keyward/", true, "spec.url: after `file://`"),
            ("  phase: AUTHN", "  sha256: abc\n  phase: AUTHN", false, "spec.sha256: this is not a digest"),
            ("name: KEYWARD_EDGE_TOKEN", "name: OTHER", true, "vmConfig.env: the VM does not get the variable"),
            (
                "  vmConfig: {env: [{name: KEYWARD_EDGE_TOKEN, valueFrom: HOST}]}\n",
                "",
                true,
                "vmConfig.env: the VM does not get",
            ),
            ("valueFrom: HOST", "value: REPLACE-WITH-AN-EDGE-TOKEN", false, "env[0].value: this is not an edge token"),
            ("valueFrom: HOST", "value: kwe_abc", false, "env[0].value: the edge token is in the resource"),
            (", valueFrom: HOST", "", true, "vmConfig.env[0]: the variable `KEYWARD_EDGE_TOKEN` has no value"),
            ("valueFrom: HOST", "valueFrom: host", true, "env[0].valueFrom: `host` is not a value of this field"),
            (token, "cluster: outbound|8081|keyward", true, "admin.cluster: `outbound|8081|keyward` is not a name"),
            (token, "cluster: keyward.keyward:8081", true, "admin.cluster: `keyward.keyward:8081` is not a name"),
            (token, "cluster: outbound|http||keyward", true, "admin.cluster: "),
            ("  phase: AUTHN", "  type: NETWORK\n  phase: AUTHN", true, "spec.type: a plugin of another type"),
            ("  phase: AUTHN", "  phaze: AUTHN", true, "spec.phaze: `phaze` is not a field here"),
            ("  phase: AUTHN", "  phase: authn", true, "spec.phase: `authn` is not a value of this field"),
            ("  phase: AUTHN", "  phase: AUTHN\n  imagePullSecrets: x", true, "did you mean `imagePullSecret`?"),
            ("  phase: AUTHN", "  phase: AUTHN\n  priority: \"5\"", true, "spec.priority: `5` is not a number"),
            (
                "failStrategy: FAIL_RELOAD",
                "failStrategy: FAIL_CLOSED",
                true,
                "spec.failStrategy: `FAIL_CLOSED` is not a value",
            ),
            ("matchLabels", "labels", true, "spec.selector.labels: `labels` is not a field here"),
            (
                "  pluginName: keyward",
                "  match: [{ports: [{number: \"8443\"}]}]",
                true,
                "number: `8443` is not a number",
            ),
            ("  pluginConfig:", "  pluginconfig:", true, "did you mean `pluginConfig`?"),
            ("    rules:\n", "  rules:\n", true, "spec.rules: `rules` is not a field here"),
            ("    rules:\n", "  rules:\n", true, "move it below `pluginConfig`"),
            (
                "      max_staleness: 15m\n",
                "      max_staleness: 15m\n      rules: []\n",
                true,
                "admin.rules: unknown field",
            ),
            ("namespace: istio-ingress", "namespace: other", true, "namespace `istio-ingress`) than the filter"),
            ("istio: ingressgateway", "istio: ingress", true, "`istio: ingressgateway`, namespace `istio-ingress`)"),
            ("    rules:\n", "    rules:\n    - {path: \"/**\", access: public}\n", false, "rules[0].path: every path"),
            ("/api/health", "/keyward/ready", false, "rules[22].path: the filter answers this path by itself"),
        ],
    );
}

#[test]
fn a_backstop_of_istio_with_one_change() {
    let public = "                - filter_state: {key: wasm.keyward.decision, string_match: {exact: public}}\n";
    expect_changes(
        &ISTIO,
        &[
            (public, "", true, "rules.policies: the backstop refuses requests with the decision `public`"),
            (&public.replace("public", "allowed"), "", true, "refuses requests with the decision `allowed`"),
            (
                "permissions: [{any: true}]",
                "permissions: [{url_path: {path: {prefix: /a}}}]",
                true,
                "decision `allowed`",
            ),
            (
                "permissions: [{any: true}]",
                "permissions: [{any: true}]\n                condition: {}",
                true,
                "decision `allowed`",
            ),
            (
                "          rules:\n",
                "          shadow_rules:\n",
                true,
                "typed_config: without `rules`, the backstop refuses nothing",
            ),
            (
                "filters.http.rbac.v3.RBAC",
                "filters.network.rbac.v3.RBAC",
                true,
                "typed_config: `type.googleapis.com/envoy.ext",
            ),
            ("filters.http.rbac.v3.RBAC", "filters.http.rbac.v2.RBAC", true, "is not the RBAC filter of HTTP"),
            ("        typed_config:\n", "        typedConfig:\n", true, "value.typedConfig: "),
            (
                "spec:\n  # CHANGE: a label of the gateway's pods.\n  workload",
                "specs:\n  workload",
                true,
                "kind: the backstop in this",
            ),
            ("kind: EnvoyFilter", "kinds: EnvoyFilter", true, "metadata: the backstop in this resource is not where"),
            ("configPatches:", "patches:", true, "kind: the backstop in this resource"),
            ("    patch:\n", "    patches:\n", true, "kind: the backstop in this resource"),
            ("      value:\n", "      values:\n", true, "kind: the backstop in this resource"),
            ("  - applyTo: HTTP_FILTER\n    match:", "  - match:", true, "applyTo: nothing instead of `HTTP_FILTER`"),
            (
                "{name: envoy.filters.network.http_connection_manager, sub",
                "{sub",
                true,
                "filter.name: nothing instead of",
            ),
            ("        name: keyward_backstop\n", "", true, "value.name: this field is missing"),
            ("            action: ALLOW", "            actions: ALLOW", true, "rules.actions: with `actions` here"),
            ("                permissions:", "                permission:", true, "allowed_by_keyward.permission: "),
            ("applyTo: NETWORK_FILTER", "applyTo: NETWORK", true, "configPatches[1].applyTo: `NETWORK` is not a value"),
            ("operation: MERGE", "operation: merge", true, "configPatches[1].patch.operation: `merge` is not a value"),
            ("stream_idle_timeout: 30s", "stream_idle_timout: 30s", true, "did you mean `stream_idle_timeout`?"),
            (
                "{headers_with_underscores_action",
                "{header_with_underscores_action",
                true,
                "did you mean `headers_with_under",
            ),
            ("REJECT_REQUEST", "REJECT", true, "headers_with_underscores_action: `REJECT` is not a value"),
            (
                "stream_idle_timeout: 30s",
                "stream_idle_timeout: 0s",
                false,
                "stream_idle_timeout: a request that is held",
            ),
            ("REJECT_REQUEST", "ALLOW", false, "headers_with_underscores_action: many servers"),
            ("stream_idle_timeout: 30s", "normalize_path: false", false, "normalize_path: Envoy does not normalise"),
        ],
    );
    let sidecar = shipped!("istio/sidecar-backstop.yaml");
    let with = |more: &str| found(&[ISTIO[0].to_owned(), ISTIO[1].to_owned(), more.to_owned()]);
    // Its name is another one where it is used beside the gateway's.
    let (errors, warnings) = with(&sidecar.replace("name: keyward-backstop", "name: keyward-sidecar-backstop"));
    assert_eq!(errors, Vec::<String>::new());
    assert!(warnings.len() == 1 && warnings[0].contains("no filter is on the pods of this backstop"), "{warnings:?}");
}

#[test]
fn plugins_beside_the_filter_are_seen() {
    let other = |more: &str| {
        format!(
            "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: other, namespace: istio-ingress}}\nspec: \
             {{selector: {{matchLabels: {{istio: ingressgateway}}}}, url: 'oci://r.example/o', pluginConfig: {{a: 1}}{more}}}\n"
        )
    };
    let with = |text: &str| found(&[ISTIO[0].to_owned(), ISTIO[1].to_owned(), text.to_owned()]);
    for (more, says) in [
        (", phase: AUTHN", "`other` has the same phase and priority"),
        (", phase: STATS", "the plugin `other` runs behind Keyward"),
        (", phase: AUTHN, priority: -1", "the plugin `other` runs behind Keyward"),
        ("", "the plugin `other` runs behind Keyward"),
    ] {
        let (errors, warnings) = with(&other(more));
        assert_eq!(errors, Vec::<String>::new());
        assert!(warnings.len() == 1 && warnings[0].contains(says), "{more}: {warnings:?}");
    }
    // One that runs in front, and those of other pods, are not the filter's business.
    let elsewhere = other("").replace("istio: ingressgateway", "app: b");
    for text in [other(", phase: AUTHN, priority: 1"), elsewhere, other("").replace("istio-ingress", "default")] {
        assert_eq!(with(&text), (Vec::new(), Vec::new()), "{text}");
    }
    let second = ISTIO[0].replace("name: keyward\n", "name: keys\n");
    assert!(with(&second).0.iter().any(|error| error.contains("the filter runs twice")));
    let (errors, _) = with(EXTENSION[0]);
    assert!(errors.iter().any(|error| error.contains("the filter runs twice")), "{errors:?}");
    let (errors, _) = with(ISTIO[0]);
    assert!(
        errors.iter().any(|error| error.contains("metadata.name: 2 of the resources that were given")),
        "{errors:?}"
    );
    // Two filters for different ports of the same pods.
    let port = |name: &str, port: u16| {
        let file = shipped!("istio/shared-gateway-port.yaml").replace("number: 8443", &format!("number: {port}"));
        file.replacen("name: keyward\n", &format!("name: {name}\n"), 1)
    };
    let backstop = |name: &str, port: u16| {
        let file = shipped!("istio/shared-gateway-port-backstop.yaml").replace("8443", &port.to_string());
        file.replacen("name: keyward-backstop\n", &format!("name: {name}\n"), 1)
    };
    let both = [port("a", 8443), port("b", 9443), backstop("c", 8443), backstop("d", 9443)];
    assert_eq!(found(&both), (Vec::new(), Vec::new()));
}

#[test]
fn a_filter_of_sidecars_with_one_change() {
    let sent = "spec.match: the filter is also on what the application sends";
    expect_changes(
        &[shipped!("istio/sidecar.yaml"), shipped!("istio/sidecar-backstop.yaml")],
        &[
            ("  match: [{mode: SERVER}]\n", "", false, sent),
            ("{mode: SERVER}", "{mode: CLIENT_AND_SERVER}", false, sent),
            (
                "{mode: SERVER}",
                "{mode: CLIENT}",
                true,
                "match[0].mode: `CLIENT` is for requests that the application sends",
            ),
            ("context: SIDECAR_INBOUND", "context: SIDECAR_OUTBOUND", true, "match.context: "),
        ],
    );
}

#[test]
fn a_traffic_extension_with_one_change() {
    expect_changes(
        &EXTENSION,
        &[
            ("  phase: AUTHN", "  phase: UNSPECIFIED_PHASE", true, "spec.phase: `UNSPECIFIED_PHASE` is not a value"),
            ("    failStrategy:", "    failstrategy:", true, "did you mean `failStrategy`?"),
            ("      rules:\n", "  rules:\n", true, "move it below `wasm.pluginConfig`"),
            (
                "    pluginName: keyward\n",
                "    pluginName: keyward\n    phase: AUTHN\n",
                true,
                "spec.wasm.phase: `phase` is not",
            ),
        ],
    );
}

#[test]
fn files_of_envoy_gateway_with_one_change() {
    let http = "                - filter_state: {key: wasm.keyward.decision, string_match: {exact: public}}\n";
    expect_changes(
        &[GATEWAY[0], GATEWAY[1], PROXY[0], PROXY[1]],
        &[
            ("    rootID: keyward", "    rootId: keyward", true, "did you mean `rootID`?"),
            ("kind: ClientTrafficPolicy", "kind: ClientTraficPolicy", true, "has no kind `ClientTraficPolicy`"),
            ("    failOpen: false", "    failopen: false", true, "did you mean `failOpen`?"),
            ("    config:\n", "    Config:\n", true, "wasm[0].Config: `Config` is not a field here"),
            ("    config:\n", "    pluginConfig:\n", true, "wasm[0].pluginConfig: "),
            ("      type: Image", "      typ: Image", true, "did you mean `type`?"),
            ("    env: {hostKeys", "    env: {hostkeys", true, "did you mean `hostKeys`?"),
            ("cluster: keyward_admin", "cluster: keyward", true, "admin.cluster: no file adds a cluster `keyward`"),
            (
                "cluster: keyward_admin",
                "cluster: outbound|8081||keyward",
                true,
                "admin.cluster: `outbound|8081||keyward` has",
            ),
            ("name: KEYWARD_EDGE_TOKEN", "name: OTHER", false, "spec.provider: the proxies' container does not get"),
            (
                "valueFrom: {secretKeyRef: {name: keyward-edge-token, key: edge-token}}",
                "value: REPLACE-WITH-AN-EDGE-TOKEN",
                false,
                "container.env[0].value: this is not an edge token",
            ),
            (
                "valueFrom: {secretKeyRef: ",
                "valueFrom: {fieldRef: ",
                false,
                "env[0].value: the variable `KEYWARD_EDGE_TOKEN` has",
            ),
            ("  provider:", "  providers:", false, "spec.provider: the proxies' container does not get"),
            ("hide_key: true", "hide_key: false", false, "hide_key: nothing removes `x-api-key`"),
            (
                "kind: Gateway, name: databases}",
                "name: databases}",
                true,
                "targetRefs[0].kind: nothing instead of `Gateway`",
            ),
            (
                "      op: add\n      jsonPath: \"..http_filters[?(@.name=='envoy.filters.http.router')]\"\n      path: \"\"\n      value:",
                "      op: add\n      other:",
                true,
                "jsonPatches[0].name: the filter is on the listener `databases/databases/https`, and no backstop",
            ),
            (
                "jsonPath: \"..http_filters[?(@.name=='envoy.filters.http.router",
                "jsonPath: \"$.filter_chains[0]..http_filters[?(@.name=='envoy.filters.http.router",
                true,
                "jsonPath: the backstop is not put",
            ),
            (
                "jsonPath: \"..http_filters[?(@.name=='envoy.filters.http.wasm",
                "jsonPath: \"x..http_filters[?(@.name=='envoy.filters.http.wasm",
                true,
                "jsonPath: no filter has this name",
            ),
            (
                "streamIdleTimeout: 30s",
                "streamIdleTimeout: 30",
                true,
                "streamIdleTimeout: another value is not a duration",
            ),
            ("streamIdleTimeout: 30s", "streamIdleTimeOuts: 30s", true, "did you mean `streamIdleTimeout`?"),
            (
                "withUnderscoresAction: RejectRequest",
                "withUnderscoresAction: Reject",
                true,
                "`Reject` is not a value of this",
            ),
            ("  headers:\n", "  header:\n", true, "did you mean `headers`?"),
            ("  timeout:\n", "  timeouts:\n", true, "did you mean `timeout`?"),
            (
                "name: databases}\n  path:",
                "name: other}\n  path:",
                false,
                "spec.targetRefs: the filter is on another Gateway",
            ),
            ("  path:\n", "  paths:\n", true, "spec.paths: `paths` is not a field here"),
            ("disableMergeSlashes: false", "disableMergeSlashes: true", false, "spec.path.disableMergeSlashes: "),
            ("RejectRequest", "Allow", false, "spec.headers.withUnderscoresAction: "),
            ("streamIdleTimeout: 30s", "streamIdleTimeout: 0s", false, "streamIdleTimeout: a request that is held"),
            (http, "", true, "policies: the backstop refuses requests with the decision `public`"),
            (
                "namespace: databases\nspec:\n  targetRef:",
                "namespace: other\nspec:\n  targetRef:",
                true,
                "in the namespace `databases`, and this policy is in `other`",
            ),
            (
                "    failOpen: false",
                "    failOpen: false\n  - name: other\n    config: {a: 1}\n    rootID: a\n    unused: a\n  - name: keyward\n",
                true,
                "wasm[2]: the filter runs twice",
            ),
        ],
    );
    let v2 = shipped!("envoy-gateway/backstop-v2.yaml");
    let (errors, warnings) = found(&[GATEWAY[0].to_owned(), GATEWAY[1].to_owned(), v2.to_owned()]);
    assert!(errors.iter().any(|error| error.contains("2 of the resources that were given")), "{errors:?}");
    assert!(warnings.iter().any(|warning| warning.contains("name with XDSNameSchemeV2")), "{warnings:?}");
}

#[test]
fn listeners_on_one_port_are_one_listener_of_envoy() {
    let gateway = |listeners: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: databases, namespace: databases}}\nspec:\n  \
             listeners:\n  - {{name: http, port: 80, protocol: HTTP}}\n{listeners}"
        )
    };
    let first = "  - {name: https, port: 443, protocol: HTTPS, hostname: a.example.com}\n";
    let second = "  - {name: other, port: 443, protocol: HTTPS, hostname: b.example.com}\n";
    let own = "  - {name: other, port: 8443, protocol: HTTPS}\n";
    let with = |filter: &str, listeners: &[&str]| {
        found(&[filter.to_owned(), GATEWAY[1].to_owned(), gateway(&listeners.concat())]).0
    };
    let section = GATEWAY[0].replacen(
        "kind: Gateway, name: databases}",
        "kind: Gateway, name: databases, sectionName: other}",
        1,
    );
    for (filter, listeners) in
        [(GATEWAY[0], &[first][..]), (GATEWAY[0], &[first, second]), (&section, &[first, second])]
    {
        assert_eq!(with(filter, listeners), Vec::<String>::new(), "{listeners:?}");
    }
    for (listeners, says) in [
        (&[first, own][..], "no backstop covers the listener `databases/databases/other`"),
        (&[second, first], "no backstop covers the listener `databases/databases/other`, whose port 443 is also"),
        (&[second, first], "Envoy has no listener `https`"),
        (&[own], "the Gateway `databases` has no listener `https`"),
    ] {
        let errors = with(GATEWAY[0], listeners);
        assert!(errors.iter().any(|error| error.contains(says)), "{says}: {errors:?}");
    }
}

#[test]
fn a_text_without_a_configuration_says_what_it_has() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nspec: {}\n";
    for (texts, says, help) in [
        (&[ISTIO[1]][..], "found EnvoyFilter with a backstop", "`keyward check FILTER BACKSTOP`"),
        (&[deployment], "found Deployment", "expected a plugin configuration"),
        (
            &[deployment, GATEWAY[1]],
            "found Deployment, EnvoyPatchPolicy with a backstop, EnvoyPatchPolicy",
            "FILTER BACKSTOP",
        ),
        (&["a: 1\n"], "found a document without `kind`", "expected"),
        (&[&ISTIO[0].replace("WasmPlugin", "Wasmplugin")], "found Wasmplugin", "did you mean `WasmPlugin`?"),
    ] {
        let sources: Vec<Source<'_>> = texts.iter().map(|text| Source { name: "file", text }).collect();
        let error = report::check(&sources, &Options::default()).unwrap_err().1.to_string();
        assert!(error.contains(says) && error.contains(help), "{error}");
    }
}

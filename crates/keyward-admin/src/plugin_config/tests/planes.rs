//! The shipped files with one change each, by which the filter or its backstop is not on a listener.

use super::*;

const ISTIO: [&str; 2] = [
    include_str!("../../../../../deploy/istio/gateway.yaml"),
    include_str!("../../../../../deploy/istio/backstop.yaml"),
];
const GATEWAY: [&str; 2] = [
    include_str!("../../../../../deploy/envoy-gateway/gateway.yaml"),
    include_str!("../../../../../deploy/envoy-gateway/backstop.yaml"),
];
const RESOURCE: &str = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: databases, namespace: \
                        databases}\nspec:\n  listeners:\n  - {name: http, port: 80, protocol: HTTP}\n  - {name: https, port: \
                        443, protocol: HTTPS}\n";

fn together(files: [&str; 2]) -> String {
    files.join("---\n").replace(&"0".repeat(64), &"0123456789abcdef".repeat(4))
}

fn findings(text: &str) -> Vec<String> {
    [errors(text), warnings(text)].concat()
}

#[test]
fn a_change_that_takes_a_listener_away_is_named() {
    let https = "name: databases/databases/https";
    let cases: &[([&str; 2], &str, &str, &str)] = &[
        (ISTIO, "context: GATEWAY", "context: SIDECAR_INBOUND", "match.context: "),
        (ISTIO, "context: GATEWAY", "context: SIDECAR_OUTBOUND", "match.context: "),
        (ISTIO, "context: GATEWAY", "context: gateway", "match.context: "),
        (ISTIO, "applyTo: HTTP_FILTER", "applyTo: HTTP_ROUTE", "applyTo: "),
        (ISTIO, "{filter: {name: envoy.filters.network", "{filter: {name: envoy", "filter.name: "),
        (ISTIO, "listener: {", "listener: {name: a, ", "listener.name: "),
        (ISTIO, "filterChain: {", "filterChain: {name: a, ", "filterChain.name: "),
        (ISTIO, "filterChain: {", "filterChain: {sni: a, ", "filterChain.sni: "),
        (ISTIO, "context: GATEWAY", "context: GATEWAY\n      proxy: {proxyVersion: a}", "match.proxy: "),
        (
            ISTIO,
            "  configPatches:\n",
            "  configPatches:\n  - {applyTo: HTTP_FILTER, match: {listener: {filterChain: {filter: {subFilter: {name: \
             keyward_backstop}}}}}, patch: {operation: REMOVE}}\n",
            "patch.operation: ",
        ),
        (ISTIO, "name: keyward_backstop\n", "name: keyward_backstop\n        disabled: true\n", "value.disabled: "),
        (ISTIO, "kind: EnvoyFilter", "kind: Envoyfilter", "kind: "),
        (ISTIO, "kind: EnvoyFilter", "kind: HttpFilter", "kind: "),
        (ISTIO, "networking.istio.io/v1alpha3", "networking.istio.io/v1", "apiVersion: "),
        (ISTIO, "extensions.istio.io/v1alpha1", "extensions.istio.io/v1", "apiVersion: "),
        (ISTIO, "workloadSelector", "selector", "spec.selector: "),
        (
            GATEWAY,
            "namespace: databases\nspec:\n  targetRef:",
            "namespace: b\nspec:\n  targetRef:",
            "metadata.namespace: ",
        ),
        (
            GATEWAY,
            "targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: databases",
            "targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: b",
            "targetRef.name: ",
        ),
        (GATEWAY, "targetRef: {", "targetRefs: {", "spec.targetRefs: "),
        (GATEWAY, "type: JSONPatch", "type: Merge", "spec.type: "),
        (GATEWAY, "listener.v3.Listener", "route.v3.RouteConfiguration", "jsonPatches[0].type: "),
        (GATEWAY, "name: keyward_backstop\n", "name: keyward_backstop\n        disabled: true\n", "value.disabled: "),
        (GATEWAY, https, "name: https", "jsonPatches[0].name: "),
        (GATEWAY, https, "name: databases/b/https", "jsonPatches[0].name: "),
        (GATEWAY, "path: /failure_policy", "path: failure_policy", "operation.path: "),
        (GATEWAY, "          rules:\n", "          shadow_rules:\n", "value.typed_config: "),
        (GATEWAY, "value: FAIL_RELOAD", "value: FAIL_OPEN", "operation.value: requests pass unchecked"),
        (GATEWAY, "targetRefs:\n", "targetsRefs:\n", "spec.targetsRefs: "),
        (GATEWAY, "kind: Gateway, name: databases", "kind: HTTPRoute, name: databases", "targetRefs[0].kind: "),
        (GATEWAY, "kind: Gateway, name: databases", "kind: Gateway, name: b", "targetRefs[0].name: "),
        (GATEWAY, "{group: gateway.networking.k8s.io, kind", "{kind", "targetRefs[0].group: "),
        (GATEWAY, "type: Image", "type: HTTP", "code.type: "),
        (GATEWAY, "kind: EnvoyPatchPolicy", "kind: EnvoyPatchpolicy", "kind: "),
    ];
    let mut silent = Vec::new();
    for (files, from, to, wanted) in cases {
        let text = together(*files);
        assert!(text.contains(from), "{from}");
        let found = findings(&text.replacen(from, to, 1));
        if !found.iter().any(|finding| finding.contains(wanted)) {
            silent.push(format!("{from} -> {to}: {wanted}: {found:?}"));
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
    let one = together([GATEWAY[0], GATEWAY[1].split("---\n").next().unwrap_or_default()]);
    let section = |name: &str| {
        one.replacen(
            "kind: Gateway, name: databases",
            &format!("kind: Gateway, name: databases, sectionName: {name}"),
            1,
        )
    };
    assert!(findings(&section("http")).iter().any(|finding| finding.contains("targetRefs[0].sectionName: ")));
}

#[test]
fn what_has_its_backstop_is_not_refused() {
    let whole = together(GATEWAY);
    let other = RESOURCE.replace("name: databases, namespace: databases", "name: public, namespace: web");
    let one = together([GATEWAY[0], GATEWAY[1].split("---\n").next().unwrap_or_default()]);
    let section =
        one.replacen("kind: Gateway, name: databases", "kind: Gateway, name: databases, sectionName: https", 1);
    for text in [
        together(ISTIO),
        whole.clone(),
        format!("{section}{RESOURCE}"),
        format!("{whole}{RESOURCE}{other}"),
        format!(
            "{whole}{RESOURCE}  - {{name: tcp, port: 1, protocol: TCP}}\n  - {{name: tls, port: 2, protocol: TLS}}\n"
        ),
    ] {
        assert_eq!(findings(&text), Vec::<String>::new());
    }
}

#[test]
fn the_other_shipped_pairs_have_no_mistake() {
    macro_rules! pair {
        ($one:literal, $other:literal) => {
            [
                include_str!(concat!("../../../../../deploy/", $one)),
                include_str!(concat!("../../../../../deploy/", $other)),
            ]
        };
    }
    for files in [
        pair!("istio/gateway-api.yaml", "istio/gateway-api-backstop.yaml"),
        pair!("istio/shared-gateway-host.yaml", "istio/shared-gateway-host-backstop.yaml"),
        pair!("istio/shared-gateway-port.yaml", "istio/shared-gateway-port-backstop.yaml"),
        pair!("istio/sidecar.yaml", "istio/sidecar-backstop.yaml"),
        pair!("istio/traffic-extension.yaml", "istio/backstop.yaml"),
        pair!("envoy-gateway/gateway.yaml", "envoy-gateway/backstop-v2.yaml"),
        pair!("envoy-gateway/gateway.yaml", "envoy-gateway/backstop-quic.yaml"),
        pair!("envoy-gateway/shared-gateway.yaml", "envoy-gateway/backstop.yaml"),
        pair!("envoy-gateway/native/gateway.yaml", "envoy-gateway/native/backstop.yaml"),
    ] {
        assert_eq!(errors(&together(files)), Vec::<String>::new());
    }
}

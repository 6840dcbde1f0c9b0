//! What lets requests pass without a key is a mistake where the files show all that is around the filter.

use super::*;
use crate::plugin_config::versions::{Version, Versions};

const ISTIO: &str = include_str!("../../../../../deploy/istio/gateway.yaml");
const ISTIO_BACKSTOP: &str = include_str!("../../../../../deploy/istio/backstop.yaml");
const REALTIME: &str = include_str!("../../../../../deploy/istio/realtime.yaml");
const GATEWAY: &str = include_str!("../../../../../deploy/envoy-gateway/gateway.yaml");
const GATEWAY_BACKSTOP: &str = include_str!("../../../../../deploy/envoy-gateway/backstop.yaml");
const ENVOY: &str = include_str!("../../../../../envoy.yaml");

/// What one report says: whether there are mistakes, and whether a request can pass without a key.
fn verdict(texts: &[&str]) -> (bool, bool) {
    let sources: Vec<Source<'_>> = texts.iter().map(|text| Source { name: "file", text }).collect();
    let report = report::check(&sources, &Options::default()).unwrap().remove(0);
    (!report.errors.is_empty(), report.lets_pass)
}

#[test]
fn a_set_of_files_in_which_requests_can_pass_is_refused() {
    let shadow = |text: &str| text.replacen("    realm: databases\n", "    mode: shadow\n    realm: databases\n", 1);
    let istio_open = ISTIO.replacen("FAIL_RELOAD\n", "FAIL_OPEN\n", 1);
    let gateway_open = GATEWAY.replacen("failOpen: false", "failOpen: true", 1);
    let patched_open = GATEWAY_BACKSTOP.replacen("value: FAIL_RELOAD", "value: FAIL_OPEN", 1);
    let shadow_rules = ISTIO_BACKSTOP.replacen("  rules:\n", "  shadow_rules:\n", 1);
    let envoy_open = ENVOY.replacen("failure_policy: FAIL_RELOAD", "failure_policy: FAIL_OPEN", 1);
    let envoy_alone = ENVOY.replacen(
        "\"@type\": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "\"@type\": other",
        1,
    );
    let cases: &[(&str, &[&str], (bool, bool))] = &[
        ("Istio, whole", &[ISTIO, ISTIO_BACKSTOP], (false, false)),
        ("Envoy Gateway, whole", &[GATEWAY, GATEWAY_BACKSTOP], (false, false)),
        ("Envoy, whole", &[ENVOY], (false, false)),
        // One file may have its backstop in another one.
        ("Istio, one file", &[ISTIO], (false, true)),
        ("Envoy Gateway, one file", &[GATEWAY], (false, true)),
        ("Istio, without backstop", &[ISTIO, REALTIME], (true, true)),
        ("Envoy Gateway, without backstop", &[GATEWAY, "kind: Secret\n"], (true, true)),
        ("Envoy, without backstop", &[&envoy_alone], (true, true)),
        ("Istio, FAIL_OPEN", &[&istio_open, ISTIO_BACKSTOP], (true, true)),
        ("Istio, FAIL_OPEN alone", &[&istio_open], (true, true)),
        ("Envoy Gateway, failOpen", &[&gateway_open, GATEWAY_BACKSTOP], (true, true)),
        ("Envoy Gateway, FAIL_OPEN by a patch", &[GATEWAY, &patched_open], (true, true)),
        ("Envoy, FAIL_OPEN", &[&envoy_open], (true, true)),
        ("Istio, shadow rules alone", &[ISTIO, &shadow_rules], (true, true)),
        // It is what shadow mode is for.
        ("Istio, shadow mode", &[&shadow(ISTIO), &shadow_rules], (false, true)),
        ("Istio, shadow mode and FAIL_OPEN", &[&shadow(&istio_open), &shadow_rules], (false, true)),
    ];
    for (name, texts, wanted) in cases {
        assert_eq!(verdict(texts), *wanted, "{name}");
    }
}

#[test]
fn more_that_is_public_than_is_named_is_told_as_such() {
    let shared = include_str!("../../../../../deploy/istio/shared-gateway-host.yaml");
    let backstop = include_str!("../../../../../deploy/istio/shared-gateway-host-backstop.yaml");
    let last = "    - {hosts: [records.example.com], path: \"/**\", access: deny}\n";
    let with = |rule: &str| shared.replacen(last, rule, 1);
    let gateway = include_str!("../../../../../deploy/envoy-gateway/shared-gateway.yaml");
    let everything = ISTIO.replacen("    rules:\n", "    rules:\n    - {path: \"/**\", access: public}\n", 1);
    let unmatched = ISTIO.replacen("    rules:\n", "    unmatched: public\n    rules:\n", 1);
    let cases: &[(&str, &[&str], (bool, bool))] = &[
        ("a shared gateway of Istio", &[shared, backstop], (false, false)),
        ("a shared gateway of Envoy Gateway", &[gateway, GATEWAY_BACKSTOP], (false, false)),
        ("every path", &[&everything, ISTIO_BACKSTOP], (false, true)),
        ("what no rule names", &[&unmatched, ISTIO_BACKSTOP], (false, true)),
        ("no rule for the rest", &[&with(""), backstop], (false, true)),
        ("a public rest", &[&with(&last.replace("deny", "public")), backstop], (false, true)),
        ("the rest of another host", &[&with(&last.replace("records.", "other.")), backstop], (false, true)),
        ("the rest of one method", &[&with(&last.replace("path:", "methods: [GET], path:")), backstop], (false, true)),
        ("a rest that asks for a key", &[&with(&last.replace("deny", "authenticated")), backstop], (false, false)),
    ];
    for (name, texts, (refused, passes)) in cases {
        assert_eq!(verdict(texts), (*refused, *passes), "{name}");
        // With `--strict` a warning refuses, and what a shared gateway has to have is none.
        let sources: Vec<Source<'_>> = texts.iter().map(|text| Source { name: "file", text }).collect();
        let warnings = report::check(&sources, &Options::default()).unwrap().remove(0).warnings;
        assert_eq!(warnings.iter().any(|warning| warning.message.ends_with("is public")), *passes, "{name}");
    }
}

#[test]
fn files_that_are_right_for_old_istio_have_no_warning() {
    let digest = |text: &str| text.replace(&"0".repeat(64), &"0123456789abcdef".repeat(4));
    let options = Options {
        versions: Versions { istio: Some(Version::new(1, 26)), ..Versions::default() },
        ..Options::default()
    };
    let found = |text: &str| {
        let sources = [Source { name: "a", text }, Source { name: "b", text: ISTIO_BACKSTOP }];
        let report = report::check(&sources, &options).unwrap().remove(0);
        report.errors.into_iter().chain(report.warnings).map(|finding| finding.help).collect::<Vec<_>>()
    };
    let sound = digest(ISTIO).replace("failStrategy: FAIL_RELOAD", "failStrategy: FAIL_CLOSE");
    assert_eq!(found(&sound), Vec::<String>::new());
    // It cannot be told to use what it does not know.
    assert_eq!(found(&sound.replace("FAIL_CLOSE", "FAIL_OPEN")), ["use `FAIL_CLOSE`"]);
}

//! Faults of single releases of the control planes, which are said where that release is stated.

use super::faults::expect_with;
use super::*;
use crate::plugin_config::versions::{Version, Versions};

/// How the EnvoyFilter of the tests begins.
const PATCH_HEAD: &str = "kind: EnvoyFilter\nspec:\n";

fn istio(version: Version) -> Options {
    Options { versions: Versions { istio: Some(version), ..Versions::default() }, ..Options::default() }
}

fn envoy_gateway(version: Version) -> Options {
    Options { versions: Versions { envoy_gateway: Some(version), ..Versions::default() }, ..Options::default() }
}

/// The warnings that are given with these options.
fn warnings_with(text: &str, options: &Options) -> Vec<String> {
    let reports = check_with(text, options).unwrap();
    reports.into_iter().flat_map(|report| report.warnings).map(|warning| warning.message).collect()
}

#[test]
fn an_envoy_filter_of_old_istio_is_not_limited_to_its_targets() {
    let targets = "  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: databases}]\n";
    let plugin = wasm_plugin(CONFIG).replace("spec:\n", &format!("spec:\n{targets}"));
    let by_targets = format!("{plugin}{}", PATCH.replace("spec:\n", &format!("spec:\n{targets}")));
    let (name, what) = ("1.26", "does not look at this field");
    let mend = "workloadSelector: {labels: {gateway.networking.k8s.io/gateway-name: databases}}";
    let old = by_targets.replace("FAIL_RELOAD", "FAIL_CLOSE");
    expect_with(name, &old, &istio(Version::new(1, 26)), false, "spec.targetRefs", what, mend);
    expect_with(name, &old, &istio(Version::patch(1, 26, 8)), false, "spec.targetRefs", what, mend);
    assert_eq!(warnings_with(&by_targets, &istio(Version::new(1, 27))), Vec::<String>::new());
    assert_eq!(warnings_with(&by_targets, &Options::default()), Vec::<String>::new());

    // The label is the mend, and selects what the filter's `targetRefs` do: of this Gateway alone.
    let labels = "  workloadSelector: {labels: {gateway.networking.k8s.io/gateway-name: databases}}\n";
    let by_label = by_targets.replace(&format!("{PATCH_HEAD}{targets}"), &format!("{PATCH_HEAD}{labels}"));
    assert_ne!(by_label, by_targets);
    assert_eq!(warnings_with(&by_label, &istio(Version::new(1, 27))), Vec::<String>::new());
    let other = by_label.replace("gateway-name: databases", "gateway-name: others");
    assert!(gaps(&other)[0].contains("selects other pods"), "{other}");
}

#[test]
fn two_patch_releases_of_envoy_gateway_refuse_every_rate_limit() {
    let policy = format!(
        "kind: EnvoyExtensionPolicy\nmetadata: {{name: keyward, namespace: databases}}\nspec:\n  wasm:\n  - {{name: keyward, rootID: keyward, \
         config: {CONFIG}}}\n---\nkind: BackendTrafficPolicy\nspec: {{rateLimit: {{type: Local, local: {{rules: []}}}}}}\n"
    );
    let what = "refuses every rate limit";
    for refused in [Version::patch(1, 8, 0), Version::patch(1, 8, 1)] {
        expect_with("1.8", &policy, &envoy_gateway(refused), false, "spec.rateLimit", what, "1.8.2 or later");
        let without = policy.replace("rateLimit", "timeout");
        assert!(!warnings_with(&without, &envoy_gateway(refused)).iter().any(|warning| warning.contains(what)));
    }
    // Without its patch level, 1.8 stands for its newest release.
    for taken in [Version::patch(1, 8, 2), Version::new(1, 7), Version::new(1, 8), Version::new(1, 9)] {
        let found = warnings_with(&policy, &envoy_gateway(taken));
        assert!(!found.iter().any(|warning| warning.contains(what)), "{taken}: {found:?}");
    }
}

#[test]
fn a_version_that_nothing_was_tested_with_is_named() {
    let policy = policy(CONFIG);
    let says = |options: &Options| warnings_with(&policy, options).iter().any(|w| w.contains("tested versions"));
    for (version, is_tested) in [
        (Version::new(1, 6), false),
        (Version::new(1, 7), true),
        (Version::patch(1, 9, 3), true),
        (Version::new(1, 10), false),
        (Version::new(2, 8), false),
    ] {
        assert_eq!(says(&envoy_gateway(version)), !is_tested, "{version}");
    }
    for (version, is_tested) in [
        (Version::patch(1, 25, 9), false),
        (Version::new(1, 26), true),
        (Version::new(1, 31), true),
        (Version::new(1, 32), false),
    ] {
        assert_eq!(says(&istio(version)), !is_tested, "{version}");
    }
}

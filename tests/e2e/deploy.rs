//! The files in deploy/ agree with envoy.yaml in the parts that they share with it.

use keyward_policy::config::Config;
use keyward_testbed::{artifacts, envoy_config, workspace};
use serde_json::Value;
use std::process::Command;

/// Returns the documents of a YAML file.
fn documents(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(workspace::root().join(file)).unwrap();
    text.split("\n---\n").map(|part| envoy_config::parse_yaml(part).unwrap()).collect()
}

/// The files in deploy/istio with the filter's configuration, whether it has all rules or some.
const ISTIO: [&str; 6] =
    ["gateway", "traffic-extension", "gateway-api", "shared-gateway-port", "shared-gateway-host", "sidecar"];
/// The files in deploy/istio with a backstop.
const BACKSTOPS: [&str; 5] = [
    "backstop",
    "gateway-api-backstop",
    "shared-gateway-port-backstop",
    "shared-gateway-host-backstop",
    "sidecar-backstop",
];

/// The same in deploy/envoy-gateway: the filter's files, and those of its backstop.
const GATEWAY: [&str; 2] = ["gateway", "shared-gateway"];
const GATEWAY_BACKSTOPS: [&str; 3] = ["backstop", "backstop-quic", "backstop-v2"];

/// The files of plain Envoy, which are not even warned of.
const CLEAN: [&str; 2] = ["envoy.yaml", "deploy/envoy/native.yaml"];

/// The native edition on Envoy Gateway: files that belong together.
const NATIVE_GATEWAY: [&str; 3] = ["gateway", "envoy-proxy", "backstop"];

/// The files with all rules.
fn plugins() -> [(&'static str, Value); 4] {
    let istio = documents("deploy/istio/gateway.yaml")[0]["spec"]["pluginConfig"].clone();
    let extension = documents("deploy/istio/traffic-extension.yaml")[0]["spec"]["wasm"]["pluginConfig"].clone();
    let gateway = documents("deploy/envoy-gateway/gateway.yaml")[0]["spec"]["wasm"][0]["config"].clone();
    let native = documents("deploy/envoy-gateway/native/gateway.yaml")[0]["spec"]["dynamicModule"][0]["config"].clone();
    [("istio", istio), ("traffic-extension", extension), ("envoy-gateway", gateway), ("native", native)]
}

#[test]
fn the_rules_are_those_of_envoy_yaml() {
    let shipped = envoy_config::shipped_plugin();
    for (name, plugin) in plugins() {
        assert_eq!(plugin["rules"], shipped["rules"], "{name}");
        for field in ["realm", "key_sources", "readiness_path"] {
            assert_eq!(plugin[field], shipped[field], "{name}: {field}");
        }
        // In these files the filter makes the header changes that the routes of envoy.yaml make.
        let config = Config::parse(plugin.to_string().as_bytes()).unwrap();
        assert!(config.hide_key && config.identity_headers.id.is_some(), "{name}");
    }
}

#[test]
fn the_backstop_is_that_of_envoy_yaml() {
    let place =
        "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/1/typed_config/rules";
    let shipped = envoy_config::shipped().pointer(place).cloned().unwrap();
    let istio = BACKSTOPS.map(|name| format!("deploy/istio/{name}.yaml"));
    let gateway = GATEWAY_BACKSTOPS.map(|name| format!("deploy/envoy-gateway/{name}.yaml"));
    let native = ["deploy/envoy-gateway/native/backstop.yaml".to_owned()];
    for file in istio.into_iter().chain(gateway).chain(native) {
        // Each policy of these files is for a listener.
        for document in documents(&file) {
            let spec = &document["spec"];
            let patches = spec["configPatches"].as_array().or_else(|| spec["jsonPatches"].as_array());
            let mut values = patches
                .into_iter()
                .flatten()
                .flat_map(|patch| [&patch["patch"]["value"], &patch["operation"]["value"]]);
            assert!(values.any(|value| value["typed_config"]["rules"] == shipped), "{file} has no such backstop");
        }
    }
}

#[test]
fn the_command_finds_no_mistake_in_them() {
    let istio = ISTIO.map(|name| vec![format!("deploy/istio/{name}.yaml")]);
    // Envoy Gateway's filter without its backstop has no FAIL_RELOAD.
    let gateway = GATEWAY.iter().flat_map(|filter| {
        GATEWAY_BACKSTOPS
            .map(|backstop| [filter, backstop].map(|name| format!("deploy/envoy-gateway/{name}.yaml")).to_vec())
    });
    let plain = CLEAN.map(|file| vec![file.to_owned()]);
    let native = [NATIVE_GATEWAY.map(|name| format!("deploy/envoy-gateway/native/{name}.yaml")).to_vec()];
    for files in plain.into_iter().chain(istio).chain(gateway).chain(native) {
        let paths = files.iter().map(|file| workspace::root().join(file));
        let output = Command::new(artifacts::keyward()).arg("check").args(paths).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{files:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("ok: "), "{files:?}: {text}");
        // What is marked CHANGE is warned of.
        let faults = text.lines().filter(|line| line.contains("warning:"));
        let is_clean = CLEAN.iter().any(|clean| files == [*clean]);
        let faults: Vec<&str> = faults.filter(|line| is_clean || line.contains("FAIL_")).collect();
        assert!(faults.is_empty(), "{files:?}: {faults:#?}");
    }
}

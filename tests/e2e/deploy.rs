//! The files in deploy/ say the same as envoy.yaml, where they say the same thing.

use keyward_policy::config::Config;
use keyward_testbed::{artifacts, envoy_config, workspace};
use serde_json::Value;
use std::process::Command;

/// The documents of a YAML file.
fn documents(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(workspace::root().join(file)).unwrap();
    text.split("\n---\n").map(|part| envoy_config::parse_yaml(part).unwrap()).collect()
}

fn plugins() -> [(&'static str, Value); 2] {
    let istio = documents("deploy/istio/keyward.yaml")[0]["spec"]["pluginConfig"].clone();
    let gateway = documents("deploy/envoy-gateway/keyward.yaml")[0]["spec"]["wasm"][0]["config"].clone();
    [("istio", istio), ("envoy-gateway", gateway)]
}

#[test]
fn the_rules_are_those_of_envoy_yaml() {
    let shipped = envoy_config::shipped_plugin();
    for (name, plugin) in plugins() {
        assert_eq!(plugin["rules"], shipped["rules"], "{name}");
        for field in ["realm", "key_sources", "readiness_path"] {
            assert_eq!(plugin[field], shipped[field], "{name}: {field}");
        }
        // There the filter does what the routes of envoy.yaml do.
        let config = Config::parse(plugin.to_string().as_bytes()).unwrap();
        assert!(config.hide_key && config.identity_headers.id.is_some(), "{name}");
    }
}

#[test]
fn the_backstop_is_that_of_envoy_yaml() {
    let place = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/1";
    let shipped = envoy_config::shipped().pointer(place).cloned().unwrap();
    for file in ["deploy/istio/keyward.yaml", "deploy/envoy-gateway/keyward.yaml"] {
        let documents = documents(file);
        let values =
            documents.iter().flat_map(|document| {
                let spec = &document["spec"];
                let patches = spec["configPatches"].as_array().or_else(|| spec["jsonPatches"].as_array());
                patches.into_iter().flatten().map(|patch| &patch["patch"]["value"]).chain(
                    spec["jsonPatches"].as_array().into_iter().flatten().map(|patch| &patch["operation"]["value"]),
                )
            });
        assert!(values.into_iter().any(|value| *value == shipped), "{file} has no such backstop");
    }
}

#[test]
fn the_command_finds_no_mistake_in_them() {
    for file in ["envoy.yaml", "deploy/istio/keyward.yaml", "deploy/envoy-gateway/keyward.yaml"] {
        let output =
            Command::new(artifacts::keyward()).arg("check").arg(workspace::root().join(file)).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{file}: {text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("ok: 23 rules"), "{file}: {text}");
        if file == "envoy.yaml" {
            assert!(!text.contains("warning:"), "{file}: {text}");
        }
    }
}

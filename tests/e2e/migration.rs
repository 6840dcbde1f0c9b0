//! `docs/migration.md`: its commands and its configuration, taken from its text, move keys from other checks to Keyward.

use crate::setup::{assert_denied, assert_passed};
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::{Shipped, parse_yaml};
use keyward_testbed::http1::{self, Response};
use keyward_testbed::service::{EDGE_TOKEN, Restartable};
use keyward_testbed::upstream::{Received, Upstream};
use keyward_testbed::{artifacts, documents, wait, workspace};
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const RECORDS: &str = "/api/collections/posts/records";
/// A key that a client has from the older check.
const OLD: &str = "b7c1f0e2-5b7a-4a56-9a71-3f2ad5a6b8c4";
/// The place behind Keyward and its backstop, where the older check stays for now.
const AFTER_BACKSTOP: usize = 2;

/// Returns a section's blocks of one language; commands have none.
fn blocks(section: &str, language: &str) -> Vec<String> {
    documents::blocks("docs/migration.md", &format!("## {section}"), language)
}

/// Runs a command of the guide in a shell that finds `keyward` and a program which prints what another product prints.
fn run(command: &str, program: &str, prints: &str) -> String {
    let folder = workspace::scratch("migration");
    let file = folder.path().join(program);
    fs::write(&file, format!("#!/bin/sh\ncat <<'END'\n{prints}\nEND\n")).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    symlink(artifacts::keyward(), folder.path().join("keyward")).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", command])
        .env("PATH", path)
        .env("KEY", OLD)
        .current_dir(Path::new("/"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The digest of a key, by another program than ours.
fn digest(key: &str) -> String {
    run("printf %s \"$(other)\" | sha256sum | cut -d' ' -f1", "other", key).trim().to_owned()
}

/// The `manifest` of the guide, with the digest that its own command prints.
fn manifest() -> Value {
    let section = "Keys that clients already have";
    let [command] = <[String; 1]>::try_from(blocks(section, "")).unwrap();
    let [block] = <[String; 1]>::try_from(blocks(section, "yaml")).unwrap();
    let hashed = run(&command, "unused", "");
    let sha256 = hashed.trim().rsplit([' ', ':']).next().unwrap_or_default().trim_matches('"').to_owned();
    assert_eq!(sha256, digest(OLD), "{hashed}");
    parse_yaml(&block.replace("<64 hex digits>", &sha256)).unwrap()["manifest"].take()
}

/// Envoy's own check, as somebody has it who comes from there.
fn older_check() -> Value {
    json!({
        "name": "envoy.filters.http.api_key_auth",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
            "credentials": [{"key": OLD, "client": "billing"}],
            "key_sources": [{"header": "x-api-key"}],
            "forwarding": {"header": "x-client", "hide_credentials": true},
        },
    })
}

struct Edge {
    envoy: Envoy,
    upstream: Upstream,
    _folder: workspace::TempDir,
}

impl Edge {
    /// Starts Envoy with the shipped configuration for one mode, the guide's keys and the service's.
    fn start(service: &Restartable, manifest: Option<&Value>, is_shadow: bool) -> Self {
        let (upstream, folder) = (Upstream::start(), workspace::scratch("migration"));
        let shipped = if is_shadow { Shipped::shadow(upstream.address()) } else { Shipped::new(upstream.address()) };
        let mut shipped = shipped.with_admin(service.address(), EDGE_TOKEN, folder.path());
        if let Some(manifest) = manifest {
            shipped.plugin()["manifest"] = manifest.clone();
        }
        if is_shadow {
            let filters = shipped.connection_manager()["http_filters"].as_array_mut().unwrap();
            filters.insert(AFTER_BACKSTOP, older_check());
        }
        let envoy = Envoy::start(&shipped.build());
        let edge = Self { envoy, upstream, _folder: folder };
        let mut in_a_row = 0;
        wait::until("every worker has keys", PATIENCE, || {
            let is_ready = edge.ask("/keyward/ready", "ready", None).0.status == 200;
            in_a_row = if is_ready { in_a_row + 1 } else { 0 };
            (in_a_row == 16).then_some(())
        });
        edge
    }

    fn ask(&self, target: &str, host: &str, key: Option<&str>) -> (Response, Vec<Received>) {
        self.upstream.take();
        let mut headers = vec![("host", host)];
        headers.extend(key.map(|key| ("x-api-key", key)));
        let response = http1::exchange(self.envoy.listener("databases_api"), "GET", target, &headers).unwrap();
        (response, self.upstream.take())
    }
}

#[test]
fn a_client_keeps_its_key_from_the_older_check_until_it_has_a_new_one() {
    let mut service = Restartable::new();
    service.start();
    let manifest = manifest();
    let older_refuses = |(response, received): (Response, Vec<Received>)| {
        assert_eq!((response.status, received.len()), (401, 0), "{}", response.text());
        assert!(response.header("x-keyward-request-id").is_none() && !response.text().contains("keyward"));
    };

    // Beside the older check Keyward refuses nothing, and says what it would do.
    let edge = Edge::start(&service, Some(&manifest), true);
    let (response, received) = edge.ask(RECORDS, "m1", Some(OLD));
    let arrived = assert_passed(&response, received);
    assert_eq!(arrived.header("x-client"), ["billing"], "the older check still decides");
    assert_eq!(edge.envoy.access_log_entry("host", "m1")["decision"], "allowed");
    older_refuses(edge.ask(RECORDS, "m2", None));
    older_refuses(edge.ask(RECORDS, "m3", Some("kw_nobody")));
    assert_eq!(edge.envoy.access_log_entry("host", "m3")["decision"], "key_unknown");
    drop(edge);

    // It enforces, and the older check is gone: old and new keys work.
    let edge = Edge::start(&service, Some(&manifest), false);
    let (response, received) = edge.ask(RECORDS, "m4", Some(OLD));
    let arrived = assert_passed(&response, received);
    assert_eq!(arrived.header("x-api-key-id"), ["billing"]);
    assert!(arrived.header("x-api-key").is_empty(), "the key goes no further");
    let (response, received) = edge.ask(RECORDS, "m5", None);
    assert_denied(&response, &received, 401, "key_missing");
    let (_, new) = service.service().admin().unwrap().create("billing").unwrap();
    let mut in_a_row = 0;
    wait::until("the new key works everywhere", PATIENCE, || {
        in_a_row = if edge.ask(RECORDS, "m6", Some(&new)).0.status == 200 { in_a_row + 1 } else { 0 };
        (in_a_row == 16).then_some(())
    });
    assert_eq!(edge.ask(RECORDS, "m7", Some(OLD)).0.status, 200);
    drop(edge);

    // The last step takes the old one away.
    let edge = Edge::start(&service, None, false);
    assert_eq!(edge.ask(RECORDS, "m8", Some(&new)).0.status, 200);
    let (response, received) = edge.ask(RECORDS, "m9", Some(OLD));
    assert_denied(&response, &received, 401, "key_unknown");
}

/// Runs a guide's only command with another product's output, and has `keyward check` read what it prints.
fn entries(section: &str, program: &str, prints: &Value) -> Value {
    let [command] = <[String; 1]>::try_from(blocks(section, "")).unwrap();
    let printed = run(&command, program, &prints.to_string());
    assert!(!printed.contains(OLD), "a key is printed");
    let keys = parse_yaml(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    let folder = workspace::scratch("migration");
    let file = folder.path().join("plugin.yaml");
    let block = printed.lines().map(|line| format!("  {line}\n")).collect::<String>();
    let configuration = format!("manifest:\n  keys:\n{block}rules:\n- {{path: /a, access: authenticated}}\n");
    fs::write(&file, configuration).unwrap();
    let output = Command::new(artifacts::keyward()).arg("check").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), printed);
    keys
}

#[test]
fn the_keys_of_a_secret_become_entries() {
    // As the API server prints a Secret; the second name means something else in YAML.
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "api-keys", "namespace": "default"},
        "data": {
            "billing": run("printf %s \"$KEY\" | base64 -w0", "unused", ""),
            "true": run("printf %s second | base64 -w0", "unused", ""),
        },
    });
    let keys = entries("From Envoy Gateway's `APIKeyAuth`", "kubectl", &secret);
    let entry = |id: &str, key: &str| json!({"id": id, "name": id, "sha256": digest(key), "permissions": []});
    assert_eq!(keys, json!([entry("billing", OLD), entry("true", "second")]));
}

#[test]
fn the_keys_of_consumers_become_entries() {
    let dump = json!({
        "_format_version": "3.0",
        "consumers": [
            {"username": "billing", "id": "1e2f8a1c-9d0d-4a59-a7cd-0a9a3d6e4f10",
             "keyauth_credentials": [{"key": OLD}, {"key": "second", "ttl": 3600}, {"key": "fourth", "ttl": null}]},
            {"custom_id": "partner 7", "keyauth_credentials": [{"key": "third"}]},
            {"username": "nobody"},
        ],
        "services": [],
    });
    let keys = entries("From Kong's `key-auth`", "deck", &dump);
    let entry =
        |id: &str, name: &str, key: &str| json!({"id": id, "name": name, "sha256": digest(key), "permissions": []});
    assert_eq!(
        keys,
        json!([
            entry("billing-1", "billing", OLD),
            // A key that ends there does not become one that works for good.
            entry("billing-3", "billing", "fourth"),
            entry("partner 7-1", "partner 7", "third"),
        ])
    );
}

//! `keyward verify` against real Envoys: a complete one, and ones with a part missing.

use crate::setup::{ADMIN, READER, listener, plugin};
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::{self, Listener};
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{artifacts, workspace};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Gateway {
    envoy: Envoy,
    _upstream: Upstream,
    /// The folder, which is removed when the value is dropped.
    folder: Box<dyn AsRef<Path>>,
}

impl Gateway {
    fn start(change: impl FnOnce(&mut Listener)) -> Self {
        let upstream = Upstream::start();
        let mut plugin = plugin();
        plugin["readiness_path"] = "/keyward/ready".into();
        let mut listener = listener(&plugin, &upstream);
        change(&mut listener);
        let envoy = Envoy::start(&envoy_config::bootstrap(&[listener], vec![]));
        let folder = workspace::scratch("verify");
        let folder: Box<dyn AsRef<Path>> = Box::new(folder);
        let gateway = Self { envoy, _upstream: upstream, folder };
        std::fs::write(gateway.file("plugin.json"), plugin.to_string()).unwrap();
        gateway
    }

    fn file(&self, name: &str) -> PathBuf {
        (*self.folder).as_ref().join(name)
    }

    fn verify(&self, more: &[&str]) -> (Output, Vec<(String, bool, String)>) {
        let url = format!("http://{}", self.envoy.listener(crate::setup::LISTENER));
        let mut command = Command::new(artifacts::keyward());
        command.args(["verify", &url, "--json", "--config"]).arg(self.file("plugin.json")).args(more);
        let output = command.output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let text = |check: &Value, name: &str| check[name].as_str().unwrap().to_owned();
        let checks = report["checks"].as_array().unwrap().iter();
        (output, checks.map(|c| (text(c, "name"), c["passed"] == true, text(c, "finding"))).collect())
    }

    fn key_file(&self, key: &str) -> String {
        let file = self.file("key");
        std::fs::write(&file, format!("{key}\n")).unwrap();
        file.display().to_string()
    }
}

#[test]
fn a_gateway_with_filter_and_backstop_passes() {
    let gateway = Gateway::start(|_| {});
    let admin = format!("http://{}", gateway.envoy.admin_address());
    let revoked = gateway.key_file("kw_deleted_long_ago_0123456789abcdefghijkl");
    let (output, checks) = gateway.verify(&["--envoy-admin", &admin, "--revoked-key-file", &revoked]);
    assert_eq!(output.status.code(), Some(0), "{checks:?}");
    let names: Vec<&str> = checks.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["no key", "other key", "revoked", "readiness", "listener"]);
    assert!(checks.iter().all(|(_, passed, _)| *passed), "{checks:?}");
    // A key that still works has not been revoked.
    for key in [READER, ADMIN] {
        let (output, checks) = gateway.verify(&["--revoked-key-file", &gateway.key_file(key)]);
        assert_eq!(output.status.code(), Some(1));
        assert!(checks[2].2.contains("still accepted"), "{checks:?}");
    }
    // A path that is denied to all keys and a public path show nothing about keys.
    for (path, says) in [("/denied/x", "key_missing"), ("/public/x", "the request passed")] {
        let (_, checks) = gateway.verify(&["--path", path]);
        assert!(checks[0].2.contains(says), "{checks:?}");
    }
}

#[test]
fn a_gateway_without_the_filter_is_seen_through() {
    let gateway = Gateway::start(Listener::remove_filter);
    let admin = format!("http://{}", gateway.envoy.admin_address());
    let (output, checks) = gateway.verify(&["--envoy-admin", &admin]);
    assert_eq!(output.status.code(), Some(1));
    assert!(checks.iter().all(|(_, passed, _)| !passed), "{checks:?}");
    assert!(checks[0].2.contains("403 by the backstop"), "{checks:?}");
    assert!(checks.last().unwrap().2.contains("a backstop without Keyward"), "{checks:?}");
}

#[test]
fn a_gateway_without_the_backstop_is_seen_by_its_admin_address() {
    let open = |listener: &mut Listener| {
        let filters = listener.connection_manager()["http_filters"].as_array_mut().unwrap();
        filters.retain(|filter| !filter["typed_config"]["@type"].as_str().unwrap_or_default().ends_with("RBAC"));
    };
    let gateway = Gateway::start(open);
    let admin = format!("http://{}", gateway.envoy.admin_address());
    let (output, checks) = gateway.verify(&["--envoy-admin", &admin]);
    assert_eq!(output.status.code(), Some(1));
    let failed: Vec<&str> = checks.iter().filter(|(_, passed, _)| !passed).map(|(name, ..)| name.as_str()).collect();
    assert_eq!(failed, ["listener"], "{checks:?}");
    // Without filter and backstop, requests pass.
    let gateway = Gateway::start(|listener| {
        open(listener);
        listener.remove_filter();
    });
    let (_, checks) = gateway.verify(&[]);
    assert!(checks[0].2.contains("nothing checks keys here"), "{checks:?}");
}

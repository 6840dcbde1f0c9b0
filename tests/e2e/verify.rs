//! `keyward verify` against real Envoys: a complete one, and ones with a part missing.

use crate::setup::{ADMIN, READER, listener, plugin};
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::{self, Listener};
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{artifacts, workspace};
use serde_json::{Value, json};
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
    // A file that holds no key, or more than one, shows nothing.
    let url = format!("http://{}", gateway.envoy.listener(crate::setup::LISTENER));
    for text in ["", "junk", "{\"key\": \"kw_0123\"}", "kw_0123\nkw_4567", "kw_"] {
        let file = gateway.key_file(text);
        let mut command = Command::new(artifacts::keyward());
        let output = command.args(["verify", &url, "--path", "/a", "--revoked-key-file", &file]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{text}: {said}");
        assert!(said.contains(&file) && said.contains("put the key alone"), "{text}: {said}");
    }
    // What was not looked at is said, and the last line claims no more than was asked.
    let said = |more: &[&str]| {
        let mut command = Command::new(artifacts::keyward());
        let output = command.args(["verify", &url, "--path", "/a"]).args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = said(&[]);
    assert!(text.contains("the backstop was not looked at: --envoy-admin"), "{text}");
    assert!(text.contains("readiness was not looked at: give --config"), "{text}");
    assert!(!text.contains("in place"), "{text}");
    let text = said(&["--envoy-admin", &admin]);
    assert!(
        !text.contains("backstop was not") && text.ends_with("ok: Keyward and its backstop are in place\n"),
        "{text}"
    );
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

/// A setting by which requests get past, as the proxy itself shows it, fails the listener that has it.
#[test]
fn a_filter_or_a_backstop_that_is_off_is_seen_by_the_admin_address() {
    fn filter(listener: &mut Listener, end: &str) -> &'static str {
        let name = if end == "RBAC" { "keyward_backstop" } else { "keyward" };
        let filters = listener.connection_manager()["http_filters"].as_array_mut().unwrap();
        let filter = filters.iter_mut().find(|f| f["typed_config"]["@type"].as_str().unwrap().ends_with(end)).unwrap();
        filter["name"] = name.into();
        name
    }
    fn at<'l>(listener: &'l mut Listener, end: &str) -> &'l mut Value {
        filter(listener, end);
        let filters = listener.connection_manager()["http_filters"].as_array_mut().unwrap();
        filters.iter_mut().find(|f| f["typed_config"]["@type"].as_str().unwrap().ends_with(end)).unwrap()
    }
    const OFF: &str = "type.googleapis.com/envoy.config.route.v3.FilterConfig";
    const PER_ROUTE: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute";
    let off = || json!({"@type": OFF, "disabled": true});
    type Change = Box<dyn Fn(&mut Listener)>;
    let host = |end: &'static str, config: Value| -> Change {
        Box::new(move |listener: &mut Listener| {
            let name = filter(listener, end);
            let host = &mut listener.connection_manager()["route_config"]["virtual_hosts"][0];
            host["typed_per_filter_config"][name] = config.clone();
        })
    };
    let route = |end: &'static str, config: Value| -> Change {
        Box::new(move |listener: &mut Listener| {
            let name = filter(listener, end);
            let host = &mut listener.connection_manager()["route_config"]["virtual_hosts"][0];
            host["routes"][0]["typed_per_filter_config"][name] = config.clone();
        })
    };
    let nested = json!({"@type": OFF, "config": {"@type": PER_ROUTE}});
    let cases: [(&str, Change, &str, &str); 8] = [
        ("backstop off", Box::new(|l| at(l, "RBAC")["disabled"] = true.into()), "backstop is off", "remove `disabled`"),
        ("filter off", Box::new(|l| at(l, "Wasm")["disabled"] = true.into()), "filter is off", "remove `disabled`"),
        ("host, backstop", host("RBAC", off()), "`keyward_backstop` is off here", "leave its backstop on"),
        ("host, filter", host("Wasm", off()), "`keyward` is off here", "access: public"),
        ("route, backstop", route("RBAC", off()), "routes[0].typed_per_filter_config", "leave its backstop on"),
        ("route, rules", route("RBAC", json!({"@type": PER_ROUTE})), "has other rules here", "leave the backstop"),
        ("route, nested", route("RBAC", nested), "has other rules here", "leave the backstop"),
        (
            "fail open",
            Box::new(|l| at(l, "Wasm")["typed_config"]["config"]["failure_policy"] = "FAIL_OPEN".into()),
            "pass unchecked when the filter fails",
            "FAIL_RELOAD",
        ),
    ];
    for (name, change, reason, mend) in cases {
        let gateway = Gateway::start(change);
        let admin = format!("http://{}", gateway.envoy.admin_address());
        let (output, checks) = gateway.verify(&["--envoy-admin", &admin]);
        assert_eq!(output.status.code(), Some(1), "{name}: {checks:?}");
        let (check, passed, finding) = checks.last().unwrap();
        assert_eq!((check.as_str(), *passed), ("listener", false), "{name}: {checks:?}");
        assert!(finding.contains(reason) && finding.contains(mend), "{name}: {finding}");
    }
}

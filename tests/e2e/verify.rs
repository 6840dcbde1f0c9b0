//! `keyward verify` against real Envoys: a complete one, and ones with a part missing.

use crate::setup::{ADMIN, EXPIRED, Edge, READER, listener, plugin};
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::{self, Encoding, Listener};
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{artifacts, workspace};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A key as the service makes it, which no manifest has.
const DELETED: &str = "kw_deletedLongAgo0123456789ABCDEFGHIJKL2pgrsH";

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
    let revoked = gateway.key_file(DELETED);
    let (output, checks) = gateway.verify(&["--envoy-admin", &admin, "--revoked-key-file", &revoked]);
    assert_eq!(output.status.code(), Some(0), "{checks:?}");
    let names: Vec<&str> = checks.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["no key", "other key", "revoked", "readiness", "proxy", "listener"]);
    assert!(checks.iter().all(|(_, passed, _)| *passed), "{checks:?}");
    // A key that still works has not been revoked.
    for key in [READER, ADMIN] {
        let (output, checks) = gateway.verify(&["--revoked-key-file", &gateway.key_file(key)]);
        assert_eq!(output.status.code(), Some(1));
        assert!(checks[2].2.contains("still accepted"), "{checks:?}");
    }
    // Any text is refused as an unknown key: one without the form of the service's keys shows nothing, since the keys of this
    // gateway are the user's own.
    let cut = gateway.key_file(&DELETED[..40]);
    let (output, checks) = gateway.verify(&["--revoked-key-file", &cut]);
    assert_eq!(output.status.code(), Some(1), "{checks:?}");
    assert!(!checks[2].1 && checks[2].2.contains("a copy that was cut"), "{checks:?}");
    // A key that the filter knows needs no such form.
    let (_, checks) = gateway.verify(&["--revoked-key-file", &gateway.key_file(EXPIRED)]);
    assert_eq!((checks[2].1, checks[2].2.as_str()), (true, "401 key_expired"));
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
    for (path, says) in [("/denied/x", "key_missing"), ("/public/x", "rules[0] makes it public")] {
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

/// The dump of a proxy says nothing about another one that answered.
#[test]
fn the_admin_address_of_another_proxy_is_noticed() {
    let (gateway, other) = (Gateway::start(|_| {}), Gateway::start(|_| {}));
    let admin = format!("http://{}", other.envoy.admin_address());
    let (output, checks) = gateway.verify(&["--envoy-admin", &admin]);
    assert_eq!(output.status.code(), Some(1), "{checks:?}");
    let failed: Vec<&str> = checks.iter().filter(|(_, passed, _)| !passed).map(|(name, ..)| name.as_str()).collect();
    assert_eq!(failed, ["proxy"], "{checks:?}");
}

/// The backstop refuses what the filter lets pass in shadow mode, and that is said as the cause.
#[test]
fn a_backstop_that_does_not_fit_the_mode_is_named() {
    let mut plugin = plugin();
    plugin["mode"] = "shadow".into();
    let folder = workspace::scratch("verify");
    let file = folder.path().join("plugin.json");
    std::fs::write(&file, plugin.to_string()).unwrap();
    let edge = Edge::with(&plugin, |_| {});
    let admin = format!("http://{}", edge.envoy.admin_address());
    let mut command = Command::new(artifacts::keyward());
    command.args(["verify", &format!("http://{}", edge.address), "--envoy-admin", &admin, "--config"]).arg(&file);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the mode of the configuration is `shadow`, and the backstop refuses"), "{said}");
    assert!(said.contains("the mode is `shadow`, and the backstop refuses"), "{said}");
}

/// Other listeners of the same proxy: one that leads around Keyward, one for something else, and one for the proxy alone.
#[test]
fn every_listener_is_looked_at_and_the_named_ones_are_needed() {
    let upstream = Upstream::start();
    let (records, other) = (Upstream::start(), Upstream::start());
    let bare = |name: &str, upstream: &Upstream| {
        let mut listener = Listener::new(name, &plugin(), Encoding::StringValue, upstream.address());
        listener.connection_manager()["http_filters"].as_array_mut().unwrap().drain(..2);
        listener
    };
    let mut own = bare("own", &other);
    own.connection_manager()["route_config"]["virtual_hosts"][0]["routes"] =
        json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]);
    let mut upgrade = listener(&plugin(), &upstream);
    upgrade.connection_manager()["upgrade_configs"] = json!([{"upgrade_type": "websocket", "filters": [
        upgrade.connection_manager()["http_filters"][2].clone(),
    ]}]);
    let run = |listeners: &[Listener], more: &[&str]| {
        let envoy = Envoy::start(&envoy_config::bootstrap(listeners, vec![]));
        let url = format!("http://{}", envoy.listener(crate::setup::LISTENER));
        let admin = format!("http://{}", envoy.admin_address());
        let mut command = Command::new(artifacts::keyward());
        let output =
            command.args(["verify", &url, "--path", "/a", "--envoy-admin", &admin]).args(more).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text + &String::from_utf8_lossy(&output.stderr))
    };
    let edge = || listener(&plugin(), &records);
    let (exit, said) = run(&[edge(), own], &[]);
    assert!(exit == Some(0) && said.contains("- listener own ("), "{said}");
    let (exit, said) = run(&[edge(), bare("open", &other)], &[]);
    assert!(exit == Some(1) && said.contains("neither Keyward nor a backstop; "), "{said}");
    let (exit, said) = run(&[edge(), bare("open", &other)], &["--listener", crate::setup::LISTENER]);
    assert!(exit == Some(0) && said.contains("- listener open ("), "{said}");
    let (exit, said) = run(&[edge(), bare("open", &records)], &["--listener", crate::setup::LISTENER]);
    assert!(exit == Some(1) && said.contains("requests get around it here"), "{said}");
    let (exit, said) = run(&[upgrade], &[]);
    assert!(exit == Some(1) && said.contains("`websocket` take these filters"), "{said}");
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

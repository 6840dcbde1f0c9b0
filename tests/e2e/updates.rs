//! Configuration updates while Envoy runs.

use crate::setup::{ADMIN, LISTENER, READER, listener, plugin};
use crate::traffic::{Expected, Traffic};
use keyward_policy::digest::Digest;
use keyward_testbed::artifacts::{self, Edition};
use keyward_testbed::envoy::Envoy;
use keyward_testbed::process::memory_bytes;
use keyward_testbed::upstream::{Received, Upstream};
use keyward_testbed::{envoy_config, http1, wait, workspace};
use serde_json::json;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
/// The number of pushes of a large configuration.
const PUSHES: usize = 20;
/// The number of pushes of the largest configuration, in the test that is run by hand.
const MANY_PUSHES: usize = 100;

#[test]
fn a_bad_configuration_is_refused_and_the_old_one_stays() {
    let upstream = Upstream::start();
    let folder = workspace::scratch("lds");
    let file = folder.path().join("lds.json");
    let good = listener(&plugin(), &upstream);
    envoy_config::write_lds(&file, "1", std::slice::from_ref(&good));
    let envoy = Envoy::start(&envoy_config::bootstrap_with_lds(&file, &[good]));
    let address = wait::until("the listener", PATIENCE, || envoy.find_listener(LISTENER));
    let status = |target: &str, key: &str| http1::get(address, target, &[("x-api-key", key)]).unwrap().status;
    assert_eq!(status("/a", READER), 200);

    let mut bad = plugin();
    bad["rulez"] = json!([]);
    bad["mode"] = json!("strict");
    bad["rules"][2]["require"] = json!([]);
    envoy_config::write_lds(&file, "2", &[listener(&bad, &upstream)]);
    wait::until("the update is rejected", PATIENCE, || {
        (envoy.stat("listener_manager.lds.update_rejected") > 0).then_some(())
    });
    let log = envoy.log();
    for problem in ["rulez: unknown field", "mode: unknown value `strict`", "rules[2].require: the list is empty"] {
        assert!(log.contains(problem), "not in Envoy's log: {problem}\n{log}");
    }
    assert_eq!((status("/a", READER), status("/denied/x", READER)), (200, 403));

    // A valid configuration is accepted afterwards.
    let mut better = plugin();
    better["rules"][2]["require"] = json!(["a:write"]);
    envoy_config::write_lds(&file, "3", &[listener(&better, &upstream)]);
    wait::until("the next update counts", PATIENCE, || {
        let address = envoy.find_listener(LISTENER)?;
        let status = |key: &str| Some(http1::get(address, "/a", &[("x-api-key", key)]).ok()?.status);
        (status(READER)? == 403 && status(ADMIN)? == 200).then_some(())
    });
}

#[test]
fn a_bad_configuration_keeps_envoy_from_starting() {
    let upstream = Upstream::start();
    for (change, problem) in [
        (json!({"rules": "none"}), "rules: expected a list"),
        (json!({"manifest": null, "unmatched": "authenticated"}), "neither `manifest` nor `admin`"),
        (json!({"startup_wait": "2 seconds"}), "startup_wait"),
    ] {
        let mut plugin = plugin();
        for (field, value) in change.as_object().unwrap() {
            if value.is_null() {
                plugin.as_object_mut().unwrap().remove(field);
            } else {
                plugin[field] = value.clone();
            }
        }
        let refused = Envoy::try_start(&envoy_config::bootstrap(&[listener(&plugin, &upstream)], vec![]), 1);
        let log = refused.expect_err("started with a bad configuration").log;
        assert!(log.contains(problem), "{problem} is not in\n{log}");
    }
}

#[test]
fn both_encodings_of_the_configuration_are_read() {
    let upstream = Upstream::start();
    let listeners = [("string", envoy_config::Encoding::StringValue), ("struct", envoy_config::Encoding::Struct)]
        .map(|(name, encoding)| envoy_config::Listener::new(name, &plugin(), encoding, upstream.address()));
    let envoy = Envoy::start(&envoy_config::bootstrap(&listeners, vec![]));
    for name in ["string", "struct"] {
        let response = http1::get(envoy.listener(name), "/a", &[("x-api-key", READER)]).unwrap();
        assert_eq!(response.status, 200, "{name}");
    }
}

/// Envoy looks for the VM of a module before it has fetched the module, by a name that lacks the module's bytes: a VM of the module
/// before has the same. Envoy Gateway lets Envoy fetch every module, and its README.md says how to come by the new one.
#[test]
fn a_module_that_is_fetched_runs_from_the_change_after() {
    if Edition::of_this_run() == Edition::Native {
        return;
    }
    let upstream = Upstream::start();
    let modules = [artifacts::module(), artifacts::failpoint_module()].map(|file| std::fs::read(file).unwrap());
    let [old, new] = modules.clone();
    let files = Upstream::answering(move |request: &Received| {
        let module = if request.target() == "/new" { &new } else { &old };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", module.len());
        [head.as_bytes(), module].concat()
    });
    let folder = workspace::scratch("fetched");
    let file = folder.path().join("lds.json");
    let push = |version: &str, target: &str| {
        let mut pushed = listener(&plugin(), &upstream);
        pushed.connection_manager()["stat_prefix"] = json!(version);
        pushed.vm_config()["code"] = json!({"remote": {
            "http_uri": {"uri": format!("http://files.test{target}"), "cluster": "files", "timeout": "10s"},
            "sha256": Digest::of_key(&modules[usize::from(target == "/new")]).to_hex(),
        }});
        envoy_config::write_lds(&file, version, std::slice::from_ref(&pushed));
        pushed
    };
    let mut config = envoy_config::bootstrap_with_lds(&file, &[push("first", "/old")]);
    let clusters = config["static_resources"]["clusters"].as_array_mut().unwrap();
    clusters.push(envoy_config::cluster("files", files.address()));
    let envoy = Envoy::start(&config);
    // The new module alone crashes when a request asks for it.
    let ask = || {
        let headers = [("x-api-key", READER), ("x-keyward-failpoint", "1")];
        Some(http1::get(envoy.find_listener(LISTENER)?, "/a", &headers).ok()?.status)
    };
    let wait_for = |version: &str| {
        let served = format!("http.{version}.downstream_rq_completed");
        wait::until(version, PATIENCE, || {
            ask()?;
            (envoy.stat(&served) > 0).then_some(())
        });
    };
    wait_for("first");
    push("second", "/new");
    wait_for("second");
    assert_eq!(
        ask(),
        Some(200),
        "Envoy uses the new module at once: deploy/envoy-gateway/README.md need not speak of it"
    );
    push("third", "/new");
    wait::until("the new module", PATIENCE, || (ask()? == 503).then_some(()));
}

/// Envoy keeps the root context of every push until its old listener has drained, which takes ten minutes by default.
#[test]
fn many_pushes_of_a_large_configuration_do_not_fill_the_memory() {
    let upstream = Upstream::start();
    let folder = workspace::scratch("pushes");
    let file = folder.path().join("lds.json");
    let tail = "/abcdefgh".repeat(50);
    let rules: Vec<_> = (0..800).map(|n| json!({"path": format!("/r{n}{tail}"), "require": ["a:read"]})).collect();
    let push = |number: usize| {
        let mut plugin = plugin();
        plugin["realm"] = json!(format!("push-{number}"));
        plugin["rules"].as_array_mut().unwrap().extend(rules.iter().cloned());
        envoy_config::write_lds(&file, &number.to_string(), &[listener(&plugin, &upstream)]);
        plugin
    };
    let first = listener(&push(0), &upstream);
    let envoy = Envoy::start(&envoy_config::bootstrap_with_lds(&file, &[first]));
    let resident = || resident_mib(&envoy);
    let mut settled = 0;
    for number in 1..=PUSHES {
        push(number);
        wait::until("the push is in use", PATIENCE, || {
            let response = http1::get(envoy.find_listener(LISTENER)?, "/a", &[]).ok()?;
            let challenge = response.header("www-authenticate")?;
            challenge.contains(&format!("push-{number}\"")).then_some(())
        });
        if number == PUSHES / 5 {
            settled = resident();
        }
    }
    // A push whose compiled parts are not shared adds more than ten megabytes.
    let grown = resident().saturating_sub(settled);
    assert!(grown < 60, "{grown} MB more after {settled} MB");
    assert_eq!(envoy.stat("listener_manager.lds.update_rejected"), 0);
}

/// A configuration at its limits, pushed again and again under traffic: `cargo nextest run --workspace --run-ignored only -E
/// 'binary(e2e) and test(a_hundred_pushes)' --no-capture`.
#[test]
#[ignore = "takes minutes; many_pushes_of_a_large_configuration_do_not_fill_the_memory is the short one"]
fn a_hundred_pushes_of_the_largest_configuration_refuse_nothing() {
    const EXPECTED: &[Expected] = &[("/a", Some(READER), 200), ("/a", None, 401), ("/denied/x", Some(READER), 403)];
    let upstream = Upstream::start();
    let folder = workspace::scratch("hundred-pushes");
    let file = folder.path().join("lds.json");
    let mut largest = plugin();
    // 6 MiB of compiled rules are the limit, and 8 MiB of configuration.
    let tail = "/abcdefgh".repeat(40);
    let rules = (0..1_480).map(|n| json!({"path": format!("/r{n}{tail}"), "require": ["a:read"]}));
    largest["rules"].as_array_mut().unwrap().extend(rules);
    let digest = |n: u32| Digest::of_key(&n.to_le_bytes()).to_hex();
    let keys = (0..40_000).map(|n| {
        json!({"id": format!("key_{n}"), "name": format!("key {n}"), "sha256": digest(n), "permissions": ["a:read"]})
    });
    largest["manifest"]["keys"].as_array_mut().unwrap().extend(keys);
    let push = |number: usize| {
        let mut plugin = largest.clone();
        plugin["realm"] = json!(format!("push-{number}"));
        let pushed = listener(&plugin, &upstream);
        envoy_config::write_lds(&file, &number.to_string(), std::slice::from_ref(&pushed));
        pushed
    };
    println!("{} bytes of configuration", largest.to_string().len());
    let first = push(0);
    // Envoy keeps several copies of each listener's configuration until it has drained.
    let drain = ["--drain-time-s", "5"];
    let envoy = Envoy::start_with(&envoy_config::bootstrap_with_lds(&file, &[first]), &drain);
    let address = wait::until("the listener", PATIENCE, || envoy.find_listener(LISTENER));
    wait::until("the first one is in use", PATIENCE, || {
        (http1::get(address, "/a", &[("x-api-key", READER)]).ok()?.status == 200).then_some(())
    });
    let traffic = Traffic::start(address, EXPECTED);
    for number in 1..=MANY_PUSHES {
        push(number);
        wait::until("the push is in use", PATIENCE, || {
            let response = http1::get(address, "/a", &[]).ok()?;
            response.header("www-authenticate")?.contains(&format!("push-{number}\"")).then_some(())
        });
        if number % 10 == 0 {
            println!("{} MiB after {number} pushes", resident_mib(&envoy));
        }
    }
    let (asked, unanswered) = traffic.stop_while_listeners_are_replaced();
    println!("{asked} requests, none answered otherwise, {unanswered} closed by Envoy with their listener");
    assert!(unanswered * 1_000 < asked, "{unanswered} of {asked} requests got no answer");
    assert_eq!(envoy.stat("listener_manager.lds.update_rejected"), 0);
}

fn resident_mib(envoy: &Envoy) -> u64 {
    memory_bytes(envoy.pid(), "VmRSS").unwrap() >> 20
}

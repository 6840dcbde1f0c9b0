//! Configuration updates while Envoy runs.

use crate::setup::{ADMIN, LISTENER, READER, listener, plugin};
use keyward_testbed::envoy::Envoy;
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{envoy_config, http1, wait, workspace};
use serde_json::json;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

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

    // And a good one afterwards is taken.
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

//! The edge token from the environment of the VM.

use crate::setup::LISTENER;
use keyward_testbed::admin_stand_in::AdminStandIn;
use keyward_testbed::artifacts::WasmOnly;
use keyward_testbed::envoy::{self, Envoy};
use keyward_testbed::envoy_config::{self, Encoding, Listener, Shipped};
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{http1, wait, workspace};
use serde_json::json;
use std::time::Duration;

#[test]
fn a_variable_of_the_vm_is_the_edge_token() {
    if WasmOnly::VmSetting.applies() {
        return;
    }
    const KEY: &str = "kw_one_0123456789abcdefghijklmnopqrstuvwxyz";
    let (service, upstream) = (AdminStandIn::start(), Upstream::start());
    service.put("key_one", KEY);
    let plugin = json!({
        "admin": {"cluster": "keyward_admin", "token_env": "KEYWARD_EDGE_TOKEN"},
        "rules": [{"path": "/a", "access": "authenticated"}],
    });
    let mut listener = Listener::new(LISTENER, &plugin, Encoding::Struct, upstream.address());
    listener.vm_config()["environment_variables"] =
        json!({"key_values": {"A": "1", "KEYWARD_EDGE_TOKEN": "kwt_edge", "KEYWARD_EDGE_TOKEN_OLD": "no"}});
    let clusters = vec![envoy_config::cluster("keyward_admin", service.address())];
    let envoy = Envoy::start(&envoy_config::bootstrap(&[listener], clusters));
    wait::until("the key is accepted", Duration::from_secs(60), || {
        let response = http1::get(envoy.listener(LISTENER), "/a", &[("x-api-key", KEY)]).ok()?;
        (response.status == 200).then_some(())
    });
    let polls = service.take();
    assert!(!polls.is_empty());
    for poll in polls {
        assert_eq!(poll.header("authorization"), ["Bearer kwt_edge"]);
    }
}

/// `Shipped` makes the change that the file asks for where Envoy is older, and `tests/e2e/service.rs` runs with it.
#[test]
fn envoy_yaml_starts_unchanged_from_the_version_that_it_names() {
    let text = std::fs::read_to_string(workspace::root().join("envoy.yaml")).unwrap();
    assert!(text.contains("Envoy knows this field since 1.37"));
    let readme = std::fs::read_to_string(workspace::root().join("README.md")).unwrap();
    assert!(readme.contains("`envoy.yaml` as it is needs Envoy 1.37 or later"));
    let upstream = Upstream::start();
    let folder = workspace::scratch("edge-token");
    let mut shipped = Shipped::new(upstream.address()).with_admin(upstream.address(), "kwt_edge", folder.path());
    let injector = shipped.cluster("keyward_admin").pointer_mut(envoy_config::INJECTOR).unwrap();
    injector["header_value_prefix"] = json!("Bearer ");
    match Envoy::try_start(&shipped.build(), 1) {
        Ok(_) => assert!(envoy::version() >= (1, 37)),
        Err(refused) => {
            assert!(envoy::version() < (1, 37), "{}", refused.log);
            assert!(refused.log.contains("header_value_prefix"), "{}", refused.log);
        }
    }
}

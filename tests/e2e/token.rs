//! The edge token from the environment of the VM.

use crate::setup::LISTENER;
use keyward_testbed::admin_stand_in::AdminStandIn;
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::{self, Encoding, Listener};
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{http1, wait};
use serde_json::json;
use std::time::Duration;

#[test]
fn a_variable_of_the_vm_is_the_edge_token() {
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

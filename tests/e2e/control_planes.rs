//! What the control planes made of the files in `deploy/`, in Envoy without a control plane.

use crate::setup::{self, READER};
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::{self, Encoding, Listener};
use keyward_testbed::fixture::{self, Role};
use keyward_testbed::http1;
use keyward_testbed::service::{EDGE_TOKEN, Setup};
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{artifacts, wait, workspace};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const HOST: &str = "records.example.com";
const RECORDS: &str = "/api/collections/posts/records";

/// A fixture says what a control plane made of the files as they were then.
#[test]
fn the_fixtures_belong_to_the_files() {
    let fixtures = fixture::all();
    let folders: BTreeSet<_> = fixtures.iter().map(|file| file.parent().unwrap().join("inputs.json")).collect();
    for file in fixtures.iter().chain(&folders) {
        let fixture = fixture::read(file);
        let inputs = fixture["inputs"].as_object().unwrap();
        let names: Vec<String> = inputs.keys().cloned().collect();
        let now = fixture::digests(&names);
        let changed: Vec<&String> = names.iter().filter(|name| inputs[*name] != now[*name]).collect();
        let file = file.strip_prefix(workspace::root()).unwrap().display();
        assert!(changed.is_empty(), "{file} was made from other files: run `cargo xtask control-planes`: {changed:?}");
    }
}

/// What is recorded of an Envoy whose listener came by xDS does the same in another one.
#[test]
fn a_fixture_is_the_configuration_that_it_was_made_from() {
    let (folder, records) = (workspace::scratch("lds"), Upstream::start());
    let listener = Listener::new("records", &setup::plugin(), Encoding::StringValue, records.address());
    let file = folder.path().join("lds.json");
    std::fs::write(&file, json!({"resources": [listener.resource()]}).to_string()).unwrap();
    let first = Envoy::start(&envoy_config::bootstrap_with_lds(&file, &[listener]));
    let port = first.listener("records").port().to_string();
    let dump = first.admin("/config_dump?include_eds").json();
    let made = fixture::from_dump(&dump, &["README.md".to_owned()], &[(port, "80".to_owned())]);
    assert_eq!(made["inputs"]["README.md"].as_str().map(str::len), Some(64));
    assert!(!made.to_string().contains(&artifacts::module().display().to_string()), "a path of this machine");
    let second = Envoy::start(&fixture::replayed(&made, EDGE_TOKEN, |_| records.address()));
    for envoy in [&first, &second] {
        let ask = |headers: &[(&str, &str)]| http1::get(envoy.listener("records"), "/a", headers).unwrap();
        assert_eq!((ask(&[]).status, &ask(&[]).json()["code"]), (401, &"key_missing".into()));
        records.take();
        assert_eq!(ask(&[("x-api-key", READER)]).status, 200);
        assert_eq!(records.take()[0].header("x-api-key-id"), ["key_reader"]);
    }
}

#[test]
fn every_fixture_refuses_and_lets_pass() {
    let folder = workspace::scratch("replay");
    let service = Setup::new(folder.path()).serve();
    let (records, other) = (Upstream::start(), Upstream::start());
    let (id, key) = service.admin().unwrap().create("reader").unwrap();
    for file in fixture::all() {
        let place = file.strip_prefix(workspace::root()).unwrap().display().to_string();
        let config = fixture::replayed(&fixture::read(&file), EDGE_TOKEN, |role| match role {
            Role::Admin => service.address(),
            Role::Records => records.address(),
            Role::Other => other.address(),
        });
        let envoy = Envoy::start(&config);
        let listeners: Vec<&str> =
            config["static_resources"]["listeners"].as_array().unwrap().iter().map(name_of).collect();
        assert!(!listeners.is_empty(), "{place}");
        for name in listeners {
            let address = envoy.listener(name);
            let ask = |headers: &[(&str, &str)]| {
                http1::get(address, RECORDS, &[&[("host", HOST)], headers].concat()).unwrap()
            };
            let refused = ask(&[]);
            assert_eq!((refused.status, &refused.json()["code"]), (401, &"key_missing".into()), "{place}: {name}");
            wait::until("a key that passes", PATIENCE, || (ask(&[("x-api-key", &key)]).status == 200).then_some(()));
            records.take();
            assert_eq!(ask(&[("x-api-key", &key), ("x-api-key-id", "somebody")]).status, 200, "{place}: {name}");
            let received = records.take();
            assert_eq!(received[0].header("x-api-key-id"), [id.as_str()], "{place}: {name}");
            assert!(received[0].header("x-api-key").is_empty(), "{place}: {name}");
        }
        assert_eq!(envoy.stat("http..*rbac.keyward_backstop_rbac.denied"), 0, "{place}");
    }
}

fn name_of(listener: &Value) -> &str {
    listener["name"].as_str().unwrap()
}

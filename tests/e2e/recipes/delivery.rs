//! The recipes about how a configuration and a new Envoy arrive: LDS, ECDS, hot restart.

use super::{RECORDS, Recipe, blocks, free_port, socket};
use crate::setup::READER;
use crate::traffic::{Expected, Traffic};
use keyward_testbed::artifacts::Edition;
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::Shipped;
use keyward_testbed::service::{EDGE_TOKEN, Restartable};
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{http1, wait, workspace};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const LISTENER: &str = "databases_api";

fn status(envoy: &Envoy, target: &str) -> Option<u16> {
    http1::get(envoy.find_listener(LISTENER)?, target, &[("x-api-key", READER)]).ok().map(|response| response.status)
}

/// Waits until every worker answers with a status.
fn wait_for(envoy: &Envoy, target: &str, wanted: u16) {
    let mut in_a_row = 0;
    wait::until(&format!("{wanted} from every worker"), PATIENCE, || {
        in_a_row = if status(envoy, target) == Some(wanted) { in_a_row + 1 } else { 0 };
        (in_a_row == 16).then_some(())
    });
}

#[test]
fn the_listener_comes_from_a_file() {
    let [mut dynamic, mut resources] =
        <[Value; 2]>::try_from(blocks("A listener from a file or a control plane (LDS)")).unwrap();
    let folder = workspace::scratch("lds");
    let file = folder.path().join("listeners.json");
    let recipe = Recipe::new();
    let mut config = recipe.shipped.build();
    let listener = config.pointer_mut("/static_resources/listeners").map(Value::take).unwrap()[0].take();
    config["static_resources"].as_object_mut().unwrap().remove("listeners");
    *dynamic.pointer_mut("/dynamic_resources/lds_config/path_config_source/path").unwrap() = json!(file);
    config.as_object_mut().unwrap().extend(dynamic.as_object().unwrap().clone());
    assert_eq!(resources["resources"][0]["name"], listener["name"]);
    let fields = resources["resources"][0].as_object_mut().unwrap();
    fields.extend(listener.as_object().unwrap().clone());
    workspace::replace(&file, &resources.to_string());
    let envoy = Envoy::start(&config);
    wait_for(&envoy, RECORDS, 200);

    let rules = format!(
        "/resources/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config{}/rules",
        recipe.shipped.plugin_place()
    );
    let good = resources.pointer(&rules).cloned().unwrap();
    *resources.pointer_mut(&rules).unwrap() = json!("none");
    workspace::replace(&file, &resources.to_string());
    wait::until("the mistake is refused", PATIENCE, || {
        (envoy.stat("listener_manager.lds.update_rejected") > 0).then_some(())
    });
    assert!(envoy.log().contains("rules: expected a list"), "{}", envoy.log());
    assert_eq!(status(&envoy, RECORDS), Some(200), "the old one stays");
    *resources.pointer_mut(&rules).unwrap() = good;
    let list = resources.pointer_mut(&rules).and_then(Value::as_array_mut).unwrap();
    list.insert(0, json!({"path": "/api/**", "access": "deny"}));
    workspace::replace(&file, &resources.to_string());
    wait_for(&envoy, RECORDS, 403);
}

#[test]
fn the_filter_alone_comes_from_a_file() {
    let [discovered, mut resources] =
        <[Value; 2]>::try_from(blocks("The filter alone from a file or a control plane (ECDS)")).unwrap();
    let folder = workspace::scratch("ecds");
    let file = folder.path().join("keyward-filter.json");
    let mut recipe = Recipe::new();
    let filter = recipe.shipped.connection_manager().pointer_mut("/http_filters/0").unwrap();
    let config = filter["typed_config"].take();
    *filter = discovered[0].clone();
    if Edition::of_this_run() == Edition::Native {
        // The recipe is printed for the WebAssembly edition; the type is all that differs.
        for kind in
            [&mut filter["config_discovery"]["type_urls"][0], &mut resources["resources"][0]["typed_config"]["@type"]]
        {
            *kind = config["@type"].clone();
        }
    }
    *filter.pointer_mut("/config_discovery/config_source/path_config_source/path").unwrap() = json!(file);
    assert_eq!(resources["resources"][0]["typed_config"]["@type"], config["@type"]);
    let mut push = |config: &Value| {
        resources["resources"][0]["typed_config"] = config.clone();
        workspace::replace(&file, &resources.to_string());
    };
    push(&config);
    let envoy = Envoy::start(&recipe.shipped.build());
    wait_for(&envoy, RECORDS, 200);

    let rules = format!("{}/rules", recipe.shipped.plugin_place());
    let mut changed = config.clone();
    *changed.pointer_mut(&rules).unwrap() = json!("none");
    push(&changed);
    wait::until("the mistake is refused", PATIENCE, || envoy.log().contains("rules: expected a list").then_some(()));
    wait_for(&envoy, RECORDS, 200);
    let mut changed = config;
    let rules = changed.pointer_mut(&rules).and_then(Value::as_array_mut).unwrap();
    rules.insert(0, json!({"path": "/api/**", "access": "deny"}));
    push(&changed);
    wait_for(&envoy, RECORDS, 403);
}

/// The keys come from the service, as in production, so that the second process begins without any.
#[test]
fn a_hot_restart_leaves_no_gap() {
    let (mut service, upstream) = (Restartable::new(), Upstream::start());
    service.start();
    let folder = workspace::scratch("hot-restart");
    let mut shipped = Shipped::new(upstream.address()).with_admin(service.address(), EDGE_TOKEN, folder.path());
    // On a busy machine the first keys may take a while.
    shipped.plugin()["startup_wait"] = json!("60s");
    let mut config = shipped.build();
    // Both processes have to name the same address for one to take it over.
    let address = free_port();
    config["static_resources"]["listeners"][0]["address"]["socket_address"] = socket(address);
    let mut admin = service.service().admin().unwrap();
    let (_, kept) = admin.create("kept").unwrap();
    let (gone_id, gone) = admin.create("gone").unwrap();

    let base = folder.path().join("base-id");
    let first = ["--restart-epoch", "0", "--use-dynamic-base-id", "--base-id-path", base.to_str().unwrap()];
    let mut old = Envoy::start_with(&config, &first);
    let get = |key: &str| http1::get(address, RECORDS, &[("x-api-key", key)]).unwrap().status;
    wait::until("the first one has keys", PATIENCE, || (get(&kept) == 200 && get(&gone) == 200).then_some(()));
    admin.delete(&gone_id, "10s").unwrap();

    let (kept, gone): (&'static str, &'static str) = (kept.leak(), gone.leak());
    let expected: &'static [Expected] =
        vec![(RECORDS, Some(kept), 200), (RECORDS, Some(gone), 401), (RECORDS, None, 401)].leak();
    let traffic = Traffic::start(address, expected);
    let base = fs::read_to_string(&base).unwrap();
    let drain = ["--drain-time-s", "1", "--parent-shutdown-time-s", "5"];
    let second = [&["--restart-epoch", "1", "--base-id", base.trim()][..], &drain].concat();
    let new = Envoy::start_with(&config, &second);
    wait::until("the first one ends", PATIENCE, || (!old.is_running()).then_some(()));
    let served = || new.prometheus().lines().any(|line| line.starts_with("keyward_decisions{outcome=\"allow\""));
    wait::until("the second one serves", PATIENCE, || served().then_some(()));
    println!("{} requests, each answered as it should be", traffic.stop());
    assert_eq!(new.stat("http.databases_api.rbac.denied"), 0, "no request missed the filter");
}

//! The native edition in a real Envoy: what only it can do wrong. `KEYWARD_EDITION=native` runs the other tests with it.

use crate::setup::{LISTENER, READER, plugin};
use crate::traffic::Traffic;
use keyward_testbed::admin_stand_in::{AdminStandIn, Fault};
use keyward_testbed::artifacts::{self, Edition};
use keyward_testbed::envoy::{self, Envoy};
use keyward_testbed::envoy_config::{self, Encoding, Listener};
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{http1, wait, workspace};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const PUSHES: usize = 100;
/// The number of new files that take over one after another.
const UPGRADES: usize = 4;

/// Returns whether the Envoy of this run has the functions that the library needs.
fn runs_here() -> bool {
    envoy::version() >= (1, 39)
}

fn listener(plugin: &Value, upstream: &Upstream) -> Listener {
    Listener::of(Edition::Native, LISTENER, plugin, Encoding::StringValue, upstream.address())
}

fn fetching(extra: Value) -> Value {
    let mut plugin = json!({
        "admin": {"cluster": "keyward_admin", "token": "kwt_edge", "max_staleness": "1h"},
        "readiness_path": "/ready",
        "rules": [{"path": "/a", "require": []}],
    });
    plugin["rules"] = json!([{"path": "/a", "access": "authenticated"}]);
    plugin.as_object_mut().unwrap().extend(extra.as_object().cloned().unwrap());
    plugin
}

fn status(address: SocketAddr, target: &str, key: &str) -> u16 {
    http1::get(address, target, &[("x-api-key", key)]).unwrap().status
}

/// Returns which instances have polled since the last call.
fn instances(admin: &AdminStandIn) -> BTreeSet<String> {
    admin.take().iter().flat_map(|request| request.header("x-keyward-vm")).collect()
}

fn set_module(listener: &mut Listener, file: &Path) {
    let place = "/http_filters/0/typed_config/dynamic_module_config/module/local/filename";
    *listener.connection_manager().pointer_mut(place).unwrap() = json!(file);
}

fn refusal(listener: Listener) -> String {
    let refused = Envoy::try_start(&envoy_config::bootstrap(&[listener], vec![]), 1);
    refused.expect_err("it started").log
}

#[test]
fn the_file_differs_from_envoy_yaml_in_the_filter_alone() {
    let place = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config";
    let (mut wasm, mut native) = (envoy_config::shipped(), envoy_config::shipped_native());
    let (wasm_filter, native_filter) =
        (wasm.pointer_mut(place).unwrap().take(), native.pointer_mut(place).unwrap().take());
    assert_eq!(wasm, native);
    assert_eq!(wasm_filter["config"]["configuration"], native_filter["filter_config"]);
}

#[test]
fn a_library_that_cannot_be_loaded_keeps_envoy_from_starting() {
    if !runs_here() {
        let log = refusal(listener(&plugin(), &Upstream::start()));
        // Envoy 1.37 names a setting that it does not know; later ones, a function that the library needs.
        assert!(log.contains("Failed to") || log.contains("metrics_namespace"), "{log}");
        return;
    }
    let (upstream, folder) = (Upstream::start(), workspace::scratch("library"));
    let broken = folder.path().join("libbroken.so");
    std::fs::write(&broken, b"not a library").unwrap();
    for file in [folder.path().join("libabsent.so"), broken] {
        let mut listener = listener(&plugin(), &upstream);
        set_module(&mut listener, &file);
        let log = refusal(listener);
        assert!(log.contains("dynamic module"), "{}: {log}", file.display());
    }
}

#[test]
fn a_wrong_configuration_is_refused_with_every_mistake() {
    if !runs_here() {
        return;
    }
    let mut bad = plugin();
    bad["rulez"] = json!([]);
    bad["mode"] = json!("strict");
    let log = refusal(listener(&bad, &Upstream::start()));
    for problem in ["rulez: unknown field", "mode: unknown value `strict`"] {
        assert!(log.contains(problem), "not in Envoy's log: {problem}\n{log}");
    }
    for empty in [json!(""), json!("null"), json!("[]")] {
        let mut listener = listener(&plugin(), &Upstream::start());
        *listener.connection_manager().pointer_mut("/http_filters/0/typed_config/filter_config/value").unwrap() = empty;
        assert!(refusal(listener).contains("invalid configuration"));
    }
}

#[test]
fn keys_come_and_go_by_one_poll_and_stay_while_the_service_is_away() {
    if !runs_here() {
        return;
    }
    let (admin, upstream) = (AdminStandIn::start(), Upstream::start());
    admin.put("key_first", "kw_first");
    let clusters = vec![envoy_config::cluster("keyward_admin", admin.address())];
    let envoy = Envoy::start(&envoy_config::bootstrap(&[listener(&fetching(json!({})), &upstream)], clusters));
    let address = envoy.listener(LISTENER);
    let wait_for = |key: &str, wanted: u16| {
        // Several connections, so that both workers are asked.
        wait::until(&format!("{key} gets {wanted}"), PATIENCE, || {
            (0..8).all(|_| status(address, "/a", key) == wanted).then_some(())
        });
    };
    wait_for("kw_first", 200);
    assert_eq!(status(address, "/ready", ""), 200);
    admin.put("key_second", "kw_second");
    wait_for("kw_second", 200);
    admin.delete("key_first");
    wait_for("kw_first", 401);
    let instances = instances(&admin);
    assert_eq!(instances.len(), 1, "{instances:?}");
    admin.fail(Some(Fault::Hangs));
    wait_for("kw_second", 200);
    assert_eq!(envoy.stat("wasmcustom.keyward_manifest_loads"), 1);
}

#[test]
fn requests_before_the_first_keys_wait_for_them_or_for_their_time() {
    if !runs_here() {
        return;
    }
    for (plugin, comes, expected) in [
        (fetching(json!({"startup_wait": "30s"})), true, 200),
        (fetching(json!({"startup_wait": "300ms"})), false, 503),
    ] {
        let (admin, upstream) = (AdminStandIn::start(), Upstream::start());
        admin.put("key_first", "kw_first");
        admin.fail(Some(Fault::Hangs));
        let clusters = vec![envoy_config::cluster("keyward_admin", admin.address())];
        let envoy = Envoy::start(&envoy_config::bootstrap(&[listener(&plugin, &upstream)], clusters));
        let address = envoy.listener(LISTENER);
        let asking: Vec<_> = (0..8).map(|_| std::thread::spawn(move || status(address, "/a", "kw_first"))).collect();
        wait::until("all wait", PATIENCE, || (envoy.stat("wasmcustom.keyward_held_requests") == 8).then_some(()));
        if comes {
            admin.fail(None);
        }
        let statuses: Vec<u16> = asking.into_iter().map(|one| one.join().unwrap()).collect();
        assert_eq!(statuses, [expected; 8]);
    }
}

/// Writes a file that names a generic secret with this value, as one step, which is when Envoy reads it again.
fn write_secret(file: &Path, value: &str) {
    let secret = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "keyward_edge_token",
        "generic_secret": {"secret": {"inline_string": value}},
    });
    let resources = json!({"resources": [secret]});
    workspace::replace(file, &resources.to_string());
}

/// A filter that gets its token from the secret in `file`.
fn with_secret(file: &Path, extra: Value) -> Value {
    let source =
        json!({"path_config_source": {"path": file}, "resource_api_version": "V3", "initial_fetch_timeout": "0.2s"});
    let mut plugin = fetching(extra);
    plugin["admin"] = json!({
        "cluster": "keyward_admin", "max_staleness": "1h",
        "token_secret": {"name": "keyward_edge_token", "sds_config": source},
    });
    plugin
}

fn tokens(admin: &AdminStandIn) -> Vec<String> {
    let mut tokens: Vec<String> = admin.take().iter().flat_map(|request| request.header("authorization")).collect();
    tokens.dedup();
    tokens
}

#[test]
fn the_token_of_a_secret_is_shown_and_a_new_one_takes_its_place() {
    if envoy::version() < (1, 40) {
        return;
    }
    let (admin, upstream, folder) = (AdminStandIn::start(), Upstream::start(), workspace::scratch("secret"));
    admin.put("key_first", "kw_first");
    let file = folder.path().join("token.json");
    write_secret(&file, "kwt_before\n");
    let clusters = vec![envoy_config::cluster("keyward_admin", admin.address())];
    let listener = listener(&with_secret(&file, json!({})), &upstream);
    let envoy = Envoy::start(&envoy_config::bootstrap(&[listener], clusters));
    let address = envoy.listener(LISTENER);
    let wait_for = |key: &str, wanted: u16| {
        wait::until(&format!("{key} gets {wanted}"), PATIENCE, || {
            (0..8).all(|_| status(address, "/a", key) == wanted).then_some(())
        });
    };
    wait_for("kw_first", 200);
    assert_eq!(tokens(&admin), ["Bearer kwt_before"]);
    write_secret(&file, "kwt_after");
    // A poll that is held has the old token; a change ends it.
    wait::until("the new token is shown", PATIENCE, || {
        admin.put("key_second", "kw_second");
        assert_eq!(status(address, "/a", "kw_first"), 200, "the keys stay while the token changes");
        tokens(&admin).last().is_some_and(|token| token == "Bearer kwt_after").then_some(())
    });
    wait_for("kw_second", 200);
    // Without a token nothing is asked, and the keys stay in use for `max_staleness`.
    write_secret(&file, "");
    wait::until("the loss is logged", PATIENCE, || {
        envoy.log().contains("`keyward_edge_token` holds no token").then_some(())
    });
    assert_eq!(status(address, "/a", "kw_second"), 200);
    write_secret(&file, "kwt_last");
    admin.put("key_third", "kw_third");
    wait_for("kw_third", 200);
    let log = envoy.log();
    assert_eq!(log.matches("`keyward_edge_token` holds no token").count(), 1, "{log}");
    assert!(!log.contains("kwt_"), "{log}");
}

#[test]
fn without_the_secret_there_are_no_keys_until_it_comes() {
    if envoy::version() < (1, 40) {
        return;
    }
    let (admin, upstream, folder) = (AdminStandIn::start(), Upstream::start(), workspace::scratch("no-secret"));
    admin.put("key_first", "kw_first");
    let file = folder.path().join("token.json");
    write_secret(&file, " ");
    let clusters = vec![envoy_config::cluster("keyward_admin", admin.address())];
    let plugin = with_secret(&file, json!({"startup_wait": "0s"}));
    let envoy = Envoy::start(&envoy_config::bootstrap(&[listener(&plugin, &upstream)], clusters));
    let address = envoy.listener(LISTENER);
    let line = "the secret `keyward_edge_token` holds no token";
    wait::until("the log says so", PATIENCE, || envoy.log().contains(line).then_some(()));
    assert_eq!((status(address, "/a", "kw_first"), status(address, "/ready", "")), (503, 503));
    assert!(admin.take().is_empty(), "nothing is asked without a token");
    write_secret(&file, "kwt_edge");
    wait::until("the key is accepted", PATIENCE, || (status(address, "/a", "kw_first") == 200).then_some(()));
    assert_eq!(envoy.log().matches(line).count(), 1);
}

#[test]
fn a_secret_that_envoy_cannot_hand_over_is_refused() {
    if !runs_here() {
        return;
    }
    let mut plugin = fetching(json!({}));
    plugin["admin"] = json!({"cluster": "keyward_admin", "token_secret": {"name": "keyward_edge_token"}});
    let log = refusal(listener(&plugin, &Upstream::start()));
    let why =
        if envoy::version() < (1, 40) { "this Envoy hands no secrets to modules" } else { "no such static secret" };
    assert!(log.contains("invalid configuration: admin.token_secret") && log.contains(why), "{log}");
    if envoy::version() >= (1, 40) {
        plugin["admin"]["token_secret"]["sds_config"] = json!({"no_such_field": {}});
        let log = refusal(listener(&plugin, &Upstream::start()));
        assert!(log.contains("invalid configuration: admin.token_secret") && log.contains("ConfigSource"), "{log}");
    }
}

/// Configurations come, drain and go under load, the library is let go of and loaded again, and Envoy stays up.
#[test]
fn a_hundred_pushes_under_load_refuse_no_request_and_end_no_process() {
    if !runs_here() {
        return;
    }
    let (admin, upstream, folder) = (AdminStandIn::start(), Upstream::start(), workspace::scratch("native-lds"));
    admin.put("key_first", "kw_first");
    let file = folder.path().join("lds.json");
    let pushed = |number: usize| {
        let realm = json!({"realm": format!("push-{number}")});
        let mut listener = listener(&fetching(realm), &upstream);
        // The same address for every push: connections go over to the newest.
        listener.connection_manager()["drain_timeout"] = json!("0.1s");
        listener
    };
    let first = pushed(0);
    let clusters = [first.clone()];
    envoy_config::write_lds(&file, "0", &[first]);
    let mut config = envoy_config::bootstrap_with_lds(&file, &clusters);
    let admin_cluster = envoy_config::cluster("keyward_admin", admin.address());
    config["static_resources"]["clusters"].as_array_mut().unwrap().push(admin_cluster);
    let envoy = Envoy::start(&config);
    let address = wait::until("the listener", PATIENCE, || envoy.find_listener(LISTENER));
    wait::until("keys", PATIENCE, || (status(address, "/a", "kw_first") == 200).then_some(()));
    let traffic = Traffic::start(address, vec![("/a", Some("kw_first"), 200), ("/a", Some("kw_nobody"), 401)].leak());
    for number in 1..=PUSHES {
        envoy_config::write_lds(&file, &number.to_string(), &[pushed(number)]);
        wait::until("the push is in use", PATIENCE, || {
            (envoy.stat("listener_manager.lds.update_success") as usize > number).then_some(())
        });
    }
    assert!(traffic.stop() > 0);
    // Without any listener no configuration is left, and the library may go.
    envoy_config::write_lds(&file, "none", &[]);
    wait::until("no listener", PATIENCE, || envoy.find_listener(LISTENER).is_none().then_some(()));
    envoy_config::write_lds(&file, "again", &[pushed(PUSHES + 1)]);
    let address = wait::until("the listener again", PATIENCE, || envoy.find_listener(LISTENER));
    wait::until("keys again", PATIENCE, || (status(address, "/a", "kw_first") == 200).then_some(()));
}

/// A new file comes with a push, as `docs/native.md` says: the requests that run meanwhile are answered by the old library or
/// the new one, and the old one polls no more once its listener has drained.
#[test]
fn new_files_take_over_under_load_and_every_request_is_answered_rightly() {
    if !runs_here() {
        return;
    }
    let (admin, upstream, folder) = (AdminStandIn::start(), Upstream::start(), workspace::scratch("native-upgrade"));
    admin.put("key_first", "kw_first");
    let lds = folder.path().join("lds.json");
    let pushed = |number: usize| {
        let file = folder.path().join(format!("libkeyward-{number}.so"));
        std::fs::copy(artifacts::native(), &file).unwrap();
        // A library that has no keys yet holds requests until it has them.
        let mut listener = listener(&fetching(json!({"startup_wait": "60s"})), &upstream);
        set_module(&mut listener, &file);
        envoy_config::write_lds(&lds, &number.to_string(), std::slice::from_ref(&listener));
        listener
    };
    let mut config = envoy_config::bootstrap_with_lds(&lds, &[pushed(0)]);
    let admin_cluster = envoy_config::cluster("keyward_admin", admin.address());
    config["static_resources"]["clusters"].as_array_mut().unwrap().push(admin_cluster);
    let envoy = Envoy::start_with(&config, &["--drain-time-s", "2"]);
    let address = wait::until("the listener", PATIENCE, || envoy.find_listener(LISTENER));
    wait::until("keys", PATIENCE, || (status(address, "/a", "kw_first") == 200).then_some(()));
    let expected = [("/a", Some("kw_first"), 200), ("/a", Some("kw_nobody"), 401), ("/a", None, 401)];
    let traffic = Traffic::start(address, expected.to_vec().leak());
    let mut seen = instances(&admin);
    for number in 1..=UPGRADES {
        pushed(number);
        wait::until("the new library polls", PATIENCE, || {
            let new = instances(&admin);
            let is_new = new.iter().any(|instance| !seen.contains(instance));
            seen.extend(new);
            is_new.then_some(())
        });
    }
    assert_eq!(seen.len(), UPGRADES + 1, "each file is a library with an instance of its own");
    wait::until("the old libraries have ended", PATIENCE, || {
        // Each change ends the polls of all that still run.
        admin.put("key_other", "kw_other");
        std::thread::sleep(Duration::from_millis(500));
        (instances(&admin).len() == 1).then_some(())
    });
    assert!(traffic.stop() > 0);
    admin.delete("key_first");
    wait::until("the key is refused", PATIENCE, || {
        (0..8).all(|_| status(address, "/a", "kw_first") == 401).then_some(())
    });
    assert_eq!(envoy.stat("listener_manager.lds.update_rejected"), 0);
}

/// Returns whether a process has this file in its memory.
fn has_in_memory(pid: u32, file: &Path) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    maps.lines().any(|line| line.ends_with(&*file.to_string_lossy()))
}

/// A library that has only keys of its configurations leaves the memory under load with the last of them. One that has fetched
/// keys stays: threads that live on have registered what to do when they end (`docs/native.md`).
#[test]
fn a_library_is_removed_from_memory_where_no_thread_will_return_to_it() {
    if !runs_here() {
        return;
    }
    let (admin, upstream, folder) = (AdminStandIn::start(), Upstream::start(), workspace::scratch("native-unload"));
    admin.put("key_first", "kw_first");
    let lds = folder.path().join("lds.json");
    let file = |name: &str| folder.path().join(format!("libkeyward-{name}.so"));
    let pushed = |name: &str, plugin: &Value| {
        std::fs::copy(artifacts::native(), file(name)).unwrap();
        let mut listener = listener(plugin, &upstream);
        set_module(&mut listener, &file(name));
        envoy_config::write_lds(&lds, name, std::slice::from_ref(&listener));
        listener
    };
    let fetching = fetching(json!({"startup_wait": "60s"}));
    let mut config = envoy_config::bootstrap_with_lds(&lds, &[pushed("inline", &plugin())]);
    let admin_cluster = envoy_config::cluster("keyward_admin", admin.address());
    config["static_resources"]["clusters"].as_array_mut().unwrap().push(admin_cluster);
    let mut envoy = Envoy::start_with(&config, &["--drain-time-s", "1"]);
    let address = wait::until("the listener", PATIENCE, || envoy.find_listener(LISTENER));
    let traffic = Traffic::start(address, vec![("/a", Some("kw_nobody"), 401), ("/a", None, 401)].leak());
    assert!(has_in_memory(envoy.pid(), &file("inline")));
    for number in 0..8 {
        let before = if number == 0 { "inline".to_owned() } else { format!("inline-{}", number - 1) };
        pushed(&format!("inline-{number}"), &plugin());
        let what = format!("{before} is gone");
        wait::until(&what, PATIENCE, || (!has_in_memory(envoy.pid(), &file(&before))).then_some(()));
        assert_eq!(status(address, "/a", READER), 200);
    }
    pushed("fetching", &fetching);
    wait::until("keys", PATIENCE, || (status(address, "/a", "kw_first") == 200).then_some(()));
    pushed("last", &plugin());
    wait::until("the old listener is gone", PATIENCE, || {
        (!has_in_memory(envoy.pid(), &file("inline-7")) && envoy.stat("listener_manager.total_listeners_draining") == 0)
            .then_some(())
    });
    assert!(traffic.stop() > 0);
    assert!(has_in_memory(envoy.pid(), &file("fetching")) && envoy.is_running());
}

/// Envoy skips the filter while it cannot fetch the library, and then the backstop is all that stands before the upstream.
#[test]
fn a_library_that_cannot_be_fetched_lets_nothing_past_the_backstop() {
    if envoy::version() < (1, 40) {
        return;
    }
    let upstream = Upstream::start();
    // It answers, with something else than the file that is asked for.
    let other = Upstream::start();
    let away = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut plugin = plugin();
    plugin["rules"] = json!([{"path": "/public", "access": "public"}, {"path": "/a", "require": ["a:read"]}]);
    for (case, server) in [("away", away), ("another file", other.address())] {
        let remote = |insists: bool| {
            let mut listener = listener(&plugin, &upstream);
            let place = "/http_filters/0/typed_config/dynamic_module_config";
            let module = listener.connection_manager().pointer_mut(place).unwrap();
            module["nack_on_cache_miss"] = json!(insists);
            module["module"] = json!({"remote": {
                "http_uri": {"uri": "http://files.test/libkeyward.so", "cluster": "files", "timeout": "1s"},
                "sha256": "0".repeat(64),
            }});
            envoy_config::bootstrap(&[listener], vec![envoy_config::cluster("files", server)])
        };
        let envoy = Envoy::start(&remote(false));
        let address = envoy.listener(LISTENER);
        for (target, key) in [("/a", READER), ("/a", "kw_nobody"), ("/public", READER), ("/none", READER)] {
            for _ in 0..8 {
                assert_eq!(status(address, target, key), 403, "{case}: {target}");
            }
        }
        assert_eq!(upstream.count(), 0, "{case}");
        // With it, Envoy takes no configuration whose library it does not have.
        let refused = Envoy::try_start(&remote(true), 1).expect_err("it started");
        assert!(refused.log.contains("Remote module not cached"), "{case}: {}", refused.log);
    }
}

/// The library needs nothing that an image with Envoy alone lacks.
#[test]
fn the_library_needs_the_c_library_alone() {
    let output = std::process::Command::new("readelf").arg("-dW").arg(artifacts::native()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let needed: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split_once('[')?.1.split(']').next())
        .collect();
    assert!(!needed.is_empty(), "{text}");
    let allowed = |name: &&str| *name == "libc.so.6" || name.starts_with("ld-linux-");
    assert!(needed.iter().all(allowed), "{needed:?}");
}

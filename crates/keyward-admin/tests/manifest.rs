//! What filters get: pages, held requests, receipts, and the end of a service.

mod support;

use keyward_testbed::{wait, workspace};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::{EDGE, PATIENCE, Service, Start, service, wait_for_states};

fn path(key: &Value) -> String {
    format!("/v1/keys/{}", key["id"].as_str().unwrap())
}

/// Waits until so many requests are being served besides the one that asks.
fn wait_for_waiters(service: &Service, count: usize) {
    let line = format!("keyward_http_requests_in_flight {}", count + 1);
    let client = service.client("");
    wait::until(&line, PATIENCE, || client.get("/metrics").text.lines().any(|one| one == line).then_some(()));
}

/// A poll as bytes on a connection of its own, which is not read.
fn raw_poll(service: &Service, vm: &str, since: u64, wait: &str) -> TcpStream {
    let address = service.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET /v1/manifest?since={since}&base={since}&wait={wait} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {EDGE}\r\n\
         x-keyward-node: envoy-1\r\nx-keyward-vm: {vm}\r\nx-keyward-max-staleness: 1h\r\n\r\n"
    )
    .unwrap();
    stream
}

#[test]
fn one_endpoint_serves_load_changes_and_waiting() {
    let (_folder, service) = service();
    let (admin, edge) = (service.admin(), service.edge());
    let keys: Vec<Value> = (0..5).map(|n| admin.make(&format!("key {n}"))).collect();
    admin.delete(&path(&keys[1])).ok(200);

    let first = edge.get("/v1/manifest?since=0&base=0&limit=3").ok(200);
    assert_eq!((&first["format"], &first["since"], &first["head"]), (&json!(1), &json!(0), &json!(6)));
    assert_eq!((&first["more"], &first["revision"]), (&json!(true), &json!(4)));
    assert_eq!(first["live"], json!({ "count": 4 }));
    assert_eq!(first["keys"].as_array().unwrap().len(), 3);
    let key = &first["keys"][0];
    assert_eq!((&key["id"], &key["name"], &key["revision"]), (&keys[0]["id"], &json!("key 0"), &json!(1)));
    let digest = keyward_policy::digest::Digest::of_key(keys[0]["key"].as_str().unwrap().as_bytes()).to_hex();
    assert_eq!(key["sha256"], digest);
    assert_eq!(key["expires_at"], keys[0]["expires_at"]);
    let never = json!({ "name": "never", "permissions": ["records:read"], "expires_in": "never" });
    let never = admin.post("/v1/keys", &never).ok(201);
    let page = edge.get("/v1/manifest?since=6&base=6").ok(200);
    assert_eq!(page["keys"][0].get("expires_at"), Some(&Value::Null), "{page}");
    admin.delete(&path(&never)).ok(200);

    let last = edge.get("/v1/manifest?since=4&base=8&limit=3").ok(200);
    assert_eq!((&last["more"], &last["revision"]), (&json!(false), &json!(8)));
    assert_eq!(last["keys"].as_array().unwrap().len(), 1, "the tombstone is of no use");
    assert_eq!(last["live"]["checksum"].as_str().unwrap().len(), 16);
    let tombstone = &edge.get("/v1/manifest?since=5&base=5").ok(200)["keys"][0];
    assert_eq!(*tombstone, json!({ "revision": 6, "id": keys[1]["id"], "deleted": true }));

    edge.get("/v1/manifest?since=9").problem(410, "revision_ahead");
    edge.get("/v1/manifest?since=0&limit=2001").problem(422, "validation_failed");
    edge.get("/v1/manifest?wait=61s").problem(422, "validation_failed");
    edge.get("/v1/manifest?since=x").problem(422, "validation_failed");
    edge.get("/v1/manifest?since=8&base=8&of_a_newer_filter=1").ok(200);

    let waiting = service.vm("vm-1");
    let held = thread::spawn(move || waiting.poll(8, 8, "30s").ok(200));
    wait_for_waiters(&service, 1);
    admin.make("news");
    let page = held.join().unwrap();
    assert_eq!((&page["revision"], &page["keys"][0]["name"]), (&json!(9), &json!("news")));

    let begun = Instant::now();
    let empty = service.vm("vm-1").poll(9, 9, "300ms").ok(200);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!((&empty["keys"], &empty["more"], &empty["revision"]), (&json!([]), &json!(false), &json!(9)));
    assert_eq!(empty["live"]["count"], 5);
}

#[test]
fn an_empty_store_lets_a_filter_start_at_once() {
    let (_folder, service) = service();
    let page = service.vm("vm-1").poll(0, 0, "30s").ok(200);
    assert_eq!((&page["head"], &page["live"]["checksum"]), (&json!(0), &json!("0000000000000000")));
    let vm = service.vm("vm-1");
    let held = thread::spawn(move || vm.poll(0, 0, "30s").ok(200));
    wait_for_waiters(&service, 1);
    service.admin().make("first");
    assert_eq!(held.join().unwrap()["head"], 1);
}

#[test]
fn another_realm_gets_nothing() {
    let folder = workspace::scratch("admin");
    let service = Start::new(folder.path()).with("KEYWARD_REALM", "databases").serve();
    service.vm("vm-1").poll(0, 0, "0s").problem(409, "wrong_realm");
    let edge = service.edge();
    edge.send("GET", "/v1/manifest", &[("x-keyward-realm", "databases")], b"").ok(200);
    edge.get("/v1/manifest").ok(200);
}

#[test]
fn tombstones_go_after_their_time_and_who_misses_them_starts_over() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path());
    let service = start.serve();
    let admin = service.admin();
    let key = admin.make("a");
    admin.make("b");
    admin.delete(&path(&key)).ok(200);
    admin.make("c");
    drop(service);
    let service = start.with("KEYWARD_TOMBSTONES_FOR", "1ms").serve();
    let edge = service.edge();
    wait::until("compaction", PATIENCE, || (edge.get("/v1/manifest?since=2&base=2").status == 410).then_some(()));
    edge.get("/v1/manifest?since=2&base=2").problem(410, "revision_compacted");
    assert_eq!(edge.get("/v1/manifest?since=0&base=0").ok(200)["keys"].as_array().unwrap().len(), 2);
    assert_eq!(edge.get("/v1/manifest?since=2&base=4").ok(200)["keys"].as_array().unwrap().len(), 1);
    edge.get("/v1/manifest?since=3&base=3").ok(200);
}

#[test]
fn a_receipt_counts_who_applied_it() {
    let (_folder, service) = service();
    let admin = service.admin();
    let keys: Vec<Value> = (0..4).map(|n| admin.make(&format!("key {n}"))).collect();
    let one = service.vm("vm-1").follow();
    let _two = service.vm("vm-2").follow();
    wait_for_states(&admin, (2, 0));

    let deleted = admin.delete(&format!("{}?wait=30s", path(&keys[0]))).ok(200);
    assert_eq!((&deleted["applied"]["vms"], &deleted["applied"]["of"]), (&json!(2), &json!(2)));
    assert_eq!(deleted["applied"]["unreachable"], 0);
    assert!(deleted["applied"]["refused_everywhere_by"].is_string());
    let regenerated = admin.send("POST", &format!("{}/regenerate?wait=30s", path(&keys[1])), &[], b"").ok(200);
    assert_eq!(regenerated["applied"]["vms"], 2);
    let proxies = admin.get("/v1/proxies").ok(200);
    let vm = &proxies["nodes"][0]["vms"][0];
    assert_eq!((&vm["applied_revision"], &vm["lag"], &vm["filter"]), (&proxies["head"], &json!(0), &json!("0.1.0")));
    assert_eq!(vm["max_staleness"], "1h");

    // One stops asking: it is unreachable, and the receipt says by when it refuses.
    drop(one);
    wait_for_states(&admin, (1, 1));
    let deleted = admin.delete(&format!("{}?wait=30s", path(&keys[2]))).ok(200);
    assert_eq!(
        (&deleted["applied"]["vms"], &deleted["applied"]["of"], &deleted["applied"]["unreachable"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert!(deleted["applied"]["refused_everywhere_by"].as_str() > keys[0]["created_at"].as_str());

    // One without a limit may serve for ever.
    let mut never = service.vm("vm-3");
    never.max_staleness = "never".to_owned();
    let following = never.follow();
    wait_for_states(&admin, (2, 1));
    drop(following);
    wait_for_states(&admin, (1, 2));
    let deleted = admin.delete(&format!("{}?wait=30s", path(&keys[3]))).ok(200);
    assert_eq!(deleted["applied"]["refused_everywhere_by"], Value::Null);
    assert_eq!(deleted["applied"]["unreachable"], 2);
}

#[test]
fn a_vm_that_was_told_and_does_not_come_back_is_not_counted_as_having_applied() {
    let (_folder, service) = service();
    let admin = service.admin();
    let key = admin.make("a");
    let vm = service.vm("vm-1");
    let revision = vm.load();
    let held = thread::spawn(move || vm.poll(revision, revision, "30s"));
    wait_for_states(&admin, (1, 0));
    let deleted = admin.delete(&format!("{}?wait=300ms", path(&key))).ok(200);
    held.join().unwrap().ok(200);
    assert_eq!((&deleted["applied"]["vms"], &deleted["applied"]["of"]), (&json!(0), &json!(1)));
    wait_for_states(&admin, (0, 1));
}

#[test]
fn a_vm_that_is_loading_has_not_applied_what_it_fetched() {
    let (_folder, service) = service();
    let admin = service.admin();
    let key = admin.make("a");
    for n in 0..3 {
        admin.make(&format!("key {n}"));
    }
    let vm = service.vm("vm-1");
    vm.poll(0, 0, "0s").ok(200);
    vm.poll(2, 4, "0s").ok(200);
    let proxies = admin.get("/v1/proxies").ok(200);
    assert_eq!(proxies["nodes"][0]["vms"][0]["applied_revision"], 0);
    vm.poll(4, 4, "0s").ok(200);
    let proxies = admin.get("/v1/proxies").ok(200);
    assert_eq!(proxies["nodes"][0]["vms"][0]["applied_revision"], 4);
    // It starts over: the table in use is still that of before.
    vm.poll(0, 0, "0s").ok(200);
    let deleted = admin.delete(&format!("{}?wait=0s", path(&key))).ok(200);
    vm.poll(5, 6, "0s").problem(410, "revision_ahead");
    assert_eq!(deleted["applied"]["vms"], 0);
}

#[test]
fn a_vm_that_is_ahead_of_a_restored_store_has_applied_nothing_of_it() {
    let (_folder, service) = service();
    let admin = service.admin();
    let key = admin.make("a");
    let vm = service.vm("vm-1");
    vm.poll(1_000, 1_000, "0s").problem(410, "revision_ahead");
    let deleted = admin.delete(&format!("{}?wait=0s", path(&key))).ok(200);
    assert_eq!((&deleted["applied"]["vms"], &deleted["applied"]["of"]), (&json!(0), &json!(1)));
    vm.poll(0, 0, "0s").ok(200);
    vm.poll(2, 2, "0s").ok(200);
    // What it fetches now has a name of its own, and is a table of its own.
    let listed = admin.get("/v1/proxies").ok(200);
    let vms = listed["nodes"][0]["vms"].as_array().unwrap();
    let applied: Vec<_> = vms.iter().map(|vm| vm["applied_revision"].as_u64().unwrap()).collect();
    assert!(applied == [0, 2] || applied == [2, 0], "{listed}");
}

#[test]
fn envoys_canary_never_counts() {
    let (_folder, service) = service();
    let admin = service.admin();
    let key = admin.make("a");
    let canary = raw_poll(&service, "canary", 0, "30s");
    drop(canary);
    let mut canary = raw_poll(&service, "answered canary", 0, "0s");
    let _ = canary.read(&mut [0; 100]);
    drop(canary);
    let deleted = admin.delete(&path(&key)).ok(200);
    assert_eq!((&deleted["applied"]["of"], &deleted["applied"]["unreachable"]), (&json!(0), &json!(0)));
    assert_eq!(admin.get("/v1/proxies").ok(200)["nodes"], json!([]));
}

#[test]
fn a_vm_whose_connection_closes_is_unreachable_and_comes_back() {
    let (_folder, service) = service();
    let admin = service.admin();
    admin.make("a");
    let connection = raw_poll(&service, "vm-1", 1, "30s");
    wait_for_states(&admin, (1, 0));
    drop(connection);
    wait_for_states(&admin, (0, 1));
    let _again = raw_poll(&service, "vm-1", 1, "30s");
    wait_for_states(&admin, (1, 0));
}

#[test]
fn a_vm_is_gone_when_its_own_limit_has_passed() {
    let (_folder, service) = service();
    let admin = service.admin();
    admin.make("a");
    let mut vm = service.vm("vm-1");
    // Longer than it counts as in contact after its last answer.
    vm.max_staleness = "10s".to_owned();
    let following = vm.follow();
    wait_for_states(&admin, (1, 0));
    drop(following);
    wait_for_states(&admin, (0, 1));
    wait_for_states(&admin, (0, 0));
    assert_eq!(admin.get("/v1/proxies").ok(200)["nodes"][0]["vms"][0]["state"], "gone");
}

#[test]
fn a_restarted_service_remembers_who_may_hold_an_old_key() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path());
    let mut service = start.serve();
    let key = service.admin().make("a");
    let _following = service.vm("vm-1").follow();
    wait_for_states(&service.admin(), (1, 0));
    let database = folder.path().join("keyward.db");
    wait::until("the instance is kept", PATIENCE, || {
        let wal = std::fs::read(database.with_extension("db-wal")).unwrap_or_default();
        wal.windows(4).any(|bytes| bytes == b"vm-1").then_some(())
    });
    service.kill();
    let service = start.serve();
    let deleted = service.admin().delete(&path(&key)).ok(200);
    assert_eq!((&deleted["applied"]["of"], &deleted["applied"]["unreachable"]), (&json!(0), &json!(1)));
    assert!(deleted["applied"]["refused_everywhere_by"].is_string());
}

#[test]
fn a_stopping_service_answers_who_waits() {
    let (_folder, mut service) = service();
    service.admin().make("a");
    let held: Vec<_> = (0..20)
        .map(|n| {
            let vm = service.vm(&format!("vm-{n}"));
            thread::spawn(move || vm.poll(1, 1, "60s").ok(200))
        })
        .collect();
    wait_for_waiters(&service, 20);
    service.signal("-TERM");
    for thread in held {
        assert_eq!(thread.join().unwrap()["keys"], json!([]));
    }
    let status = wait::until("the service ends", PATIENCE, || service.process.process().try_wait().unwrap());
    assert!(status.success(), "{status}");
}

#[test]
fn a_stopping_service_gives_receipts_as_they_are() {
    let (_folder, mut service) = service();
    let admin = service.admin();
    let key = admin.make("a");
    // It asks again and again and applies nothing: whoever regenerates waits for it.
    let (vm, stop) = (service.vm("vm-1"), Arc::new(AtomicBool::new(false)));
    let asking = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            while !stop.load(Ordering::Relaxed) {
                let _ = vm.try_poll(0, 0, "0s");
                thread::sleep(Duration::from_millis(100));
            }
        }
    });
    wait_for_states(&admin, (1, 0));
    let waiting = thread::spawn({
        let (admin, path) = (admin.clone(), format!("{}/regenerate?wait=30s", path(&key)));
        move || admin.send("POST", &path, &[], b"").ok(200)
    });
    wait::until("it is regenerated", PATIENCE, || (admin.get(&path(&key)).ok(200)["revision"] == 2).then_some(()));
    service.signal("-TERM");
    let regenerated = waiting.join().unwrap();
    assert!(regenerated["key"].is_string(), "the new key is in no other answer");
    assert_eq!((&regenerated["applied"]["vms"], &regenerated["applied"]["of"]), (&json!(0), &json!(1)));
    let status = wait::until("the service ends", PATIENCE, || service.process.process().try_wait().unwrap());
    assert!(status.success(), "{status}");
    stop.store(true, Ordering::Relaxed);
    asking.join().unwrap();
}

#[test]
fn a_token_that_ends_while_a_poll_waits_gets_no_contact() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path());
    let service = start.serve();
    let made = start.run(&["token", "create", "short", "--role", "edge", "--expires-in", "4s", "--json"]);
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let edge = service.client(made["token"].as_str().unwrap());
    wait::until("the token is known", PATIENCE, || (edge.get("/v1/manifest").status == 200).then_some(()));
    edge.get("/v1/manifest?since=0&wait=30s").problem(401, "token_invalid");
}

#[test]
fn a_revoked_token_ends_what_waits_with_it() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path());
    let service = start.serve();
    let made = start.run(&["token", "create", "proxies", "--role", "edge", "--json"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let edge = service.client(made["token"].as_str().unwrap());
    wait::until("the token is known", PATIENCE, || (edge.get("/v1/manifest").status == 200).then_some(()));
    let waiting = edge.clone();
    let held = thread::spawn(move || waiting.get("/v1/manifest?since=0&wait=60s"));
    wait_for_waiters(&service, 1);
    assert!(start.run(&["token", "revoke", "proxies"]).status.success());
    held.join().unwrap().problem(401, "token_invalid");
    edge.get("/v1/manifest").problem(401, "token_invalid");
}

#[test]
fn no_more_may_wait_with_one_token_than_are_allowed() {
    let folder = workspace::scratch("admin");
    let service = Start::new(folder.path()).with("KEYWARD_MAX_WAITERS", "2").serve();
    let _held = [
        raw_poll(&service, "vm-1", 0, "30s"),
        raw_poll(&service, "vm-1", 0, "30s"),
        raw_poll(&service, "vm-1", 0, "30s"),
    ];
    wait_for_waiters(&service, 2);
    let reply = service.edge().get("/v1/manifest?since=0&wait=5s");
    reply.problem(429, "too_many_waiters");
    assert!(!reply.header("retry-after").is_empty());
    service.edge().get("/v1/manifest?since=0&wait=0s").ok(200);
}

#[test]
fn a_new_identity_is_told_at_once_and_every_filter_starts_over() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path());
    let service = start.serve();
    service.admin().make("a");
    let before = service.edge().get("/v1/manifest").ok(200);
    let vm = service.vm("vm-1");
    let held = thread::spawn(move || vm.poll(1, 1, "60s").ok(200));
    wait_for_waiters(&service, 1);
    let said = start.run(&["store", "new-identity", "--json"]);
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(held.join().unwrap()["store"], said["store"]);
    assert_ne!(before["store"], said["store"]);
}

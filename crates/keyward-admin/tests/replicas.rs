//! Two services on one PostgreSQL.

mod support;

use keyward_testbed::postgres::Postgres;
use keyward_testbed::{wait, workspace};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use support::{PATIENCE, Service, Start, wait_for_states};

struct Pair {
    url: String,
    _folders: [tempfile::TempDir; 2],
    a: Service,
    b: Service,
    postgres: Postgres,
}

fn pair() -> Option<Pair> {
    let postgres = Postgres::start()?;
    let url = postgres.database();
    let folders = [workspace::scratch("admin"), workspace::scratch("admin")];
    // Both at once: one makes the tables, the other waits for it.
    let [a, b] = folders.each_ref().map(|folder| {
        let start = Start::new(folder.path()).with("KEYWARD_DATABASE_URL", &url);
        thread::spawn(move || start.serve())
    });
    Some(Pair { a: a.join().unwrap(), b: b.join().unwrap(), _folders: folders, url, postgres })
}

fn path(key: &Value) -> String {
    format!("/v1/keys/{}", key["id"].as_str().unwrap())
}

/// Deletes a key through a service again and again until the receipt sees all replicas.
fn receipt(service: &Service, key: &Value) -> Value {
    service.admin().delete(&format!("{}?wait=30s", path(key))).ok(200)["applied"].clone()
}

#[test]
fn a_change_on_one_wakes_the_waiters_of_both_and_the_receipt_counts_both() {
    let Some(pair) = pair() else { return };
    let admin = pair.a.admin();
    let keys: Vec<Value> = (0..3).map(|n| admin.make(&format!("key {n}"))).collect();
    let one = pair.a.vm("vm-a").follow();
    let _two = pair.b.vm("vm-b").follow();
    let _three = pair.b.vm("vm-c").follow();
    for service in [&pair.a, &pair.b] {
        wait_for_states(&service.admin(), (3, 0));
    }
    for (service, key) in [(&pair.a, &keys[0]), (&pair.b, &keys[1])] {
        let applied = receipt(service, key);
        assert_eq!((&applied["vms"], &applied["of"], &applied["unreachable"]), (&json!(3), &json!(3), &json!(0)));
    }
    drop(one);
    for service in [&pair.a, &pair.b] {
        wait_for_states(&service.admin(), (2, 1));
    }
    let applied = receipt(&pair.b, &keys[2]);
    assert_eq!((&applied["vms"], &applied["of"], &applied["unreachable"]), (&json!(2), &json!(2), &json!(1)));
}

#[test]
fn a_vm_that_moves_is_one_vm() {
    let Some(pair) = pair() else { return };
    pair.a.admin().make("a");
    let there = pair.a.vm("vm-1").follow();
    wait_for_states(&pair.b.admin(), (1, 0));
    let _here = pair.b.vm("vm-1").follow();
    drop(there);
    thread::sleep(std::time::Duration::from_secs(6));
    for service in [&pair.a, &pair.b] {
        wait_for_states(&service.admin(), (1, 0));
    }
}

/// Sends a signal to a server process of PostgreSQL that matches; how many did.
fn signal_backends(pair: &Pair, signal: &str, which: &str) -> usize {
    let pids = pair.postgres.sql(&pair.url, &format!("SELECT pid FROM pg_stat_activity WHERE {which}"));
    for pid in pids.lines() {
        assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
    }
    pids.lines().count()
}

#[test]
fn a_listener_that_falls_silent_is_replaced() {
    let Some(pair) = pair() else { return };
    let admin = pair.a.admin();
    let key = admin.make("a");
    let of = |service: &Service| {
        let edit = json!({ "disabled": false });
        service.admin().patch(&format!("{}?wait=0s", path(&key)), &edit).ok(200)["applied"]["of"].clone()
    };
    for service in [&pair.a, &pair.b] {
        wait::until("the receipt sees all", PATIENCE, || (of(service) == 0).then_some(()));
    }
    // As when the network swallows everything: no end of the connection is told.
    let listening = "datname = current_database() AND query LIKE 'LISTEN%'";
    assert_eq!(signal_backends(&pair, "-STOP", listening), 2);
    wait::until("the receipt says that it does not see all", PATIENCE, || of(&pair.a).is_null().then_some(()));
    wait::until("the receipt sees all again", PATIENCE, || (of(&pair.a) == 0).then_some(()));
    signal_backends(&pair, "-CONT", listening);
}

#[test]
fn who_reads_is_served_while_writers_queue() {
    let Some(pair) = pair() else { return };
    pair.a.admin().make("a");
    // Somebody holds the store's row.
    let lock = "BEGIN; UPDATE store SET head = head; SELECT pg_sleep(6)";
    thread::scope(|scope| {
        let holder = scope.spawn(|| pair.postgres.sql(&pair.url, lock));
        wait::until("the row is held", PATIENCE, || {
            let held = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            (pair.postgres.sql(&pair.url, held) == "1").then_some(())
        });
        let writers: Vec<_> = (0..20)
            .map(|n| {
                let admin = pair.a.admin();
                thread::spawn(move || admin.make(&format!("key {n}")))
            })
            .collect();
        wait::until("writers queue", PATIENCE, || {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
            (pair.postgres.sql(&pair.url, waiting).parse::<u32>().unwrap() >= 6).then_some(())
        });
        assert_eq!(pair.a.admin().get("/v1/keys").ok(200)["keys"].as_array().unwrap().len(), 1);
        pair.a.edge().get("/v1/manifest").ok(200);
        assert!(!holder.is_finished(), "the row was free again");
        holder.join().unwrap();
        writers.into_iter().for_each(|writer| drop(writer.join().unwrap()));
    });
}

#[test]
fn a_killed_replica_leaves_its_vms_unreachable() {
    let Some(mut pair) = pair() else { return };
    let key = pair.a.admin().make("a");
    let _following = pair.b.vm("vm-b").follow();
    wait_for_states(&pair.a.admin(), (1, 0));
    pair.b.kill();
    wait_for_states(&pair.a.admin(), (0, 1));
    let applied = receipt(&pair.a, &key);
    assert_eq!((&applied["of"], &applied["unreachable"]), (&json!(0), &json!(1)));
    assert!(applied["refused_everywhere_by"].is_string());
}

#[test]
fn killed_connections_lose_nothing_that_was_acknowledged() {
    let Some(pair) = pair() else { return };
    let _following = pair.b.vm("vm-b").follow();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let admin = [&pair.a, &pair.b][writer % 2].admin();
            thread::spawn(move || {
                let mut made = Vec::new();
                for n in 0..60 {
                    let body = json!({ "name": format!("key {writer} {n}"), "permissions": ["records:read"] });
                    let reply = admin.post("/v1/keys", &body);
                    match reply.status {
                        201 => made.push(reply.json()["id"].clone()),
                        // Not known to be done, or done without being told.
                        503 | 500 | 409 => {}
                        _ => panic!("{}", reply.text),
                    }
                }
                made
            })
        })
        .collect();
    for _ in 0..5 {
        thread::sleep(std::time::Duration::from_millis(100));
        pair.postgres.kill_backends(&pair.url);
    }
    let made: Vec<Value> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
    assert!(!made.is_empty());
    for service in [&pair.a, &pair.b] {
        let page = wait::until("the service answers again", PATIENCE, || {
            let reply = service.edge().get("/v1/manifest?limit=2000");
            (reply.status == 200).then(|| reply.json())
        });
        let ids: Vec<&Value> = page["keys"].as_array().unwrap().iter().map(|key| &key["id"]).collect();
        assert!(made.iter().all(|id| ids.contains(&id)));
        // Listening again: what one changes wakes the other, and receipts see all.
        let key = wait::until("a key can be made", PATIENCE, || {
            let body = json!({ "name": format!("after {}", service.url), "permissions": ["records:read"] });
            let reply = service.admin().post("/v1/keys", &body);
            (reply.status == 201).then(|| reply.json())
        });
        wait::until("the receipt sees all", PATIENCE, || {
            let edit = json!({ "disabled": true });
            let applied = service.admin().patch(&format!("{}?wait=1s", path(&key)), &edit).json()["applied"].clone();
            (applied["of"] == 1 && applied["vms"] == 1).then_some(())
        });
    }
}

/// Stands between a service and its database and can stop passing anything on, as a firewall does that forgets a
/// connection: neither side is told.
struct Relay {
    port: u16,
    open: Arc<Mutex<Vec<Arc<AtomicBool>>>>,
}

impl Relay {
    fn to(address: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let open: Arc<Mutex<Vec<Arc<AtomicBool>>>> = Arc::default();
        let all = Arc::clone(&open);
        thread::spawn(move || {
            for near in listener.incoming() {
                let (Ok(near), Ok(far)) = (near, TcpStream::connect(&address)) else { continue };
                let silent = Arc::new(AtomicBool::new(false));
                all.lock().unwrap().push(Arc::clone(&silent));
                for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                    let silent = Arc::clone(&silent);
                    thread::spawn(move || {
                        let mut buffer = [0; 16_384];
                        while let Ok(length @ 1..) = from.read(&mut buffer) {
                            while silent.load(Ordering::Acquire) {
                                thread::park();
                            }
                            if to.write_all(&buffer[..length]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        Self { port, open }
    }

    /// What is open falls silent; what is opened anew works.
    fn fall_silent(&self) {
        self.open.lock().unwrap().drain(..).for_each(|one| one.store(true, Ordering::Release));
    }
}

#[test]
fn a_connection_to_the_database_that_falls_silent_is_opened_again() {
    let Some(postgres) = Postgres::start() else { return };
    let url = postgres.database();
    let (_, rest) = url.split_once('@').unwrap();
    let (address, name) = rest.split_once('/').unwrap();
    let relay = Relay::to(address.to_owned());
    let through = format!("postgres://keyward@127.0.0.1:{}/{name}", relay.port);
    let folders = [workspace::scratch("admin"), workspace::scratch("admin")];
    let a = Start::new(folders[0].path()).with("KEYWARD_DATABASE_URL", &through).serve();
    let b = Start::new(folders[1].path()).with("KEYWARD_DATABASE_URL", &url).serve();
    let key = b.admin().make("a");
    let _following = b.vm("vm-b").follow();
    for service in [&a, &b] {
        wait_for_states(&service.admin(), (1, 0));
    }
    relay.fall_silent();
    // Blind for a while, and told to be; then it sees again.
    let mut disabled = false;
    let mut edit = |service: &Service| {
        disabled = !disabled;
        let reply = service.admin().patch(&format!("{}?wait=1s", path(&key)), &json!({ "disabled": disabled }));
        if reply.status == 200 { reply.json()["applied"].clone() } else { json!({}) }
    };
    wait::until("the receipt does not know", PATIENCE, || edit(&a)["of"].is_null().then_some(()));
    wait::until("the receipt sees all", PATIENCE, || {
        let applied = edit(&a);
        (applied["of"] == 1 && applied["vms"] == 1).then_some(())
    });
}

#[test]
fn what_postgresql_cannot_hold_is_looked_for_in_vain() {
    let Some(pair) = pair() else { return };
    let admin = pair.a.admin();
    for call in ["/v1/keys/%00", "/v1/keys/a%00b?"] {
        admin.get(call).problem(404, "key_not_found");
        admin.delete(call).problem(404, "key_not_found");
        admin.patch(call, &json!({ "permissions": ["records:read"] })).problem(404, "key_not_found");
    }
    for call in ["/v1/keys?q=%00", "/v1/audit?actor=%00", "/v1/audit?subject=a%00"] {
        admin.get(call).problem(422, "validation_failed");
    }
    let bad = json!({ "name": "a\u{0}", "permissions": ["records:read"] });
    admin.post("/v1/keys", &bad).problem(422, "validation_failed");
}

#[test]
fn without_the_database_no_filter_takes_the_service_for_contact() {
    let Some(pair) = pair() else { return };
    let key = pair.a.admin().make("a");
    let held = {
        let vm = pair.a.vm("vm-1");
        thread::spawn(move || vm.poll(1, 1, "60s"))
    };
    wait_for_states(&pair.a.admin(), (1, 0));
    pair.postgres.stop();
    held.join().unwrap().problem(503, "store_unavailable");
    pair.a.vm("vm-1").poll(1, 1, "0s").problem(503, "store_unavailable");
    pair.a.client("").get("/readyz").problem(503, "store_unavailable");
    pair.a.client("").get("/healthz").ok(200);
    pair.a.admin().delete(&path(&key)).problem(503, "store_unavailable");
    pair.postgres.start_process();
    wait::until("the service is ready again", PATIENCE, || {
        (pair.a.client("").get("/readyz").status == 200).then_some(())
    });
    let page = pair.a.vm("vm-1").poll(0, 0, "0s").ok(200);
    assert_eq!(page["keys"][0]["id"], key["id"]);
    wait::until("a key can be deleted again", PATIENCE, || {
        (pair.a.admin().delete(&path(&key)).status == 200).then_some(())
    });
}

#[test]
fn postgresql_wants_its_tokens_given() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path())
        .with("KEYWARD_DATABASE_URL", &postgres.database())
        .without("KEYWARD_ADMIN_TOKEN")
        .without("KEYWARD_EDGE_TOKEN");
    let output = start.run(&["serve"]);
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("KEYWARD_ADMIN_TOKEN") && said.contains("KEYWARD_EDGE_TOKEN"), "{said}");
    for role in ["admin", "edge"] {
        assert!(start.run(&["token", "create", role, "--role", role]).status.success());
    }
    start.serve();
}

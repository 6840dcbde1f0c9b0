//! A PostgreSQL that fails over below services that go on, to a standby which lacks the last changes and to one that does
//! not, and a PostgreSQL that does not say where it is.

mod support;

use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::Shipped;
use keyward_testbed::link::Link;
use keyward_testbed::postgres::Postgres;
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{http1, wait, workspace};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{EDGE, PATIENCE, Service, Start, wait_for_states};

/// Services on one PostgreSQL, which they find at an address that can move to its standby.
struct Moving {
    services: Vec<Service>,
    url: String,
    primary: Postgres,
    standby: Postgres,
    link: Link,
    _folders: Vec<tempfile::TempDir>,
}

impl Moving {
    fn start(replicas: usize) -> Option<Self> {
        let primary = Postgres::start()?;
        let url = primary.database();
        let standby = primary.standby();
        let link = Link::to(primary.address());
        let (_, name) = url.rsplit_once('/').unwrap();
        let url = format!("postgres://keyward@{}/{name}", link.address());
        let folders: Vec<_> = (0..replicas).map(|_| workspace::scratch("admin")).collect();
        let serve = |folder: &tempfile::TempDir| {
            Start::new(folder.path()).with("KEYWARD_DATABASE_URL", &url).with("KEYWARD_LOG", "info").serve()
        };
        let services = folders.iter().map(serve).collect();
        Some(Self { services, url, primary, standby, link, _folders: folders })
    }

    /// Waits until the standby has what the primary has, and cuts it off.
    fn lag(&self) {
        let here = self.primary.sql("postgres", "SELECT pg_current_wal_lsn()");
        let arrived = format!("SELECT pg_last_wal_replay_lsn() >= '{here}'");
        wait::until("the standby has everything", PATIENCE, || {
            (self.standby.sql("postgres", &arrived) == "t").then_some(())
        });
        self.standby.stop_streaming();
    }

    fn fail_over(&self) {
        self.primary.stop();
        self.standby.promote();
        self.link.lead_to(self.standby.address());
    }
}

/// An Envoy with two workers as `envoy.yaml` has it: three instances.
struct Edge {
    envoy: Envoy,
    _upstream: Upstream,
    _folder: tempfile::TempDir,
}

impl Edge {
    fn start(admin: SocketAddr) -> Self {
        let (upstream, folder) = (Upstream::start(), workspace::scratch("edge-token"));
        let envoy = Envoy::start(&Shipped::new(upstream.address()).with_admin(admin, EDGE, folder.path()).build());
        Self { envoy, _upstream: upstream, _folder: folder }
    }

    /// The statuses of requests with a key, on connections of their own, so that both workers are asked.
    fn statuses(&self, key: &str) -> Vec<u16> {
        let listener = self.envoy.listener("databases_api");
        let ask = |_| http1::get(listener, "/api/collections/posts/records", &[("x-api-key", key)]);
        (0..12).map(|n| ask(n).expect("Envoy answers").status).collect()
    }

    fn wait_for(&self, key: &str, status: u16) {
        wait::until(&format!("every worker answers {status}"), PATIENCE, || {
            self.statuses(key).iter().all(|have| *have == status).then_some(())
        });
    }
}

fn address(service: &Service) -> SocketAddr {
    service.url.strip_prefix("http://").unwrap().parse().unwrap()
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field}: {value}"))
}

/// Deletes a key, and returns the receipt. While the database moves it is tried again.
fn delete(service: &Service, key: &Value) -> Value {
    let path = format!("/v1/keys/{}?wait=10s", text(key, "id"));
    wait::until("the key is deleted", PATIENCE, || {
        let reply = service.admin().delete(&path);
        (reply.status == 200).then(|| reply.json()["applied"].clone())
    })
}

fn make(service: &Service, name: &str) -> Value {
    let body = json!({ "name": name, "permissions": ["records:read"] });
    wait::until("a key is made", PATIENCE, || {
        let reply = service.admin().post("/v1/keys", &body);
        (reply.status == 201).then(|| reply.json())
    })
}

fn reasons(applied: &Value) -> Vec<&str> {
    applied["unknown_because"].as_array().into_iter().flatten().map(|doubt| text(doubt, "reason")).collect()
}

#[test]
fn a_failover_to_a_standby_that_lags_is_noticed_by_all() {
    let Some(moving) = Moving::start(1) else { return };
    let service = &moving.services[0];
    let edge = Edge::start(address(service));
    wait_for_states(&service.admin(), (3, 0));
    let (lost, kept) = (make(service, "lost"), make(service, "kept"));
    for key in [&lost, &kept] {
        edge.wait_for(text(key, "key"), 200);
    }
    moving.lag();
    // This never reaches the standby.
    let applied = delete(service, &lost);
    assert_eq!((&applied["vms"], &applied["of"]), (&json!(3), &json!(3)), "{applied}");
    assert!(applied["refused_everywhere_by"].is_string(), "{applied}");
    edge.wait_for(text(&lost, "key"), 401);

    moving.fail_over();
    // The key is live again in the store, so the proxies have to know that too, and not keep a state that is lost.
    edge.wait_for(text(&lost, "key"), 200);
    wait::until("the service says that it knows", PATIENCE, || {
        let metrics = service.client("").get("/metrics").text;
        (metrics.contains("\nkeyward_store_went_back 1\n") && metrics.contains("\nkeyward_vms_may_be_missing 1\n"))
            .then_some(())
    });
    assert!(service.log().contains("`keyward proxies confirm`"), "{}", service.log());
    // The same numbers are given out again: a receipt counts what was applied of this change alone.
    let applied = delete(service, &lost);
    assert_eq!((&applied["vms"], &applied["of"]), (&json!(3), &json!(3)), "{applied}");
    assert!(applied["refused_everywhere_by"].is_null(), "{applied}");
    assert_eq!(reasons(&applied), ["vms_may_be_missing"], "{applied}");
    edge.wait_for(text(&lost, "key"), 401);
    let new = make(service, "new");
    edge.wait_for(text(&new, "key"), 200);

    // A list that was seen before another failover is not this one.
    let confirm = |list: &str| service.admin().send("POST", &format!("/v1/proxies/confirm?list={list}"), &[], b"");
    let refused = confirm("0123456789abcdef");
    assert!(refused.status == 409 && refused.json()["code"] == "list_changed", "{}", refused.text);
    assert!(reasons(&delete(service, &make(service, "newer"))).contains(&"vms_may_be_missing"));
    let listed = service.admin().get("/v1/proxies").ok(200);
    let confirmed = confirm(text(&listed, "list"));
    assert_eq!(confirmed.status, 204, "{}", confirmed.text);
    assert!(service.admin().get("/v1/proxies").ok(200)["list"].is_null());
    let applied = delete(service, &new);
    assert!(applied["refused_everywhere_by"].is_string() && applied["vms"] == 3, "{applied}");
    assert!(edge.statuses(text(&new, "key")).iter().all(|status| *status == 401));
}

/// Makes keys until told to stop, and returns the ids of those that were acknowledged.
fn write(service: &Service, name: &str, stop: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let body = json!({ "name": format!("{name} {n}"), "permissions": ["records:read"] }).to_string();
        let json = [("content-type", "application/json")];
        // While the database moves, a change is not known to be made.
        match service.admin().try_send("POST", "/v1/keys", &json, body.as_bytes()) {
            Ok(reply) if reply.status == 201 => acknowledged.push(text(&reply.json(), "id").to_owned()),
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    acknowledged
}

#[test]
fn failovers_to_a_standby_that_does_not_lag_lose_nothing() {
    const FAILOVERS: usize = 3;
    let Some(mut moving) = Moving::start(2) else { return };
    let mut acknowledged = Vec::new();
    for round in 0..FAILOVERS {
        moving.primary.wait_for_standby();
        let (stop, before) = (AtomicBool::new(false), acknowledged.len());
        let made = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|n| {
                    let (service, stop) = (&moving.services[n % 2], &stop);
                    scope.spawn(move || write(service, &format!("{round} {n}"), stop))
                })
                .collect();
            std::thread::sleep(Duration::from_secs(2));
            moving.fail_over();
            // Both work again on the new primary.
            for (n, service) in moving.services.iter().enumerate() {
                make(service, &format!("after {round} {n}"));
            }
            stop.store(true, Ordering::Relaxed);
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
        });
        acknowledged.extend(made);
        assert!(acknowledged.len() > before + 20, "{} changes were acknowledged", acknowledged.len() - before);
        let next = moving.standby.standby();
        moving.primary = std::mem::replace(&mut moving.standby, next);
    }
    let mut kept = std::collections::HashSet::new();
    let (edge, mut since, mut base) = (moving.services[0].edge(), 0, 0);
    loop {
        let page = edge.get(&format!("/v1/manifest?since={since}&base={base}&limit=2000")).ok(200);
        kept.extend(page["keys"].as_array().unwrap().iter().map(|key| text(key, "id").to_owned()));
        (since, base) = (page["revision"].as_u64().unwrap(), page["head"].as_u64().unwrap());
        if page["more"] == false {
            break;
        }
    }
    let lost = acknowledged.iter().filter(|id| !kept.contains(*id)).count();
    println!("{FAILOVERS} failovers, {} changes acknowledged, {lost} lost", acknowledged.len());
    assert_eq!(lost, 0);
}

#[test]
fn a_failover_that_takes_every_replica_along_leaves_a_doubt() {
    let Some(mut moving) = Moving::start(2) else { return };
    let key = make(&moving.services[0], "a");
    wait_for_states(&moving.services[1].admin(), (0, 0));
    moving.lag();
    // This instance's row never reaches the standby.
    let vm = moving.services[1].vm("lost");
    vm.load();
    wait_for_states(&moving.services[1].admin(), (0, 1));
    for service in &mut moving.services {
        service.kill();
    }
    moving.fail_over();
    let folder = workspace::scratch("admin");
    let service = Start::new(folder.path()).with("KEYWARD_DATABASE_URL", &moving.url).serve();
    wait_for_states(&service.admin(), (0, 0));
    // Nothing is left of the instance, which serves for an hour.
    let applied = delete(&service, &key);
    assert!(applied["refused_everywhere_by"].is_null(), "{applied}");
    assert!(reasons(&applied).contains(&"vms_may_be_missing"), "{applied}");
}

#[test]
fn a_role_that_may_not_ask_where_the_server_is_confirms_each_start() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.sql("postgres", "CREATE ROLE restricted LOGIN");
    postgres.sql("postgres", "CREATE DATABASE restricted OWNER restricted");
    postgres.sql("restricted", "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC");
    let folder = workspace::scratch("admin");
    let url = format!("postgres://restricted@{}/restricted", postgres.address());
    let start = Start::new(folder.path()).with("KEYWARD_DATABASE_URL", &url);
    for _ in 0..2 {
        let service = start.serve();
        assert!(service.log().contains("PostgreSQL does not say which server and timeline this is"));
        let applied = delete(&service, &make(&service, "a"));
        assert!(applied["refused_everywhere_by"].is_null(), "{applied}");
        assert!(reasons(&applied).contains(&"vms_may_be_missing"), "{applied}");
        assert_eq!(service.admin().send("POST", "/v1/proxies/confirm", &[], b"").status, 204);
        wait::until("a receipt names a time", PATIENCE, || {
            delete(&service, &make(&service, "b"))["refused_everywhere_by"].is_string().then_some(())
        });
        let metrics = service.client("").get("/metrics").text;
        assert!(metrics.contains("\nkeyward_vms_may_be_missing 0\n"));
    }
}

//! A database that accepts everything and answers nothing: calls and the end of the service have a deadline each.

mod support;

use keyward_testbed::postgres::Postgres;
use keyward_testbed::{wait, workspace};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{PATIENCE, Start};

/// Passes connections on to an address, until it is frozen: then it takes bytes and passes nothing on.
struct Freezer {
    address: SocketAddr,
    is_frozen: Arc<AtomicBool>,
}

impl Freezer {
    fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let freezer = Self { address: listener.local_addr().unwrap(), is_frozen: Arc::default() };
        let is_frozen = Arc::clone(&freezer.is_frozen);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(target) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let is_frozen = Arc::clone(&is_frozen);
                    std::thread::spawn(move || pass(from, to, &is_frozen));
                }
            }
        });
        freezer
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, is_frozen: &AtomicBool) {
    let mut bytes = [0; 16_384];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        while is_frozen.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// A database behind a freezer, and the URL that leads through it.
fn frozen_database(server: &Postgres) -> (Freezer, String) {
    let url = server.database();
    let (_, rest) = url.split_once('@').unwrap();
    let (address, name) = rest.split_once('/').unwrap();
    let freezer = Freezer::before(address.parse().unwrap());
    let url = format!("postgres://keyward@{}/{name}", freezer.address);
    (freezer, url)
}

#[test]
fn a_database_that_hangs_costs_a_call_no_more_than_its_deadline() {
    let Some(server) = Postgres::start() else { return };
    let (freezer, url) = frozen_database(&server);
    let folder = workspace::scratch("admin");
    let service = Start::new(folder.path()).with("KEYWARD_DATABASE_URL", &url).serve();
    service.admin().make("a");
    freezer.is_frozen.store(true, Ordering::Relaxed);
    let calls: Vec<_> = (0..20)
        .map(|n| {
            let admin = service.admin();
            std::thread::spawn(move || {
                let begun = Instant::now();
                let key = json!({ "name": format!("key {n}"), "permissions": ["records:read"] });
                admin.post("/v1/keys", &key).problem(503, "store_unavailable");
                begun.elapsed()
            })
        })
        .collect();
    for call in calls {
        // The deadline is 10 s; before there was one it took 30 s.
        let took = call.join().unwrap();
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
    wait::until("not ready", PATIENCE, || (service.admin().get("/readyz").status == 503).then_some(()));
    freezer.is_frozen.store(false, Ordering::Relaxed);
    wait::until("ready again", PATIENCE, || (service.admin().get("/readyz").status == 200).then_some(()));
    service.admin().make("b");
}

#[test]
fn the_service_ends_though_its_database_hangs() {
    let Some(server) = Postgres::start() else { return };
    let (freezer, url) = frozen_database(&server);
    let folder = workspace::scratch("admin");
    let mut service = Start::new(folder.path()).with("KEYWARD_DATABASE_URL", &url).serve();
    service.admin().make("a");
    let _vm = service.vm("vm-1").follow();
    support::wait_for_states(&service.admin(), (1, 0));
    freezer.is_frozen.store(true, Ordering::Relaxed);
    service.signal("-TERM");
    // Within the usual 30 s after which it would be killed.
    let begun = Instant::now();
    wait::until("the service ends", Duration::from_secs(60), || service.process.process().try_wait().unwrap());
    assert!(begun.elapsed() < Duration::from_secs(29), "{:?}", begun.elapsed());
}

//! An edge token that polls as instances which do not exist. `figures` measures it with 200,000 of them:
//! `cargo test -p keyward-admin --test invented -- --ignored --nocapture`

mod support;

use keyward_testbed::{http1, workspace};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::{EDGE, Service, Start, wait_for_states};

/// The largest number of tables of a node, and of a token.
const MAX_PER_NODE: usize = 2_000;
const MAX_PER_TOKEN: usize = 50_000;
/// What `/v1/proxies` may have for each instance.
const MAX_LISTED_BYTES: usize = 450;

fn serve(folder: &std::path::Path) -> Service {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    Start::new(folder).with("KEYWARD_LOG", "info").serve()
}

/// Polls once as each of many instances, from 24 clients, and returns how many were taken and how many were refused.
fn invent(service: &Service, names: Range<usize>, per_node: usize) -> (usize, usize) {
    let address: SocketAddr = service.url.trim_start_matches("http://").parse().unwrap();
    let (next, taken, refused) = (AtomicUsize::new(names.start), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                let mut client = http1::Client::connect(address).unwrap();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= names.end {
                        return;
                    }
                    let poll = format!(
                        "GET /v1/manifest?since=0&base=0 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {EDGE}\r\n\
                         x-keyward-node: invented-{}\r\nx-keyward-vm: invented-{n}\r\nx-keyward-table: table-{n}\r\n\
                         x-keyward-mode: enforce\r\nx-keyward-inline-keys: none\r\nx-keyward-max-staleness: 1h\r\n\r\n",
                        n / per_node
                    );
                    client.send(poll.as_bytes()).unwrap();
                    let answer = client.receive("GET").unwrap();
                    match answer.status {
                        200 => taken.fetch_add(1, Ordering::Relaxed),
                        429 if answer.json()["code"] == "too_many_vms" => refused.fetch_add(1, Ordering::Relaxed),
                        status => panic!("{status}: {}", answer.text()),
                    };
                }
            });
        }
    });
    (taken.into_inner(), refused.into_inner())
}

#[test]
fn a_node_has_a_quota_of_vms_and_the_others_do_not_notice() {
    let folder = workspace::scratch("admin");
    let service = serve(folder.path());
    let admin = service.admin();
    let key = admin.make("a");
    let _real = service.vm("real").follow();
    wait_for_states(&admin, (1, 0));
    let before = service.memory_kib("VmRSS");
    assert_eq!(invent(&service, 0..MAX_PER_NODE, usize::MAX), (MAX_PER_NODE, 0));
    assert_eq!(invent(&service, MAX_PER_NODE..MAX_PER_NODE + 500, usize::MAX), (0, 500));
    // The same ones again are no more.
    assert_eq!(invent(&service, 0..MAX_PER_NODE, usize::MAX).0, MAX_PER_NODE);
    let grown = service.memory_kib("VmRSS").saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB");
    let listed = admin.get("/v1/proxies");
    assert!(listed.text.len() < (MAX_PER_NODE + 10) * MAX_LISTED_BYTES, "{} bytes", listed.text.len());
    // Another node has a quota of its own, and the receipt says what it cannot know.
    let _late = service.vm("late").follow();
    let applied =
        admin.delete(&format!("/v1/keys/{}?wait=10s", key["id"].as_str().unwrap())).ok(200)["applied"].clone();
    let in_contact = applied["of"].as_u64().unwrap();
    assert!(
        in_contact >= 2 && in_contact + applied["unreachable"].as_u64().unwrap() >= MAX_PER_NODE as u64,
        "{applied}"
    );
    wait_for_states(&admin, (2, MAX_PER_NODE));
    assert_eq!(admin.delete("/v1/proxies/invented-7").status, 204);
    wait_for_states(&admin, (2, MAX_PER_NODE - 1));
}

#[test]
#[ignore = "measures, and takes some minutes"]
fn figures() {
    let folder = workspace::scratch("admin");
    let service = serve(folder.path());
    let admin = service.admin();
    let ids: Vec<String> =
        (0..400).map(|n| admin.make(&format!("key {n}"))["id"].as_str().unwrap().to_owned()).collect();
    let _real = service.vm("real").follow();
    wait_for_states(&admin, (1, 0));
    let before = service.memory_kib("VmRSS");
    let (stop, begun) = (AtomicBool::new(false), Instant::now());
    let ((taken, refused), mut took) = std::thread::scope(|scope| {
        let person = scope.spawn(|| {
            let mut took = Vec::new();
            for id in &ids {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let begun = Instant::now();
                admin.delete(&format!("/v1/keys/{id}?wait=0s")).ok(200);
                took.push(begun.elapsed());
                std::thread::sleep(Duration::from_millis(100));
            }
            took
        });
        let invented = invent(&service, 0..200_000, 1_000);
        stop.store(true, Ordering::Relaxed);
        (invented, person.join().unwrap())
    });
    let seconds = begun.elapsed().as_secs();
    assert!(taken < MAX_PER_TOKEN, "{taken}");
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_millis();
    let listed = admin.get("/v1/proxies").text.len();
    println!(
        "200,000 invented instances from 24 clients in {seconds} s: {taken} taken, {refused} refused; {} revocations committed \
         within {} ms in half of the cases, {} ms at most; memory grew by {} MiB; `/v1/proxies` has {:.1} MiB",
        took.len(),
        at(0.5),
        at(1.0),
        (service.memory_kib("VmRSS") - before) / 1024,
        listed as f64 / 1_048_576.0
    );
}

//! What callers without a token, and one edge token doing its worst, can take from the service.
//!
//! The bounds are tested with connections beyond every limit. `figures` measures the same with 10,000 connections:
//! `cargo test --release -p keyward-admin --test exhaustion -- --ignored --nocapture`

mod support;

use keyward_testbed::{wait, workspace};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::{PATIENCE, Service, Start};

/// More than the service keeps of strangers.
const CONNECTIONS: usize = 1_500;
/// What strangers may cost.
const MAX_MEMORY_KIB: u64 = 64 << 10;

/// What a connection says before it falls silent.
struct Shape {
    name: &'static str,
    bytes: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn http2() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, b""));
    bytes
}

/// A sign-in on an HTTP/2 stream, of whose body a part is missing.
fn http2_sign_in(stream: u32) -> Vec<u8> {
    let mut head = vec![0x83, 0x86, 0x04, 8];
    head.extend(b"/sign-in");
    head.extend([0x01, 1, b'a', 0x0f, 0x10, 33]);
    head.extend(b"application/x-www-form-urlencoded");
    let mut bytes = frame(1, 4, stream, &head);
    bytes.extend(frame(0, 0, stream, &[b'x'; 8_000]));
    bytes
}

fn shapes() -> Vec<Shape> {
    let sign_in = "POST /sign-in HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-www-form-urlencoded\r\n";
    let shape = |name, bytes: Vec<u8>| Shape { name, bytes };
    let mut body = format!("{sign_in}content-length: 1048576\r\n\r\n").into_bytes();
    body.extend(vec![b'x'; 1_000_000]);
    let mut small = format!("{sign_in}content-length: 8192\r\n\r\n").into_bytes();
    small.extend(vec![b'x'; 8_191]);
    let mut head = b"GET / HTTP/1.1\r\nhost: a\r\nx-long: ".to_vec();
    head.extend(vec![b'x'; 60_000]);
    let mut streams = http2();
    (0..100).for_each(|n| streams.extend(http2_sign_in(2 * n + 1)));
    vec![
        shape("silence", Vec::new()),
        shape("`P`", b"P".to_vec()),
        shape("HTTP/2 preface and SETTINGS", http2()),
        shape("sign-in of 1 MiB, a part missing", body),
        shape("sign-in of 8 KiB, a byte missing", small),
        shape("a head of 60 kB without an end", head),
        shape("100 HTTP/2 streams of 8 kB each", streams),
        shape("a wrong token", b"GET /v1/keys HTTP/1.1\r\nhost: a\r\nauthorization: Bearer wrong\r\n\r\n".to_vec()),
    ]
}

/// Processor time so far, in hundredths of a second.
fn ticks(service: &Service) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", service.process.pid())).unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Opens connections that say what the shape says. The service may close any of them meanwhile.
fn open(service: &Service, shape: &Shape, count: usize) -> Vec<TcpStream> {
    let address = service.url.trim_start_matches("http://");
    let mut open = Vec::with_capacity(count);
    for _ in 0..count {
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
        // What does not fit into the buffers is not sent.
        let _ = stream.write_all(&shape.bytes);
        open.push(stream);
    }
    open
}

fn serve(folder: &std::path::Path) -> Service {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    Start::new(folder).with("KEYWARD_LOG", "info").serve()
}

#[test]
fn strangers_cost_little_and_keep_nobody_out() {
    for shape in shapes() {
        let folder = workspace::scratch("admin");
        let service = serve(folder.path());
        let key = service.admin().make("a");
        let path = format!("/v1/keys/{}", key["id"].as_str().unwrap());
        let before = service.memory_kib("VmRSS");
        let vm = service.vm("vm-1").follow();
        support::wait_for_states(&service.admin(), (1, 0));
        let open = open(&service, &shape, CONNECTIONS);
        let grown = service.memory_kib("VmRSS").saturating_sub(before);
        assert!(grown < MAX_MEMORY_KIB, "{}: {grown} KiB", shape.name);
        // A person who comes now is answered, the filters stay, and a revocation reaches them.
        let reply = service.client("").get("/sign-in");
        assert_eq!(reply.status, 200, "{}", shape.name);
        support::wait_for_states(&service.admin(), (1, 0));
        let deleted = service.admin().delete(&format!("{path}?wait=30s")).ok(200);
        assert_eq!(deleted["applied"]["vms"], 1, "{}", shape.name);
        let lines = service.log().lines().count();
        assert!(lines < 100, "{}: {lines} lines in the log", shape.name);
        drop((open, vm));
    }
}

#[test]
fn a_fleet_that_comes_back_at_once_is_not_taken_for_strangers() {
    let folder = workspace::scratch("admin");
    let service = serve(folder.path());
    let silent = Shape { name: "silence", bytes: Vec::new() };
    // All of one address, and slow to begin.
    let mut fleet = open(&service, &silent, CONNECTIONS);
    assert_eq!(fleet.len(), CONNECTIONS);
    for round in 0..2 {
        for (n, vm) in fleet.iter_mut().enumerate() {
            write!(
                vm,
                "GET /v1/manifest?since=0 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\nx-keyward-node: a-{}\r\n\
                 x-keyward-vm: vm-{n}\r\n\r\n",
                support::EDGE,
                n / 8
            )
            .unwrap();
        }
        for vm in &mut fleet {
            let mut answer = [0; 15];
            vm.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200 OK", "round {round}");
            // The rest of the answer, which is short.
            let mut rest = [0; 4_096];
            assert!(vm.read(&mut rest).unwrap() > 100);
        }
    }
}

#[test]
fn a_connection_that_says_too_little_is_not_asked_again_and_again() {
    let folder = workspace::scratch("admin");
    let service = serve(folder.path());
    let shape = Shape { name: "`P`", bytes: b"P".to_vec() };
    let open = open(&service, &shape, 400);
    let before = ticks(&service);
    std::thread::sleep(Duration::from_secs(3));
    let used = ticks(&service) - before;
    assert!(used < 25, "{used} hundredths of a second within three seconds");
    // What comes after a while is read from its first byte on.
    let mut stream = &open[399];
    for part in [b"U".as_slice(), b"T /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"] {
        stream.write_all(part).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 405 "), "{said}");
}

#[test]
fn a_preface_in_pieces_is_an_http2_connection() {
    let folder = workspace::scratch("admin");
    let service = serve(folder.path());
    let mut stream = TcpStream::connect(service.url.trim_start_matches("http://")).unwrap();
    for byte in http2() {
        stream.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut head = [0; 9];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[3], 4, "SETTINGS come first: {head:?}");
}

#[test]
fn a_form_is_not_read_before_the_session_is_known() {
    let (_folder, service) = support::service();
    let address = service.url.trim_start_matches("http://");
    for path in ["/settings/keys", "/settings/explain", "/sign-in"] {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-www-form-urlencoded\r\n\
             content-length: 1000000\r\n\r\nname=a"
        )
        .unwrap();
        // Less than a body may take to arrive.
        stream.set_read_timeout(Some(Duration::from_secs(12))).unwrap();
        let mut answer = [0; 12];
        // The body never comes: the answer does not wait for it.
        stream.read_exact(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 4"), "{path}: {}", String::from_utf8_lossy(&answer));
    }
}

/// The largest batch of usage that an edge token may send: every key with names that nobody knows.
fn worst_batch(ids: &[String], vm: usize, seq: u64) -> String {
    let names: serde_json::Map<_, _> = (0..20).map(|n| (format!("invented:{vm}:{seq}:{n}"), json!(1))).collect();
    let mut names = serde_json::Value::Object(names);
    names["records:read"] = json!(1);
    let keys: Vec<_> = (0..10_000)
        .map(|n| {
            let id = ids.get(n).cloned().unwrap_or_else(|| format!("key_{n}"));
            json!({ "id": id, "count": 1, "last_used_at": "2026-01-01T00:00:00Z", "permissions": names })
        })
        .collect();
    json!({ "vm": format!("vm-{vm}"), "seq": seq, "keys": keys }).to_string()
}

/// What 24 clients with the largest batches do to the revocations of one person: how long each took, and the memory.
fn under_usage(service: &Service, revocations: usize) -> (Vec<Duration>, u64, usize) {
    let admin = service.admin();
    let ids: Vec<String> =
        (0..200).map(|n| admin.make(&format!("key {n}"))["id"].as_str().unwrap().to_owned()).collect();
    let body = Arc::new(worst_batch(&ids, 0, 1));
    assert!(body.len() > 4 << 20 && body.len() < 8 << 20, "{}", body.len());
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..24)
        .map(|client| {
            let (edge, body) = (service.edge(), Arc::clone(&body));
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            std::thread::spawn(move || {
                for seq in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let body = body.replace("\"vm\":\"vm-0\"", &format!("\"vm\":\"vm-{client}-{seq}\""));
                    let json = [("content-type", "application/json")];
                    if edge.try_send("POST", "/v1/usage", &json, body.as_bytes()).is_ok_and(|reply| reply.status == 200)
                    {
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    wait::until("some batches are taken", PATIENCE, || (sent.load(Ordering::Relaxed) >= 2).then_some(()));
    let mut took = Vec::new();
    for id in &ids[..revocations] {
        let begun = Instant::now();
        admin.delete(&format!("/v1/keys/{id}?wait=0s")).ok(200);
        took.push(begun.elapsed());
    }
    let peak = service.memory_kib("VmHWM");
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    took.sort();
    (took, peak, sent.load(Ordering::Relaxed))
}

#[test]
fn the_largest_batches_of_usage_do_not_stop_a_revocation() {
    let folder = workspace::scratch("admin");
    let service = serve(folder.path());
    let before = service.memory_kib("VmRSS");
    let (took, peak, _) = under_usage(&service, 20);
    assert_eq!(took.len(), 20, "each was answered with 200");
    assert!(peak.saturating_sub(before) < 256 << 10, "{peak} KiB");
    let keys = service.admin().get("/v1/keys?limit=1").ok(200);
    let path = format!("/v1/keys/{}", keys["keys"][0]["id"].as_str().unwrap());
    let usage = service.admin().get(&path).ok(200)["usage"]["permissions"].clone();
    let names: Vec<_> = usage.as_array().unwrap().iter().map(|entry| entry["permission"].clone()).collect();
    assert!(names.iter().all(|name| !name.as_str().unwrap().starts_with("invented")), "{names:?}");
}

#[test]
#[ignore = "measures, and takes some minutes"]
fn figures() {
    println!("| 10,000 connections | memory | processor | a page for a person |\n| --- | --- | --- | --- |");
    for shape in shapes() {
        let folder = workspace::scratch("admin");
        let service = serve(folder.path());
        let before = service.memory_kib("VmRSS");
        let open = open(&service, &shape, 10_000);
        let begun = Instant::now();
        assert_eq!(service.client("").get("/sign-in").status, 200);
        let page = begun.elapsed();
        let grown = service.memory_kib("VmRSS").saturating_sub(before) as f64 / 1024.0;
        let used = ticks(&service);
        std::thread::sleep(Duration::from_secs(5));
        let share = (ticks(&service) - used) as f64 / 5.0;
        println!("| {} | {grown:.1} MiB | {share:.1} % of a core | {:.0} ms |", shape.name, page.as_secs_f64() * 1e3);
        drop(open);
    }
    let folder = workspace::scratch("admin");
    let service = serve(folder.path());
    let (took, peak, sent) = under_usage(&service, 150);
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "24 clients with the largest batches ({sent} taken): a revocation commits within {:.0} ms in half of the cases, \
         {:.0} ms at most; the service needs {} MiB at most",
        at(0.5),
        at(1.0),
        peak / 1024
    );
}

//! Polls are served without the HTTP library's connection where they are plainly polls. Nobody may be able to tell.

mod support;

use keyward_testbed::{wait, workspace};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Range;
use std::time::Duration;
use support::{EDGE, PATIENCE, Service, Start, service};

/// The memory that a waiting filter VM may cost the service, in KiB.
const MAX_KIB_A_VM: u64 = 12;

/// What a client sends; `TOKEN` stands for the header with the token.
const POLL: &str = "GET /v1/manifest?since=0&base=0 HTTP/1.1\r\nhost: a\r\nTOKEN\r\n\r\n";

/// Sends the bytes, the first `at_once` of them some time before the others, and then a last request; all that is
/// answered, each answer's header fields in order and without the date.
fn exchange(service: &Service, bytes: &[u8], at_once: usize) -> String {
    let mut stream = TcpStream::connect(service.url.trim_start_matches("http://")).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let last = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let all = [bytes, last].concat();
    let (first, rest) = all.split_at(at_once);
    // The server may close before it has read everything.
    if stream.write_all(first).is_ok() && !rest.is_empty() {
        std::thread::sleep(Duration::from_millis(60));
        let _ = stream.write_all(rest);
    }
    let mut answered = Vec::new();
    let _ = stream.read_to_end(&mut answered);
    normal(&String::from_utf8(answered).unwrap())
}

fn normal(mut answers: &str) -> String {
    let mut normal = String::new();
    while let Some((head, rest)) = answers.split_once("\r\n\r\n") {
        let (status, fields) = head.split_once("\r\n").unwrap();
        let mut fields: Vec<&str> = fields.split("\r\n").collect();
        fields.sort_unstable();
        let date = fields.iter().position(|field| field.starts_with("date: ")).expect("a date");
        assert!(fields.remove(date).ends_with(" GMT"), "{head}");
        let length = fields.iter().find_map(|field| field.strip_prefix("content-length: ")).unwrap();
        let (body, next) = rest.split_at(length.parse().unwrap());
        normal += &format!("{status}\n{}\n\n{body}\n", fields.join("\n"));
        answers = next;
    }
    assert_eq!(answers, "", "{normal}");
    normal
}

#[test]
fn a_poll_is_answered_as_the_library_would() {
    let (_folder, service) = service();
    service.admin().make("a");
    let many = "x-many: 1\r\n".repeat(40);
    let large = format!("x-large: {}\r\n", "a".repeat(5_000));
    let with = |lines: &str| POLL.replace("TOKEN", &format!("{lines}TOKEN"));
    let instead = |line: &str| POLL.replace("GET /v1/manifest?since=0&base=0 HTTP/1.1", line);
    let cases = [
        ("a poll", POLL.to_owned()),
        ("two", format!("{POLL}{POLL}")),
        ("then something else", format!("{POLL}GET /v1/keys HTTP/1.1\r\nhost: a\r\nTOKEN\r\n\r\n{POLL}")),
        (
            "then a report",
            format!("{POLL}POST /v1/usage HTTP/1.1\r\nhost: a\r\nTOKEN\r\ncontent-length: 2\r\n\r\n{{}}{POLL}"),
        ),
        ("no token", POLL.replace("TOKEN\r\n", "")),
        ("two tokens", with("TOKEN\r\n")),
        ("a wrong value", instead("GET /v1/manifest?since=x HTTP/1.1")),
        ("no query", instead("GET /v1/manifest HTTP/1.1")),
        ("an empty query", instead("GET /v1/manifest? HTTP/1.1")),
        ("two question marks", instead("GET /v1/manifest?since=0?&base=0 HTTP/1.1")),
        ("an odd query", instead("GET /v1/manifest?%73ince=0&base=\"0\"&{} HTTP/1.1")),
        ("a fragment", instead("GET /v1/manifest#?since=0 HTTP/1.1")),
        ("a longer path", instead("GET /v1/manifests HTTP/1.1")),
        ("a slash", instead("GET /v1/manifest/ HTTP/1.1")),
        ("an encoded path", instead("GET /v1/m%61nifest HTTP/1.1")),
        ("a whole URI", instead("GET http://a/v1/manifest?since=0 HTTP/1.1")),
        ("another method", instead("HEAD /v1/manifest?since=0 HTTP/1.1").replace("HEAD", "DELETE")),
        ("lower case", instead("get /v1/manifest?since=0 HTTP/1.1")),
        ("HTTP/1.0", instead("GET /v1/manifest?since=0 HTTP/1.0")),
        ("HTTP/3", instead("GET /v1/manifest?since=0 HTTP/3.0")),
        ("HTTP/0.9", instead("GET /v1/manifest?since=0")),
        ("spaces in the line", instead("GET  /v1/manifest?since=0  HTTP/1.1")),
        ("a body", with("content-length: 5\r\n") + "GET /"),
        ("an empty body", with("content-length: 0\r\n")),
        ("two lengths", with("content-length: 5\r\ncontent-length: 6\r\n") + "GET /"),
        ("chunks", with("transfer-encoding: chunked\r\n") + "3\r\nabc\r\n0\r\n\r\n"),
        ("chunks in capitals", with("Transfer-Encoding: Chunked\r\n") + "3\r\nabc\r\n0\r\n\r\n"),
        ("length and chunks", with("content-length: 3\r\ntransfer-encoding: chunked\r\n") + "0\r\n\r\n"),
        ("the last one", with("connection: close\r\n")),
        ("an upgrade", with("connection: upgrade\r\nupgrade: websocket\r\n")),
        ("a space before the colon", with("content-length : 5\r\n")),
        ("a folded line", with("x-folded: a\r\n b\r\n")),
        ("bytes that are no text", with("x-keyward-node: \u{e9}\r\n")),
        ("a control character", with("x-keyward-node: a\u{1}b\r\n")),
        ("a bare CR", with("x-keyward-node: a\rb\r\n")),
        ("a name that is none", with("x keyward: a\r\n")),
        ("no name", with(": a\r\n")),
        ("no value", with("x-keyward-node:\r\n")),
        ("spaces around a value", with("x-keyward-node: \t a \t\r\n")),
        ("a header twice", with("x-keyward-node: a\r\nX-Keyward-Node: b\r\n")),
        ("a long value", with(&format!("x-keyward-node: {}\r\n", "a".repeat(300)))),
        ("many headers", with(&many)),
        ("a large header", with(&large)),
        ("lines without CR", POLL.replace("\r\n", "\n")),
        ("an empty line before", format!("\r\n{POLL}")),
        ("half a request", POLL.trim_end().to_owned()),
    ];
    for (what, bytes) in cases {
        let bytes = bytes.replace("TOKEN", &format!("authorization: Bearer {EDGE}"));
        // A head that comes in two parts is read by the library.
        let library = exchange(&service, bytes.as_bytes(), 16);
        let whole = exchange(&service, bytes.as_bytes(), bytes.len());
        assert_eq!(whole, library, "{what}");
        let everything = exchange(&service, bytes.as_bytes(), bytes.len() + 3);
        assert_eq!(everything, library, "{what}, and more right behind it");
        assert!(library.contains("HTTP/1."), "{what}: nothing was answered");
    }
}

/// One answer's body.
fn body(stream: &mut TcpStream) -> serde_json::Value {
    let mut pending = Vec::new();
    loop {
        let mut bytes = [0; 4_096];
        let count = stream.read(&mut bytes).unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&pending));
        pending.extend(&bytes[..count]);
        let Some(end) = pending.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&pending[..end]).into_owned();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if pending.len() == end + 4 + length.parse::<usize>().unwrap() {
            return serde_json::from_slice(&pending[end + 4..]).unwrap();
        }
    }
}

/// Connections of VMs that have loaded all keys and wait for changes, as today's filter asks.
fn waiting(service: &Service, vms: Range<usize>) -> Vec<TcpStream> {
    let one = |vm: usize| {
        let mut stream = TcpStream::connect(service.url.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let ask = |stream: &mut TcpStream, query: &str| {
            // In one piece, as Envoy sends it.
            let poll = format!(
                "GET /v1/manifest?{query} HTTP/1.1\r\nhost: keyward\r\nauthorization: Bearer {EDGE}\r\n\
                 x-keyward-node: edge-{:05}\r\nx-keyward-vm: vm_{vm:016x}\r\nx-keyward-table: {vm:032x}\r\n\
                 x-keyward-filter: 0.1.0\r\nx-keyward-max-staleness: 15m\r\nx-keyward-mode: enforce\r\n\
                 x-keyward-inline-keys: none\r\n\r\n",
                vm / 3
            );
            stream.write_all(poll.as_bytes()).unwrap();
        };
        ask(&mut stream, "since=0&base=0");
        let page = body(&mut stream);
        let (revision, mark) = (page["revision"].as_u64().unwrap(), page["mark"].as_str().unwrap());
        ask(&mut stream, &format!("since={revision}&base={revision}&mark={mark}&wait=60s"));
        stream
    };
    vms.map(one).collect()
}

/// Waits until so many VMs are in contact. The list of them would take memory of its own.
fn wait_for_contact(service: &Service, vms: usize) {
    let line = format!("keyward_vms_in_contact {vms}");
    wait::until(&line, PATIENCE, || {
        let metrics = service.admin().get("/metrics").text;
        metrics.lines().any(|known| known == line).then_some(())
    });
}

#[test]
fn a_poll_that_waits_costs_little_memory() {
    let folder = workspace::scratch("admin");
    let service = Start::new(folder.path()).with("KEYWARD_LOG", "info").serve();
    service.admin().make("a");
    let first = waiting(&service, 0..64);
    wait_for_contact(&service, 64);
    let before = service.memory_kib("RssAnon");
    let others = waiting(&service, 64..1_064);
    wait_for_contact(&service, 1_064);
    let grown = service.memory_kib("RssAnon").saturating_sub(before);
    assert!(grown < 1_000 * MAX_KIB_A_VM, "{grown} KiB for 1,000 VMs");
    drop((first, others));
}

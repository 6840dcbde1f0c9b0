//! Polls are served without the HTTP library's connection where they are plainly polls. Nobody may be able to tell.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;
use support::{EDGE, PATIENCE, Service, service};

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

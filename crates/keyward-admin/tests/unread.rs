//! A request may be answered before its body was read. The client then learns that answer, and whether the connection can
//! be used again.

mod support;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use support::{ADMIN, EDGE, PATIENCE, Service, service};

/// A request whose body the service has no reason to read, or only in part.
struct Refused {
    line: &'static str,
    token: &'static str,
    kind: &'static str,
    status: u16,
}

const fn refused(line: &'static str, token: &'static str, kind: &'static str, status: u16) -> Refused {
    Refused { line, token, kind, status }
}

const JSON: &str = "application/json";

/// What comes with a body of spaces, which is no JSON and an empty form.
const REFUSED: [Refused; 8] = [
    refused("POST /v1/keys", "", JSON, 401),
    refused("POST /v1/keys", EDGE, JSON, 403),
    refused("POST /v1/usage", ADMIN, JSON, 403),
    refused("POST /v1/nothing", ADMIN, JSON, 404),
    refused("PUT /v1/keys", ADMIN, JSON, 405),
    refused("POST /v1/keys", ADMIN, "text/plain", 415),
    refused("GET /v1/keys?limit=0", ADMIN, JSON, 422),
    refused("GET /v1/manifest?since=x", EDGE, JSON, 422),
];

/// How a body is framed and when it is sent.
#[derive(Debug, Clone, Copy)]
struct Sent {
    length: usize,
    is_chunked: bool,
    /// The bytes of the body that come later than the head.
    late: usize,
}

/// One answer, its body included.
struct Answer {
    status: u16,
    is_last: bool,
}

/// Reads one answer from the connection.
fn answer(stream: &mut TcpStream, what: &str) -> Answer {
    let mut bytes = Vec::new();
    let (head, mut body) = loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_ne!(count, 0, "{what}: the connection was closed without an answer");
        bytes.extend(&part[..count]);
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            break (String::from_utf8(bytes).unwrap(), body);
        }
    };
    let field = |name: &str| {
        head.lines().find_map(|line| line.split_once(": ").filter(|(field, _)| *field == name)).map(|(_, value)| value)
    };
    let length = field("content-length").unwrap_or_else(|| panic!("{what}: {head}")).parse().unwrap();
    while body.len() < length {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).unwrap_or_else(|error| panic!("{what}: {error} after {head}"));
        assert_ne!(count, 0, "{what}: the answer is not whole: {head}");
        body.extend(&part[..count]);
    }
    assert_eq!(body.len(), length, "{what}: {head}");
    Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), is_last: field("connection") == Some("close") }
}

fn connect(service: &Service) -> TcpStream {
    let stream = TcpStream::connect(service.url.trim_start_matches("http://")).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn head(refused: &Refused, more: &str) -> String {
    let Refused { line, token, kind, .. } = refused;
    let token = if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
    format!("{line} HTTP/1.1\r\nhost: a\r\n{token}content-type: {kind}\r\n{more}\r\n\r\n")
}

/// Sends a request and reads its answer; then the connection ends if the answer says so, and otherwise serves another.
fn exchange(service: &Service, refused: &Refused, sent: Sent, status: u16) {
    let what = format!("{} with {:?}, {sent:?}", refused.line, refused.token);
    let mut stream = connect(service);
    let body = vec![b' '; sent.length];
    let (framing, body) = if sent.is_chunked {
        let chunks = body
            .chunks(10_000)
            .flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        ("transfer-encoding: chunked".to_owned(), chunks.chain(*b"0\r\n\r\n").collect())
    } else {
        (format!("content-length: {}", sent.length), body)
    };
    let (early, late) = body.split_at(body.len() - sent.late);
    let first = [head(refused, &framing).as_bytes(), early].concat();
    // A client that writes all that it has to say before it reads.
    stream.write_all(&first).unwrap_or_else(|error| panic!("{what}: {error}"));
    if !late.is_empty() {
        std::thread::sleep(Duration::from_millis(20));
        stream.write_all(late).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    let told = answer(&mut stream, &what);
    assert_eq!(told.status, status, "{what}");
    if told.is_last {
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_or_else(|error| panic!("{what}: {error}")), 0, "{what}");
    } else {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        assert_eq!(answer(&mut stream, &format!("{what}, the next request")).status, 200, "{what}");
    }
}

#[test]
fn an_answer_arrives_and_says_whether_another_request_may_follow() {
    let (_folder, service) = service();
    for length in [1, 5_000, 60_000, 70_000, 4_000_000] {
        for is_chunked in [false, true] {
            for late in [0, 1, length] {
                let sent = Sent { length, is_chunked, late };
                for refused in &REFUSED {
                    exchange(&service, refused, sent, refused.status);
                }
                let status = if length > 64 << 10 { 413 } else { 400 };
                exchange(&service, &refused("POST /v1/keys", ADMIN, JSON, status), sent, status);
            }
        }
    }
}

#[test]
fn a_body_that_was_only_announced_is_not_asked_for() {
    let (_folder, service) = service();
    for refused in &REFUSED {
        let mut stream = connect(&service);
        stream.write_all(head(refused, "expect: 100-continue\r\ncontent-length: 5000").as_bytes()).unwrap();
        let told = answer(&mut stream, refused.line);
        assert_eq!((told.status, told.is_last), (refused.status, true), "{}", refused.line);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{}", refused.line);
    }
}

#[test]
fn a_body_that_does_not_end_is_read_for_a_while_only() {
    let (_folder, service) = service();
    let mut stream = connect(&service);
    stream.write_all(head(&REFUSED[0], "transfer-encoding: chunked").as_bytes()).unwrap();
    let chunk = [b"2710\r\n".as_slice(), &[b' '; 10_000], b"\r\n"].concat();
    let mut written = 0_usize;
    let ended = loop {
        match stream.write_all(&chunk) {
            Ok(()) => written += chunk.len(),
            Err(error) => break error.kind(),
        }
        assert!(written < 1 << 30, "the service reads on and on");
    };
    assert!(matches!(ended, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{ended}");
}

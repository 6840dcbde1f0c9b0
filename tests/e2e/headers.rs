//! Requests with headers that no well-behaved client sends.

use crate::setup::{ADMIN, Edge, READER, assert_denied, assert_passed};
use keyward_testbed::http2::{Answer, Client, fields};

#[test]
fn repeated_key_headers_are_refused_over_http_1() {
    let edge = Edge::start();
    for headers in [
        [("x-api-key", READER), ("x-api-key", READER)],
        [("x-api-key", READER), ("X-API-Key", ADMIN)],
        [("x-api-key", "kw_nobody"), ("x-api-key", READER)],
        [("x-api-key", ""), ("x-api-key", READER)],
        [("x-api-key", READER), ("x-api-key", "")],
    ] {
        let (response, received) = edge.ask("GET", "/a", &headers);
        assert_denied(&response, &received, 401, "key_malformed");
    }
    // Other headers may be repeated.
    let (response, received) = edge.ask("GET", "/a", &[("x-api-key", READER), ("x-a", "1"), ("x-a", "2")]);
    assert_eq!(assert_passed(&response, received).header("x-a"), ["1", "2"]);
}

#[test]
fn repeated_key_headers_are_refused_over_http_2() {
    let edge = Edge::start();
    let request = |more: &[(&str, &str)]| {
        let mut all = vec![(":method", "GET"), (":scheme", "http"), (":path", "/a"), (":authority", "api.example.com")];
        all.extend(more);
        let mut client = Client::connect(edge.address).unwrap();
        client.request(&fields(&all), b"").unwrap()
    };
    for headers in [[("x-api-key", READER), ("x-api-key", READER)], [("x-api-key", READER), ("x-api-key", ADMIN)]] {
        let Answer::Response(response) = request(&headers) else { panic!("no response") };
        assert_denied(&response, &edge.upstream.take(), 401, "key_malformed");
    }
    assert_eq!(request(&[("x-api-key", READER)]).status(), Some(200));
    assert_eq!(edge.upstream.take().len(), 1);
    // These headers are illegal in HTTP/2. Some end the stream and some the connection; none reaches the upstream.
    for headers in [
        &[("X-Api-Key", READER)][..],
        &[("x-api-key", READER), (":path", "/public")],
        &[(":path", "/public"), ("x-api-key", READER)],
        &[("x-api-key ", READER)],
        &[("x-api-key", "a\0b")],
        &[("x-api-key", "a\r\nx-api-key: b")],
        &[("", READER)],
        &[("x-api-key", READER), ("connection", "x-api-key")],
    ] {
        let answer = request(headers);
        println!("{headers:?}: {answer:?}");
        assert!(!matches!(answer.status(), Some(200..400)), "{headers:?}: {answer:?}");
        assert_eq!(edge.upstream.count(), 0, "{headers:?}");
        // Only this request was refused: the next one on the connection passes.
        assert_eq!(request(&[("x-api-key", READER)]).status(), Some(200), "after {headers:?}");
        assert_eq!(edge.upstream.take().len(), 1);
    }
}

#[test]
fn bytes_beyond_ascii_neither_crash_nor_pass() {
    let edge = Edge::start();
    for key in [&b"\xff"[..], b"\x80\x81\xfe", "schlüssel".as_bytes(), &[READER.as_bytes(), b"\xff"].concat()] {
        let (response, received) = edge.ask_bytes("GET", b"/a", &[("x-api-key", key)]);
        assert_denied(&response, &received, 401, "key_malformed");
    }
    // In other headers these bytes are left to the upstream.
    let (response, received) = edge.ask_bytes("GET", b"/a", &[("x-api-key", READER.as_bytes()), ("x-a", b"\xff\xfe")]);
    let arrived = assert_passed(&response, received);
    assert!(arrived.headers.contains(&(b"x-a".to_vec(), b"\xff\xfe".to_vec())));
    for header in ["content-type", "origin", "cookie", "authorization", "user-agent", "x-api-key-id"] {
        let (response, received) =
            edge.ask_bytes("GET", b"/a", &[("x-api-key", READER.as_bytes()), (header, b"\xff\x80")]);
        assert_passed(&response, received);
    }
    let mut client = Client::connect(edge.address).unwrap();
    let mut all =
        fields(&[(":method", "GET"), (":scheme", "http"), (":path", "/a"), (":authority", "api.example.com")]);
    all.push((b"x-api-key".to_vec(), b"\xff".to_vec()));
    let Answer::Response(response) = client.request(&all, b"").unwrap() else { panic!("no response") };
    assert_denied(&response, &edge.upstream.take(), 401, "key_malformed");
    // Both workers still answer.
    for response in edge.ask_both_workers("/a", &[("x-api-key", READER)]) {
        assert_eq!(response.status, 200);
    }
}

#[test]
fn a_nul_byte_does_not_get_past_envoy() {
    let edge = Edge::start();
    for headers in [[("x-api-key", &b"a\0b"[..])], [("x-a", &b"\0"[..])], [("x-api-key\0", READER.as_bytes())]] {
        let (response, received) = edge.ask_bytes("GET", b"/a", &headers);
        assert_eq!((response.status, received.len()), (400, 0));
    }
    let (response, received) = edge.ask_bytes("GET", b"/a\0", &[("x-api-key", READER.as_bytes())]);
    assert_eq!((response.status, received.len()), (400, 0));
}

#[test]
fn sixty_kilobytes_of_headers_are_read() {
    let edge = Edge::start();
    let long = "x".repeat(50_000);
    let (response, received) = edge.ask("GET", "/a", &[("x-long", &long), ("x-api-key", READER)]);
    assert_eq!(assert_passed(&response, received).header("x-long").concat(), long);
    let (response, received) = edge.ask("GET", "/a", &[("x-long", &long)]);
    assert_denied(&response, &received, 401, "key_missing");
    let (response, received) = edge.ask("GET", "/a", &[("x-api-key", &long)]);
    assert_denied(&response, &received, 401, "key_malformed");
    let (response, received) = edge.ask("GET", &format!("/a?{long}"), &[("x-api-key", READER)]);
    assert_passed(&response, received);
    let path = format!("/any/{}", "y/".repeat(20_000));
    let (response, received) = edge.ask("GET", &path, &[("x-api-key", READER)]);
    assert_passed(&response, received);
    // With one more header Envoy refuses the request itself.
    let (response, received) = edge.ask("GET", "/a", &[("x-long", &"x".repeat(70_000)), ("x-api-key", READER)]);
    assert_eq!((response.status, received.len()), (431, 0));
    // The request has 99 headers; Envoy's limit is 100.
    let names: Vec<String> = (0..80).map(|number| format!("x-{number}")).collect();
    let mut many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    many.push(("x-api-key", READER));
    let (response, received) = edge.ask("GET", "/a", &many);
    assert_passed(&response, received);
}

#[test]
fn hop_by_hop_headers_cannot_change_who_called() {
    let edge = Edge::start();
    // Envoy removes the headers that `connection` names before any filter runs, so this request has no key.
    let headers = [("connection", "x-api-key"), ("x-api-key", READER), ("x-api-key-id", "key_admin")];
    let (response, received) = edge.ask("GET", "/a", &headers);
    assert_denied(&response, &received, 401, "key_missing");
    let headers = [("connection", "x-api-key-id"), ("x-api-key", READER), ("x-api-key-id", "key_admin")];
    let (response, received) = edge.ask("GET", "/a", &headers);
    assert_eq!(assert_passed(&response, received).header("x-api-key-id"), ["key_reader"]);
}

//! CONNECT, upgrades, and other methods that need care.

use crate::setup::{Edge, LISTENER, READER, assert_denied, assert_passed, listener, plugin};
use keyward_testbed::envoy::Envoy;
use keyward_testbed::http2::{Answer, Client, fields};
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{envoy_config, http1};
use serde_json::json;

#[test]
fn connect_has_no_path_and_no_way_through() {
    // The test's listener has a route for CONNECT, so that only the filter can refuse it.
    let edge = Edge::with(&plugin(), |listener| {
        listener.connection_manager()["upgrade_configs"] = json!([{"upgrade_type": "CONNECT"}]);
        listener.connection_manager()["http2_protocol_options"] = json!({"allow_connect": true});
    });
    for headers in [&[][..], &[("x-api-key", READER)]] {
        let (response, received) = edge.ask("CONNECT", "api.example.com:443", headers);
        assert_ne!(response.status, 200);
        assert!(received.is_empty());
    }
    let mut client = Client::connect(edge.address).unwrap();
    let connect = fields(&[(":method", "CONNECT"), (":authority", "api.example.com:443"), ("x-api-key", READER)]);
    let answer = client.request(&connect, b"").unwrap();
    let Answer::Response(response) = answer else { panic!("{answer:?}") };
    assert_eq!(response.status, 400, "{}", response.text());
    assert_eq!(edge.upstream.count(), 0);
    for response in edge.ask_both_workers("/a", &[("x-api-key", READER)]) {
        assert_eq!(response.status, 200);
    }
}

#[test]
fn an_upgrade_is_a_request_like_any_other() {
    let edge = Edge::with(&plugin(), |listener| {
        listener.connection_manager()["upgrade_configs"] = json!([{"upgrade_type": "websocket"}]);
    });
    let upgrade = |target: &str, key: Option<&str>| {
        let mut headers = vec![
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        headers.extend(key.map(|key| ("x-api-key", key)));
        edge.ask("GET", target, &headers)
    };
    let (response, received) = upgrade("/a", None);
    assert_denied(&response, &received, 401, "key_missing");
    let (response, received) = upgrade("/denied/x", Some(READER));
    assert_denied(&response, &received, 403, "route_denied");
    // The upstream answers without switching protocols. The test needs to know only that the request arrived.
    let (_, received) = upgrade("/a", Some(READER));
    assert_eq!(received.len(), 1);
}

#[test]
fn an_upgraded_connection_carries_both_ways_once_it_was_allowed() {
    let upstream = Upstream::answering(|request| {
        let switches = !request.header("upgrade").is_empty();
        let answer: &[u8] = if switches {
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        } else {
            b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npong"
        };
        answer.to_vec()
    });
    let mut listener = listener(&plugin(), &upstream);
    listener.connection_manager()["upgrade_configs"] = json!([{"upgrade_type": "websocket"}]);
    let envoy = Envoy::start(&envoy_config::bootstrap(&[listener], vec![]));
    let mut client = http1::Client::connect(envoy.listener(LISTENER)).unwrap();
    let head = |key: &str| {
        format!("GET /a HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\nx-api-key: {key}\r\n\r\n")
    };
    client.send(head(READER).as_bytes()).unwrap();
    assert_eq!(client.receive("GET").unwrap().status, 101);
    // Bytes of the new protocol. They have the form of a request, so that the upstream records them.
    for _ in 0..3 {
        client.send(b"PING /frame HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(client.receive("PING").unwrap().text(), "pong");
    }
    assert_eq!(upstream.take().len(), 4);
    // Bytes that a client sends after a refused upgrade do not reach the upstream.
    let mut client = http1::Client::connect(envoy.listener(LISTENER)).unwrap();
    client.send([head("kw_nobody").as_bytes(), b"PING /frame HTTP/1.1\r\n\r\n"].concat().as_slice()).unwrap();
    assert_eq!(client.receive("GET").unwrap().status, 401);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn an_upgrade_that_skips_the_filter_is_stopped_by_the_backstop() {
    let edge = Edge::with(&plugin(), |listener| {
        let manager = listener.connection_manager();
        // This is the mistake: the upgrade has a filter list of its own, without the filter.
        let others: Vec<_> = manager["http_filters"].as_array().unwrap().iter().skip(1).cloned().collect();
        manager["upgrade_configs"] = json!([{"upgrade_type": "websocket", "filters": others}]);
    });
    let headers = [("connection", "upgrade"), ("upgrade", "websocket"), ("x-api-key", READER)];
    let (response, received) = edge.ask("GET", "/a", &headers);
    assert_eq!((response.status, received.len()), (403, 0));
}

#[test]
fn options_head_and_trace_need_what_the_rule_says() {
    let edge = Edge::start();
    for method in ["OPTIONS", "HEAD", "TRACE"] {
        let (response, received) = edge.ask(method, "/a", &[]);
        assert_eq!((response.status, received.len()), (401, 0), "{method}");
        // RFC 9110, 15.5.2: a 401 has a challenge, even without a body.
        assert_eq!(
            response.header("www-authenticate"),
            Some(r#"ApiKey realm="tests", header="X-Api-Key""#),
            "{method}"
        );
        let (response, received) = edge.ask(method, "/a", &[("x-api-key", READER)]);
        let arrived = assert_passed(&response, received);
        assert_eq!(arrived.method, method.as_bytes());
        assert!(arrived.header("x-api-key").is_empty(), "{method} carries the key");
        // A rule for POST does not apply to these methods.
        let (response, received) = edge.ask(method, "/write", &[("x-api-key", READER)]);
        assert_eq!((response.status, received.len()), (403, 0), "{method}");
    }
    let (response, received) =
        edge.ask("OPTIONS", "/a", &[("origin", "https://x"), ("access-control-request-method", "GET")]);
    assert_denied(&response, &received, 401, "key_missing");
}

#[test]
fn preflights_pass_where_they_are_let() {
    let mut plugin = plugin();
    plugin["cors_preflight"] = json!("pass");
    let edge = Edge::with(&plugin, |_| {});
    let preflight = |target: &str, method: &str| {
        edge.ask("OPTIONS", target, &[("origin", "https://x"), ("access-control-request-method", method)])
    };
    let (response, received) = preflight("/write", "POST");
    assert_passed(&response, received);
    let (response, received) = preflight("/write", "GET");
    assert_denied(&response, &received, 401, "key_missing");
    let (response, received) = preflight("/denied/x", "GET");
    assert_denied(&response, &received, 401, "key_missing");
}

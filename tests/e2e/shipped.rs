//! The shipped envoy.yaml, changed only in its addresses and in the source of the keys.

use crate::setup::{ADMIN, READER, manifest};
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::Shipped;
use keyward_testbed::http1::{self, Client, Response};
use keyward_testbed::http2;
use keyward_testbed::upstream::{Received, Upstream};
use std::net::SocketAddr;

const LISTENER: &str = "databases_api";

struct Edge {
    upstream: Upstream,
    address: SocketAddr,
    envoy: Envoy,
}

fn start() -> Edge {
    let upstream = Upstream::start();
    let envoy = Envoy::start(&Shipped::new(upstream.address()).with_manifest(manifest()).build());
    let address = envoy.listener(LISTENER);
    Edge { upstream, address, envoy }
}

impl Edge {
    fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> (Response, Vec<Received>) {
        self.upstream.take();
        let response = http1::exchange(self.address, method, target, headers).unwrap();
        (response, self.upstream.take())
    }
}

#[test]
fn the_route_removes_the_key_and_says_who_called() {
    let edge = start();
    let spoof = [("x-api-key", ADMIN), ("x-api-key-id", "key_root"), ("x-api-key-name", "root")];
    let (response, received) = edge.ask("GET", "/api/collections/posts/records?page=1", &spoof);
    assert_eq!((response.status, received.len()), (200, 1));
    assert_eq!(received[0].header("x-api-key-id"), ["key_admin"]);
    let name = received[0].header("x-api-key-name");
    assert!(name.len() == 1 && name[0].starts_with("%C3%84dmin"), "{name:?}");
    assert!(received[0].header("x-api-key").is_empty());
    assert_eq!(received[0].target(), "/api/collections/posts/records?page=1");
    // No key was used, and the client cannot claim one.
    let (response, received) = edge.ask("GET", "/api/health", &spoof);
    assert_eq!((response.status, received.len()), (200, 1));
    for name in ["x-api-key", "x-api-key-id", "x-api-key-name"] {
        assert!(received[0].header(name).is_empty(), "{name}");
    }
    assert_eq!(edge.envoy.stat("http.databases_api.rbac.denied"), 0);
}

#[test]
fn every_route_of_the_configuration_does_so() {
    let edge = start();
    for (method, target) in [
        ("GET", "/api/realtime"),
        ("GET", "/api/files/posts/abc/x.png"),
        ("DELETE", "/api/collections/posts/records/abc"),
        ("POST", "/api/batch"),
    ] {
        let headers = [("x-api-key", ADMIN), ("x-api-key-id", "key_root")];
        let (response, received) = edge.ask(method, target, &headers);
        assert_eq!((response.status, received.len()), (200, 1), "{method} {target}");
        assert_eq!(received[0].header("x-api-key-id"), ["key_admin"], "{method} {target}");
        assert!(received[0].header("x-api-key").is_empty(), "{method} {target}");
    }
}

#[test]
fn paths_are_normalised_before_anybody_reads_them() {
    let edge = start();
    let key = [("x-api-key", ADMIN)];
    let (response, received) = edge.ask("GET", "/api//collections/./posts/x/../records", &key);
    assert_eq!((response.status, received.len()), (200, 1));
    assert_eq!(received[0].target(), "/api/collections/posts/records");
    let (response, received) = edge.ask("GET", "/api/collections/posts%2f..%2f_superusers/records", &key);
    assert_eq!((response.status, received.len()), (307, 0));
    let location = response.header("location").unwrap().to_owned();
    let (response, received) = edge.ask("GET", location.trim_start_matches("http://api.example.com"), &key);
    assert_eq!((response.status, received.len()), (403, 0), "{location}");
    for target in ["/api/collections/%00/records", "/api/collections/\\x/records;", "/api/collections/..;/records"] {
        let (response, received) = edge.ask("GET", target, &key);
        // The path is refused either as ambiguous or by the rule for its normalized form.
        assert!(matches!(response.status, 400 | 307 | 403), "{target}: {}", response.status);
        assert!(received.is_empty());
    }
}

#[test]
fn headers_with_underscores_are_refused() {
    let edge = start();
    for name in ["x_api_key_id", "x_api_key"] {
        let (response, received) = edge.ask("GET", "/api/health", &[(name, "key_root")]);
        assert_eq!((response.status, received.len()), (400, 0), "{name}");
    }
}

#[test]
fn upgrades_and_connect_are_refused() {
    let edge = start();
    let upgrade = [("x-api-key", ADMIN), ("connection", "upgrade"), ("upgrade", "websocket")];
    let (response, received) = edge.ask("GET", "/api/realtime", &upgrade);
    assert_eq!((response.status, received.len()), (403, 0));
    let (response, received) = edge.ask("CONNECT", "api.example.com:443", &[("x-api-key", ADMIN)]);
    assert!(response.status >= 400 && received.is_empty(), "{}", response.status);
}

#[test]
fn readiness_is_answered_at_the_edge() {
    let edge = start();
    let (response, received) = edge.ask("GET", "/keyward/ready", &[]);
    assert_eq!((response.status, received.len()), (200, 0));
    let (response, received) = edge.ask("GET", "/keyward/ready/x", &[]);
    assert_eq!((response.status, received.len()), (401, 0));
}

#[test]
fn http_2_clients_are_served_by_the_same_rules() {
    let edge = start();
    let mut client = http2::Client::connect(edge.address).unwrap();
    let request = |path: &str, key: &str| {
        http2::fields(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "api.example.com"),
            ("x-api-key", key),
        ])
    };
    assert_eq!(client.request(&request("/api/collections/posts/records", ADMIN), b"").unwrap().status(), Some(200));
    assert_eq!(client.request(&request("/api/collections/posts/records", READER), b"").unwrap().status(), Some(403));
    assert_eq!(client.request(&request("/api/settings", ADMIN), b"").unwrap().status(), Some(403));
    assert_eq!(edge.upstream.take().len(), 1);
}

#[test]
fn a_body_goes_through_with_its_request() {
    let edge = start();
    let body = vec![b'x'; 300_000];
    for key in [ADMIN, READER] {
        let headers = [("x-api-key", key), ("content-type", "multipart/form-data; boundary=x")]
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        let mut client = Client::connect(edge.address).unwrap();
        // A refused upload gets its answer before the body is complete.
        let _ = client.send(&http1::encode(b"POST", b"/api/collections/posts/records", &headers, &body));
        let received = client.receive("POST").map(|response| response.status);
        if key == ADMIN {
            assert_eq!(received.unwrap(), 200);
            assert_eq!(edge.upstream.take()[0].body.len(), body.len());
        } else {
            assert!(received.is_err() || received.is_ok_and(|status| status == 403));
            assert_eq!(edge.upstream.count(), 0);
        }
    }
}

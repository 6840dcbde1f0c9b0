//! The setup of most of these tests: one Envoy, one listener, three keys.

use keyward_policy::digest::Digest;
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::{self, Encoding, Listener};
use keyward_testbed::http1::{self, Client, Response};
use keyward_testbed::upstream::{Received, Upstream};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// The listener's name, unless a test has several listeners.
pub const LISTENER: &str = "edge";

/// A key that may read.
pub const READER: &str = "kw_reader_0123456789abcdefghijklmnopqrstuv";
/// A key with every permission.
pub const ADMIN: &str = "kw_admin_0123456789abcdefghijklmnopqrstuvw";
/// A key that has expired.
pub const EXPIRED: &str = "kw_expired_0123456789abcdefghijklmnopqrstu";

/// Returns the keys above as a `manifest`.
pub fn manifest() -> Value {
    let sha256 = |key: &str| Digest::of_key(key.as_bytes()).to_hex();
    json!({"keys": [
        {"id": "key_reader", "name": "Reader", "sha256": sha256(READER), "permissions": ["a:read"]},
        {"id": "key_admin", "name": "Ädmin, 100 %", "sha256": sha256(ADMIN),
         "permissions": ["a:read", "a:write", "records:read", "records:write", "records:delete", "files:read", "files:write"]},
        {"id": "key_expired", "name": "Expired", "sha256": sha256(EXPIRED), "permissions": ["a:read"],
         "expires_at": "2020-01-01T00:00:00Z"},
    ]})
}

/// Returns a plugin configuration with rules of each kind and the keys.
pub fn plugin() -> Value {
    json!({
        "realm": "tests",
        "manifest": manifest(),
        "rules": [
            {"path": "/public/**", "access": "public"},
            {"path": "/denied/**", "access": "deny"},
            {"path": "/a", "require": ["a:read"]},
            {"path": "/a/{id}", "require": ["a:read"]},
            {"methods": ["POST"], "path": "/write", "require": ["a:write"]},
            {"path": "/any/**", "access": "authenticated"},
        ],
    })
}

/// Returns a listener with the plugin configuration.
pub fn listener(plugin: &Value, upstream: &Upstream) -> Listener {
    Listener::new(LISTENER, plugin, Encoding::StringValue, upstream.address())
}

/// An Envoy and its upstream.
pub struct Edge {
    pub envoy: Envoy,
    pub upstream: Upstream,
    pub address: SocketAddr,
}

impl Edge {
    /// Starts an Envoy with the configuration that [`plugin`] returns.
    pub fn start() -> Self {
        Self::with(&plugin(), |_| {})
    }

    /// Starts an Envoy with another plugin configuration and with changes to the listener.
    pub fn with(plugin: &Value, change: impl FnOnce(&mut Listener)) -> Self {
        let upstream = Upstream::start();
        let mut listener = listener(plugin, &upstream);
        change(&mut listener);
        let envoy = Envoy::start(&envoy_config::bootstrap(&[listener], vec![]));
        let address = envoy.listener(LISTENER);
        Self { envoy, upstream, address }
    }

    /// Sends a request. Returns the response and the requests that reached the upstream meanwhile.
    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> (Response, Vec<Received>) {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        self.ask_bytes(method, target.as_bytes(), &headers)
    }

    /// Sends raw bytes as [`Edge::ask`] sends a request, with the same result.
    pub fn ask_bytes(&self, method: &str, target: &[u8], headers: &[(&str, &[u8])]) -> (Response, Vec<Received>) {
        self.upstream.take();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect();
        let mut client = Client::connect(self.address).unwrap();
        client.send(&http1::encode(method.as_bytes(), target, &headers, b"")).unwrap();
        let response = client.receive(method).unwrap();
        (response, self.upstream.take())
    }

    /// Sends requests until both workers have answered, so that a failure of a single worker is seen.
    pub fn ask_both_workers(&self, target: &str, headers: &[(&str, &str)]) -> Vec<Response> {
        // The kernel chooses a worker by the ports of a connection.
        (0..16).map(|_| http1::get(self.address, target, headers).unwrap()).collect()
    }
}

/// Asserts that the response is a denial by the filter with this code.
#[track_caller]
pub fn assert_denied(response: &Response, received: &[Received], status: u16, code: &str) {
    assert_eq!((response.status, response.json()["code"].as_str()), (status, Some(code)), "{}", response.text());
    assert!(received.is_empty(), "it reached the upstream: {received:?}");
}

/// Asserts that the request reached the upstream once, and returns what arrived.
#[track_caller]
pub fn assert_passed(response: &Response, received: Vec<Received>) -> Received {
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(received.len(), 1);
    received.into_iter().next().unwrap()
}

//! Trailers: fields after the body, which an upstream may read as headers.

use crate::setup::{ADMIN, LISTENER, READER, listener, manifest, plugin};
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::{self, Shipped};
use keyward_testbed::http2::{Client, fields};
use keyward_testbed::upstream::Upstream;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Makes Envoy send trailers to an HTTP/1 upstream, which it drops by default.
fn enable_trailers(cluster: &mut Value) {
    cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http_protocol_options": {"enable_trailers": true}},
    }});
}

/// Sends trailers, and returns the names of those that reached the upstream.
fn ask(address: SocketAddr, upstream: &Upstream, path: &str, key: &str, trailers: &[(&str, &str)]) -> Vec<String> {
    upstream.take();
    let head = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "api.example.com"),
        ("content-type", "application/json"),
        ("x-api-key", key),
    ]);
    let answer = Client::connect(address).unwrap().request_with_trailers(&head, b"{}", &fields(trailers)).unwrap();
    assert_eq!(answer.status(), Some(200));
    let received = upstream.take();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].body, b"{}");
    received[0].trailers.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect()
}

#[test]
fn no_trailer_speaks_for_a_key() {
    let mut plugin = plugin();
    plugin["identity_headers"] = json!({"id": "x-caller", "name": null});
    plugin["key_sources"] = json!([
        {"header": "x-api-key"}, {"header": "authorization", "scheme": "Bearer"}, {"cookie": "api_key"}]);
    let upstream = Upstream::start();
    let mut config = envoy_config::bootstrap(&[listener(&plugin, &upstream)], vec![]);
    enable_trailers(&mut config["static_resources"]["clusters"][0]);
    let envoy = Envoy::start(&config);
    let address = envoy.listener(LISTENER);
    let trailers = [
        ("x-checksum", "1"),
        ("x-api-key", ADMIN),
        ("x_api_key", ADMIN),
        ("x-caller", "key_admin"),
        ("x_caller", "key_admin"),
        ("x-api-key-name", "root"),
        ("authorization", "Bearer x"),
        ("cookie", "api_key=x"),
        ("x-signature", "2"),
    ];
    // An allowed request, a public one, and a public one with an unknown key.
    for (path, key) in [("/a", READER), ("/public/x", READER), ("/public/x", "kw_nobody")] {
        assert_eq!(ask(address, &upstream, path, key, &trailers), ["x-checksum", "x-signature"], "{path}");
    }
    assert_eq!(ask(address, &upstream, "/a", READER, &[("x-checksum", "1")]), ["x-checksum"]);
}

#[test]
fn nor_where_the_routes_set_the_identity_headers() {
    let upstream = Upstream::start();
    let mut shipped = Shipped::new(upstream.address()).with_manifest(manifest());
    enable_trailers(shipped.cluster("records_api"));
    let envoy = Envoy::start(&shipped.build());
    let trailers =
        [("x-api-key", ADMIN), ("x-api-key-id", "key_root"), ("x-api-key-name", "root"), ("x-checksum", "1")];
    let path = "/api/collections/posts/records";
    assert_eq!(ask(envoy.listener("databases_api"), &upstream, path, ADMIN, &trailers), ["x-checksum"]);
}

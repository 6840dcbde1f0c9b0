//! Denials reach gRPC clients as trailers-only responses with the matching status.

use crate::setup::{EXPIRED, Edge, READER};
use keyward_testbed::http2::{Answer, Client, fields};

#[test]
fn denials_have_the_grpc_status_that_fits() {
    let edge = Edge::start();
    for (path, key, status, code) in [
        ("/a", None, "16", "key_missing"),
        ("/a", Some("kw_nobody"), "16", "key_unknown"),
        ("/a", Some(EXPIRED), "16", "key_expired"),
        ("/write", Some(READER), "7", "permission_missing"),
        ("/denied/x", Some(READER), "7", "route_denied"),
        ("/a//b", Some(READER), "3", "path_ambiguous"),
    ] {
        for content_type in ["application/grpc", "application/grpc+proto", "application/grpc-web"] {
            let mut all = vec![
                (":method", "POST"),
                (":scheme", "http"),
                (":path", path),
                (":authority", "api.example.com"),
                ("content-type", content_type),
                ("te", "trailers"),
                ("x-test", code),
            ];
            all.extend(key.map(|key| ("x-api-key", key)));
            let mut client = Client::connect(edge.address).unwrap();
            let Answer::Response(response) = client.request(&fields(&all), b"").unwrap() else { panic!("no response") };
            if content_type == "application/grpc-web" {
                // Envoy turns a local reply into a gRPC response for two media types only; others get the HTTP status.
                assert!(response.status == 200 || response.status >= 400, "{}", response.status);
                continue;
            }
            assert_eq!(response.status, 200, "{code}");
            assert_eq!(response.header("grpc-status"), Some(status), "{code}: {response:?}");
            let message = response.header("grpc-message").unwrap();
            assert!(message.starts_with(&format!("{code}: ")) && !message.contains('{'), "{message}");
            if code == "permission_missing" {
                assert!(message.ends_with("The API key needs a:write for this route."), "{message}");
            }
            assert!(!response.headers.iter().any(|(_, value)| value.windows(3).any(|part| part == b"kw_")));
        }
    }
    assert_eq!(edge.upstream.count(), 0);
}

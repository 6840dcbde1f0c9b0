//! The identity headers come from the filter or not at all, and the key never reaches the upstream.

use crate::setup::{ADMIN, EXPIRED, Edge, READER, assert_denied, assert_passed, plugin};
use serde_json::json;

const SPOOF: [(&str, &str); 4] =
    [("x-api-key-id", "key_admin"), ("X-Api-Key-Name", "root"), ("x-api-key-id", "key_other"), ("x-api-key-name", "")];

fn with_spoof<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    SPOOF.into_iter().chain(more.iter().copied()).collect()
}

#[test]
fn an_allowed_request_carries_who_called_and_no_key() {
    let edge = Edge::start();
    let (response, received) = edge.ask("GET", "/a", &with_spoof(&[("x-api-key", READER)]));
    let arrived = assert_passed(&response, received);
    assert_eq!(arrived.header("x-api-key-id"), ["key_reader"]);
    assert_eq!(arrived.header("x-api-key-name"), ["Reader"]);
    assert!(arrived.header("x-api-key").is_empty());
}

#[test]
fn a_name_beyond_visible_ascii_is_percent_encoded() {
    let edge = Edge::start();
    let (response, received) = edge.ask("GET", "/a", &[("x-api-key", ADMIN)]);
    let name = assert_passed(&response, received).header("x-api-key-name");
    let [name] = name.as_slice() else { panic!("{name:?}") };
    assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "{name}");
    assert!(name.starts_with("%C3%84dmin,%20100%20%25") || name.starts_with("%C3%84dmin,%20100%20%"), "{name}");
}

#[test]
fn a_public_route_carries_neither_identity_nor_key() {
    let edge = Edge::start();
    for key in [READER, EXPIRED, "kw_nobody"] {
        let (response, received) = edge.ask("GET", "/public/x", &with_spoof(&[("x-api-key", key)]));
        let arrived = assert_passed(&response, received);
        for name in ["x-api-key-id", "x-api-key-name", "x-api-key"] {
            assert!(arrived.header(name).is_empty(), "{name}: {:?}", arrived.header(name));
        }
    }
}

#[test]
fn a_spoofed_identity_opens_nothing() {
    let edge = Edge::start();
    for (target, key, status, code) in [
        ("/a", None, 401, "key_missing"),
        ("/a", Some(EXPIRED), 401, "key_expired"),
        ("/a", Some("kw_nobody"), 401, "key_unknown"),
        ("/denied/x", Some(READER), 403, "route_denied"),
    ] {
        let key: Vec<_> = key.map(|key| ("x-api-key", key)).into_iter().collect();
        let (response, received) = edge.ask("GET", target, &with_spoof(&key));
        assert_denied(&response, &received, status, code);
    }
}

#[test]
fn other_names_for_the_identity_headers_are_guarded_too() {
    let mut plugin = plugin();
    plugin["identity_headers"] = json!({"id": "X-Caller", "name": null});
    let edge = Edge::with(&plugin, |_| {});
    let headers = [("x-caller", "root"), ("x-api-key-name", "mine"), ("x-api-key", READER)];
    let (response, received) = edge.ask("GET", "/a", &headers);
    let arrived = assert_passed(&response, received);
    assert_eq!(arrived.header("x-caller"), ["key_reader"]);
    // The client's own header passes now, because it is no longer an identity header.
    assert_eq!(arrived.header("x-api-key-name"), ["mine"]);
    let (response, received) = edge.ask("GET", "/public/x", &[("x-caller", "root")]);
    assert!(assert_passed(&response, received).header("x-caller").is_empty());
}

#[test]
fn the_key_is_removed_from_every_place_it_may_stand_in() {
    let mut plugin = plugin();
    plugin["key_sources"] = json!([
        {"header": "x-api-key"}, {"header": "authorization", "scheme": "Bearer"}, {"query": "api_key"}, {"cookie": "api_key"}]);
    let edge = Edge::with(&plugin, |_| {});
    let bearer = format!("Bearer {READER}");
    let cookie = format!("a=b; api_key={READER}; c=d");
    let query = format!("/a?x=1&api_key={READER}&y=2");
    for (target, headers) in [
        ("/a?x=1&y=2", [("authorization", bearer.as_str())]),
        ("/a?x=1&y=2", [("cookie", &cookie)]),
        (&query, [("x-a", "1")]),
    ] {
        let (response, received) = edge.ask("GET", target, &headers);
        let arrived = assert_passed(&response, received);
        assert_eq!(arrived.target(), "/a?x=1&y=2");
        assert!(
            !format!(
                "{:?}",
                arrived.headers.iter().map(|(_, value)| String::from_utf8_lossy(value)).collect::<Vec<_>>()
            )
            .contains(READER)
        );
        if headers[0].0 == "cookie" {
            assert_eq!(arrived.header("cookie"), ["a=b; c=d"]);
        }
    }
    // Credentials of other schemes are left to the upstream.
    let (response, received) = edge.ask("GET", "/a", &[("authorization", "Basic YTpi"), ("x-api-key", READER)]);
    assert_eq!(assert_passed(&response, received).header("authorization"), ["Basic YTpi"]);
}

#[test]
fn the_key_goes_on_only_where_it_is_told_to() {
    let mut plugin = plugin();
    plugin["hide_key"] = json!(false);
    let edge = Edge::with(&plugin, |_| {});
    let (response, received) = edge.ask("GET", "/a", &[("x-api-key", READER)]);
    assert_eq!(assert_passed(&response, received).header("x-api-key"), [READER]);
}

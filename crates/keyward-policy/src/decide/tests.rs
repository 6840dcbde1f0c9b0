//! The order of the checks, and what must hold for every request.
//!
//! Single cases live in the corpus under `tests/decisions`, which runs through the core, the compiled module, the
//! command line and a real Envoy.

use super::*;
use crate::config::Config;
use crate::manifest::LiveKey;
use crate::policy::{Keys, RouteMetadata};
use crate::table::KeyTable;
use proptest::prelude::*;
use std::borrow::Cow;

const RULES: &str = r#"{"manifest":{"keys":[]},"cors_preflight":"pass","rules":[
    {"path":"/public","access":"public"},
    {"path":"/any","access":"authenticated"},
    {"path":"/never","access":"deny"},
    {"methods":["GET"],"path":"/records","require":["records:read"]},
    {"methods":["POST"],"path":"/records","require":["records:write","files:write"]}]}"#;

/// What a key can be, one letter a property: `d`isabled, e`x`pired, `u`nsupported, records:`r`ead, records:`w`rite,
/// `f`iles:write.
fn table(properties: &str) -> KeyTable {
    let has = |letter| properties.contains(letter);
    let permissions = [('r', "records:read"), ('w', "records:write"), ('f', "files:write")];
    let mut table = KeyTable::new();
    let key = LiveKey {
        revision: 1,
        id: "key_1".into(),
        name: "CI Bot".into(),
        sha256: Digest::of_key(b"k").to_hex().into(),
        permissions: permissions
            .iter()
            .filter(|(letter, _)| has(*letter))
            .map(|(_, name)| Cow::Borrowed(*name))
            .collect(),
        expires_at: has('x').then_some("2026-01-01T00:00:00Z".into()),
        disabled: has('d'),
        must: if has('u') { vec!["bind_ip".into()] } else { vec![] },
    };
    table.upsert(&key).unwrap();
    table
}

fn now() -> Timestamp {
    Timestamp::parse("2026-01-01T00:00:00Z").unwrap()
}

/// `GET /records k`: method, path, key (none: no header).
fn decide_with(keys: Keys<'_>, route: RouteMetadata<'_>, request: &str, at: Timestamp) -> Code {
    let config = Config::parse(RULES.as_bytes()).unwrap();
    let mut words = request.split(' ');
    let (method, path, key) = (words.next().unwrap(), words.next().unwrap(), words.next());
    let headers: Vec<(&[u8], &[u8])> = key.map(|key| (&b"x-api-key"[..], key.as_bytes())).into_iter().collect();
    let head = RequestHead { method: method.as_bytes(), path: path.as_bytes(), host: b"h", headers: &headers };
    decide(&Policy { config: &config, keys, route }, &head, at).code
}

#[track_caller]
fn check(properties: &str, request: &str, expect: Code) {
    let table = table(properties);
    assert_eq!(
        decide_with(Keys::Table(&table), RouteMetadata::Absent, request, now()),
        expect,
        "{request} {properties}"
    );
}

#[test]
fn each_check_comes_before_the_next() {
    check("dxu", "GET /public/../never", Code::PathAmbiguous);
    check("dxu", "GET /public", Code::Public);
    check("dxu", "GET /public a,b", Code::Public);
    check("dxu", "GET /never", Code::KeyMissing);
    check("dxu", "GET /never k,k", Code::KeyMalformed);
    check("dxu", "GET /never other", Code::KeyUnknown);
    check("dxu", "GET /never k", Code::KeyDisabled);
    check("xu", "GET /never k", Code::KeyExpired);
    check("u", "GET /never k", Code::KeyUnsupported);
    check("", "GET /never k", Code::RouteDenied);
    check("", "GET /nowhere k", Code::RouteDenied);
    check("", "GET /records k", Code::PermissionMissing);
    check("w", "POST /records k", Code::PermissionMissing);
    check("r", "GET /records k", Code::Allowed);
    check("wf", "POST /records k", Code::Allowed);
    check("", "GET /any k", Code::Allowed);
}

#[test]
fn without_a_manifest_only_what_needs_none_is_decided() {
    let unavailable =
        |request: &str| decide_with(Keys::Unavailable(Unavailable::Stale), RouteMetadata::Absent, request, now());
    assert_eq!(unavailable("GET /public k"), Code::Public);
    assert_eq!(unavailable("GET /records"), Code::KeyMissing);
    assert_eq!(unavailable("GET /records k,k"), Code::KeyMalformed);
    assert_eq!(unavailable("GET /records k"), Code::ManifestUnavailable);
    assert_eq!(unavailable("GET /never k"), Code::ManifestUnavailable);
}

#[test]
fn keys_of_the_configuration_serve_beside_and_without_the_fetched_ones() {
    let (inline, empty) = (table("r"), KeyTable::new());
    let with = |keys, request| decide_with(keys, RouteMetadata::Absent, request, now());
    assert_eq!(with(Keys::FetchedThenInline { fetched: &empty, inline: &inline }, "GET /records k"), Code::Allowed);
    // The same id or digest was fetched, and holds: here with less.
    let fetched = table("");
    assert_eq!(
        with(Keys::FetchedThenInline { fetched: &fetched, inline: &inline }, "GET /records k"),
        Code::PermissionMissing
    );
    let mut regenerated = KeyTable::new();
    let key = LiveKey {
        revision: 2,
        id: "key_1".into(),
        name: "CI Bot".into(),
        sha256: Digest::of_key(b"new").to_hex().into(),
        permissions: vec![],
        expires_at: None,
        disabled: false,
        must: vec![],
    };
    regenerated.upsert(&key).unwrap();
    assert_eq!(
        with(Keys::FetchedThenInline { fetched: &regenerated, inline: &inline }, "GET /records k"),
        Code::KeyUnknown
    );
    let only = Keys::InlineOnly { inline: &inline, why: Unavailable::NotYetLoaded };
    assert_eq!(with(only, "GET /records k"), Code::Allowed);
    assert_eq!(with(only, "GET /records other"), Code::ManifestUnavailable);
}

#[test]
fn route_metadata_takes_the_rules_place_but_not_that_of_a_deny() {
    let table = table("r");
    let with = |route, request| decide_with(Keys::Table(&table), route, request, now());
    let read = Access::Require(["records:read".into()].into());
    let write = Access::Require(["records:write".into()].into());
    assert_eq!(with(RouteMetadata::Access(&read), "GET /nowhere k"), Code::Allowed);
    assert_eq!(with(RouteMetadata::Access(&write), "GET /records k"), Code::PermissionMissing);
    assert_eq!(with(RouteMetadata::Access(&Access::Public), "GET /records"), Code::Public);
    assert_eq!(with(RouteMetadata::Access(&Access::Public), "GET /never k"), Code::RouteDenied);
    assert_eq!(with(RouteMetadata::Access(&Access::Deny), "GET /public k"), Code::RouteDenied);
    assert_eq!(with(RouteMetadata::Invalid, "GET /public"), Code::KeyMissing);
    assert_eq!(with(RouteMetadata::Invalid, "GET /public k"), Code::RouteDenied);
}

#[test]
fn preflights_pass_where_the_request_might() {
    let config = Config::parse(RULES.as_bytes()).unwrap();
    let table = table("");
    let policy = Policy { config: &config, keys: Keys::Table(&table), route: RouteMetadata::Absent };
    let code = |method: &str, path: &str, headers: &[(&[u8], &[u8])]| {
        decide(&policy, &RequestHead { method: method.as_bytes(), path: path.as_bytes(), host: b"h", headers }, now())
            .code
    };
    let (origin, post, get) = (
        (&b"origin"[..], &b"https://a"[..]),
        (&b"access-control-request-method"[..], &b"POST"[..]),
        (&b"access-control-request-method"[..], &b"GET"[..]),
    );
    assert_eq!(code("OPTIONS", "/records", &[origin, post]), Code::Public);
    assert_eq!(code("OPTIONS", "/never", &[origin, post]), Code::KeyMissing);
    assert_eq!(code("OPTIONS", "/nowhere", &[origin, post]), Code::KeyMissing);
    assert_eq!(code("OPTIONS", "/records", &[post]), Code::KeyMissing);
    assert_eq!(code("OPTIONS", "/records", &[origin]), Code::KeyMissing);
    assert_eq!(code("OPTIONS", "/records", &[origin, post, get]), Code::KeyMissing);
    assert_eq!(code("GET", "/records", &[origin, post]), Code::KeyMissing);
    assert_eq!(code("OPTIONS", "/records/..", &[origin, post]), Code::PathAmbiguous);
}

#[test]
fn a_decision_never_shows_the_key_or_its_digest() {
    let config = Config::parse(RULES.as_bytes()).unwrap();
    let mut table = KeyTable::new();
    let secret = "kw_0123456789secretsecretsecret";
    let key = LiveKey {
        revision: 1,
        id: "key_1".into(),
        name: "n".into(),
        sha256: Digest::of_key(secret.as_bytes()).to_hex().into(),
        permissions: vec![],
        expires_at: None,
        disabled: false,
        must: vec![],
    };
    table.upsert(&key).unwrap();
    let policy = Policy { config: &config, keys: Keys::Table(&table), route: RouteMetadata::Absent };
    let headers: [(&[u8], &[u8]); 1] = [(b"x-api-key", secret.as_bytes())];
    let head = RequestHead { method: b"GET", path: b"/records", host: b"h", headers: &headers };
    let shown = format!("{:?}", decide(&policy, &head, now()));
    assert!(!shown.contains("secret") && !shown.contains(&key.sha256[..16]), "{shown}");
}

fn request() -> impl Strategy<Value = String> {
    "(GET|POST|OPTIONS) (/(public|any|never|records|nowhere|%2e%2e)){1,2}/? ?(k|other|k,k)?"
        .prop_map(|line| line.trim().replace("  ", " "))
}

proptest! {
    #[test]
    fn taking_something_away_never_allows_more(request in request(), properties in "[rwfdxu]{0,6}", gone in "[rwf]") {
        let code = |properties: &str| {
            let table = table(properties);
            decide_with(Keys::Table(&table), RouteMetadata::Absent, &request, now())
        };
        let with = code(&properties);
        let without = code(&properties.replace(&gone, ""));
        prop_assert!(with.allows() || !without.allows());
        // Trouble with the key never helps either.
        let spoiled = code(&format!("{properties}dxu"));
        prop_assert!(with.allows() || !spoiled.allows());
    }

    #[test]
    fn a_lifetime_that_is_over_stays_over(request in request(), later in 0_i64..10_000_000_000) {
        let table = table("rwfx");
        let at = Timestamp::from_unix_ms(now().unix_ms() + later);
        let code = decide_with(Keys::Table(&table), RouteMetadata::Absent, &request, at);
        prop_assert!(code != Code::Allowed);
        let before = Timestamp::from_unix_ms(now().unix_ms() - 1 - later);
        let code = decide_with(Keys::Table(&table), RouteMetadata::Absent, &request, before);
        prop_assert!(code != Code::KeyExpired);
    }

    #[test]
    fn any_bytes_are_decided_without_a_panic_and_never_allowed_without_a_key(
        method in proptest::collection::vec(any::<u8>(), 0..8),
        path in proptest::collection::vec(any::<u8>(), 0..40),
        host in proptest::collection::vec(any::<u8>(), 0..20),
        headers in proptest::collection::vec(("x-api-key|authorization|cookie|content-type|origin", proptest::collection::vec(any::<u8>(), 0..20)), 0..6),
    ) {
        let config = Config::parse(RULES.as_bytes()).unwrap();
        let table = table("rwf");
        let policy = Policy { config: &config, keys: Keys::Table(&table), route: RouteMetadata::Absent };
        let headers: Vec<(&[u8], &[u8])> = headers.iter().map(|(name, value)| (name.as_bytes(), &value[..])).collect();
        let decision = decide(&policy, &RequestHead { method: &method, path: &path, host: &host, headers: &headers }, now());
        prop_assert!(decision.code != Code::Allowed || headers.contains(&(b"x-api-key", b"k")));
    }
}

//! The parts of a decision by themselves, natively: `cargo xtask bench core`.
//!
//! In the proxy the same code runs compiled to WebAssembly, which takes about twice as long; what these figures are for
//! is to see which part takes how much, and whether a change makes one slower.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "a benchmark, not the product")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use keyward_policy::config::Config;
use keyward_policy::decide::{RequestHead, decide};
use keyward_policy::digest::Digest;
use keyward_policy::key::KeyId;
use keyward_policy::manifest::{Change, FORMAT, Live, LiveKey, Page};
use keyward_policy::media_type::ContentType;
use keyward_policy::path::CanonicalPath;
use keyward_policy::policy::{Keys, Policy, RouteMetadata};
use keyward_policy::route::RouteQuery;
use keyward_policy::table::KeyTable;
use keyward_policy::timestamp::Timestamp;
use std::hint::black_box;
use std::time::Duration;

const PATH: &[u8] = b"/api/collections/posts/records/r00000000012345?expand=author";

/// As long as the admin service's keys.
fn key(number: u32) -> String {
    format!("kw_{number:042}")
}

fn live(number: u32) -> LiveKey<'static> {
    let digest = Digest::of_key(key(number).as_bytes());
    let [id @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *digest.as_bytes();
    LiveKey {
        revision: u64::from(number) + 1,
        id: KeyId::Packed(id).to_string().into(),
        name: format!("name{number:08}").into(),
        sha256: digest.to_hex().into(),
        permissions: vec!["records:read".into(), "records:write".into()],
        expires_at: Some("2099-01-01T00:00:00Z".into()),
        disabled: false,
        must: Vec::new(),
    }
}

fn table(keys: u32) -> KeyTable {
    let mut table = KeyTable::new();
    table.reserve(keys as usize);
    (0..keys).for_each(|number| table.upsert(&live(number)).unwrap());
    table
}

/// Rules for so many services, ten each.
fn config(services: usize) -> Config {
    const TEN: [(&str, &str, &str); 10] = [
        ("GET", "/api/collections/{c}/records", "records:read"),
        ("GET", "/api/collections/{c}/records/{r}", "records:read"),
        ("POST", "/api/collections/{c}/records", "records:write"),
        ("PATCH", "/api/collections/{c}/records/{r}", "records:write"),
        ("DELETE", "/api/collections/{c}/records/{r}", "records:delete"),
        ("GET", "/api/files/{c}/{r}/{f}", "files:read"),
        ("POST", "/api/files/{c}/{r}", "files:write"),
        ("POST", "/api/batch", "records:write"),
        ("GET", "/api/realtime", "records:read"),
        ("GET", "/api/logs/{l}", "logs:read"),
    ];
    let rules: Vec<String> = (0..services)
        .flat_map(|service| {
            // The rules that are asked for come last.
            let prefix = if service + 1 == services { String::new() } else { format!("/service{service}") };
            TEN.map(|(method, path, permission)| {
                format!(r#"{{"methods":["{method}"],"path":"{prefix}{path}","require":["{permission}"]}}"#)
            })
        })
        .collect();
    Config::parse(format!(r#"{{"manifest":{{"keys":[]}},"rules":[{}]}}"#, rules.join(",")).as_bytes()).unwrap()
}

fn request(c: &mut Criterion) {
    c.bench_function("canonicalise a path", |b| b.iter(|| CanonicalPath::parse(black_box(PATH)).unwrap()));
    let encoded = b"/api/collections/caf%C3%A9/records/r%20000000012345";
    c.bench_function("canonicalise an encoded path", |b| b.iter(|| CanonicalPath::parse(black_box(encoded)).unwrap()));
    let path = CanonicalPath::parse(PATH).unwrap();
    for services in [1, 100] {
        let config = config(services);
        let query =
            RouteQuery { path: &path, method: b"GET", host: "api.example.com", content_type: ContentType::Absent };
        assert!(config.routes.find(&query).is_some());
        let name = format!("match a rule of {}", services * 10);
        c.bench_function(&name, |b| b.iter(|| config.routes.find(black_box(&query)).is_some()));
    }
    let presented = key(7);
    c.bench_function("hash a key", |b| b.iter(|| Digest::of_key(black_box(presented.as_bytes()))));
}

fn keys(c: &mut Criterion) {
    let table = table(1_000_000);
    let digests: Vec<Digest> = (0..65_536_u32).map(|n| Digest::of_key(key(n * 15).as_bytes())).collect();
    let mut next = 0;
    c.bench_function("look a key up among 1,000,000", |b| {
        b.iter(|| {
            next = (next + 7_919) % digests.len();
            table.get(black_box(&digests[next])).unwrap().disabled
        });
    });
    let config = config(1);
    let keys: Vec<String> = (0..16_384_u32).map(|n| key(n * 61)).collect();
    let now = Timestamp::parse("2026-06-01T00:00:00Z").unwrap();
    let mut next = 0;
    c.bench_function("decide, 10 rules and 1,000,000 keys", |b| {
        let policy = Policy { config: &config, keys: Keys::Table(&table), route: RouteMetadata::Absent };
        b.iter(|| {
            next = (next + 7_919) % keys.len();
            let headers: [(&[u8], &[u8]); 6] = [
                (b":authority", b"api.example.com"),
                (b":path", PATH),
                (b":method", b"GET"),
                (b"user-agent", b"curl/8.5.0"),
                (b"accept", b"application/json"),
                (b"x-api-key", keys[next].as_bytes()),
            ];
            let head = RequestHead { method: b"GET", path: PATH, host: b"api.example.com", headers: &headers };
            let decision = decide(&policy, black_box(&head), now);
            assert!(decision.allows());
        });
    });
}

fn manifest(c: &mut Criterion) {
    const PAGE: u32 = 400;
    let page = Page {
        format: FORMAT,
        store: "st_bench".into(),
        since: 0,
        revision: u64::from(PAGE),
        head: 1_000_000,
        mark: None,
        more: true,
        keys: (0..PAGE).map(|number| Change::Live(live(number))).collect(),
        live: Live { count: 1_000_000, checksum: None },
    };
    let text = serde_json::to_string(&page).unwrap();
    c.bench_function("decode a page of 400 keys", |b| {
        b.iter(|| serde_json::from_str::<Page<'_>>(black_box(&text)).unwrap().keys.len());
    });
    let live: Vec<LiveKey<'_>> = (0..PAGE).map(live).collect();
    let sized = || {
        let mut table = KeyTable::new();
        table.reserve(1_000);
        table
    };
    c.bench_function("take 400 keys into a table", |b| {
        b.iter_batched(
            sized,
            |mut table| live.iter().for_each(|key| table.upsert(key).unwrap()),
            BatchSize::LargeInput,
        );
    });
}

fn settings() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3)).without_plots()
}

criterion_group! { name = core; config = settings(); targets = request, keys, manifest }
criterion_main!(core);

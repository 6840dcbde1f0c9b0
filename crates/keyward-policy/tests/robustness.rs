//! Bytes from outside that are almost right: configurations and manifest pages with a few bytes changed, cut out or put
//! in. Whatever they are, nothing panics, and nothing that is not right counts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that goes wrong is to stop")]

use keyward_policy::checksum::{Checksum, contribution};
use keyward_policy::config::Config;
use keyward_policy::config::route_metadata;
use keyward_policy::digest::Digest;
use keyward_policy::manifest::{Change, FORMAT, Live, LiveKey, Page};
use keyward_policy::sync::{Answer, ManifestSync, Outcome, Settings};
use keyward_policy::timeline::{Enforcement, InlineKeys};
use keyward_policy::timestamp::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

#[path = "../../../fuzz/properties.rs"]
mod properties;

#[path = "../../../fuzz/exchange.rs"]
mod exchange;

#[path = "../../../fuzz/corpus.rs"]
mod corpus;

/// One change of some bytes: at a place (in thousandths of the whole), so many bytes less, these instead.
type Edit = (usize, usize, Vec<u8>);

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let word = prop_oneof![
        vec(any::<u8>(), 0..4),
        "[\\[\\]{}\",:0-9a-z\\\\]{0,6}".prop_map(String::into_bytes),
        "null|true|-1|1e999|18446744073709551616|\"\\\\ud800\"|\\[\\[\\[\\[|\"deleted\":true,"
            .prop_map(String::into_bytes),
    ];
    vec((0..1_000_usize, 0..6_usize, word), 1..4)
}

fn edited(bytes: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (place, less, more) in edits {
        let at = place * bytes.len() / 1_000;
        let end = (at + less).min(bytes.len());
        bytes.splice(at..end, more.iter().copied());
    }
    bytes
}

const CONFIG: &str = r#"{"realm":"db","key_sources":[{"header":"authorization","scheme":"Bearer"},{"query":"k"}],
"manifest":{"use":"always","keys":[{"id":"key_01","name":"CI Bot","sha256":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
"permissions":["a:read"],"expires_at":"2027-01-01T00:00:00Z","disabled":false}]},
"admin":{"cluster":"c","authority":"a","token":"t","store":"st_1","max_staleness":"15m"},
"rules":[{"path":"/api/_*/**","access":"deny"},{"methods":["GET"],"hosts":["*.x.org"],"path":"/a/{b}","content_type":["application/json","none"],"require":["a:read"]}],
"unmatched":"deny","route_metadata":false,"identity_headers":{"id":null,"name":"x-n"},"startup_wait":"2s","readiness_path":"/ready"}"#;

fn key(n: u64) -> LiveKey<'static> {
    LiveKey {
        revision: n,
        id: format!("key-{n}").into(),
        name: "näme".into(),
        sha256: Digest::of_key(&n.to_le_bytes()).to_hex().into(),
        permissions: vec!["a:read".into(), "b".into()],
        expires_at: Some("2027-01-01T00:00:00Z".into()),
        disabled: n == 2,
        must: if n == 3 { vec!["later".into()] } else { Vec::new() },
    }
}

/// Keys `since + 1` to `count`, and what the store holds then.
fn page(since: u64, count: u64) -> Vec<u8> {
    let mut sum = Checksum::default();
    (1..=count).for_each(|n| sum.add(contribution(&key(n))));
    serde_json::to_vec(&Page {
        format: FORMAT,
        store: "st_1".into(),
        since,
        revision: count,
        head: count,
        mark: None,
        more: false,
        keys: (since + 1..=count).map(key).map(Change::Live).collect(),
        live: Live { count, checksum: Some(sum.to_string().into()) },
    })
    .unwrap()
}

/// How many keys a page claims that there are, and their checksum.
fn claimed(body: &[u8]) -> Option<(usize, Checksum)> {
    let page: Page<'_> = serde_json::from_slice(body).ok()?;
    Some((page.live.count as usize, Checksum::parse(page.live.checksum.as_deref()?)?))
}

/// Gives one answer to the next request. The keys that are served then, and their checksum.
fn answered(sync: &mut ManifestSync, root: keyward_policy::sync::RootId, now: u64, body: &[u8]) -> (usize, Checksum) {
    let (now, mut events) = (Duration::from_secs(now), Vec::new());
    sync.work();
    if let Some(request) = sync.poll(root, now, &mut events) {
        let outcome = Outcome::Answer(Answer { status: 200, body, ..Answer::default() });
        sync.on_outcome(request.id, &outcome, now, Timestamp::default(), &mut events);
    }
    sync.keys(root, now).map_or_else(|_| (0, Checksum::default()), |keys| (keys.len(), keys.checksum()))
}

/// Where a configuration's words stand in the wire format of a Struct: `0a`, length, …
fn as_struct(fields: &[(&str, &[u8])]) -> Vec<u8> {
    fields
        .iter()
        .flat_map(|(name, value)| {
            let mut entry = vec![0x0a, name.len() as u8];
            entry.extend(name.bytes());
            entry.extend([0x12, value.len() as u8]);
            entry.extend(*value);
            let mut field = vec![0x0a, entry.len() as u8];
            field.extend(entry);
            field
        })
        .collect()
}

/// A property of the fuzz targets, and the name of its corpus.
type Target = (&'static str, fn(&[u8]));

/// What the fuzz targets check, with the corpus and a fixed set of changes to it.
#[test]
fn the_fuzz_targets_hold_on_their_corpus_and_near_it() {
    let targets: [Target; 6] = [
        ("configuration", properties::configuration),
        ("page", properties::page),
        ("head", properties::head),
        ("path", properties::path),
        ("host", properties::host),
        ("manifest_sync", exchange::manifest_sync),
    ];
    for (target, check) in targets {
        for input in corpus::inputs(target) {
            check(&input);
            let settings = ProptestConfig {
                rng_seed: proptest::test_runner::RngSeed::Fixed(1),
                ..ProptestConfig::with_cases(500)
            };
            let mut runner = proptest::test_runner::TestRunner::new(settings);
            let outcome = runner.run(&edits(), |edits| {
                check(&edited(&input, &edits));
                Ok(())
            });
            outcome.unwrap_or_else(|error| panic!("{target}: {error}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_configuration_that_is_almost_right(edits in edits()) {
        let bytes = edited(CONFIG.as_bytes(), &edits);
        if let Err(errors) = Config::parse(&bytes) {
            prop_assert!(!errors.problems().is_empty());
            let text = errors.to_string();
            prop_assert!(errors.problems().iter().all(|problem| !problem.help.is_empty()), "{}", text);
            prop_assert!(!text.contains("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f2001"), "a digest: {}", text);
        }
        prop_assert_eq!(Config::parse(&bytes).err(), Config::parse(&bytes).err());
    }

    #[test]
    fn a_struct_that_is_almost_right(edits in edits()) {
        let whole = as_struct(&[("unmatched", b"\x1a\x06public"), ("rules", b"\x32\x00"), ("hide_key", b"\x20\x01"), ("realm", b"\x1a\x02db")]);
        prop_assert!(Config::parse(&whole).is_ok());
        let _ = Config::parse(&edited(&whole, &edits));
    }

    #[test]
    fn route_metadata_that_is_almost_right(edits in edits()) {
        let fields = as_struct(&[("require", b"\x1a\x06a:read")]);
        let mut metadata = vec![0x0a, (fields.len() + 11) as u8, 0x0a, 7];
        metadata.extend(b"keyward");
        metadata.extend([0x12, fields.len() as u8]);
        metadata.extend(fields);
        prop_assert!(matches!(route_metadata::parse(&metadata), Ok(Some(_))));
        let _ = route_metadata::parse(&edited(&metadata, &edits));
    }

    #[test]
    fn a_page_that_is_almost_right_counts_as_a_whole_or_not_at_all(first in edits(), second in edits(), loads in any::<bool>()) {
        let settings = Settings {
            realm: "r".into(),
            token: None,
            store: None,
            max_staleness: None,
            mode: Enforcement::Enforce,
            inline_keys: InlineKeys::None,
        };
        let mut sync = ManifestSync::new(1);
        let root = sync.attach(settings, Duration::ZERO);
        let good = page(0, 4);
        let before = if loads { (0, Checksum::default()) } else { answered(&mut sync, root, 0, &good) };
        let body = if loads { edited(&good, &first) } else { edited(&page(4, 6), &first) };
        let after = answered(&mut sync, root, 10, &body);
        prop_assert!(after == before || Some(after) == claimed(&body), "{:?} became {:?}", before, after);
        // And whatever comes then, the next good pages bring it up to date.
        answered(&mut sync, root, 60, &edited(&good, &second));
        for now in [120, 180, 240, 300] {
            let (mut events, at) = (Vec::new(), Duration::from_secs(now));
            sync.work();
            let Some(request) = sync.poll(root, at, &mut events) else { continue };
            let outcome = if request.since > 6 {
                Outcome::Answer(Answer { status: 410, body: b"{}", ..Answer::default() })
            } else {
                Outcome::Answer(Answer { status: 200, body: &page(request.since, 6), ..Answer::default() })
            };
            sync.on_outcome(request.id, &outcome, at, Timestamp::default(), &mut events);
        }
        let end = sync.keys(root, Duration::from_secs(300)).map(|keys| keys.len());
        prop_assert!(end == Ok(6) || sync.in_use().is_some_and(|position| position.store != "st_1"), "{:?}", end);
    }
}

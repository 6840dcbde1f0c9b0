//! The table against a model that is too simple to be wrong.

use super::*;
use crate::key::KeyId;
use crate::table::{
    MAX_ALL_TABLES_BYTES, MAX_ID_BYTES, MAX_KEY_PERMISSIONS, MAX_NAME_BYTES, MAX_PERMISSION_BYTES, MAX_TABLE_BYTES,
    Staged,
};
use crate::timestamp::Timestamp;
use proptest::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Op {
    Upsert(LiveKey<'static>),
    Remove(String),
    Reserve(usize),
    /// Changes that become visible together, and how many are settled at once afterwards.
    Stage(Vec<Result<LiveKey<'static>, String>>, usize),
    /// A page of changes, up to the first that cannot be taken in.
    Apply(Vec<Result<LiveKey<'static>, String>>),
    Settle(usize),
}

/// Digests that share tags, homes, whole first words, or all but the last byte that counts.
fn digests() -> impl Strategy<Value = [u8; 32]> {
    let byte = |max: u8| 0..max;
    (byte(3), byte(2), byte(4), byte(3), byte(2)).prop_map(|(tag, shard, home, word, last)| {
        let mut digest = [0; 32];
        digest[0] = tag;
        digest[1] = shard;
        digest[4] = home * 63;
        digest[8] = word;
        digest[15] = last;
        digest
    })
}

fn ids() -> impl Strategy<Value = String> {
    prop_oneof![
        (0..40_u8).prop_map(|n| format!(
            "key_aaaaaaaaaaaaaa{}{}",
            char::from(b'a' + n / 20),
            char::from(b'a' + n % 20)
        )),
        (0..20_u8).prop_map(|n| format!("ci-{n}")),
        Just(String::new()),
    ]
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z ]{0,12}", "\\PC{0,6}", "[a-z ]{13,40}", Just("ÿÿÿÿÿÿ".to_owned())]
}

fn expiries() -> impl Strategy<Value = Option<&'static str>> {
    prop::sample::select(vec![
        None,
        Some("2027-01-01T00:00:00Z"),
        Some("2027-01-01T00:00:00.250Z"),
        Some("2106-02-07T06:28:15Z"),
        Some("2106-02-07T06:28:16Z"),
        Some("1970-01-01T00:00:00Z"),
        Some("1969-12-31T23:59:59Z"),
        Some("9999-12-31T23:59:59Z"),
    ])
}

prop_compose! {
    fn keys()(
        id in ids(), digest in digests(), name in names(), expires_at in expiries(), disabled in any::<bool>(),
        must in prop::bool::weighted(0.2), revision in 1..1_000_u64,
        permissions in prop::collection::vec(prop::sample::select(vec!["a", "b", "records:read", "é"]), 0..4),
    ) -> LiveKey<'static> {
        LiveKey {
            revision,
            id: id.into(),
            name: name.into(),
            sha256: hex::encode(digest).into(),
            permissions: permissions.into_iter().map(Cow::Borrowed).collect(),
            expires_at: expires_at.map(Cow::Borrowed),
            disabled,
            must: if must { vec!["sig".into()] } else { Vec::new() },
        }
    }
}

/// Keys, and ids of keys that go.
fn changes() -> impl Strategy<Value = Vec<Result<LiveKey<'static>, String>>> {
    prop::collection::vec(prop_oneof![3 => keys().prop_map(Ok), 1 => ids().prop_map(Err)], 0..30)
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => keys().prop_map(Op::Upsert),
        3 => ids().prop_map(Op::Remove),
        1 => (0..5_000_usize).prop_map(Op::Reserve),
        2 => (changes(), 0..10_usize).prop_map(|(changes, settle)| Op::Stage(changes, settle)),
        2 => changes().prop_map(Op::Apply),
        2 => (0..10_usize).prop_map(Op::Settle),
    ]
}

fn shows(view: &KeyRef<'_>, key: &LiveKey<'_>) -> bool {
    view.id.to_string() == key.id
        && view.name == key.name
        && *view.permissions == key.permissions.iter().collect()
        && view.expires_at == key.expires_at.as_deref().map(|text| Timestamp::parse(text).unwrap())
        && view.disabled == key.disabled
        && view.unsupported != key.must.is_empty()
}

fn outcome(model: &BTreeMap<String, LiveKey<'static>>) -> (usize, Checksum) {
    let mut sum = Checksum::default();
    model.values().for_each(|key| sum.add(crate::checksum::contribution(key)));
    (model.len(), sum)
}

/// Everything that a reader can ask.
fn check(
    table: &KeyTable,
    model: &BTreeMap<String, LiveKey<'static>>,
    asked: &[[u8; 32]],
) -> Result<(), TestCaseError> {
    prop_assert_eq!((table.len(), table.checksum()), outcome(model));
    for key in model.values() {
        let view = table.get(&Digest::from_hex(&key.sha256).unwrap());
        prop_assert!(view.is_some_and(|view| shows(&view, key)), "{:?} {:?}", view, key);
        prop_assert!(table.contains_id(&key.id));
    }
    for digest in asked {
        let held = model.values().any(|key| key.sha256 == hex::encode(digest));
        prop_assert_eq!(table.get(&Digest::from_bytes(*digest)).is_some(), held);
    }
    prop_assert_eq!(table.iter().count(), model.len());
    prop_assert!(table.iter().all(|view| model.get(&view.id.to_string()).is_some_and(|key| shows(&view, key))));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn does_what_a_map_does(ops in prop::collection::vec(ops(), 0..120), asked in prop::collection::vec(digests(), 20)) {
        let mut table = KeyTable::new();
        let mut model: BTreeMap<String, LiveKey<'static>> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Upsert(key) => {
                    let taken = model.values().any(|held| held.sha256 == key.sha256 && held.id != key.id);
                    let result = table.upsert(&key);
                    prop_assert_eq!(result.map_err(|e| e.problem).err(), taken.then_some(RecordProblem::DigestTaken));
                    if !taken {
                        model.insert(key.id.to_string(), key);
                    }
                }
                Op::Remove(id) => prop_assert_eq!(table.remove(&id), model.remove(&id).is_some()),
                Op::Reserve(keys) => table.reserve(keys),
                Op::Stage(changes, settle) => {
                    while table.settle(7) {}
                    let before = model.clone();
                    let mut staged = Staged::default();
                    for change in changes {
                        match change {
                            Ok(key) => {
                                let taken = model.values().any(|held| held.sha256 == key.sha256 && held.id != key.id);
                                let result = staged.upsert(&table, &Record::read(&key).unwrap());
                                prop_assert_eq!(result.is_err(), taken);
                                if !taken {
                                    model.insert(key.id.to_string(), key);
                                }
                            }
                            Err(id) => {
                                staged.remove(&table, &id).unwrap();
                                model.remove(&id);
                            }
                        }
                    }
                    check(&table, &before, &asked)?;
                    prop_assert_eq!(staged.outcome(&table), outcome(&model));
                    table.commit(staged).unwrap();
                    check(&table, &model, &asked)?;
                    table.settle(settle);
                }
                Op::Apply(changes) => {
                    let page: Vec<Change<'_>> = changes
                        .iter()
                        .map(|change| match change {
                            Ok(key) => Change::Live(key.clone()),
                            Err(id) => Change::Deleted { revision: 1, id: id.clone().into() },
                        })
                        .collect();
                    let mut refused = None;
                    for change in changes {
                        match change {
                            Ok(key) if model.values().any(|held| held.sha256 == key.sha256 && held.id != key.id) => {
                                refused = Some(RecordProblem::DigestTaken);
                                break;
                            }
                            Ok(key) => drop(model.insert(key.id.to_string(), key)),
                            Err(id) => drop(model.remove(&id)),
                        }
                    }
                    prop_assert_eq!(table.apply(&page).map_err(|error| error.problem).err(), refused);
                }
                Op::Settle(changes) => drop(table.settle(changes)),
            }
            prop_assert_eq!((table.len(), table.checksum()), outcome(&model));
        }
        check(&table, &model, &asked)?;
        while table.settle(7) {}
        check(&table, &model, &asked)?;
        for id in model.keys() {
            prop_assert!(table.remove(id));
        }
        prop_assert!(table.is_empty() && table.checksum() == Checksum::default() && table.base.bytes() == 0);
    }
}

fn numbered(n: u64) -> LiveKey<'static> {
    let digest = Digest::of_key(&n.to_le_bytes());
    let mut id = [0; 10];
    id.copy_from_slice(&digest.as_bytes()[20..30]);
    LiveKey {
        revision: n,
        id: KeyId::Packed(id).to_string().into(),
        name: format!("name {n}").into(),
        sha256: digest.to_hex().into(),
        permissions: vec!["records:read".into()],
        expires_at: None,
        disabled: false,
        must: Vec::new(),
    }
}

#[test]
fn holds_many_keys_through_growth_and_removal() {
    let count = 20_000;
    for reserved in [0, 5_000, 20_000] {
        let mut table = KeyTable::new();
        table.reserve(reserved);
        for n in 0..count {
            table.upsert(&numbered(n)).unwrap();
        }
        for n in (0..count).filter(|n| n % 3 == 0) {
            assert!(table.remove(&numbered(n).id));
        }
        for n in 0..count {
            let found = table.get(&Digest::of_key(&n.to_le_bytes()));
            assert_eq!(found.map(|view| view.name.to_owned()), (n % 3 != 0).then(|| format!("name {n}")));
        }
        let chunks = table.base.places();
        for n in (0..count).filter(|n| n % 3 == 0) {
            table.upsert(&numbered(n)).unwrap();
        }
        assert_eq!(table.base.places(), chunks, "freed places are used again");
    }
}

#[test]
fn a_record_that_cannot_be_read_changes_nothing_and_is_named() {
    let mut table = KeyTable::new();
    let good = numbered(1);
    table.upsert(&good).unwrap();
    let before = table.checksum();
    type Change = fn(&mut LiveKey<'_>);
    let bad: [(Change, &str); 3] = [
        (|k| k.sha256 = "ab".into(), "`sha256` is not 64 hex digits"),
        (|k| k.expires_at = Some("tomorrow".into()), "`expires_at` is not an RFC 3339 time"),
        (|k| k.id = "other\n".into(), "key `other\\n` (revision 1): `sha256` belongs to another key already"),
    ];
    for (change, message) in bad {
        let mut key = good.clone();
        change(&mut key);
        let error = table.upsert(&key).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert!(!error.to_string().contains(&*good.sha256));
        assert_eq!((table.len(), table.checksum()), (1, before));
    }
}

/// A key as large as a key may be, but for its id.
fn large(n: u64) -> LiveKey<'static> {
    let permission = |at: usize| format!("{n}.{at}.{}", "p".repeat(MAX_PERMISSION_BYTES - 20)).into();
    LiveKey {
        name: "n".repeat(MAX_NAME_BYTES).into(),
        permissions: (0..MAX_KEY_PERMISSIONS).map(permission).collect(),
        ..numbered(n)
    }
}

#[test]
fn a_key_has_limits() {
    let mut table = KeyTable::new();
    table.upsert(&large(1)).unwrap();
    let before = (table.len(), table.checksum());
    let refused = [
        (LiveKey { id: "i".repeat(MAX_ID_BYTES + 1).into(), ..numbered(2) }, RecordProblem::LongId),
        (LiveKey { name: "n".repeat(MAX_NAME_BYTES + 1).into(), ..numbered(2) }, RecordProblem::LongName),
        (LiveKey { name: "n".repeat(4 << 20).into(), ..numbered(2) }, RecordProblem::LongName),
        (
            LiveKey { permissions: vec!["p".into(); MAX_KEY_PERMISSIONS + 1], ..numbered(2) },
            RecordProblem::ManyPermissions,
        ),
        (LiveKey { permissions: vec!["p".into(); 690_000], ..numbered(2) }, RecordProblem::ManyPermissions),
        (
            LiveKey { permissions: vec!["p".repeat(MAX_PERMISSION_BYTES + 1).into()], ..numbered(2) },
            RecordProblem::LongPermission,
        ),
    ];
    for (key, problem) in refused {
        let error = table.upsert(&key).unwrap_err();
        assert_eq!(error.problem, problem);
        assert!(error.to_string().len() < 300, "{error}");
        let changes = [Change::Live(numbered(3)), Change::Live(key)];
        assert_eq!(KeyTable::new().apply(&changes).unwrap_err().problem, problem);
        assert_eq!((table.len(), table.checksum()), before);
    }
}

/// Fills a table until it refuses; how many keys it holds then.
fn fill(table: &mut KeyTable, from: u64) -> usize {
    let refused = (from..from + 100_000).find_map(|n| table.upsert(&large(n)).err());
    assert_eq!(refused.map(|error| error.problem), Some(RecordProblem::Full));
    table.len()
}

#[test]
fn tables_take_only_what_leaves_room_for_others() {
    let (mut first, mut second, mut third) = (KeyTable::new(), KeyTable::new(), KeyTable::new());
    let held = fill(&mut first, 0);
    assert!(held > 100 && first.bytes() <= MAX_TABLE_BYTES);
    fill(&mut second, 100_000);
    let third_held = fill(&mut third, 200_000);
    let all = first.bytes() + second.bytes() + third.bytes();
    assert!(third_held < held / 10 && all <= MAX_ALL_TABLES_BYTES, "{third_held} of {held}, {all} bytes");
    // What a table gives up is there for the others.
    drop(second);
    assert!(fill(&mut third, 300_000) > third_held);
    let ids: Vec<String> = first.iter().map(|key| key.id.to_string()).collect();
    assert!(ids.iter().all(|id| first.remove(id)) && first.bytes() == 0);
    assert!(fill(&mut first, 400_000) > held / 2);
}

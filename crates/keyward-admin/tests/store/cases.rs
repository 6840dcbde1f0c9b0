//! What the store does, case by case.

use super::Place;
use keyward_admin::lifetime::Lifetime;
use keyward_admin::random;
use keyward_admin::secret::Secret;
use keyward_admin::store::audit::AuditFilter;
use keyward_admin::store::keys::{By, KeyEdit, KeyRecord, NewDigest, NewKey};
use keyward_admin::store::manifest::KeyChange;
use keyward_admin::store::proxies::ProxyRecord;
use keyward_admin::store::tokens::{Role, TokenRecord};
use keyward_admin::store::usage_report::{KeyUsage, Requests};
use keyward_admin::store::{Error, Store};
use keyward_admin::token_scope::TokenScope;
use keyward_policy::checksum::{Checksum, contribution};
use keyward_policy::manifest::Change;
use keyward_policy::timeline::{Enforcement, InlineKeys, Mark, Point};
use keyward_policy::timestamp::Timestamp;
use sqlx::Connection as _;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const NOW: Timestamp = Timestamp::from_unix_ms(1_800_000_000_123);
pub(crate) const BY: By<'_> = By { actor: "tester", at: NOW };

pub(crate) fn digest() -> NewDigest {
    let secret = Secret::new_key("kw");
    NewDigest { digest: secret.digest(), prefix: "kw".to_owned(), last_four: secret.last_four().to_owned() }
}

pub(crate) fn new_key(name: &str) -> NewKey {
    NewKey {
        id: format!("key_{}", random::base32_16()),
        name: name.to_owned(),
        permissions: vec!["records:read".to_owned(), "files:read".to_owned()],
        expires_in: Lifetime::Month,
        secret: digest(),
    }
}

pub(crate) async fn make(store: &Store, name: &str) -> KeyRecord {
    store.create_key(&new_key(name), BY).await.expect("a key can be made").0
}

pub(crate) fn days(days: i64) -> Timestamp {
    Timestamp::from_unix_ms(NOW.unix_ms() + days * 86_400_000)
}

pub(crate) async fn a_new_store_is_empty_and_keeps_its_identity(place: Arc<Place>) {
    let store = place.open().await;
    let head = store.head().await.unwrap();
    assert_eq!((head.revision, head.live_count, head.checksum, head.compacted), (0, 0, Checksum::default(), 0));
    assert!(head.identity.starts_with("st_") && head.identity.len() == 35, "{}", head.identity);
    make(&store, "a").await;
    if !place.url.contains(":memory:") {
        store.close().await;
        let again = place.open().await.head().await.unwrap();
        assert_eq!((again.identity, again.revision), (head.identity, 1));
    }
}

pub(crate) async fn a_key_is_found_as_it_was_made(place: Arc<Place>) {
    let store = place.open().await;
    let new = new_key("CI Bot – ключ 🔑");
    let (made, head) = store.create_key(&new, BY).await.unwrap();
    assert_eq!((made.revision, head.revision, head.live_count), (1, 1, 1));
    assert_eq!(made.expires_at, Timestamp::parse("2027-02-14T08:00:00Z").ok());
    let found = store.key(&new.id).await.unwrap();
    assert_eq!(found, made);
    assert_eq!((found.name, found.permissions), (new.name, new.permissions));
    assert!(matches!(store.key("key_nothing").await, Err(Error::NotFound)));
}

pub(crate) async fn a_taken_name_is_refused_and_nothing_is_written(place: Arc<Place>) {
    let store = place.open().await;
    make(&store, "one").await;
    let two = make(&store, "two").await;
    let before = store.head().await.unwrap();
    for alike in ["one", "ONE", "оne"] {
        assert!(matches!(store.create_key(&new_key(alike), BY).await, Err(Error::NameTaken)));
    }
    let rename = KeyEdit { name: Some("one".to_owned()), ..KeyEdit::default() };
    assert!(matches!(store.edit_key(&two.id, &rename, None, BY).await, Err(Error::NameTaken)));
    assert_eq!(store.head().await.unwrap(), before);
    assert_eq!(store.audit(&AuditFilter::default(), None, 10).await.unwrap().len(), 2);
    make(&store, "one more").await;
}

pub(crate) async fn an_edit_takes_a_revision_and_no_edit_takes_none(place: Arc<Place>) {
    let store = place.open().await;
    let key = make(&store, "one").await;
    let edit = KeyEdit {
        name: Some("two".to_owned()),
        permissions: Some(vec!["files:write".to_owned()]),
        disabled: Some(true),
    };
    let changed = store.edit_key(&key.id, &edit, None, BY).await.unwrap();
    assert_eq!((changed.before, changed.after.revision), (key.clone(), 2));
    let found = store.key(&key.id).await.unwrap();
    assert_eq!((found.name.as_str(), found.disabled, found.revision), ("two", true, 2));
    assert_eq!((found.digest, found.expires_at), (key.digest, key.expires_at));
    let again = store.edit_key(&key.id, &edit, None, BY).await.unwrap();
    assert!(again.head.is_none() && again.after.revision == 2);
    assert_eq!(store.head().await.unwrap().revision, 2);
    assert_eq!(store.list_keys("two", None, 10).await.unwrap().len(), 1);
    assert_eq!(store.list_keys("one", None, 10).await.unwrap().len(), 0);
    assert_eq!(store.list_keys("on", None, 10).await.unwrap().len(), 0);
}

pub(crate) async fn a_condition_that_does_not_hold_changes_nothing(place: Arc<Place>) {
    let store = place.open().await;
    let key = make(&store, "one").await;
    let edit = KeyEdit { disabled: Some(true), ..KeyEdit::default() };
    store.edit_key(&key.id, &edit, Some(1), BY).await.unwrap();
    let edit = KeyEdit { disabled: Some(false), ..KeyEdit::default() };
    let stale = Some(1);
    assert!(matches!(store.edit_key(&key.id, &edit, stale, BY).await, Err(Error::RevisionMismatch { current: 2 })));
    assert!(matches!(store.regenerate_key(&key.id, &digest(), stale, BY).await, Err(Error::RevisionMismatch { .. })));
    assert!(matches!(store.delete_key(&key.id, stale, BY).await, Err(Error::RevisionMismatch { .. })));
    assert!(store.key(&key.id).await.unwrap().disabled);
    assert_eq!(store.head().await.unwrap().revision, 2);
}

pub(crate) async fn regenerating_replaces_the_digest_in_one_revision(place: Arc<Place>) {
    let store = place.open().await;
    let key = make(&store, "one").await;
    let new = digest();
    let later = By { actor: "tester", at: days(10) };
    let after = store.regenerate_key(&key.id, &new, None, later).await.unwrap().after;
    assert_eq!((after.digest, after.revision, &after.name), (new.digest, 2, &key.name));
    assert_eq!((after.created_at, after.regenerated_at), (key.created_at, Some(days(10))));
    assert_eq!(after.expires_at, Lifetime::Month.expires_at(days(10)));
    let changes = store.changes(0, 0, None, 10).await.unwrap();
    let [change] = &changes.changes[..] else { panic!("{changes:?}") };
    assert_eq!(change.wire(), Change::Live(after.wire()));
    assert_eq!(store.list_keys(&after.last_four, None, 10).await.unwrap(), [after]);
}

pub(crate) async fn an_expired_key_can_be_regenerated(place: Arc<Place>) {
    let store = place.open().await;
    let key = make(&store, "one").await;
    let late = By { actor: "tester", at: days(45) };
    let after = store.regenerate_key(&key.id, &digest(), None, late).await.unwrap().after;
    assert!(after.expires_at > Some(days(74)), "{:?}", after.expires_at);
}

pub(crate) async fn a_deleted_key_leaves_a_tombstone_and_frees_its_name(place: Arc<Place>) {
    let store = place.open().await;
    let key = make(&store, "one").await;
    let (deleted, head) = store.delete_key(&key.id, None, BY).await.unwrap();
    assert_eq!((deleted.revision, head.live_count, head.checksum), (2, 0, Checksum::default()));
    assert!(matches!(store.key(&key.id).await, Err(Error::NotFound)));
    assert!(matches!(store.delete_key(&key.id, None, BY).await, Err(Error::NotFound)));
    let changes = store.changes(0, 0, None, 10).await.unwrap().changes;
    assert_eq!(changes, [KeyChange::Deleted { revision: 2, id: key.id.clone() }]);
    for q in ["one", "on", "", &key.id] {
        assert_eq!(store.list_keys(q, None, 10).await.unwrap(), [], "{q}");
    }
    make(&store, "one").await;
}

/// What a filter would hold that follows the pages to their end.
async fn follow(store: &Store, limit: u32) -> (Vec<String>, u64) {
    let (mut since, mut base, mut seen) = (0, 0, Vec::new());
    loop {
        let page = store.changes(since, base, None, limit).await.unwrap();
        assert!(page.changes.len() <= limit as usize);
        let mut last = since;
        for change in &page.changes {
            assert!(change.revision() > last && change.revision() <= page.revision);
            last = change.revision();
            if let KeyChange::Live(key) = change {
                seen.push(key.name.clone());
            }
        }
        if base == 0 {
            base = page.head.revision;
        }
        since = page.revision;
        if !page.more {
            assert_eq!(since, page.head.revision);
            return (seen, since);
        }
    }
}

pub(crate) async fn pages_lead_through_all_changes(place: Arc<Place>) {
    let store = place.open().await;
    let mut keys = Vec::new();
    for n in 0..23 {
        keys.push(make(&store, &format!("key {n}")).await);
    }
    for key in keys.iter().step_by(3) {
        store.delete_key(&key.id, None, BY).await.unwrap();
    }
    for limit in [1, 2, 5, 14, 15, 16, 100] {
        let (mut names, revision) = follow(&store, limit).await;
        names.sort();
        let mut live: Vec<String> =
            keys.iter().enumerate().filter(|(n, _)| n % 3 != 0).map(|(_, key)| key.name.clone()).collect();
        live.sort();
        assert_eq!((names, revision), (live, 31), "pages of {limit}");
    }
    let end = store.changes(31, 31, None, 5).await.unwrap();
    assert!(end.changes.is_empty() && !end.more && end.revision == 31);
}

pub(crate) async fn tombstones_up_to_base_are_left_out(place: Arc<Place>) {
    let store = place.open().await;
    let a = make(&store, "a").await;
    store.delete_key(&a.id, None, BY).await.unwrap();
    let b = make(&store, "b").await;
    store.delete_key(&b.id, None, BY).await.unwrap();
    let revisions = async |since, base| {
        let page = store.changes(since, base, None, 10).await.unwrap();
        (page.changes.iter().map(KeyChange::revision).collect::<Vec<_>>(), page.revision)
    };
    assert_eq!(revisions(0, 0).await, (vec![2, 4], 4));
    assert_eq!(revisions(1, 2).await, (vec![4], 4));
    assert_eq!(revisions(1, 4).await, (vec![], 4));
}

pub(crate) async fn compaction_refuses_only_who_would_miss_a_delete(place: Arc<Place>) {
    let store = place.open().await;
    for (name, day) in [("a", 0), ("b", 0), ("c", 9)] {
        let key = make(&store, name).await;
        store.delete_key(&key.id, None, By { actor: "tester", at: days(day) }).await.unwrap();
    }
    make(&store, "d").await;
    assert!(store.compact(days(-1)).await.unwrap().is_none());
    let head = store.compact(days(5)).await.unwrap().expect("two tombstones go");
    assert_eq!((head.compacted, head.revision), (4, 7));
    assert!(store.compact(days(5)).await.unwrap().is_none());
    for (since, base) in [(1, 1), (3, 3), (1, 3)] {
        assert!(matches!(store.changes(since, base, None, 10).await, Err(Error::Compacted(4))), "{since} {base}");
    }
    for (since, base, changes) in [(0, 0, 2), (4, 4, 2), (1, 4, 2), (1, 6, 1), (6, 6, 1), (7, 7, 0)] {
        assert_eq!(store.changes(since, base, None, 10).await.unwrap().changes.len(), changes, "{since} {base}");
    }
}

pub(crate) async fn who_is_ahead_is_told(place: Arc<Place>) {
    let store = place.open().await;
    make(&store, "a").await;
    assert!(matches!(store.changes(2, 2, None, 10).await, Err(Error::Ahead(1))));
    assert!(matches!(store.changes(1, 2, None, 10).await, Err(Error::Ahead(1))));
    assert!(store.changes(1, 1, None, 10).await.is_ok());
}

pub(crate) async fn expired_keys_are_purged_with_tombstones(place: Arc<Place>) {
    let store = place.open().await;
    let month = make(&store, "month").await;
    let mut never = new_key("never");
    never.expires_in = Lifetime::Never;
    store.create_key(&never, BY).await.unwrap();
    let by = By { actor: "keyward", at: days(61) };
    assert_eq!(store.purge_expired(days(29), 10, by).await.unwrap().0, []);
    let use_of_month = used(&month.id, 1, days(3));
    store.add_usage("vm", 1, &[use_of_month], days(4)).await.unwrap();
    let before = store.key(&month.id).await.unwrap();
    assert_eq!(before.last_used_at, Some(days(3)));
    let (purged, head) = store.purge_expired(days(31), 10, by).await.unwrap();
    // Each column is what it is in every other query.
    assert_eq!((purged, head.map(|head| (head.revision, head.live_count))), (vec![before], Some((3, 1))));
    let changes = store.changes(2, 2, None, 10).await.unwrap().changes;
    assert_eq!(changes, [KeyChange::Deleted { revision: 3, id: month.id }]);
    assert_eq!(store.audit(&AuditFilter::default(), None, 1).await.unwrap()[0].action, "key.purge");
}

pub(crate) async fn the_checksum_is_that_of_the_live_keys(place: Arc<Place>) {
    let store = place.open().await;
    let mut keys = Vec::new();
    for n in 0..12 {
        keys.push(make(&store, &format!("key {n}")).await.id);
    }
    for (n, id) in keys.iter().enumerate() {
        match n % 4 {
            0 => drop(store.delete_key(id, None, BY).await.unwrap()),
            1 => drop(store.regenerate_key(id, &digest(), None, BY).await.unwrap()),
            2 => {
                let edit = KeyEdit { disabled: Some(true), name: Some(format!("new {n}")), permissions: None };
                store.edit_key(id, &edit, None, BY).await.unwrap();
            }
            _ => {}
        }
    }
    let page = store.changes(0, 0, None, 100).await.unwrap();
    let mut sum = Checksum::default();
    let mut count = 0;
    for change in &page.changes {
        if let KeyChange::Live(key) = change {
            sum.add(contribution(&key.wire()));
            count += 1;
        }
    }
    assert_eq!((page.head.checksum, page.head.live_count), (sum, count));
    assert_ne!(sum, Checksum::default());
}

pub(crate) async fn searching_finds_names_ids_and_last_fours(place: Arc<Place>) {
    let store = place.open().await;
    let bot = make(&store, "CI Bot").await;
    let backend = make(&store, "Backend Production").await;
    let odd = make(&store, "50%_\"off\" \\ 'x'").await;
    let ключ = make(&store, "Ключ").await;
    let names = async |q: &str| -> Vec<String> {
        store.list_keys(q, None, 10).await.unwrap().into_iter().map(|key| key.name).collect()
    };
    assert_eq!(names("").await, [&*ключ.name, &odd.name, &backend.name, &bot.name]);
    for (q, found) in [
        ("bot", &bot),
        ("I BO", &bot),
        ("c", &bot),
        ("ci", &bot),
        ("back", &backend),
        ("oduct", &backend),
        ("pr", &backend),
        ("50%_", &odd),
        ("%_\"", &odd),
        ("\\ '", &odd),
        ("клю", &ключ),
        ("клюЧ", &ключ),
        ("\"off\"", &odd),
        ("_\"o", &odd),
        ("КЛ", &ключ),
    ] {
        let found_names = names(q).await;
        assert!(found_names.contains(&found.name), "{q}: {found_names:?}");
        assert!(q.chars().count() < 3 || found_names.len() == 1, "{q}: {found_names:?}");
    }
    assert_eq!(names(&bot.id).await, [&*bot.name]);
    assert_eq!(names(&bot.id[4..]).await, [&*bot.name]);
    assert!(names(&bot.id[4..6]).await.contains(&bot.name));
    assert!(names(&backend.last_four).await.contains(&backend.name));
    assert!(names(&backend.last_four[..2]).await.contains(&backend.name));
    for q in ["botx", "xyzzy", "0%_%", "___", "%%%", "AND NOT", "\"\"\""] {
        assert_eq!(names(q).await, Vec::<String>::new(), "{q}");
    }
}

pub(crate) async fn lists_are_paged_newest_first(place: Arc<Place>) {
    let store = place.open().await;
    for n in 0..25 {
        make(&store, &format!("key {n:02}")).await;
    }
    for q in ["", "k", "ke", "key ", "key"] {
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let page = store.list_keys(q, before, 10).await.unwrap();
            let Some(last) = page.last() else { break };
            before = Some(last.seq);
            seen.extend(page.into_iter().map(|key| key.name));
        }
        let all: Vec<String> = (0..25).rev().map(|n| format!("key {n:02}")).collect();
        assert_eq!(seen, all, "{q:?}");
    }
}

/// Allowed requests that all needed one permission.
pub(crate) fn used(id: &str, count: u64, at: Timestamp) -> KeyUsage {
    let permissions = vec![("records:read".to_owned(), count)];
    KeyUsage { id: id.to_owned(), at, requests: Requests::Allowed { count, permissions } }
}

pub(crate) async fn a_repeated_batch_of_usage_counts_once(place: Arc<Place>) {
    let store = place.open().await;
    let key = make(&store, "a").await;
    let usage = |count, at| used(&key.id, count, at);
    let gone = used("key_gone", 1, NOW);
    assert!(store.add_usage("vm-1", 1, &[usage(5, days(1)), gone], days(2)).await.unwrap());
    assert!(!store.add_usage("vm-1", 1, &[usage(5, days(1))], days(2)).await.unwrap());
    assert!(store.add_usage("vm-2", 1, &[usage(2, days(0))], days(2)).await.unwrap());
    assert!(store.add_usage("vm-1", 2, &[usage(1, days(9))], days(3)).await.unwrap());
    assert!(!store.add_usage("vm-1", 1, &[usage(5, days(1))], days(2)).await.unwrap());
    let totals = store.key_usage(&key.id).await.unwrap();
    let read: Vec<_> = totals.iter().map(|t| (t.permission.as_str(), t.count, t.last_used_at)).collect();
    // A filter whose clock is ahead does not push the time past now.
    assert_eq!(read, [("", 8, days(3)), ("records:read", 8, days(3))]);
    assert_eq!(store.key(&key.id).await.unwrap().last_used_at, Some(days(3)));
    assert_eq!(store.head().await.unwrap().revision, 1);
    store.delete_key(&key.id, None, BY).await.unwrap();
    assert_eq!(store.key_usage(&key.id).await.unwrap(), []);
}

pub(crate) async fn a_batch_of_usage_that_breaks_off_is_continued(place: Arc<Place>) {
    let store = place.open().await;
    let secrets: Vec<Secret> = (0..2_500).map(|_| Secret::new_key("kw")).collect();
    store.seed(0, &secrets, BY).await.unwrap();
    let keys = store.list_keys("", None, 5_000).await.unwrap();
    // More rows than one transaction writes.
    let batch: Vec<KeyUsage> = keys.iter().map(|key| used(&key.id, 1, NOW)).collect();
    let mut patience = Duration::from_millis(1);
    loop {
        match tokio::time::timeout(patience, store.add_usage("vm", 1, &batch, NOW)).await {
            Ok(Ok(_)) => break,
            Ok(Err(error)) => panic!("only the caller's patience ends an attempt: {error}"),
            Err(_) => {}
        }
        patience += patience / 2;
    }
    assert!(!store.add_usage("vm", 1, &batch, NOW).await.unwrap());
    for key in keys.iter().step_by(25) {
        let counts: Vec<u64> = store.key_usage(&key.id).await.unwrap().iter().map(|total| total.count).collect();
        assert_eq!(counts, [1, 1], "{}", key.name);
    }
}

pub(crate) async fn tokens_are_kept_and_revoked(place: Arc<Place>) {
    let store = place.open().await;
    let token = |name: &str| TokenRecord {
        id: format!("tok_{}", random::base32_16()),
        name: name.to_owned(),
        role: Role::Edge,
        scope: TokenScope { realm: "shop".parse().ok(), nodes: (name == "one").then(|| "gateway-*".parse().unwrap()) },
        digest: Secret::new_token().digest(),
        created_at: NOW,
        expires_at: Some(days(1)),
    };
    let one = token("one");
    let head = store.create_token(&one, BY).await.unwrap();
    assert_eq!((head.revision, head.version), (0, 1));
    assert_eq!(store.tokens().await.unwrap(), std::slice::from_ref(&one));
    assert!(matches!(store.create_token(&token("one"), BY).await, Err(Error::NameTaken)));
    assert_eq!(store.revoke_token("one", BY).await.unwrap(), one);
    assert!(matches!(store.revoke_token("one", BY).await, Err(Error::NotFound)));
    assert_eq!(store.tokens().await.unwrap(), []);
    assert_eq!(store.head().await.unwrap().version, 2);
    assert!(store.ever_had_token(Role::Edge).await.unwrap() && !store.ever_had_token(Role::Admin).await.unwrap());
    let again = token("one");
    store.create_token(&again, BY).await.unwrap();
    assert_eq!(store.revoke_token(&again.id, BY).await.unwrap(), again);
}

pub(crate) async fn sums_of_usage_stay_exact(place: Arc<Place>) {
    let store = place.open().await;
    let key = make(&store, "a").await;
    for seq in 1..=3 {
        let most = used(&key.id, 1 << 62, NOW);
        assert!(store.add_usage("vm-1", seq, &[most], NOW).await.unwrap());
    }
    assert_eq!(store.key_usage(&key.id).await.unwrap()[0].count, 9_000_000_000_000_000);
}

pub(crate) async fn the_database_itself_keeps_the_audit_log(place: Arc<Place>) {
    // A database in memory is out of reach for others.
    if place.url.contains(":memory:") {
        return;
    }
    let store = place.open().await;
    make(&store, "a").await;
    for statement in ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit", "DELETE FROM audit WHERE seq = 1"] {
        let refused = if store.is_shared() {
            let mut database = sqlx::PgConnection::connect(&place.url).await.unwrap();
            sqlx::query(statement).execute(&mut database).await.err()
        } else {
            let mut database = sqlx::SqliteConnection::connect(&place.url).await.unwrap();
            sqlx::query(statement).execute(&mut database).await.err()
        };
        let said = refused.map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains("append-only"), "{statement}: {said}");
    }
    assert_eq!(store.audit(&AuditFilter::default(), None, 9).await.unwrap()[0].actor, "tester");
}

pub(crate) async fn a_new_identity_is_a_new_store_to_filters(place: Arc<Place>) {
    let store = place.open().await;
    make(&store, "a").await;
    let before = store.head().await.unwrap();
    let after = store.new_identity("tester", NOW.unix_ms()).await.unwrap();
    assert_ne!(after.identity, before.identity);
    assert_eq!((after.revision, after.live_count, after.version), (1, 1, 1));
    assert_eq!(store.head_after(after.point()).await.unwrap(), after);
}

pub(crate) async fn proxies_are_remembered(place: Arc<Place>) {
    let store = place.open().await;
    let proxy = |vm: &str, stamp| ProxyRecord {
        node: "envoy-1".to_owned(),
        vm: vm.to_owned(),
        table: "0123".to_owned(),
        token: "fingerprint".to_owned(),
        filter: "0.1.0".to_owned(),
        max_staleness: Some(Duration::from_secs(60)),
        mode: Some(Enforcement::Enforce),
        inline_keys: Some(InlineKeys::None),
        counts: true,
        stamp,
    };
    let forever = ProxyRecord { max_staleness: None, mode: None, inline_keys: None, counts: false, ..proxy("b", 1) };
    store.save_proxies(&[proxy("a", 1), forever.clone()], &[]).await.unwrap();
    store.save_proxies(&[proxy("a", 2)], &[]).await.unwrap();
    let mut known = store.proxies().await.unwrap();
    known.sort_by(|a, b| a.vm.cmp(&b.vm));
    assert_eq!(known, [proxy("a", 2), forever.clone()]);
    store.forget_proxies(&[proxy("a", 1)]).await.unwrap();
    assert_eq!(store.proxies().await.unwrap().len(), 2, "it was written again since");
    store.forget_proxies(&[proxy("a", 2)]).await.unwrap();
    assert_eq!(store.proxies().await.unwrap(), [forever]);
}

/// Where the store lives is confirmed when it is made. A new identity, which a restore gives it, has to be confirmed anew,
/// and nobody confirms a place where the store does not live.
pub(crate) async fn a_list_is_confirmed_for_one_place(place: Arc<Place>) {
    let store = place.open().await;
    let made = store.head().await.unwrap();
    let first = made.lineage.clone().expect("the store says where it lives");
    assert!(made.has_all_tables);
    assert!(place.open().await.head().await.unwrap().has_all_tables, "a restart costs nothing");
    let moved = store.new_identity("tester", NOW.unix_ms()).await.unwrap();
    let moved = store.head_after(moved.point()).await.unwrap();
    assert!(!moved.has_all_tables && moved.lineage.as_ref() != Some(&first), "{moved:?}");
    assert!(!store.confirm_tables(&first, BY).await.unwrap());
    assert!(!store.head().await.unwrap().has_all_tables);
    assert!(store.confirm_tables(&moved.lineage.unwrap(), BY).await.unwrap());
    assert!(store.head().await.unwrap().has_all_tables);
}

/// An older version wrote its list of instances too late, so that one may be missing. It does not matter where there
/// was no key that such an instance could have, and no process of the older version that could give it one meanwhile.
pub(crate) async fn an_older_list_is_complete_only_where_there_was_no_key(place: Arc<Place>) {
    if place.url.contains(":memory:") {
        return;
    }
    const OLDER: [&str; 4] = [
        "UPDATE store SET confirmed = NULL",
        "ALTER TABLE tokens DROP COLUMN realm",
        "ALTER TABLE tokens DROP COLUMN nodes",
        "DELETE FROM _sqlx_migrations WHERE version = 5",
    ];
    place.open().await.close().await;
    place.execute(&OLDER).await;
    let store = place.open().await;
    assert_eq!(store.head().await.unwrap().has_all_tables, place.url.starts_with("sqlite"));
    make(&store, "a").await;
    store.close().await;
    place.execute(&OLDER).await;
    assert!(!place.open().await.head().await.unwrap().has_all_tables);
}

/// A copy of the store that goes on by itself draws other marks: what was read on one is refused by the other.
pub(crate) async fn a_state_is_named_by_its_mark(place: Arc<Place>) {
    let store = place.open().await;
    let first = store.head().await.unwrap();
    assert_eq!(first.point(), Point::default());
    let mut points = vec![first.point()];
    for n in 0..5 {
        let (_, head) = store.create_key(&new_key(&format!("key {n}")), BY).await.unwrap();
        assert_eq!(head.after, points.last().copied());
        points.push(head.point());
    }
    for known in &points {
        let head = store.head_after(*known).await.unwrap();
        assert_eq!((head.point(), head.after), (points[5], Some(*known)));
        store.changes(known.revision, known.revision, Some(known.mark), 10).await.unwrap();
        let other = Point { mark: Mark::from_bits(!known.mark.bits()), ..*known };
        assert_eq!(store.head_after(other).await.unwrap().after, None);
        let refused = store.changes(known.revision, known.revision, Some(other.mark), 10).await;
        assert!(matches!(refused, Err(Error::Forked(5))), "{refused:?}");
    }
    assert_eq!(store.head_after(Point { revision: 6, mark: points[5].mark }).await.unwrap().after, None);
}

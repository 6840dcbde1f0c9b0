//! Lists: every filter in every order, in pages of any size in both directions, against the same list made by hand.

use super::Place;
use super::cases::{BY, NOW, new_key};
use keyward_admin::lifetime::Lifetime;
use keyward_admin::store::keys::{By, KeyEdit, KeyRecord};
use keyward_admin::store::list::{Cursor, Filter, Order, Sort};
use keyward_admin::store::{Error, Status, Store};
use keyward_policy::timestamp::Timestamp;
use std::sync::Arc;

const DAY_MS: i64 = 86_400_000;
const GRANTS: [&[&str]; 3] = [&["records:read"], &["records:read", "files:read"], &["files:write", "records:reading"]];

fn days(days: i64) -> Timestamp {
    Timestamp::from_unix_ms(NOW.unix_ms() + days * DAY_MS)
}

/// Makes keys of all kinds, some of them older than others, and returns them in the order of creation.
async fn fill(store: &Store) -> Vec<KeyRecord> {
    let mut ids = Vec::new();
    for number in 0..48 {
        let mut new = new_key(&format!("{} {number:02}", ["Bot", "alpha", "Zulu", "ämter"][number % 4]));
        new.permissions = GRANTS[number % 3].iter().map(|id| (*id).to_owned()).collect();
        new.expires_in = [Lifetime::Week, Lifetime::Never, Lifetime::Month][number / 3 % 3];
        // The oldest have expired.
        let by = By { at: days(number as i64 - 40), ..BY };
        let key = store.create_key(&new, by).await.unwrap().0;
        if number % 5 == 0 {
            let edit = KeyEdit { disabled: Some(true), ..KeyEdit::default() };
            store.edit_key(&key.id, &edit, None, BY).await.unwrap();
        }
        if number % 10 == 0 {
            let edit = KeyEdit { disabled: Some(false), ..KeyEdit::default() };
            store.edit_key(&key.id, &edit, None, BY).await.unwrap();
        }
        if number % 2 == 0 {
            let used = crate::cases::used(&key.id, 1, NOW);
            assert!(store.add_usage("vm", number as u64 + 1, &[used], NOW).await.unwrap());
        }
        ids.push(key.id);
    }
    // What changes of a key changes where it is listed.
    let edit = KeyEdit { permissions: Some(vec!["files:write".to_owned()]), ..KeyEdit::default() };
    store.edit_key(&ids[7], &edit, None, BY).await.unwrap();
    store.delete_key(&ids[9], None, BY).await.unwrap();
    store.regenerate_key(&ids[0], &super::cases::digest(), None, BY).await.unwrap();
    let mut keys = Vec::new();
    for id in ids.iter().filter(|id| **id != ids[9]) {
        keys.push(store.key(id).await.unwrap());
    }
    keys
}

fn filters() -> Vec<Filter> {
    let all = Filter::default;
    let mut filters = vec![
        all(),
        Filter { permission: Some("records:read".to_owned()), ..all() },
        Filter { permission: Some("records".to_owned()), ..all() },
        Filter { never_used: true, ..all() },
        Filter { never_expires: true, ..all() },
        Filter { expires_until: Some(days(5)), ..all() },
        Filter { q: "bot".to_owned(), ..all() },
        Filter { q: "al".to_owned(), status: Some(Status::Active), ..all() },
        Filter { never_used: true, permission: Some("files:write".to_owned()), status: Some(Status::Active), ..all() },
        Filter { expires_until: Some(days(30)), never_used: true, ..all() },
        Filter { expires_until: Some(days(30)), never_expires: true, ..all() },
    ];
    filters.extend(
        [Status::Active, Status::Expired, Status::Disabled].map(|status| Filter { status: Some(status), ..all() }),
    );
    filters
}

/// Whether a search finds the key: one or two characters at the starts of its texts, longer ones anywhere in them. The id
/// and the last four characters are random, so any key may be found by them.
fn finds(q: &str, key: &KeyRecord) -> bool {
    let (name, last_four) = (key.name.to_lowercase(), key.last_four.to_lowercase());
    if q.chars().count() > 2 {
        return [&name, &key.id, &last_four].iter().any(|text| text.contains(q));
    }
    let id = key.id.strip_prefix("key_").unwrap_or(&key.id);
    name.split(' ').chain([id, &last_four]).any(|text| text.starts_with(q))
}

/// The list as its filter and its order describe it.
fn by_hand(keys: &[KeyRecord], filter: &Filter, sort: Sort) -> Vec<String> {
    let passes = |key: &&KeyRecord| {
        let found = finds(&filter.q, key);
        let ends = key.expires_at.map(|at| at.unix_ms() - NOW.unix_ms());
        found
            && filter.status.is_none_or(|status| {
                status
                    == match ends {
                        _ if key.disabled => Status::Disabled,
                        Some(..=0) => Status::Expired,
                        _ => Status::Active,
                    }
            })
            && filter.permission.as_ref().is_none_or(|id| key.permissions.iter().any(|has| has == id))
            && (!filter.never_used || key.last_used_at.is_none())
            && (!filter.never_expires || key.expires_at.is_none())
            && filter
                .expires_until
                .is_none_or(|until| ends.is_some_and(|ends| ends > 0 && ends <= until.unix_ms() - NOW.unix_ms()))
    };
    let mut found: Vec<&KeyRecord> = keys.iter().filter(passes).collect();
    match if filter.q.is_empty() { sort.by } else { Order::Created } {
        Order::Created => found.reverse(),
        Order::Name => found.sort_by_key(|key| key.name.to_ascii_lowercase()),
        Order::Expires => found.sort_by_key(|key| (key.expires_at.is_none(), key.expires_at, key.seq)),
    }
    if sort.reversed && (filter.q.is_empty() || sort.by == Order::Created) {
        found.reverse();
    }
    found.into_iter().map(|key| key.name.clone()).collect()
}

async fn page(
    store: &Store,
    filter: &Filter,
    sort: Sort,
    cursor: Option<&str>,
    limit: u32,
) -> keyward_admin::store::list::KeyPage {
    let cursor: Option<Cursor> = cursor.map(|text| text.parse().unwrap());
    store.key_page(filter, sort, cursor.as_ref(), limit, NOW).await.unwrap()
}

async fn compare(store: &Store, keys: &[KeyRecord]) {
    for filter in filters() {
        for by in [Order::Created, Order::Name, Order::Expires] {
            for reversed in [false, true] {
                let sort = Sort { by, reversed };
                let wanted = by_hand(keys, &filter, sort);
                for limit in [1, 7, 200] {
                    let (mut seen, mut cursor, mut last) = (Vec::new(), None::<String>, None);
                    loop {
                        let page = page(store, &filter, sort, cursor.as_deref(), limit).await;
                        assert_eq!(page.previous.is_some(), cursor.is_some());
                        seen.extend(page.keys.iter().map(|key| key.name.clone()));
                        cursor = page.next.map(|next| next.to_string());
                        last = page.previous.map(|previous| previous.to_string()).or(last);
                        if cursor.is_none() {
                            break;
                        }
                    }
                    assert_eq!(seen, wanted, "{filter:?} {sort:?} in pages of {limit}");
                    // And back, from the last page to the first one.
                    let in_last = wanted.len().saturating_sub(1) % limit as usize + 1;
                    let mut before: Vec<String> = Vec::new();
                    while let Some(cursor) = last {
                        let page = page(store, &filter, sort, Some(&cursor), limit).await;
                        assert!(page.next.is_some());
                        before.splice(0..0, page.keys.iter().map(|key| key.name.clone()));
                        last = page.previous.map(|previous| previous.to_string());
                    }
                    let earlier = wanted.len() - in_last.min(wanted.len());
                    assert_eq!(before, wanted[..earlier], "{filter:?} {sort:?} back in pages of {limit}");
                }
            }
        }
        if let Some(count) = store.count_keys(&filter, NOW).await.unwrap() {
            assert_eq!(count as usize, by_hand(keys, &filter, Sort::default()).len(), "{filter:?}");
        }
    }
}

pub(crate) async fn every_filter_in_every_order_and_direction(place: Arc<Place>) {
    let store = place.open().await;
    let keys = fill(&store).await;
    compare(&store, &keys).await;
}

pub(crate) async fn a_page_before_keys_that_are_gone_is_the_first_one(place: Arc<Place>) {
    let store = place.open().await;
    let keys = fill(&store).await;
    let (filter, sort) = (Filter::default(), Sort::default());
    let first = page(&store, &filter, sort, None, 3).await;
    let second = page(&store, &filter, sort, Some(&first.next.unwrap().to_string()), 3).await;
    for key in first.keys {
        store.delete_key(&key.id, None, BY).await.unwrap();
    }
    let back = page(&store, &filter, sort, Some(&second.previous.unwrap().to_string()), 3).await;
    assert_eq!(back.keys[0].id, keys[keys.len() - 4].id);
    assert!(back.previous.is_none() && back.next.is_some());
}

/// A database that an older version made has no indexes for lists: they are made, and filled, when it is opened.
pub(crate) async fn an_older_database_gets_the_indexes(place: Arc<Place>) {
    if place.url.contains(":memory:") {
        return;
    }
    let store = place.open().await;
    let keys = fill(&store).await;
    store.close().await;
    let undo = [
        "DROP INDEX keys_by_end",
        "DROP INDEX keys_by_name_in_lower_case",
        "DELETE FROM key_prefixes WHERE prefix LIKE '=%'",
        "UPDATE store SET names_folded = 0",
        "DELETE FROM _sqlx_migrations WHERE version = 3",
    ];
    place.execute(&undo).await;
    let store = place.open().await;
    compare(&store, &keys).await;
    // A name of an older key is taken for all that look like it.
    let alike = new_key(&keys[0].name.to_uppercase());
    assert!(matches!(store.create_key(&alike, BY).await, Err(Error::NameTaken)));
}

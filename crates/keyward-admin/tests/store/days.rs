//! Requests by key and day.

use super::Place;
use super::cases::{BY, NOW, new_key, used};
use keyward_admin::store::Store;
use keyward_admin::store::keys::KeyRecord;
use keyward_admin::store::usage_days::{MAX_DAYS, outside};
use keyward_admin::store::usage_report::{KeyUsage, Requests};
use keyward_policy::checksum::splitmix64;
use keyward_policy::decision::Code;
use keyward_policy::timestamp::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

fn on(day: i64) -> Timestamp {
    Timestamp::from_unix_ms(NOW.unix_ms() + day * 86_400_000)
}

fn denied(id: &str, code: Code, count: u64, at: Timestamp) -> KeyUsage {
    KeyUsage { id: id.to_owned(), at, requests: Requests::Denied(vec![(code, count)]) }
}

async fn make(store: &Store, name: &str) -> KeyRecord {
    store.create_key(&new_key(name), BY).await.expect("a key can be made").0
}

/// Everything that is kept of a key, or of all: day from today, code and count.
async fn read(store: &Store, id: Option<&str>) -> Vec<(i64, String, u64)> {
    let days = store.usage_days(id, i64::MIN).await.unwrap();
    days.into_iter().map(|day| (day.day - NOW.day(), day.code, day.count)).collect()
}

/// Random batches, some of them sent again, against sums in a map.
pub(crate) async fn requests_are_counted_once_by_key_day_and_code(place: Arc<Place>) {
    const CODES: [Code; 3] = [Code::KeyDisabled, Code::PermissionMissing, Code::RouteDenied];
    let store = place.open().await;
    let mut ids = vec!["key_gone".to_owned()];
    for name in ["a", "b", "c"] {
        ids.push(make(&store, name).await.id);
    }
    let mut drawn = 0;
    let mut below = |limit: u64| {
        drawn += 1;
        splitmix64(drawn) % limit
    };
    let mut expected: BTreeMap<(String, i64, String), u64> = BTreeMap::new();
    let mut all: BTreeMap<(i64, String), u64> = BTreeMap::new();
    for seq in 1..40 {
        let mut batch = Vec::new();
        for _ in 0..below(30) {
            let id = &ids[below(ids.len() as u64) as usize];
            let day = below(MAX_DAYS.unsigned_abs() + 4).cast_signed() - MAX_DAYS - 1;
            let count = below(5);
            let code = CODES.into_iter().nth(below(5) as usize);
            batch.push(match code {
                Some(code) => denied(id, code, count, on(day)),
                None => used(id, count, on(day)),
            });
            // A clock may be ahead by a day; older days, and those after tomorrow, are in no sum.
            let is_counted = (-MAX_DAYS + 1..=1).contains(&day) && count > 0 && *id != ids[0];
            if is_counted {
                let code = code.map_or(String::new(), |code| code.to_string());
                *expected.entry((id.clone(), day.min(0), code.clone())).or_default() += count;
                *all.entry((day.min(0), code)).or_default() += count;
            }
        }
        let vm = format!("vm-{}", below(3));
        assert!(store.add_usage(&vm, seq, &batch, NOW).await.unwrap());
        for late in [seq, seq - 1] {
            assert!(!store.add_usage(&vm, late, &batch, NOW).await.unwrap());
        }
    }
    for id in &ids {
        let sums = expected.iter().filter(|((of, ..), _)| of == id);
        let sums: Vec<_> = sums.map(|((_, day, code), count)| (*day, code.clone(), *count)).collect();
        assert_eq!(read(&store, Some(id)).await, sums, "{id}");
    }
    let all: Vec<_> = all.into_iter().map(|((day, code), count)| (day, code, count)).collect();
    assert_eq!(read(&store, None).await, all);
}

pub(crate) async fn days_end_and_denials_are_no_uses(place: Arc<Place>) {
    let store = place.open().await;
    let (one, two) = (make(&store, "one").await, make(&store, "two").await);
    let batch = [
        used(&one.id, 2, on(-MAX_DAYS + 1)),
        denied(&one.id, Code::KeyDisabled, 3, on(0)),
        denied(&two.id, Code::KeyExpired, 5, on(0)),
        used(&two.id, 7, on(-MAX_DAYS)),
        used(&two.id, 11, on(2)),
        denied(&two.id, Code::KeyExpired, 13, on(300)),
    ];
    assert_eq!(outside(&batch, NOW), 7 + 11 + 13);
    assert!(store.add_usage("vm", 1, &batch, NOW).await.unwrap());
    let disabled = (0, "key_disabled".to_owned(), 3);
    let expired = (0, "key_expired".to_owned(), 5);
    let oldest = (-MAX_DAYS + 1, String::new(), 2);
    assert_eq!(read(&store, Some(&one.id)).await, [oldest.clone(), disabled.clone()]);
    assert_eq!(read(&store, Some(&two.id)).await, std::slice::from_ref(&expired));
    assert_eq!(read(&store, None).await, [oldest.clone(), disabled.clone(), expired.clone()]);
    // A key that was only ever refused was never used.
    assert_eq!(store.key_usage(&one.id).await.unwrap()[0].count, 2);
    assert_eq!(store.key(&one.id).await.unwrap().last_used_at, Some(on(-MAX_DAYS + 1)));
    let refused = make(&store, "refused").await;
    assert!(store.add_usage("vm", 2, &[denied(&refused.id, Code::RouteDenied, 1, on(0))], NOW).await.unwrap());
    assert_eq!(store.key(&refused.id).await.unwrap().last_used_at, None);
    store.delete_key(&refused.id, None, BY).await.unwrap();
    assert_eq!(read(&store, Some(&refused.id)).await, []);
    let denied = (0, "route_denied".to_owned(), 1);
    // Nothing ends before its time; a day later the oldest day does.
    store.forget_usage_days(NOW).await.unwrap();
    assert_eq!(read(&store, None).await, [oldest, disabled.clone(), expired.clone(), denied.clone()]);
    store.forget_usage_days(on(1)).await.unwrap();
    assert_eq!(read(&store, Some(&one.id)).await, std::slice::from_ref(&disabled));
    assert_eq!(read(&store, None).await, [disabled, expired, denied]);
}

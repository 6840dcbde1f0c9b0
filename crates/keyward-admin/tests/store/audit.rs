//! The audit log: what it tells, and in which order.

use super::Place;
use super::cases::{BY, NOW, days, digest, make};
use keyward_admin::store::audit::AuditFilter;
use keyward_admin::store::keys::{By, KeyEdit};
use std::sync::Arc;

pub(crate) async fn the_audit_log_tells_who_did_what_and_keeps_it(place: Arc<Place>) {
    let store = place.open().await;
    let key = make(&store, "a").await;
    let other = By { actor: "other", at: days(1) };
    store.regenerate_key(&key.id, &digest(), None, other).await.unwrap();
    let rename = KeyEdit { name: Some("b".to_owned()), ..KeyEdit::default() };
    store.edit_key(&key.id, &rename, None, BY).await.unwrap();
    store.delete_key(&key.id, None, BY).await.unwrap();
    make(&store, "c").await;
    let actions = async |filter: AuditFilter| -> Vec<String> {
        store.audit(&filter, None, 10).await.unwrap().into_iter().map(|entry| entry.action).collect()
    };
    let text = |text: &str| Some(text.to_owned());
    let all = ["key.create", "key.delete", "key.update", "key.regenerate", "key.create"];
    assert_eq!(actions(AuditFilter::default()).await, all);
    assert_eq!(actions(AuditFilter { subject_id: text(&key.id), ..AuditFilter::default() }).await, all[1..]);
    assert_eq!(actions(AuditFilter { actor: text("other"), ..AuditFilter::default() }).await, all[3..4]);
    assert_eq!(actions(AuditFilter { action: text("key.create"), ..AuditFilter::default() }).await.len(), 2);
    let range = |since, until| AuditFilter { since, until, ..AuditFilter::default() };
    assert_eq!(actions(range(Some(days(1)), None)).await, all[3..4]);
    assert_eq!(actions(range(None, Some(days(1)))).await.len(), 4, "the end is not part of the range");
    let of_key = AuditFilter { subject_id: text(&key.id), ..range(Some(days(0)), Some(days(1))) };
    assert_eq!(actions(of_key).await, ["key.delete", "key.update", "key.create"]);
    // A range is in the order of its times, also across pages. A clock was set back after the regeneration.
    let since = range(Some(days(0)), None);
    let by_time = ["key.regenerate", "key.create", "key.delete", "key.update", "key.create"];
    assert_eq!(actions(since.clone()).await, by_time);
    let (mut before, mut walked) = (None, Vec::new());
    while let [entry] = &store.audit(&since, before, 1).await.unwrap()[..] {
        before = Some(entry.seq);
        walked.push(entry.action.clone());
    }
    assert_eq!(walked, by_time);
    let pair = AuditFilter { actor: text("tester"), action: text("key.create"), ..range(None, Some(days(1))) };
    assert_eq!(actions(pair.clone()).await, ["key.create"; 2]);
    assert_eq!(actions(AuditFilter { since: Some(days(1)), until: None, ..pair }).await, [""; 0]);
    let one = AuditFilter { actor: text("other"), ..range(Some(days(1)), Some(days(2))) };
    assert_eq!(actions(one).await, ["key.regenerate"]);
    let one = AuditFilter { action: text("key.delete"), ..range(Some(days(0)), Some(days(1))) };
    assert_eq!(actions(one).await, ["key.delete"]);
    let both = AuditFilter {
        subject_id: text(&key.id),
        actor: text("tester"),
        action: text("key.update"),
        ..AuditFilter::default()
    };
    let entry = &store.audit(&both, None, 10).await.unwrap()[0];
    assert_eq!(entry.detail, serde_json::json!({"name": {"before": "a", "after": "b"}}));
    assert_eq!((entry.revision, entry.subject_name.as_str(), entry.at), (Some(3), "b", NOW));
    let older = store.audit(&AuditFilter::default(), Some(entry.seq), 10).await.unwrap();
    assert_eq!(older.len(), 2);
}

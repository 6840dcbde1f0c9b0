//! What replicas tell each other, without a database between them.

use super::{PollHeaders, Proxies};
use crate::clock::Clock;
use keyward_policy::timestamp::Timestamp;
use std::sync::Arc;
use std::time::Duration;

const NOW: i64 = 1_800_000_000_000;

fn replica() -> Arc<Proxies> {
    Proxies::new(Clock::from_fn(|| Timestamp::from_unix_ms(NOW)), Vec::new(), true)
}

fn vm(name: &str) -> PollHeaders {
    PollHeaders {
        node: Some("envoy-1".to_owned()),
        vm: Some(name.to_owned()),
        max_staleness: Some(Duration::from_secs(60)),
        ..PollHeaders::default()
    }
}

/// What `from` has to say reaches `to` and itself.
fn tell(from: &Arc<Proxies>, name: &str, to: &Arc<Proxies>, other: &str) {
    let messages = from.take_messages(&name.into(), true);
    from.told();
    for text in messages {
        assert!(text.len() < 8_000, "{}", text.len());
        from.hear(&name.into(), serde_json::from_str(&text).unwrap());
        to.hear(&other.into(), serde_json::from_str(&text).unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_cannot_see_the_others_says_so() {
    let (a, b) = (replica(), replica());
    assert_eq!(a.applied(1).of, None);
    a.listening();
    b.listening();
    tell(&a, "a", &b, "b");
    tokio::time::advance(Duration::from_millis(600)).await;
    assert_eq!(a.applied(1).of, Some(0));
    assert_eq!(b.applied(1).of, None, "it has not heard itself");
    tell(&b, "b", &a, "a");
    assert_eq!(b.applied(1).of, Some(0));

    let (_, guard) = b.begin(&vm("vm-1"), 5, 5);
    tell(&b, "b", &a, "a");
    assert_eq!((a.applied(5).vms, a.applied(5).of), (1, Some(1)));
    assert_eq!((a.applied(6).vms, a.applied(6).of), (0, Some(1)));
    a.not_listening();
    let blind = a.applied(5);
    assert_eq!((blind.of, blind.refused_everywhere_by), (None, None));
    a.listening();
    assert_eq!(a.applied(5).of, None);

    // Silence of the other replica: its VM may hold what it held.
    tokio::time::advance(Duration::from_secs(4)).await;
    tell(&a, "a", &b, "b");
    let after = a.applied(6);
    assert_eq!((after.of, after.unreachable), (Some(0), 1));
    assert_eq!(after.refused_everywhere_by, Some(Timestamp::from_unix_ms(NOW + 70_000)));
    drop(guard);
}

#[tokio::test(start_paused = true)]
async fn many_vms_fit_into_messages() {
    let (a, b) = (replica(), replica());
    let guards: Vec<_> = (0..1_000).map(|n| a.begin(&vm(&format!("vm-{n}-\"\u{1}\\é")), 3, 3)).collect();
    a.listening();
    b.listening();
    tell(&a, "a", &b, "b");
    assert_eq!(b.applied(3).vms, 1_000);
    drop(guards);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_told_or_written_is_told_and_written_later() {
    let (a, b) = (replica(), replica());
    a.listening();
    b.listening();
    let (_, _guard) = a.begin(&vm("vm-1"), 5, 5);
    a.sweep();
    // The database refuses.
    assert_eq!(a.take_messages(&"a".into(), false).len(), 1);
    tell(&a, "a", &b, "b");
    assert_eq!(b.applied(5).vms, 1);
    assert!(a.take_messages(&"a".into(), false).is_empty());

    let (changed, forgotten) = a.take_unsaved();
    assert_eq!(changed.len(), 1);
    a.still_unsaved(changed.clone(), forgotten);
    assert_eq!(a.take_unsaved().0, changed);
    assert!(a.take_unsaved().0.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_receipt_ends_when_the_last_vm_leaves() {
    let proxies = Proxies::new(Clock::from_fn(|| Timestamp::from_unix_ms(NOW)), Vec::new(), false);
    let (_, guard) = proxies.begin(&vm("vm-1"), 1, 1);
    drop(guard);
    let receipt = proxies.receipt(2, Duration::from_secs(30)).await;
    assert_eq!((receipt.vms, receipt.of, receipt.unreachable), (0, Some(0), 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_of_a_vm_that_moved_to_another_replica_is_that_it_is_in_contact() {
    let (a, b) = (replica(), replica());
    a.listening();
    b.listening();
    let (_, here) = a.begin(&vm("vm-1"), 5, 5);
    a.sweep();
    assert!(a.take_unsaved().0[0].in_contact);
    drop(here);
    let (_, _there) = b.begin(&vm("vm-1"), 5, 5);
    b.sweep();
    tell(&b, "b", &a, "a");
    tokio::time::advance(Duration::from_secs(2)).await;
    a.sweep();
    assert!(a.take_unsaved().0[0].in_contact, "the row is one for both replicas");
    // Once the other is silent, its last sign of life is the last contact.
    tokio::time::advance(Duration::from_secs(3)).await;
    drop(a.begin(&vm("vm-1"), 6, 6));
    tokio::time::advance(Duration::from_secs(3)).await;
    a.sweep();
    assert!(!a.take_unsaved().0[0].in_contact);
}

#[tokio::test(start_paused = true)]
async fn a_stopping_service_gives_the_receipt_as_it_is() {
    let proxies = Proxies::new(Clock::from_fn(|| Timestamp::from_unix_ms(NOW)), Vec::new(), false);
    let (_, _guard) = proxies.begin(&vm("vm-1"), 1, 1);
    let waiting = tokio::spawn({
        let proxies = Arc::clone(&proxies);
        async move { proxies.receipt(2, Duration::from_secs(30)).await }
    });
    tokio::task::yield_now().await;
    let begun = tokio::time::Instant::now();
    proxies.close();
    let receipt = waiting.await.unwrap();
    assert_eq!((receipt.vms, receipt.of), (0, Some(1)));
    assert!(begun.elapsed() < Duration::from_millis(50));
}

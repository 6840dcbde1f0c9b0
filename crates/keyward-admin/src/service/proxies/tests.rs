//! What replicas tell each other, without a database between them.

use super::{Message, PollHeaders, Proxies};
use crate::clock::Clock;
use keyward_policy::timestamp::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

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

    let (_, guard) = b.begin(&vm("vm-1"), 5, 5, 5);
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
async fn what_could_not_be_told_is_told_later() {
    let (a, b) = (replica(), replica());
    a.listening();
    b.listening();
    let (_, _guard) = a.begin(&vm("vm-1"), 5, 5, 5);
    assert_eq!(a.take_messages(&"a".into(), false).len(), 1);
    a.not_told();
    assert_eq!(b.list(), []);
    tell(&a, "a", &b, "b");
    assert_eq!(b.list().len(), 1);
    a.not_told();
    assert_eq!(a.take_messages(&"a".into(), false).len(), 1, "whether it was told is not known here");
}

#[tokio::test(start_paused = true)]
async fn who_did_not_listen_learns_of_vms_that_came_and_went_meanwhile() {
    let (a, b) = (replica(), replica());
    a.listening();
    let (_, guard) = a.begin(&vm("vm-1"), 5, 5, 5);
    drop(guard);
    a.take_messages(&"a".into(), false);
    tokio::time::advance(Duration::from_secs(4)).await;
    a.sweep();
    a.take_messages(&"a".into(), false);
    assert_eq!(a.counts(), (0, 1));

    b.listening();
    let hello = Message { from: "b".into(), hello: true, bye: false, vms: Vec::new() };
    a.hear(&"a".into(), hello);
    tell(&b, "b", &a, "a");
    tell(&a, "a", &b, "b");
    tokio::time::advance(Duration::from_millis(600)).await;
    let applied = b.applied(6);
    assert_eq!((applied.of, applied.unreachable), (Some(0), 1));
    assert_eq!(applied.refused_everywhere_by, a.applied(6).refused_everywhere_by);
    assert!(applied.refused_everywhere_by.is_some());
}

#[tokio::test(start_paused = true)]
async fn who_is_ahead_of_the_store_acknowledges_nothing_unless_the_store_was_ahead_of_us() {
    let proxies = Proxies::new(Clock::from_fn(|| Timestamp::from_unix_ms(NOW)), Vec::new(), false);
    let (_, guard) = proxies.begin(&vm("of another store"), 1_000, 1_000, 3);
    assert_eq!((proxies.applied(3).vms, proxies.applied(3).of), (0, Some(1)));
    drop(guard);
    assert_eq!(proxies.applied(3).vms, 0);
    let (_, guard) = proxies.begin(&vm("of another replica"), 4, 4, 3);
    guard.unwrap().answered(false, 4);
    assert_eq!((proxies.applied(4).vms, proxies.applied(4).of), (1, Some(2)));
}

#[tokio::test(start_paused = true)]
async fn who_was_refused_is_still_to_get_its_first_answer() {
    let proxies = Proxies::new(Clock::from_fn(|| Timestamp::from_unix_ms(NOW)), Vec::new(), false);
    let (first, guard) = proxies.begin(&vm("vm-1"), 0, 0, 0);
    assert!(first);
    drop(guard);
    let (first, guard) = proxies.begin(&vm("vm-1"), 0, 0, 0);
    assert!(first);
    guard.unwrap().answered(false, 0);
    assert!(!proxies.begin(&vm("vm-1"), 0, 0, 0).0);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_saved_is_saved_later() {
    let proxies = Proxies::new(Clock::from_fn(|| Timestamp::from_unix_ms(NOW)), Vec::new(), false);
    let (_, _guard) = proxies.begin(&vm("vm-1"), 1, 1, 1);
    let (changed, forgotten) = proxies.take_unsaved();
    assert_eq!(changed.len(), 1);
    assert_eq!(proxies.take_unsaved().0, []);
    proxies.not_saved(&changed, forgotten);
    assert_eq!(proxies.take_unsaved().0, changed);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_does_not_outlive_the_service() {
    let proxies = Proxies::new(Clock::from_fn(|| Timestamp::from_unix_ms(NOW)), Vec::new(), false);
    let (_, _guard) = proxies.begin(&vm("vm-1"), 1, 1, 2);
    let begun = Instant::now();
    let waiting = tokio::spawn({
        let proxies = Arc::clone(&proxies);
        async move { proxies.receipt(2, Duration::from_secs(30)).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    proxies.close();
    assert_eq!(waiting.await.unwrap().of, Some(1));
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn many_vms_fit_into_messages() {
    let (a, b) = (replica(), replica());
    let guards: Vec<_> = (0..1_000).map(|n| a.begin(&vm(&format!("vm-{n}-\"\u{1}\\é")), 3, 3, 3)).collect();
    a.listening();
    b.listening();
    tell(&a, "a", &b, "b");
    assert_eq!(b.applied(3).vms, 1_000);
    drop(guards);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_ends_when_the_last_vm_leaves() {
    let proxies = Proxies::new(Clock::from_fn(|| Timestamp::from_unix_ms(NOW)), Vec::new(), false);
    let (_, guard) = proxies.begin(&vm("vm-1"), 1, 1, 1);
    drop(guard);
    let closed = tokio::time::Instant::now();
    let receipt = proxies.receipt(2, Duration::from_secs(30)).await;
    assert_eq!((receipt.vms, receipt.of, receipt.unreachable), (0, Some(0), 1));
    // By the paused clock: the speed of the machine does not matter.
    assert!(closed.elapsed() < Duration::from_secs(5), "{:?}", closed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_of_a_vm_that_moved_to_another_replica_is_that_it_is_in_contact() {
    let (a, b) = (replica(), replica());
    a.listening();
    b.listening();
    let (_, here) = a.begin(&vm("vm-1"), 5, 5, 5);
    a.sweep();
    assert!(a.take_unsaved().0[0].in_contact);
    drop(here);
    let (_, _there) = b.begin(&vm("vm-1"), 5, 5, 5);
    b.sweep();
    tell(&b, "b", &a, "a");
    tokio::time::advance(Duration::from_secs(2)).await;
    a.sweep();
    assert!(a.take_unsaved().0[0].in_contact, "the row is one for both replicas");
    // Once the other is silent, its last sign of life is the last contact.
    tokio::time::advance(Duration::from_secs(3)).await;
    drop(a.begin(&vm("vm-1"), 6, 6, 6));
    a.sweep();
    tokio::time::advance(Duration::from_secs(3)).await;
    a.sweep();
    let (changed, forgotten) = a.take_unsaved();
    assert!(!changed[0].in_contact);
    // What could not be written is written later.
    a.not_saved(&changed, forgotten);
    assert_eq!(a.take_unsaved().0, changed);
    assert_eq!(a.take_unsaved().0, []);
}

#[tokio::test(start_paused = true)]
async fn a_stopping_service_gives_the_receipt_as_it_is() {
    let proxies = Proxies::new(Clock::from_fn(|| Timestamp::from_unix_ms(NOW)), Vec::new(), false);
    let (_, _guard) = proxies.begin(&vm("vm-1"), 1, 1, 1);
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

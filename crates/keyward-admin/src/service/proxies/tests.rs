//! What replicas tell each other, without a database between them.

use super::{Answered, Found, Limits, Message, PollGuard, PollHeaders, Proxies, Question, Step};
use crate::clock::Clock;
use keyward_policy::timeline::{Enforcement, InlineKeys, Mark, Point};
use keyward_policy::timestamp::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, advance};

const NOW: i64 = 1_800_000_000_000;

fn point(revision: u64) -> Point {
    Point { revision, mark: Mark::from_bits(revision * 1_000) }
}

fn found(revision: u64) -> Found {
    Found { head: point(revision), has_lineage: true, has_all_tables: true }
}

fn proxies(revision: u64, shared: bool) -> Arc<Proxies> {
    let clock = Clock::from_fn(|| Timestamp::from_unix_ms(NOW));
    Proxies::new(clock, Vec::new(), found(revision), shared, Limits::default())
}

fn replica(revision: u64) -> Arc<Proxies> {
    let replica = proxies(revision, true);
    replica.listening(revision, Vec::new());
    replica
}

fn vm(name: &str) -> PollHeaders {
    PollHeaders {
        node: Some("envoy-1".to_owned()),
        vm: Some(name.to_owned()),
        table: Some(format!("table of {name}")),
        max_staleness: Some(Duration::from_secs(60)),
        mode: Some(Enforcement::Enforce),
        inline_keys: Some(InlineKeys::None),
        ..PollHeaders::default()
    }
}

fn at(point: Point) -> Question {
    Question { since: point.revision, base: point.revision, mark: Some(point.mark) }
}

fn poll(proxies: &Arc<Proxies>, name: &str, question: Question) -> PollGuard {
    proxies.begin(&vm(name), &"token".into(), question).unwrap().unwrap()
}

/// What `from` has to say reaches `to` and itself, and `from` reads the store afterwards.
fn tell(from: &Arc<Proxies>, name: &str, to: &Arc<Proxies>, other: &str) {
    let begun = Instant::now();
    for text in from.take_messages(&name.into(), true) {
        assert!(text.len() < 8_000, "{}", text.len());
        from.hear(&name.into(), serde_json::from_str(&text).unwrap());
        to.hear(&other.into(), serde_json::from_str(&text).unwrap());
    }
    from.told_others(begun);
    from.read(Instant::now());
}

fn record(proxies: &Arc<Proxies>) {
    let records = proxies.take_unsaved(1_000);
    proxies.saved(records);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_cannot_see_the_others_says_so() {
    let (a, b) = (proxies(5, true), replica(5));
    assert_eq!(a.applied(1).of, None);
    a.listening(5, Vec::new());
    tell(&a, "a", &b, "b");
    advance(Duration::from_millis(600)).await;
    assert_eq!(a.applied(1).of, Some(0));
    assert_eq!(b.applied(1).of, None, "it has not heard itself");
    tell(&b, "b", &a, "a");
    assert_eq!(b.applied(1).of, Some(0));

    let guard = poll(&b, "vm-1", at(point(5)));
    tell(&b, "b", &a, "a");
    assert_eq!((a.applied(5).vms, a.applied(5).of), (1, Some(1)));
    assert_eq!(a.applied(6).of, None, "the change was not heard of");
    a.advance(point(6));
    a.heard_change(6);
    assert_eq!((a.applied(6).vms, a.applied(6).of), (0, Some(1)));
    a.not_listening();
    let blind = a.applied(5);
    assert_eq!((blind.of, blind.refused_everywhere_by), (None, None));
    a.listening(6, Vec::new());
    assert_eq!(a.applied(5).of, None);
    drop(guard);
}

#[tokio::test(start_paused = true)]
async fn a_silent_replica_may_have_given_contact_until_its_last_message() {
    let (a, b) = (replica(5), replica(5));
    let _guard = poll(&b, "vm-1", at(point(5)));
    for _ in 0..3 {
        tell(&a, "a", &b, "b");
        tell(&b, "b", &a, "a");
    }
    a.advance(point(6));
    a.heard_change(6);
    advance(Duration::from_secs(4)).await;
    tell(&a, "a", &b, "b");
    let after = a.applied(6);
    assert_eq!((after.of, after.unreachable), (Some(0), 1));
    assert_eq!(after.refused_everywhere_by, Some(Timestamp::from_unix_ms(NOW + 56_000)));
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_told_is_told_later() {
    let (a, b) = (replica(5), replica(5));
    let _guard = poll(&a, "vm-1", at(point(5)));
    assert!(!a.take_messages(&"a".into(), false).is_empty());
    a.not_told();
    assert_eq!(b.list(), []);
    tell(&a, "a", &b, "b");
    assert_eq!(b.list().len(), 1);
    assert_eq!(a.take_messages(&"a".into(), false), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn who_did_not_listen_learns_of_vms_that_came_and_went_meanwhile() {
    let (a, b) = (replica(6), proxies(6, true));
    drop(poll(&a, "vm-1", at(point(5))));
    tell(&a, "a", &a, "a");
    advance(Duration::from_secs(4)).await;
    a.sweep();
    tell(&a, "a", &a, "a");
    assert_eq!(a.counts(), (0, 1));
    b.listening(6, Vec::new());
    for _ in 0..3 {
        tell(&b, "b", &a, "a");
        tell(&a, "a", &b, "b");
    }
    advance(Duration::from_millis(600)).await;
    let applied = b.applied(6);
    assert_eq!((applied.of, applied.unreachable), (Some(0), 1));
    assert!(applied.refused_everywhere_by.is_some(), "{applied:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_contact_before_the_others_were_told_and_the_store_was_read() {
    let a = replica(5);
    assert_eq!((a.as_of(), a.step()), (None, Step::Read));
    let guard = poll(&a, "vm-1", at(point(5)));
    assert_eq!(guard.step(), Step::Record);
    record(&a);
    assert_eq!(guard.step(), Step::Tell);
    let begun = Instant::now();
    assert!(!a.take_messages(&"a".into(), true).is_empty());
    advance(Duration::from_millis(5)).await;
    a.told_others(begun);
    assert_eq!(guard.step(), Step::Read);
    advance(Duration::from_millis(5)).await;
    a.read(Instant::now());
    assert_eq!((guard.step(), a.as_of()), (Step::Ready, Some(begun)));
    // Once it is out of contact, the others have to be told again.
    a.sweep();
    drop(guard);
    advance(Duration::from_secs(5)).await;
    a.sweep();
    tell(&a, "a", &a, "a");
    assert_eq!(poll(&a, "vm-1", at(point(5))).step(), Step::Tell);
    // A store that moved may have lost the row, too.
    let guard = poll(&a, "vm-1", at(point(5)));
    a.moved(found(5), false);
    assert_eq!(guard.step(), Step::Record);
}

#[tokio::test(start_paused = true)]
async fn a_failover_leaves_receipts_without_a_time_until_it_is_confirmed() {
    let moved = Found { has_all_tables: false, ..found(5) };
    for promise in [None, Some(Duration::from_secs(60))] {
        let limits = Limits { longest_staleness: promise, ..Limits::default() };
        let clock = Clock::from_fn(|| Timestamp::from_unix_ms(NOW));
        let started = Proxies::new(clock, Vec::new(), moved, false, limits);
        let alive = proxies(5, false);
        assert!(alive.applied(5).refused_everywhere_by.is_some());
        alive.moved(moved, false);
        for proxies in [&started, &alive] {
            let applied = proxies.applied(5);
            assert!(applied.refused_everywhere_by.is_none() && applied.doubts.vms_may_be_missing, "{applied:?}");
        }
        advance(Duration::from_secs(59)).await;
        assert!(!started.missing_tables_are_gone());
        advance(Duration::from_secs(1)).await;
        assert_eq!(started.missing_tables_are_gone(), promise.is_some());
        started.confirm();
        assert!(started.applied(5).refused_everywhere_by.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_promise_that_a_known_table_breaks_does_not_count() {
    let moved = Found { has_all_tables: false, ..found(5) };
    let limits = Limits { longest_staleness: Some(Duration::from_secs(59)), ..Limits::default() };
    let proxies = Proxies::new(Clock::from_fn(|| Timestamp::from_unix_ms(NOW)), Vec::new(), moved, false, limits);
    let _guard = poll(&proxies, "vm-1", at(point(5)));
    record(&proxies);
    advance(Duration::from_secs(100)).await;
    assert!(!proxies.missing_tables_are_gone());
}

#[tokio::test(start_paused = true)]
async fn who_is_ahead_of_the_store_acknowledges_nothing_unless_the_store_was_ahead_of_us() {
    let proxies = proxies(3, false);
    let guard = poll(&proxies, "of another store", at(Point { revision: 1_000, mark: Mark::from_bits(7) }));
    assert_eq!((proxies.applied(3).vms, proxies.applied(3).of), (0, Some(1)));
    drop(guard);
    assert_eq!(proxies.applied(3).vms, 0);
    let guard = poll(&proxies, "of another replica", at(point(4)));
    proxies.advance(point(4));
    assert_eq!(proxies.applied(4).vms, 1);
    drop(guard);
}

#[tokio::test(start_paused = true)]
async fn who_was_refused_is_still_to_get_its_first_answer() {
    let proxies = proxies(0, false);
    let first = poll(&proxies, "vm-1", Question::default());
    assert!(first.is_first());
    drop(first);
    let second = poll(&proxies, "vm-1", Question::default());
    assert!(second.is_first());
    second.answered(Answered { complete: true, revision: 0, as_of: Instant::now() });
    assert!(!poll(&proxies, "vm-1", Question::default()).is_first());
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_saved_is_saved_later() {
    let proxies = proxies(1, false);
    let guard = poll(&proxies, "vm-1", at(point(1)));
    let changed = proxies.take_unsaved(10);
    assert_eq!(changed.len(), 1);
    assert_eq!(proxies.take_unsaved(10), []);
    proxies.not_saved(changed);
    assert_eq!(guard.step(), Step::Record);
    let changed = proxies.take_unsaved(10);
    assert_eq!(changed.len(), 1);
    // The store moved while they were written: they may be lost.
    proxies.moved(found(1), false);
    proxies.saved(changed);
    assert_eq!(guard.step(), Step::Record);
    record(&proxies);
    assert_eq!(guard.step(), Step::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_does_not_outlive_the_service() {
    let proxies = proxies(2, false);
    let _guard = poll(&proxies, "vm-1", at(point(1)));
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
    let (a, b) = (replica(3), replica(3));
    let guards: Vec<_> = (0..1_000).map(|n| poll(&a, &format!("vm-{n}-\"\u{1}\\é"), at(point(3)))).collect();
    tell(&a, "a", &b, "b");
    assert_eq!(b.applied(3).vms, 1_000);
    drop(guards);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_ends_when_the_last_vm_leaves() {
    let proxies = proxies(2, false);
    drop(poll(&proxies, "vm-1", at(point(1))));
    let closed = Instant::now();
    let receipt = proxies.receipt(2, Duration::from_secs(30)).await;
    assert_eq!((receipt.vms, receipt.of, receipt.unreachable), (0, Some(0), 1));
    // By the paused clock: the speed of the machine does not matter.
    assert!(closed.elapsed() < Duration::from_secs(5), "{:?}", closed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_here_is_forgotten_there() {
    let (a, b) = (replica(5), replica(5));
    let _guard = poll(&a, "vm-1", at(point(5)));
    tell(&a, "a", &b, "b");
    assert_eq!(b.list().len(), 1);
    let message = Message { forgotten: Some("vm-1".to_owned()), ..Message::beat(&"a".into()) };
    b.hear(&"b".into(), message);
    assert_eq!(b.list(), []);
}

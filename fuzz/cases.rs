//! What follows a panic in one hook.

use super::service::{Service, State};
use super::stand_in::PANICS;
use super::{Asked, Filter, SECOND, load, note_panics};
use keyward_native::failpoint;
use std::sync::atomic::Ordering;

fn services() -> [Service; 2] {
    [Service::new(0), Service::new(1)]
}

/// Panics at these places while `act` runs.
fn panicking<R>(places: &'static [&'static str], act: impl FnOnce() -> R) -> R {
    failpoint::plant(places);
    let result = act();
    assert_eq!(failpoint::to_come(), 0, "{places:?}");
    result
}

#[test]
fn a_panic_is_counted_at_once_where_a_request_is_denied_and_else_at_the_next_tick() {
    let _turn = load();
    let (mut services, mut filter) = (services(), Filter::new(0).expect("it is good"));
    let (plugin, wanted) = (filter.plugin, filter.wanted);
    let ask = || Asked::begin(plugin, wanted, 8 + 1, 0).expect("nothing panics");
    let (mut denied, mut ended) = (ask(), ask());
    // Those of other tests in this process.
    filter.tick(&mut services);
    let before = PANICS.load(Ordering::SeqCst);
    let counted = || PANICS.load(Ordering::SeqCst) - before;
    panicking(&["request_headers"], || denied.go_on(0, &services));
    assert_eq!((denied.host.answers, counted()), (1, 1));
    ended.go_on(0, &services);
    panicking(&["destroy"], || ended.end());
    filter.tick(&mut services);
    assert_eq!(counted(), 2);
    denied.end();
    filter.end();
    note_panics(2);
}

#[test]
fn keys_whose_answer_was_lost_by_a_panic_are_asked_for_again_soon() {
    let _turn = load();
    let (mut services, mut filter) = (services(), Filter::new(0).expect("it is good"));
    for (round, place) in [&["answer"][..], &["collected"], &["applied"]].into_iter().enumerate() {
        services[0].change(1, State::Live);
        failpoint::set_ahead_ns((10 * round as u64 + 5) * SECOND);
        filter.tick(&mut services);
        assert_eq!(filter.host.calls.len(), 1, "{place:?}");
        panicking(place, || filter.answer_next(0, &mut services));
        filter.host.calls.clear();
        failpoint::set_ahead_ns((10 * round as u64 + 10) * SECOND);
        filter.tick(&mut services);
        assert_eq!(filter.host.calls.len(), 1, "{place:?}");
        filter.answer_next(0, &mut services);
    }
    let mut asked = Asked::begin(filter.plugin, filter.wanted, 1, 0).expect("nothing panics");
    asked.go_on(0, &services);
    assert!(asked.has_passed());
    asked.end();
    filter.end();
    failpoint::set_ahead_ns(0);
    note_panics(3);
}

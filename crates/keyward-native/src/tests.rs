//! What workers see while pages are applied, and how long they wait; and what every order of the hooks keeps (`orders`).

mod orders;
#[allow(dead_code, reason = "`tests/model` uses the rest")]
mod service;

use self::service::{Service, attach, digest};
use crate::failpoint;
use crate::keys::Keys;
use keyward_policy::policy::Unavailable;
use keyward_policy::sync::{Answer, Outcome, Received, RequestId, RootId};
use keyward_policy::table::KeyTable;
use keyward_policy::timestamp::Timestamp;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Asks until the keys are those of the service. `apply` gets each answer.
fn follow(keys: &Keys, root: RootId, service: &Service, mut apply: impl FnMut(RequestId, &Outcome<'_>, Duration)) {
    let mut now = Duration::from_secs(1);
    while keys.read().unwrap().in_use().is_none_or(|position| position.revision < service.head) {
        now += Duration::from_millis(50);
        keys.work();
        let Some(request) = keys.change(|sync| sync.poll(root, now, &mut Vec::new())) else { continue };
        let page = service.page(&request);
        apply(request.id, &Outcome::Answer(Answer { status: 200, body: page.as_bytes(), ..Answer::default() }), now);
    }
}

/// Readers see the keys of a revision and nothing between two revisions, whatever step the main thread is at.
#[test]
fn readers_see_whole_revisions_while_pages_are_collected() {
    let keys = Keys::new(1);
    let root = attach(&keys);
    let mut service = Service::new(250);
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = std::collections::BTreeSet::new();
            while !done.load(Ordering::Acquire) {
                let sync = keys.read().unwrap();
                if let Ok(table) = sync.keys(root, Duration::from_secs(1)) {
                    let last = table.len() as u64;
                    let at = |number: u64| table.get(&digest(number)).is_some();
                    assert!(at(1) && at(last) && !at(last + 1), "{last}");
                    seen.insert(last);
                }
            }
            seen
        });
        for head in [250, 255, 555, 556] {
            service.grow(head);
            follow(&keys, root, &service, |id, outcome, now| {
                keys.on_outcome(id, outcome, now, Timestamp::from_unix_ns(0), &mut Vec::new());
            });
        }
        done.store(true, Ordering::Release);
        reader.join().unwrap()
    });
    assert!(seen.iter().all(|len| [250, 255, 555, 556].contains(len)), "{seen:?}");
    assert_eq!(keys.read().unwrap().keys(root, Duration::from_secs(1)).map(KeyTable::len), Ok(556));
}

/// An answer whose configuration has gone while it was collected changes nothing, and the next one starts anew.
#[test]
fn what_was_lent_and_never_came_back_is_loaded_again() {
    let keys = Keys::new(1);
    let (root, service) = (attach(&keys), Service::new(250));
    let request = keys.change(|sync| sync.poll(root, Duration::ZERO, &mut Vec::new())).unwrap();
    let page = service.page(&request);
    let outcome = Outcome::Answer(Answer { status: 200, body: page.as_bytes(), ..Answer::default() });
    let mut received = Received::read(request.id, request.since, &outcome);
    keys.change(|sync| sync.lend(&mut received));
    received.collect(None);
    drop(received);
    keys.change(|sync| sync.detach(root, Duration::ZERO));
    let root = attach(&keys);
    follow(&keys, root, &service, |id, outcome, now| {
        keys.on_outcome(id, outcome, now, Timestamp::from_unix_ns(0), &mut Vec::new());
    });
    assert_eq!(keys.read().unwrap().keys(root, Duration::from_secs(60)).map(KeyTable::len), Ok(250));
}

/// A change may panic at any of its steps. No worker sees what it has left, and the keys are loaded again.
#[test]
fn after_a_change_that_panics_nothing_is_served_until_all_keys_are_loaded_again() {
    let keys = Keys::new(1);
    let root = attach(&keys);
    let mut service = Service::new(250);
    let apply = |id, outcome: &Outcome<'_>, now| {
        keys.on_outcome(id, outcome, now, Timestamp::from_unix_ns(0), &mut Vec::new());
    };
    follow(&keys, root, &service, apply);
    for lent in [false, true] {
        service.grow(service.head + 5);
        let request = loop {
            keys.work();
            let later = Duration::from_secs(120);
            if let Some(request) = keys.change(|sync| sync.poll(root, later, &mut Vec::new())) {
                break request;
            }
        };
        let page = service.page(&request);
        let outcome = Outcome::Answer(Answer { status: 200, body: page.as_bytes(), ..Answer::default() });
        let mut received = Received::read(request.id, request.since, &outcome);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            keys.change(|sync| {
                sync.lend(&mut received);
                if !lent {
                    resume_unwind(Box::new("planted"));
                }
            });
            keys.change(|sync| {
                received.collect(sync.last_table());
                sync.apply(&mut received, &outcome, Duration::ZERO, Timestamp::from_unix_ns(0), &mut Vec::new());
                // Not by `panic!`, which is counted for the tests of `orders` where those run in the same process.
                resume_unwind(Box::new("planted"));
            });
        }));
        assert!(panicked.is_err());
        let sync = keys.read().expect("the state can be read again");
        assert_eq!(sync.keys(root, Duration::ZERO).err(), Some(Unavailable::NotYetLoaded));
        // A copy of a fetched key in a configuration answers only if the last table has it, and that is lost.
        assert_eq!(sync.last_table().map(KeyTable::len), Some(0));
        drop(sync);
        // The answer to a request from before comes too late.
        apply(request.id, &outcome, Duration::from_secs(1));
        assert_eq!(keys.read().unwrap().keys(root, Duration::ZERO).err(), Some(Unavailable::NotYetLoaded));
        follow(&keys, root, &service, apply);
        assert_eq!(keys.read().unwrap().keys(root, Duration::ZERO).map(KeyTable::len), Ok(service.head as usize));
    }
}

/// Giving the keys up may panic in its turn. Then nobody reads what is there.
#[test]
fn keys_that_cannot_be_given_up_are_never_read_again() {
    let keys = Keys::new(1);
    let (root, service) = (attach(&keys), Service::new(250));
    follow(&keys, root, &service, |id, outcome, now| {
        keys.on_outcome(id, outcome, now, Timestamp::from_unix_ns(0), &mut Vec::new());
    });
    let turn = orders::turn();
    failpoint::plant(&["giving_up"]);
    let panicked = catch_unwind(AssertUnwindSafe(|| keys.change(|_| resume_unwind(Box::new("planted")))));
    orders::note_panics(1);
    drop(turn);
    assert!(panicked.is_err() && failpoint::to_come() == 0);
    assert!(keys.read().is_none());
    keys.work();
    assert!(keys.read().is_none());
}

/// Prints how long a worker waits for its lock while a million keys are loaded, and while 20,000 changes follow:
/// `cargo test --release -p keyward-native -- --ignored --nocapture waits`.
#[test]
#[ignore = "it measures, and takes some time"]
fn waits_of_workers() {
    let mut service = Service::new(1_000_000);
    let (before, after) = (Keys::new(1), Keys::new(1));
    let (first, second) = (attach(&before), attach(&after));
    for head in [1_000_000, 1_020_000] {
        service.grow(head);
        let at_once = |id, outcome: &Outcome<'_>, now| {
            before.change(|sync| sync.on_outcome(id, outcome, now, Timestamp::from_unix_ns(0), &mut Vec::new()));
        };
        let in_steps = |id, outcome: &Outcome<'_>, now| {
            after.on_outcome(id, outcome, now, Timestamp::from_unix_ns(0), &mut Vec::new());
        };
        println!(
            "{head} keys, each page under the lock: {}",
            waits(&before, || follow(&before, first, &service, at_once))
        );
        println!(
            "{head} keys, in steps:                 {}",
            waits(&after, || follow(&after, second, &service, in_steps))
        );
    }
}

/// Takes the lock of a worker every 20 µs while `work` runs, and returns the distribution of the waits.
fn waits(keys: &Keys, work: impl FnOnce()) -> String {
    let done = AtomicBool::new(false);
    let mut waits: Vec<Duration> = std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut waits = Vec::new();
            while !done.load(Ordering::Acquire) {
                let asked = Instant::now();
                drop(std::hint::black_box(keys.read()));
                waits.push(asked.elapsed());
                while asked.elapsed() < Duration::from_micros(20) {
                    std::hint::spin_loop();
                }
            }
            waits
        });
        work();
        done.store(true, Ordering::Release);
        worker.join().unwrap()
    });
    waits.sort();
    let at = |parts: usize| waits[waits.len() * parts / 10_000];
    format!(
        "50 % {:?}, 99 % {:?}, 99.9 % {:?}, 99.99 % {:?}, longest {:?} of {}",
        at(5_000),
        at(9_900),
        at(9_990),
        at(9_999),
        waits[waits.len() - 1],
        waits.len()
    )
}

//! A model checker runs what threads share (`src/keys.rs`, `src/ticks.rs`) in every order of its steps with up to
//! three interruptions: the main thread that takes a page, a worker that looks keys up, and the thread that makes ticks.
//! A deadlock fails the test, too.

#[path = "../../src/keys.rs"]
mod keys;
#[path = "../../src/tests/service.rs"]
#[allow(dead_code, reason = "the tests of `src` use the rest")]
mod service;
#[path = "../../src/ticks.rs"]
mod ticks;

mod guard;
mod host;
mod primitives;

use host::{Configuration, Scheduler};
use keys::Keys;
use keyward_policy::sync::{Answer, Outcome, Received, Request, RootId};
use keyward_policy::timestamp::Timestamp;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use primitives::{explore, running};
use service::{Service, attach, digest};
use std::sync::Arc;
use std::time::Duration;
use ticks::Ticks;

const NOW: Duration = Duration::from_secs(1);

/// A table, as a worker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    /// Keys 1 and 2.
    Old,
    /// Keys 2 and 4.
    New,
}

/// Looks all keys up, as a worker does.
fn look(keys: &Keys, root: RootId) -> Seen {
    let sync = keys.read().expect("nothing has panicked");
    let table = sync.keys(root, NOW).expect("it is loaded");
    match [1, 2, 4].map(|number| table.get(&digest(number)).is_some()) {
        [true, true, false] => Seen::Old,
        [false, true, true] => Seen::New,
        mix => panic!("a mix of two tables: {mix:?}"),
    }
}

/// The shared keys, the root that polls, and the next request with its answer: key 1 is deleted, and key 4 comes.
fn change_under_way() -> (Arc<Keys>, RootId, Request, String) {
    let keys = Arc::new(Keys::new(1));
    let root = attach(&keys);
    let mut service = Service::new(2);
    let request = poll(&keys, root).expect("it loads");
    apply(&keys, &request, &service.page(&request));
    service.delete(1);
    service.grow(4);
    let request = poll(&keys, root).expect("it follows");
    let page = service.page(&request);
    (keys, root, request, page)
}

fn poll(keys: &Keys, root: RootId) -> Option<Request> {
    keys.change(|sync| sync.poll(root, NOW, &mut Vec::new()))
}

fn answer(page: &str) -> Outcome<'_> {
    Outcome::Answer(Answer { status: 200, body: page.as_bytes(), ..Answer::default() })
}

fn apply(keys: &Keys, request: &Request, page: &str) {
    keys.on_outcome(request.id, &answer(page), NOW, Timestamp::from_unix_ns(0), &mut Vec::new());
}

#[test]
fn a_worker_sees_the_old_table_or_the_new_one_and_never_goes_back() {
    explore(|| {
        let (keys, root, request, page) = change_under_way();
        let worker = thread::spawn({
            let keys = Arc::clone(&keys);
            move || {
                let first = look(&keys, root);
                assert!(first <= look(&keys, root), "back to the old table");
            }
        });
        apply(&keys, &request, &page);
        keys.work();
        worker.join().expect("the worker has ended");
        assert_eq!(look(&keys, root), Seen::New);
    });
}

/// The collecting waits here for a worker that looks keys up, so a worker that waited for it would wait for ever.
#[test]
fn a_worker_does_not_wait_while_a_page_is_collected() {
    explore(|| {
        let (keys, root, request, page) = change_under_way();
        let looked = Arc::new((Mutex::new(false), Condvar::new()));
        let worker = thread::spawn({
            let (keys, looked) = (Arc::clone(&keys), Arc::clone(&looked));
            move || {
                look(&keys, root);
                *looked.0.lock().expect("nothing has panicked") = true;
                looked.1.notify_one();
            }
        });
        let outcome = answer(&page);
        let collect = |received: &mut Received<'_>, table: Option<&_>| {
            let mut done = looked.0.lock().expect("nothing has panicked");
            while !*done {
                done = looked.1.wait(done).expect("nothing has panicked");
            }
            received.collect(table);
        };
        keys.take(request.id, &outcome, collect, |sync, received| {
            sync.apply(received, &outcome, NOW, Timestamp::from_unix_ns(0), &mut Vec::new());
        });
        worker.join().expect("the worker has ended");
        assert_eq!(look(&keys, root), Seen::New);
    });
}

/// A poll from a revision acknowledges it: whoever hears of that poll finds no key that the revision took away.
#[test]
fn a_revoked_key_is_gone_once_its_page_is_acknowledged() {
    explore(|| {
        let (keys, root, request, page) = change_under_way();
        let acknowledged = Arc::new(AtomicBool::new(false));
        let worker = thread::spawn({
            let (keys, acknowledged) = (Arc::clone(&keys), Arc::clone(&acknowledged));
            move || {
                let must_be_gone = acknowledged.load(Ordering::Acquire);
                let seen = look(&keys, root);
                assert!(!must_be_gone || seen == Seen::New, "the service was told that key 1 is gone");
            }
        });
        apply(&keys, &request, &page);
        let mut polled = false;
        while !polled {
            keys.work();
            if let Some(next) = poll(&keys, root) {
                assert_eq!(next.since, 4);
                acknowledged.store(true, Ordering::Release);
                polled = true;
            }
        }
        worker.join().expect("the worker has ended");
    });
}

fn start(configuration: &Arc<Configuration>) -> Ticks {
    Ticks::start(Scheduler(Arc::clone(configuration)), Duration::ZERO)
}

/// The configurations end one after the other.
#[test]
fn no_tick_runs_and_no_thread_is_left_after_the_last_configuration() {
    explore(|| {
        let (first, second) = (Configuration::new(), Configuration::new());
        let one = start(&first);
        let other = start(&second);
        drop(one);
        first.is_gone.store(true, Ordering::SeqCst);
        drop(other);
        second.is_gone.store(true, Ordering::SeqCst);
        assert_eq!(running(), 0, "Envoy may remove the library from memory now");
    });
}

#[test]
fn a_configuration_that_comes_after_the_last_one_gets_a_thread_that_ends_too() {
    explore(|| {
        for _ in 0..2 {
            let configuration = Configuration::new();
            let ticks = start(&configuration);
            ticks.begun();
            ticks.set_period(Duration::from_nanos(1));
            drop(ticks);
            configuration.is_gone.store(true, Ordering::SeqCst);
            assert_eq!(running(), 0, "Envoy may remove the library from memory now");
        }
    });
}

//! Workers whose requests go through their hooks while the main thread loads keys and changes them. It shows races to the
//! thread sanitizer (`docs/native.md` says how to run it).

use super::service::{Service, State};
use super::{Asked, Filter, SECOND, Wanted, check_what_is_left, load};
use keyward_native::failpoint;
use std::ffi::c_void;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

const WORKERS: usize = 3;
const ROUNDS: u64 = 100;
/// The requests of one worker that are under way at the same time.
const UNDER_WAY: usize = 8;

/// The library's pointer of a configuration, which all workers use.
struct Plugin(*const c_void);

unsafe impl Sync for Plugin {}

impl Plugin {
    fn begin(&self, wanted: Wanted, how: u8) -> Option<Asked> {
        Asked::begin(self.0, wanted, how, 0)
    }
}

/// Keys 1 and 2 come and go, and no other fetched key is ever good.
fn services() -> [Service; 2] {
    let mut services = [Service::new(0), Service::new(1)];
    services[0].change(2, State::Live);
    services[0].change(1, State::Live);
    services
}

fn work(plugin: &Plugin, wanted: Wanted, began: &Barrier, done: &AtomicBool) -> usize {
    let (services, mut under_way, mut passed) = (services(), Vec::new(), 0);
    for number in 0_u64.. {
        if under_way.len() < UNDER_WAY {
            let mut asked = plugin.begin(wanted, (number % 32) as u8).expect("nothing panics");
            asked.go_on(4, &services);
            under_way.push(asked);
        }
        if number == 0 {
            // It waits: there are no keys yet.
            began.wait();
        }
        for asked in &mut under_way {
            asked.deliver(&services);
            [0, 4, 12].into_iter().for_each(|which| asked.go_on(which, &services));
        }
        for asked in under_way.extract_if(.., |asked| !asked.waits()) {
            passed += usize::from(asked.has_passed());
            asked.end();
        }
        if number % 256 == 255 && done.load(Ordering::Acquire) {
            break;
        }
    }
    under_way.into_iter().for_each(Asked::end);
    passed
}

#[test]
fn workers_decide_side_by_side_while_keys_come_and_go() {
    let _turn = load();
    let mut filter = Filter::new(1).expect("it is good");
    let (plugin, wanted, mut services) = (Plugin(filter.plugin), filter.wanted, services());
    let (began, done) = (Barrier::new(WORKERS + 1), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(|| work(&plugin, wanted, &began, &done))).collect();
        began.wait();
        for round in 1..=ROUNDS {
            services[0].change(1, if round % 2 == 0 { State::Live } else { State::Deleted });
            failpoint::set_ahead_ns(round * SECOND);
            filter.tick(&mut services);
            // Now and then the service is away, or answers with half a page.
            let how = [0, 0, 3, 16 + 8, 32][(round % 5) as usize];
            filter.answer_next(how, &mut services);
        }
        done.store(true, Ordering::Release);
        let passed: Vec<usize> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        assert!(passed.iter().all(|passed| *passed > 0), "{passed:?}");
    });
    filter.end();
    check_what_is_left(0);
}

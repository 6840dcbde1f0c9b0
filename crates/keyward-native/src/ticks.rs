//! The ticks of the configurations that fetch keys.
//!
//! Envoy has no timer for filters, so one thread of this library asks Envoy to call each configuration on its main thread
//! in its period. The thread lives as long as there is such a configuration, and has ended before the last of them is
//! gone: Envoy may remove the library from memory after that.

use crate::guard;
use crate::host::Scheduler;
use crate::primitives::{self, AtomicBool, AtomicU64, Builder, Condvar, JoinHandle, LazyLock, Mutex, MutexGuard};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// The pause of the thread after a panic, so that one that comes again and again costs little.
const PAUSE_AFTER_PANIC: Duration = Duration::from_millis(100);

/// The thread, and whom it calls.
struct Clock {
    ticking: Vec<Ticking>,
    thread: Option<Thread>,
}

struct Thread {
    /// Set to end it.
    stop: Arc<AtomicBool>,
    handle: JoinHandle<()>,
}

struct Ticking {
    state: Arc<State>,
    scheduler: Scheduler,
    due: Instant,
}

struct State {
    period_ns: AtomicU64,
    /// Whether a tick was asked for that has not happened yet. A slow main thread gets no queue of ticks.
    asked: AtomicBool,
}

static CLOCK: LazyLock<Mutex<Clock>> = LazyLock::new(|| Mutex::new(Clock { ticking: Vec::new(), thread: None }));
static CHANGED: LazyLock<Condvar> = LazyLock::new(Condvar::new);

fn lock() -> MutexGuard<'static, Clock> {
    // Nothing in here is left half done by a panic.
    CLOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The ticks of one configuration, until it is dropped.
pub struct Ticks(Arc<State>);

impl Ticks {
    /// Begins to tick.
    pub fn start(scheduler: Scheduler, period: Duration) -> Self {
        let state = Arc::new(State { period_ns: AtomicU64::new(nanos(period)), asked: AtomicBool::new(false) });
        let mut clock = lock();
        clock.ticking.push(Ticking { state: Arc::clone(&state), scheduler, due: primitives::now() + period });
        if clock.thread.is_none() {
            let stop = Arc::new(AtomicBool::new(false));
            let for_thread = Arc::clone(&stop);
            let thread = Builder::new().name("keyward-ticks".to_owned()).stack_size(128 << 10);
            match thread.spawn(move || run(&for_thread)) {
                Ok(handle) => clock.thread = Some(Thread { stop, handle }),
                Err(error) => log::error!(
                    "keyward: cannot start the thread that makes ticks: {error}; no keys are fetched, and requests are denied"
                ),
            }
        }
        CHANGED.notify_all();
        Self(state)
    }

    /// Changes the period.
    pub fn set_period(&self, period: Duration) {
        let period = nanos(period);
        if self.0.period_ns.swap(period, Ordering::Relaxed) != period {
            if let Some(ticking) = lock().ticking.iter_mut().find(|ticking| Arc::ptr_eq(&ticking.state, &self.0)) {
                ticking.due = ticking.due.min(primitives::now() + Duration::from_nanos(period));
            }
            CHANGED.notify_all();
        }
    }

    /// Notes that a tick has begun: the next one may be asked for.
    pub fn begun(&self) {
        self.0.asked.store(false, Ordering::Release);
    }
}

impl Drop for Ticks {
    /// Ends the ticks, and the thread with the last of them.
    fn drop(&mut self) {
        let mut clock = lock();
        // The scheduler is deleted under the lock, so that the thread does not use it any more.
        clock.ticking.retain(|ticking| !Arc::ptr_eq(&ticking.state, &self.0));
        let ended = if clock.ticking.is_empty() { clock.thread.take() } else { None };
        drop(clock);
        if let Some(thread) = ended {
            thread.stop.store(true, Ordering::Release);
            // Taking the lock once more: the thread either sees the flag or is waiting already.
            drop(lock());
            CHANGED.notify_all();
            let _ = thread.handle.join();
        }
    }
}

fn nanos(period: Duration) -> u64 {
    u64::try_from(period.as_nanos()).unwrap_or(u64::MAX)
}

/// The thread. It lives as long as there are ticks to make: a panic in a round costs a pause and nothing else.
fn run(stop: &AtomicBool) {
    while guard::catch("ticks_start", || make_ticks(stop)).is_none() {
        let clock = lock();
        if stop.load(Ordering::Acquire) {
            return;
        }
        let _ = CHANGED.wait_timeout(clock, PAUSE_AFTER_PANIC);
    }
}

/// Makes ticks until it is to stop.
fn make_ticks(stop: &AtomicBool) {
    let mut clock = lock();
    while !stop.load(Ordering::Acquire) {
        guard::planted("ticks_round");
        let now = primitives::now();
        for ticking in clock.ticking.iter_mut().filter(|ticking| ticking.due <= now) {
            ticking.due = now + Duration::from_nanos(ticking.state.period_ns.load(Ordering::Relaxed));
            if !ticking.state.asked.swap(true, Ordering::AcqRel) {
                ticking.scheduler.commit();
            }
        }
        let next = clock.ticking.iter().map(|ticking| ticking.due).min();
        let pause = next.map_or(Duration::from_secs(1), |next| next.saturating_duration_since(primitives::now()));
        clock = CHANGED.wait_timeout(clock, pause).map_or_else(|poisoned| poisoned.into_inner().0, |(clock, _)| clock);
    }
}

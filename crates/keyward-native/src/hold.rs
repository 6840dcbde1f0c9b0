//! The requests that wait for the first complete manifest ([`keyward_edge::hold`] says why).
//!
//! A worker holds a request by stopping it and leaving a scheduler here. The main thread asks each waiting request to be
//! decided again when keys have arrived or when its time is over; that happens on the request's own worker.

use crate::guard;
use crate::host::Scheduler;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A request that waits.
struct Waiting {
    id: u64,
    scheduler: Scheduler,
    deadline_ns: u64,
    /// Whether it was asked to be decided again.
    asked: bool,
}

static WAITING: Mutex<Vec<Waiting>> = Mutex::new(Vec::new());
/// The number of waiting requests, to be read without the lock.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static LAST_ID: AtomicU64 = AtomicU64::new(0);

fn lock() -> MutexGuard<'static, Vec<Waiting>> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns how many requests wait.
pub fn waiting() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Returns whether any request waits.
pub fn any() -> bool {
    waiting() > 0
}

/// A place among the waiting requests. It is left when it is dropped, as it is with its request.
#[derive(Debug)]
pub struct Place(u64);

impl Place {
    /// Lets a request wait until `deadline_ns`.
    pub fn take(scheduler: Scheduler, deadline_ns: u64) -> Self {
        let id = LAST_ID.fetch_add(1, Ordering::Relaxed);
        let mut waiting = lock();
        waiting.push(Waiting { id, scheduler, deadline_ns, asked: false });
        COUNT.store(waiting.len(), Ordering::Relaxed);
        Self(id)
    }

    /// Goes on waiting after the request was decided again.
    pub fn wait_on(&self) {
        if let Some(waiting) = lock().iter_mut().find(|waiting| waiting.id == self.0) {
            waiting.asked = false;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = lock();
        waiting.retain(|waiting| waiting.id != self.0);
        COUNT.store(waiting.len(), Ordering::Relaxed);
    }
}

/// Asks waiting requests to be decided again: all of them if keys have `arrived`, or else those whose time is over.
pub fn wake(now_ns: u64, arrived: bool) {
    if !any() {
        return;
    }
    for waiting in lock().iter_mut().filter(|waiting| !waiting.asked && (arrived || now_ns >= waiting.deadline_ns)) {
        guard::planted("waking");
        // In this order: a request that counts as asked is asked for certain, and does not wait for ever.
        waiting.scheduler.commit();
        waiting.asked = true;
    }
}

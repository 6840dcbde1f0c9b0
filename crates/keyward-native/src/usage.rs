//! The uses of keys, counted by the workers and reported by the main thread.

use crossbeam_utils::CachePadded;
use keyward_policy::usage::UsageLog;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The number of logs. Workers beyond that share one with another worker.
const SHARDS: usize = 32;

thread_local! {
    /// The number of this thread. It has no destructor, which would keep the library in memory.
    static THREAD: Cell<usize> = const { Cell::new(usize::MAX) };
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

/// One log for each worker, so that workers do not wait for each other.
pub struct Usage {
    shards: Vec<CachePadded<Mutex<UsageLog>>>,
}

impl Usage {
    /// Begins with nothing.
    pub fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| CachePadded::new(Mutex::new(UsageLog::new("")))).collect() }
    }

    /// Returns the log of this thread.
    pub fn own(&self) -> Option<MutexGuard<'_, UsageLog>> {
        let number = THREAD.with(|thread| {
            if thread.get() == usize::MAX {
                thread.set(THREADS.fetch_add(1, Ordering::Relaxed));
            }
            thread.get()
        });
        self.shards.get(number % SHARDS).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Moves all that was counted into `log`. A worker waits for no more than the exchange of its log.
    pub fn collect(&self, log: &mut UsageLog) {
        for shard in &self.shards {
            let taken = {
                let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                if shard.is_empty() {
                    continue;
                }
                std::mem::replace(&mut *shard, UsageLog::new(""))
            };
            log.absorb(taken);
        }
    }
}

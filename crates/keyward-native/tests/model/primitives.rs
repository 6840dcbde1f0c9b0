//! What takes the place of `src/primitives.rs`: the model checker's locks and threads, and a clock that does not move.

pub use loom::sync::atomic::{AtomicBool, AtomicU64};
pub use loom::sync::{Condvar, Mutex, MutexGuard, RwLock as ShardedLock, RwLockReadGuard as ShardedLockReadGuard};
pub use loom::thread::JoinHandle;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// How often a thread that could go on is interrupted, in one execution. More take minutes.
const PREEMPTIONS: usize = 3;

/// The number of executions that have begun. Each has statics of its own.
static EXECUTIONS: AtomicUsize = AtomicUsize::new(0);

/// The number of threads of [`Builder`] that have not ended.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Explores the executions of a model.
pub fn explore(model: impl Fn() + Sync + Send + 'static) {
    // The tests of one process take turns, because they share the counts above.
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(move || {
        EXECUTIONS.fetch_add(1, Ordering::SeqCst);
        RUNNING.store(0, Ordering::SeqCst);
        model();
    });
}

/// Returns how many threads of [`Builder`] have not ended.
pub fn running() -> usize {
    RUNNING.load(Ordering::SeqCst)
}

/// Returns the same moment each time, because all executions have to be alike.
pub fn now() -> Instant {
    static NOW: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    *NOW
}

/// A static that each execution makes anew.
pub struct LazyLock<T: 'static> {
    make: fn() -> T,
    made: std::sync::Mutex<(usize, Option<&'static T>)>,
}

impl<T> LazyLock<T> {
    pub const fn new(make: fn() -> T) -> Self {
        Self { make, made: std::sync::Mutex::new((0, None)) }
    }
}

impl<T> std::ops::Deref for LazyLock<T> {
    type Target = T;

    fn deref(&self) -> &T {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let execution = EXECUTIONS.load(Ordering::SeqCst);
        match *made {
            (of, Some(value)) if of == execution => value,
            _ => {
                // What is left of the last execution cannot be used, not even to free it.
                let value: &'static T = Box::leak(Box::new((self.make)()));
                *made = (execution, Some(value));
                value
            }
        }
    }
}

/// Starts threads, and counts them.
pub struct Builder(loom::thread::Builder);

impl Builder {
    pub fn new() -> Self {
        Self(loom::thread::Builder::new())
    }

    pub fn name(self, name: String) -> Self {
        Self(self.0.name(name))
    }

    pub fn stack_size(self, _: usize) -> Self {
        self
    }

    pub fn spawn(self, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
        RUNNING.fetch_add(1, Ordering::SeqCst);
        self.0.spawn(move || {
            run();
            RUNNING.fetch_sub(1, Ordering::SeqCst);
        })
    }
}

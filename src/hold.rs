//! Requests that wait for the first manifest.
//!
//! Right after a start every worker is without keys for some milliseconds; refusing clients then would make each
//! rollout an outage. So a request with a well-formed key waits a little, up to `startup_wait`.

use crate::host;
use crate::http::{self, Progress};
use crate::plugin::Plugin;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// The most requests that one VM holds.
pub const HELD_MAX: usize = 1_000;

/// How often waiting requests are looked at while there are any.
pub const TICK: Duration = Duration::from_millis(50);

struct Held {
    context_id: u32,
    plugin: Rc<Plugin>,
    deadline_ns: u64,
    /// The head as the client sent it, where the credential was removed already.
    head: Option<Vec<u8>>,
}

#[derive(Default)]
struct Holding {
    waiting: VecDeque<Held>,
    /// Let go on, and not over yet.
    released: Vec<u32>,
}

thread_local! {
    static HOLDING: RefCell<Holding> = RefCell::default();
}

fn with<R>(f: impl FnOnce(&mut Holding) -> R) -> R {
    HOLDING.with(|holding| f(&mut holding.borrow_mut()))
}

/// Whether one more request may wait.
pub fn has_room(plugin: &Plugin) -> bool {
    plugin.source.is_some() && !plugin.config.startup_wait.is_zero() && with(|holding| holding.waiting.len() < HELD_MAX)
}

/// Lets a request wait, from now on until its `startup_wait` is over.
pub fn add(context_id: u32, plugin: &Rc<Plugin>, head: Option<Vec<u8>>) {
    let wait = u64::try_from(plugin.config.startup_wait.as_nanos()).unwrap_or(u64::MAX);
    let deadline_ns = host::monotonic_ns().saturating_add(wait);
    plugin.counters.held.add(1);
    with(|holding| holding.waiting.push_back(Held { context_id, plugin: Rc::clone(plugin), deadline_ns, head }));
}

/// Whether a request that had to wait was let go on.
pub fn was_released(context_id: u32) -> bool {
    with(|holding| holding.released.contains(&context_id))
}

/// The request is over.
pub fn forget(context_id: u32) {
    with(|holding| {
        // As ever once the first manifest is there.
        if !holding.waiting.is_empty() || !holding.released.is_empty() {
            holding.forget(context_id);
        }
    });
}

impl Holding {
    #[cold]
    #[inline(never)]
    fn forget(&mut self, context_id: u32) {
        self.waiting.retain(|held| held.context_id != context_id);
        self.released.retain(|released| *released != context_id);
    }
}

/// Whether any request waits.
pub fn is_empty() -> bool {
    with(|holding| holding.waiting.is_empty())
}

/// Decides the waiting requests again: those whose keys are there now, and those whose time is over. Leaves the
/// effective context at `root_id`.
pub fn look_again(root_id: u32) {
    // Taken out, so that a request which ends meanwhile finds nothing borrowed.
    let waiting = with(|holding| std::mem::take(&mut holding.waiting));
    if waiting.is_empty() {
        return;
    }
    let now = host::monotonic_ns();
    for mut held in waiting {
        if !host::set_effective_context(held.context_id) {
            continue; // The client left.
        }
        match http::run(&held.plugin, &|| now < held.deadline_ns, held.head.take()) {
            Progress::Held(head) => {
                held.head = head;
                with(|holding| holding.waiting.push_back(held));
            }
            Progress::Refused => {}
            Progress::Passed => {
                with(|holding| holding.released.push(held.context_id));
                host::continue_request();
            }
        }
    }
    host::set_effective_context(root_id);
}

//! The requests of the VM that wait for the first complete manifest ([`keyward_edge::hold`] says why).

use crate::edition::Plugin;
use crate::host;
use keyward_edge::hold;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// A request that waits.
pub struct Held {
    /// The proxy's number for the request.
    pub context_id: u32,
    /// The configuration that decides it.
    pub plugin: Rc<Plugin>,
    /// The moment of the monotonic clock at which the request stops waiting.
    pub deadline_ns: u64,
    /// The head as the client sent it. `None` means that the proxy still has it.
    pub head: Option<Vec<u8>>,
}

#[derive(Default)]
struct Holding {
    waiting: VecDeque<Held>,
    /// Requests that were let go on and are not over yet.
    released: Vec<(u32, Rc<Plugin>)>,
}

thread_local! {
    static HOLDING: RefCell<Holding> = RefCell::default();
}

fn with<R>(f: impl FnOnce(&mut Holding) -> R) -> R {
    HOLDING.with(|holding| f(&mut holding.borrow_mut()))
}

/// Returns whether one more request may wait.
pub fn has_room(plugin: &Plugin) -> bool {
    hold::has_room(plugin, with(|holding| holding.waiting.len()))
}

/// Lets a request wait until its `startup_wait` is over.
pub fn add(context_id: u32, plugin: &Rc<Plugin>, head: Option<Vec<u8>>) {
    let deadline_ns = hold::deadline_ns(plugin, host::monotonic_ns());
    plugin.counters.held.add(1);
    with(|holding| holding.waiting.push_back(Held { context_id, plugin: Rc::clone(plugin), deadline_ns, head }));
}

/// Returns whether a request that had to wait was let go on.
pub fn was_released(context_id: u32) -> bool {
    with(|holding| holding.released.iter().any(|(released, _)| *released == context_id))
}

/// Returns the configuration of a request that waits or had to wait.
pub fn plugin_of(context_id: u32) -> Option<Rc<Plugin>> {
    with(|holding| {
        let waiting = holding.waiting.iter().map(|held| (held.context_id, &held.plugin));
        let mut all = waiting.chain(holding.released.iter().map(|(context, plugin)| (*context, plugin)));
        all.find(|(context, _)| *context == context_id).map(|(_, plugin)| Rc::clone(plugin))
    })
}

/// Forgets a request that is over.
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
        self.released.retain(|(released, _)| *released != context_id);
    }
}

/// Returns whether no request waits.
pub fn is_empty() -> bool {
    with(|holding| holding.waiting.is_empty())
}

/// Takes out the requests that are to be decided again: those whose `startup_wait` is over at `now_ns`, and those whose
/// configuration does not wait for keys any more. Those that go on waiting are given back by [`put_back`].
///
/// Deciding costs a few microseconds, and a load of a million keys has thousands of pages: a thousand requests decided
/// after each of them would make the load take several times as long.
pub fn take_due(now_ns: u64, still_loading: impl Fn(&Plugin) -> bool) -> VecDeque<Held> {
    with(|holding| {
        // Most requests that wait have the same configuration, whose state is looked at once.
        let mut last: Option<(Rc<Plugin>, bool)> = None;
        let mut is_due = |held: &Held| {
            let loading = match &last {
                Some((plugin, loading)) if Rc::ptr_eq(plugin, &held.plugin) => *loading,
                _ => last.insert((Rc::clone(&held.plugin), still_loading(&held.plugin))).1,
            };
            !loading || now_ns >= held.deadline_ns
        };
        if !holding.waiting.iter().any(&mut is_due) {
            return VecDeque::new();
        }
        let (due, waiting) = std::mem::take(&mut holding.waiting).into_iter().partition(is_due);
        holding.waiting = waiting;
        due
    })
}

/// Lets a request that was taken out go on waiting.
pub fn put_back(held: Held) {
    with(|holding| holding.waiting.push_back(held));
}

/// Notes that a request which had to wait is let go on: its body may follow.
pub fn release(held: Held) {
    with(|holding| holding.released.push((held.context_id, held.plugin)));
}

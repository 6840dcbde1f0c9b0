//! The requests of the VM, from the moment that the proxy announces them until they are over.

use crate::edition::Plugin;
use crate::hold;
use crate::host;
use crate::meter::Proxy;
use keyward_edge::forward;
use keyward_edge::host::Source as _;
use keyward_edge::http::{self, Outcome};
use std::cell::RefCell;
use std::rc::Rc;

/// Whether the proxy may go on with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The next filter gets what has arrived.
    Continue,
    /// The request stays at this filter.
    Pause,
}

/// The requests of the VM that a later callback will ask for.
struct Requests {
    /// The root contexts, each with its compiled configuration. There are two at most while a new configuration takes
    /// over.
    roots: Vec<(u32, Option<Rc<Plugin>>)>,
    /// Requests whose headers are still to come, and their root contexts. The proxy hands the headers over right
    /// after it has made the context, so there is hardly ever more than one.
    expected: Vec<(u32, u32)>,
    /// Requests that may go on and whose body or trailers are still to come, in ascending order, and their
    /// configurations.
    passed: Vec<(u32, Rc<Plugin>)>,
}

impl Requests {
    /// Returns the configuration for a request whose headers have arrived.
    fn plugin_for(&mut self, context_id: u32) -> Option<Rc<Plugin>> {
        let at = self.expected.iter().rposition(|(context, _)| *context == context_id)?;
        let (_, root_id) = self.expected.swap_remove(at);
        self.roots.iter().find(|(root, _)| *root == root_id)?.1.clone()
    }

    #[inline(never)]
    fn has_more_to_come(&mut self, context_id: u32, plugin: Rc<Plugin>) {
        // Contexts are numbered upwards, so that this is the end.
        let place = self.passed.partition_point(|(passed, _)| *passed < context_id);
        self.passed.insert(place, (context_id, plugin));
    }

    /// Returns the configuration of a request that may go on.
    fn passed(&self, context_id: u32) -> Option<&Rc<Plugin>> {
        let at = self.passed.binary_search_by_key(&context_id, |(passed, _)| *passed).ok()?;
        self.passed.get(at).map(|(_, plugin)| plugin)
    }

    /// Forgets a context that is over, and returns whether it was a root context.
    fn forget(&mut self, context_id: u32) -> bool {
        if !self.expected.is_empty() || !self.passed.is_empty() {
            self.forget_request(context_id);
        }
        self.roots.iter().any(|(root, _)| *root == context_id) && self.forget_root(context_id)
    }

    #[inline(never)]
    fn forget_request(&mut self, context_id: u32) {
        self.expected.retain(|(context, _)| *context != context_id);
        if let Ok(at) = self.passed.binary_search_by_key(&context_id, |(passed, _)| *passed) {
            self.passed.remove(at);
        }
    }

    #[cold]
    #[inline(never)]
    fn forget_root(&mut self, context_id: u32) -> bool {
        self.roots.retain(|(root, _)| *root != context_id);
        true
    }
}

thread_local! {
    static REQUESTS: RefCell<Requests> = const {
        RefCell::new(Requests { roots: Vec::new(), expected: Vec::new(), passed: Vec::new() })
    };
}

fn with<R>(f: impl FnOnce(&mut Requests) -> R) -> R {
    REQUESTS.with(|requests| f(&mut requests.borrow_mut()))
}

/// Notes a new root context. It has no configuration until [`configured`] is called.
pub fn root_created(root_id: u32) {
    with(|requests| requests.roots.push((root_id, None)));
}

/// Sets the configuration that applies to the requests of a root context from now on.
pub fn configured(root_id: u32, plugin: &Rc<Plugin>) {
    with(|requests| {
        if let Some((_, have)) = requests.roots.iter_mut().find(|(root, _)| *root == root_id) {
            *have = Some(Rc::clone(plugin));
        }
    });
}

/// Notes a new request of a root context.
pub fn created(context_id: u32, root_id: u32) {
    with(|requests| requests.expected.push((context_id, root_id)));
}

/// Decides a request whose headers have arrived.
pub fn on_headers(context_id: u32, end_of_stream: bool) -> Flow {
    let Some(plugin) = with(|requests| requests.plugin_for(context_id)) else {
        http::deny_unconfigured(Proxy);
        return Flow::Pause;
    };
    match http::run(Proxy, &plugin, &|| hold::has_room(&plugin), None) {
        Outcome::Passed => {
            if !end_of_stream {
                with(|requests| requests.has_more_to_come(context_id, plugin));
            }
            Flow::Continue
        }
        Outcome::Answered => Flow::Pause,
        Outcome::Held { head } => {
            hold::add(context_id, &plugin, head);
            Flow::Pause
        }
    }
}

/// Returns whether the body or the trailers of a request may go on.
///
/// Envoy does not deliver the body of a request whose headers are paused, unless the plugin is configured to
/// (`allow_on_headers_stop_iteration`); then the body must not carry the headers along. A request that is not known to
/// have passed stays paused.
pub fn on_more(context_id: u32) -> Flow {
    let passed = with(|requests| requests.passed(context_id).is_some());
    if passed || hold::was_released(context_id) { Flow::Continue } else { Flow::Pause }
}

/// Returns whether the trailers of a request may go on, and removes from them whatever would speak for a key.
///
/// A held request's trailers are cleaned too: where Envoy delivers them before the headers went on, they go on with them
/// and without another callback.
pub fn on_trailers(context_id: u32) -> Flow {
    let plugin = with(|requests| requests.passed(context_id).cloned()).or_else(|| hold::plugin_of(context_id));
    if let Some(plugin) = plugin {
        forward::clean_trailers(Proxy, &plugin.config);
    }
    on_more(context_id)
}

/// Forgets a context that is over. Returns whether it was a root context.
pub fn deleted(context_id: u32) -> bool {
    let root = with(|requests| requests.forget(context_id));
    if !root {
        hold::forget(context_id);
    }
    root
}

/// Decides the held requests again: those whose keys have arrived are let go on or answered, and so are those whose
/// `startup_wait` is over. The effective context is `root_id` afterwards.
pub fn decide_held(root_id: u32) {
    if hold::is_empty() {
        return;
    }
    let now = host::monotonic_ns();
    // Taken out, so that a request which ends meanwhile finds nothing borrowed.
    let due =
        hold::take_due(now, |plugin| plugin.source.as_ref().is_some_and(|source| http::is_loading(&source.borrow())));
    if due.is_empty() {
        return;
    }
    for mut held in due {
        if !host::set_effective_context(held.context_id) {
            continue; // The client left.
        }
        match http::run(Proxy, &held.plugin, &|| now < held.deadline_ns, held.head.take()) {
            Outcome::Held { head } => {
                held.head = head;
                hold::put_back(held);
            }
            Outcome::Answered => {}
            Outcome::Passed => {
                hold::release(held);
                host::continue_request();
            }
        }
    }
    host::set_effective_context(root_id);
}

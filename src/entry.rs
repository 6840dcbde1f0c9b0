//! The callbacks of requests, as the proxy calls them.
//!
//! The SDK has a dispatcher for these: a hash map and a boxed object for each request, looked up again in each
//! callback. A request of this filter is over when its headers are read, so it needs none of that; without it a request
//! costs a sixth less. Root contexts, ticks and callouts stay with the SDK.
//!
//! Two functions of one name do not link, so these are `keyward_on_…` here, and `cargo xtask build` exports them as
//! `proxy_on_…` in place of the SDK's (`xtask/src/module.rs`). A module that was not built that way traps at its first
//! request, which refuses it.

#![allow(unsafe_code, reason = "exported names, and the SDK's functions behind them")]

use crate::hold;
use crate::http::{self, Progress};
use crate::plugin::Plugin;
use proxy_wasm::types::Action;
use std::cell::RefCell;
use std::rc::Rc;

/// The requests of the VM, as far as a later callback will ask for them.
#[derive(Default)]
struct Requests {
    /// The root contexts, each with what its configuration was made into. There are two at most while a new
    /// configuration takes over.
    roots: Vec<(u32, Option<Rc<Plugin>>)>,
    /// Requests whose headers are still to come, and their root contexts. The proxy hands the headers over right
    /// after it has made the context, so there is hardly ever more than one.
    expected: Vec<(u32, u32)>,
    /// Requests that may go on and whose body or trailers are still to come, ascending.
    passed: Vec<u32>,
}

impl Requests {
    /// The configuration that a request is for whose headers are there.
    fn plugin_for(&mut self, context_id: u32) -> Option<Rc<Plugin>> {
        let at = self.expected.iter().rposition(|(context, _)| *context == context_id)?;
        let (_, root_id) = self.expected.swap_remove(at);
        self.roots.iter().find(|(root, _)| *root == root_id)?.1.clone()
    }

    #[inline(never)]
    fn has_more_to_come(&mut self, context_id: u32) {
        // Contexts are numbered upwards, so that this is the end.
        let place = self.passed.partition_point(|passed| *passed < context_id);
        self.passed.insert(place, context_id);
    }

    /// A context is over; true for a root context.
    fn forget(&mut self, context_id: u32) -> bool {
        if !self.expected.is_empty() || !self.passed.is_empty() {
            self.forget_request(context_id);
        }
        self.roots.iter().any(|(root, _)| *root == context_id) && self.forget_root(context_id)
    }

    #[inline(never)]
    fn forget_request(&mut self, context_id: u32) {
        self.expected.retain(|(context, _)| *context != context_id);
        if let Ok(at) = self.passed.binary_search(&context_id) {
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

/// A root context has a configuration now.
pub fn configured(root_id: u32, plugin: &Rc<Plugin>) {
    with(|requests| {
        if let Some((_, have)) = requests.roots.iter_mut().find(|(root, _)| *root == root_id) {
            *have = Some(Rc::clone(plugin));
        }
    });
}

mod sdk {
    unsafe extern "C" {
        pub safe fn proxy_on_context_create(context_id: u32, root_id: u32);
        pub safe fn proxy_on_delete(context_id: u32);
    }
}

const CONTINUE: u32 = Action::Continue as u32;
const PAUSE: u32 = Action::Pause as u32;

#[unsafe(no_mangle)]
extern "C" fn keyward_on_context_create(context_id: u32, root_id: u32) {
    if root_id == 0 {
        with(|requests| requests.roots.push((context_id, None)));
        return sdk::proxy_on_context_create(context_id, root_id);
    }
    with(|requests| requests.expected.push((context_id, root_id)));
}

#[unsafe(no_mangle)]
extern "C" fn keyward_on_request_headers(context_id: u32, _count: u32, end_of_stream: u32) -> u32 {
    #[cfg(feature = "failpoint")]
    crate::failpoint::at_request();
    let Some(plugin) = with(|requests| requests.plugin_for(context_id)) else {
        http::deny_unconfigured();
        return PAUSE;
    };
    match http::run(&plugin, &|| hold::has_room(&plugin), None) {
        Progress::Passed => {
            if end_of_stream == 0 {
                with(|requests| requests.has_more_to_come(context_id));
            }
            CONTINUE
        }
        Progress::Refused => PAUSE,
        Progress::Held(head) => {
            hold::add(context_id, &plugin, head);
            PAUSE
        }
    }
}

// Envoy does not deliver the body of a request whose headers are paused, unless the plugin is configured to
// (`allow_on_headers_stop_iteration`); then the body must not carry the headers along. What is not known to have passed
// may not go on.
fn go_on(context_id: u32) -> u32 {
    let passed = with(|requests| requests.passed.binary_search(&context_id).is_ok());
    if passed || hold::was_released(context_id) { CONTINUE } else { PAUSE }
}

#[unsafe(no_mangle)]
extern "C" fn keyward_on_request_body(context_id: u32, _size: u32, _end_of_stream: u32) -> u32 {
    go_on(context_id)
}

#[unsafe(no_mangle)]
extern "C" fn keyward_on_request_trailers(context_id: u32, _count: u32) -> u32 {
    go_on(context_id)
}

#[unsafe(no_mangle)]
extern "C" fn keyward_on_delete(context_id: u32) {
    if with(|requests| requests.forget(context_id)) {
        sdk::proxy_on_delete(context_id);
    } else {
        hold::forget(context_id);
    }
}

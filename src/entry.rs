//! The functions that the proxy calls.
//!
//! The SDK has a dispatcher for the callbacks of requests: a hash map and a boxed object for each request, looked up
//! again in each callback. [`requests`] needs neither, and without the dispatcher a request costs a sixth less. Root
//! contexts, ticks and callouts stay with the SDK.
//!
//! Two functions with one name do not link, so these are called `keyward_on_…` here, and `cargo xtask build` exports
//! them as `proxy_on_…` in place of the SDK's (`xtask/src/module.rs`). A module that was not built that way traps at its
//! first request, which refuses it.

#![allow(unsafe_code, reason = "exported names, and the SDK's functions behind them")]

use crate::requests::{self, Flow};
use proxy_wasm::types::Action;

mod sdk {
    unsafe extern "C" {
        pub safe fn proxy_on_context_create(context_id: u32, root_id: u32);
        pub safe fn proxy_on_delete(context_id: u32);
    }
}

/// The first function that the proxy calls. It is in a module of its own because the macro makes public items without
/// documentation.
mod start {
    proxy_wasm::main! {{
        // Also installs the panic hook, without which a trap has no message.
        proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Info);
        proxy_wasm::set_root_context(|context_id| Box::new(crate::root::Root::new(context_id)));
    }}
}

fn action(flow: Flow) -> u32 {
    match flow {
        Flow::Continue => Action::Continue as u32,
        Flow::Pause => Action::Pause as u32,
    }
}

#[unsafe(no_mangle)]
extern "C" fn keyward_on_context_create(context_id: u32, root_id: u32) {
    if root_id == 0 {
        requests::root_created(context_id);
        return sdk::proxy_on_context_create(context_id, root_id);
    }
    requests::created(context_id, root_id);
}

#[unsafe(no_mangle)]
extern "C" fn keyward_on_request_headers(context_id: u32, _count: u32, end_of_stream: u32) -> u32 {
    #[cfg(feature = "failpoint")]
    crate::failpoint::at_request();
    action(requests::on_headers(context_id, end_of_stream != 0))
}

#[unsafe(no_mangle)]
extern "C" fn keyward_on_request_body(context_id: u32, _size: u32, _end_of_stream: u32) -> u32 {
    action(requests::on_more(context_id))
}

#[unsafe(no_mangle)]
extern "C" fn keyward_on_request_trailers(context_id: u32, _count: u32) -> u32 {
    action(requests::on_trailers(context_id))
}

#[unsafe(no_mangle)]
extern "C" fn keyward_on_delete(context_id: u32) {
    if requests::deleted(context_id) {
        sdk::proxy_on_delete(context_id);
    }
}

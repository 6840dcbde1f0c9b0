//! The place of `host` on targets other than WebAssembly, where there is no proxy to call.
//!
//! It has the same functions as `src/host.rs`, so that the rest of the filter compiles and is linted natively. Every
//! call fails as the real one does when the proxy refuses it, and the filter then denies: a request has no headers, both
//! clocks are in the far future, and no call is sent.

use proxy_wasm::types::Status;
use std::time::Duration;

/// Returns the wall clock, in nanoseconds since 1970.
pub fn wall_clock_ns() -> u64 {
    u64::MAX
}

/// Returns a clock that never goes back, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    u64::MAX
}

/// Returns random bits.
pub fn random_u64() -> u64 {
    0
}

/// Returns a variable of the VM's environment.
pub fn environment_variable(_: &str) -> Option<Vec<u8>> {
    None
}

/// Asks for a tick each `period`. Zero means no ticks.
pub fn set_tick_period(_: Duration) {}

/// Ends the VM, as a bug would.
#[cfg(feature = "failpoint")]
pub fn trap() -> ! {
    std::process::abort()
}

/// Returns the plugin's configuration.
pub fn plugin_configuration() -> Vec<u8> {
    Vec::new()
}

/// Returns the request's headers, serialized.
pub fn request_headers() -> Vec<u8> {
    Vec::new()
}

/// Keeps the memory of one request's headers for those of the next.
pub fn recycle(_: Vec<u8>) {}

/// Returns the request's trailers, serialized.
pub fn request_trailers() -> Vec<u8> {
    Vec::new()
}

/// Removes every request trailer of that name.
pub fn remove_request_trailer(_: &[u8]) {}

/// Sets a request header and replaces all that have its name.
pub fn set_request_header(_: &str, _: &[u8]) {}

/// Removes every request header of that name.
pub fn remove_request_header(_: &[u8]) {}

/// Returns a property.
///
/// # Errors
/// Always returns an error: there is no proxy.
pub fn property(_: &str) -> Result<Option<Vec<u8>>, u32> {
    Err(Status::InternalFailure as u32)
}

/// Writes filter state `wasm.<name>`.
pub fn set_filter_state(_: &str, _: &[u8]) {}

/// Lets the proxy choose the route again from the current headers.
pub fn clear_route_cache() {}

/// Answers the current request instead of the upstream.
pub fn send_local_response(_: u16, _: &str, _: &[u8], _: &[u8], _: i32) {}

/// Lets a paused request go on.
pub fn continue_request() {}

/// Makes the following calls act on another context. Returns false where that context is gone.
pub fn set_effective_context(_: u32) -> bool {
    false
}

/// A metric of the proxy.
#[derive(Debug, Clone, Copy)]
pub struct Metric(());

impl Metric {
    /// Defines a counter.
    pub fn counter(_: &str) -> Self {
        Self(())
    }

    /// Defines a gauge.
    pub fn gauge(_: &str) -> Self {
        Self(())
    }

    /// Adds to a counter.
    pub fn add(self, _: u64) {}

    /// Sets a gauge.
    pub fn set(self, _: u64) {}
}

/// Sends a request to a cluster on behalf of the current root context.
///
/// # Errors
/// Always returns an error: there is no proxy.
pub fn http_call(_: &str, _: Vec<(&str, &str)>, _: Option<&[u8]>, _: Duration) -> Result<u32, Status> {
    Err(Status::InternalFailure)
}

/// Returns the headers of the answer to a call, serialized.
pub fn call_response_headers() -> Vec<u8> {
    Vec::new()
}

/// Returns the body of the answer to a call, up to `max` bytes.
pub fn call_response_body(_: usize) -> Vec<u8> {
    Vec::new()
}

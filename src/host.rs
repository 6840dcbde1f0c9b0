//! The only file that calls the proxy.
//!
//! It declares the functions of the proxy-wasm ABI 0.2.1 itself: the SDK's wrappers panic on statuses that they do not
//! expect, and its string getters on bytes that are not UTF-8, and a panic takes the VM down. The exception is
//! [`http_call`]: the SDK has to know each call, or it panics when the answer arrives.
//!
//! The proxy allocates the values that it returns through the module's `malloc`, and this file frees them.
//! `src/host_stand_in.rs` has the same functions for other targets.

#![allow(unsafe_code, reason = "this file is the foreign function interface")]

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::time::Duration;

mod ffi {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
        pub fn proxy_get_buffer_bytes(kind: u32, start: usize, max: usize, data: *mut *mut u8, size: *mut usize)
        -> u32;
        pub fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
        pub fn proxy_replace_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
        pub fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
        pub fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
        pub fn proxy_send_local_response(
            status: u32,
            details: *const u8,
            details_size: usize,
            body: *const u8,
            body_size: usize,
            headers: *const u8,
            headers_size: usize,
            grpc_status: i32,
        ) -> u32;
        pub fn proxy_continue_stream(stream: u32) -> u32;
        pub fn proxy_set_effective_context(context_id: u32) -> u32;
        pub fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
        pub fn proxy_increment_metric(id: u32, offset: i64) -> u32;
        pub fn proxy_record_metric(id: u32, value: u64) -> u32;
        pub fn proxy_call_foreign_function(
            name: *const u8,
            name_size: usize,
            argument: *const u8,
            argument_size: usize,
            result: *mut *mut u8,
            result_size: *mut usize,
        ) -> u32;
    }

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
        pub fn random_get(buffer: *mut u8, size: usize) -> u32;
        pub fn environ_sizes_get(count: *mut usize, size: *mut usize) -> u32;
        pub fn environ_get(variables: *mut *mut u8, buffer: *mut u8) -> u32;
    }
}

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;

const REQUEST_HEADERS: u32 = 0;
const REQUEST_TRAILERS: u32 = 1;
const CALL_RESPONSE_HEADERS: u32 = 6;
const CALL_RESPONSE_BODY: u32 = 4;
const PLUGIN_CONFIGURATION: u32 = 7;

/// Makes a call that returns bytes through a pair of out-pointers.
fn returned(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>, u32> {
    let mut data = std::ptr::null_mut();
    let mut size = 0;
    match call(&mut data, &mut size) {
        OK if data.is_null() || size == 0 => Ok(Vec::new()),
        OK => {
            let capacity = SPARE.with(|spare| spare.lent.replace(0)).max(size);
            // SAFETY: the proxy got `data` from this module's `malloc`, which takes it from a vector of exactly `size`
            // bytes or, where it lent the spare one, of `lent`; it wrote all `size` bytes, and keeps no reference.
            Ok(unsafe { Vec::from_raw_parts(data, size, capacity) })
        }
        status => Err(status),
    }
}

/// Returns the wall clock, in nanoseconds since 1970.
pub fn wall_clock_ns() -> u64 {
    const REALTIME: u32 = 0;
    clock(REALTIME)
}

/// Returns a clock that never goes back, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    const MONOTONIC: u32 = 1;
    clock(MONOTONIC)
}

/// Reads either clock through WASI. The proxy's own call has the wall clock alone, and a second kind of call would be
/// more code for each request to go through.
#[inline(never)]
fn clock(id: u32) -> u64 {
    let mut time = 0;
    // SAFETY: the pointer is to a live u64.
    let errno = unsafe { ffi::clock_time_get(id, 1, &mut time) };
    // Fail closed: in the far future every lifetime is over, and every manifest stale.
    if errno == 0 { time } else { u64::MAX }
}

/// Returns random bits. They spread load and name VMs, and no secret depends on them. Zero means that the proxy has none.
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    // SAFETY: the buffer is live and of the size given.
    unsafe { ffi::random_get(bytes.as_mut_ptr(), bytes.len()) };
    u64::from_le_bytes(bytes)
}

/// Returns a variable of the VM's environment (`vm_config.environment_variables`). `None` means that it is not set.
pub fn environment_variable(name: &str) -> Option<Vec<u8>> {
    let (mut count, mut size) = (0, 0);
    // SAFETY: both out-pointers are live.
    let errno = unsafe { ffi::environ_sizes_get(&mut count, &mut size) };
    if errno != 0 || count == 0 {
        return None;
    }
    let (mut variables, mut buffer) = (vec![std::ptr::null_mut(); count], vec![0; size]);
    // SAFETY: both buffers are live and of the sizes that the proxy asked for.
    let errno = unsafe { ffi::environ_get(variables.as_mut_ptr(), buffer.as_mut_ptr()) };
    let mut entries = buffer.split(|byte| *byte == 0).take_while(|_| errno == 0);
    entries.find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")).map(<[u8]>::to_vec)
}

/// Asks for a tick each `period` from now on. Zero means no ticks.
pub fn set_tick_period(period: Duration) {
    let period = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
    // SAFETY: no pointers.
    unsafe { ffi::proxy_set_tick_period_milliseconds(period) };
}

/// Ends the VM, as a bug would.
#[cfg(feature = "failpoint")]
pub fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

/// Returns the plugin's configuration. It is empty where there is none.
pub fn plugin_configuration() -> Vec<u8> {
    // SAFETY: both out-pointers are live.
    returned(|data, size| unsafe { ffi::proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, usize::MAX, data, size) })
        .unwrap_or_default()
}

/// Returns the request's headers, serialized, to be given back to [`recycle`]. They are empty where the proxy does not
/// hand them over, which refuses the request.
pub fn request_headers() -> Vec<u8> {
    SPARE.with(Spare::offer);
    // SAFETY: both out-pointers are live.
    let headers = returned(|data, size| unsafe { ffi::proxy_get_header_map_pairs(REQUEST_HEADERS, data, size) });
    SPARE.with(Spare::withdraw);
    headers.unwrap_or_default()
}

/// Keeps the memory of one request's headers for those of the next.
pub fn recycle(headers: Vec<u8>) {
    SPARE.with(|spare| spare.keep(headers));
}

thread_local! {
    static SPARE: Spare = const { Spare { kept: Cell::new(Vec::new()), offered: Cell::new(false), lent: Cell::new(0) } };
}

/// Memory for the headers of a request. Without it, allocating and freeing them would be most of a request's use of the
/// allocator.
struct Spare {
    kept: Cell<Vec<u8>>,
    /// Whether the next allocation that the proxy asks for may be served from it.
    offered: Cell<bool>,
    /// The capacity of the memory that was lent. Zero means that none was.
    lent: Cell<usize>,
}

impl Spare {
    /// The largest buffer that is kept. Ordinary heads need no more.
    const MAX_KEPT_BYTES: usize = 8 << 10;

    fn offer(&self) {
        self.offered.set(true);
    }

    fn withdraw(&self) {
        self.offered.set(false);
        self.lent.set(0);
    }

    fn keep(&self, buffer: Vec<u8>) {
        if buffer.capacity() <= Self::MAX_KEPT_BYTES {
            self.kept.set(buffer);
        }
    }

    /// Lends it to the proxy, if it is large enough.
    fn lend(&self, size: usize) -> Option<*mut u8> {
        if !self.offered.replace(false) {
            return None;
        }
        let mut buffer = self.kept.take();
        if buffer.capacity() < size {
            buffer = Vec::with_capacity(size.checked_next_power_of_two().unwrap_or(size));
        }
        let mut buffer = ManuallyDrop::new(buffer);
        self.lent.set(buffer.capacity());
        Some(buffer.as_mut_ptr())
    }
}

/// The module's `malloc`, which the proxy calls for the values that it returns.
#[unsafe(no_mangle)]
extern "C" fn keyward_malloc(size: usize) -> *mut u8 {
    SPARE.with(|spare| spare.lend(size)).unwrap_or_else(|| ManuallyDrop::new(Vec::with_capacity(size)).as_mut_ptr())
}

/// Returns the request's trailers, serialized. Valid inside `on_request_trailers` only.
pub fn request_trailers() -> Vec<u8> {
    // SAFETY: both out-pointers are live.
    returned(|data, size| unsafe { ffi::proxy_get_header_map_pairs(REQUEST_TRAILERS, data, size) }).unwrap_or_default()
}

/// Removes every request trailer of that name.
pub fn remove_request_trailer(name: &[u8]) {
    // SAFETY: the slice is live for the call.
    unsafe { ffi::proxy_remove_header_map_value(REQUEST_TRAILERS, name.as_ptr(), name.len()) };
}

/// Sets a request header and replaces all that have its name.
pub fn set_request_header(name: &str, value: &[u8]) {
    // SAFETY: both slices are live for the call.
    unsafe {
        ffi::proxy_replace_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    };
}

/// Removes every request header of that name.
pub fn remove_request_header(name: &[u8]) {
    // SAFETY: the slice is live for the call.
    unsafe { ffi::proxy_remove_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len()) };
}

/// Returns a property. The segments of its path are joined by NUL. `Ok(None)` means that there is no such property.
///
/// # Errors
/// The proxy's status where the property exists and has no value that can be returned.
pub fn property(path: &str) -> Result<Option<Vec<u8>>, u32> {
    // SAFETY: the slice and both out-pointers are live.
    match returned(|data, size| unsafe { ffi::proxy_get_property(path.as_ptr(), path.len(), data, size) }) {
        Ok(value) => Ok(Some(value)),
        Err(NOT_FOUND) => Ok(None),
        Err(status) => Err(status),
    }
}

/// Writes filter state `wasm.<name>`. The name is one segment even with dots in it: several segments would be written to
/// another place.
pub fn set_filter_state(name: &str, value: &[u8]) {
    // SAFETY: both slices are live for the call.
    unsafe { ffi::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
}

/// Lets the proxy choose the route again from the current headers.
pub fn clear_route_cache() {
    const NAME: &str = "clear_route_cache";
    // SAFETY: the slices and both out-pointers are live; an answer, if any, is freed by `returned`.
    let _ = returned(|data, size| unsafe {
        ffi::proxy_call_foreign_function(NAME.as_ptr(), NAME.len(), NAME.as_ptr(), 0, data, size)
    });
}

/// Answers the current request instead of the upstream.
pub fn send_local_response(status: u16, details: &str, headers: &[u8], body: &[u8], grpc_status: i32) {
    // SAFETY: all slices are live for the call.
    unsafe {
        ffi::proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status,
        )
    };
}

/// Lets a paused request go on.
pub fn continue_request() {
    const HTTP_REQUEST: u32 = 0;
    // SAFETY: no pointers.
    unsafe { ffi::proxy_continue_stream(HTTP_REQUEST) };
}

/// Makes the following calls act on another context. Returns false where that context is gone.
pub fn set_effective_context(context_id: u32) -> bool {
    // SAFETY: no pointers.
    unsafe { ffi::proxy_set_effective_context(context_id) == OK }
}

/// A metric of the proxy.
#[derive(Debug, Clone, Copy)]
pub struct Metric(Option<u32>);

impl Metric {
    /// Defines a counter. VMs that define the same name share it.
    pub fn counter(name: &str) -> Self {
        Self::define(0, name)
    }

    /// Defines a gauge. VMs that define the same name overwrite each other's values.
    pub fn gauge(name: &str) -> Self {
        Self::define(1, name)
    }

    fn define(kind: u32, name: &str) -> Self {
        let mut id = 0;
        // SAFETY: the slice and the out-pointer are live.
        let status = unsafe { ffi::proxy_define_metric(kind, name.as_ptr(), name.len(), &mut id) };
        Self((status == OK).then_some(id))
    }

    /// Adds to a counter. Nothing happens for zero, which the proxy refuses.
    pub fn add(self, count: u64) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        if let (Some(id), 1..) = (self.0, count) {
            // SAFETY: no pointers.
            unsafe { ffi::proxy_increment_metric(id, count) };
        }
    }

    /// Sets a gauge.
    pub fn set(self, value: u64) {
        if let Some(id) = self.0 {
            // SAFETY: no pointers.
            unsafe { ffi::proxy_record_metric(id, value) };
        }
    }
}

/// Sends a request to a cluster on behalf of the current root context. The answer is passed to
/// `on_http_call_response` with the token returned here, or to nothing if the context ends before.
///
/// # Errors
/// Returns an error if the call cannot begin, for instance because the cluster is not known (yet).
pub fn http_call(
    cluster: &str,
    headers: Vec<(&str, &str)>,
    body: Option<&[u8]>,
    timeout: Duration,
) -> Result<u32, proxy_wasm::types::Status> {
    proxy_wasm::hostcalls::dispatch_http_call(cluster, headers, body, Vec::new(), timeout)
}

/// Returns the headers of the answer to a call, serialized. They are empty where there are none. Valid inside
/// `on_http_call_response` only.
pub fn call_response_headers() -> Vec<u8> {
    // SAFETY: both out-pointers are live.
    returned(|data, size| unsafe { ffi::proxy_get_header_map_pairs(CALL_RESPONSE_HEADERS, data, size) })
        .unwrap_or_default()
}

/// Returns the body of the answer to a call, up to `max` bytes. Valid inside `on_http_call_response` only.
pub fn call_response_body(max: usize) -> Vec<u8> {
    // SAFETY: both out-pointers are live.
    returned(|data, size| unsafe { ffi::proxy_get_buffer_bytes(CALL_RESPONSE_BODY, 0, max, data, size) })
        .unwrap_or_default()
}

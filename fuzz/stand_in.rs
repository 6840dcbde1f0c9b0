//! A stand-in of Envoy for the native edition: the functions that the library calls, which record what they are asked. Each
//! may also refuse, as Envoy does where it is short of something.

use keyward_native::abi::{self, Abi, Buffer, ConfigPtr, FilterPtr, Header, SchedulerPtr};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, AtomicUsize, Ordering};

pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

unsafe extern "C" {
    fn envoy_dynamic_module_on_http_filter_local_reply(
        filter: FilterPtr,
        request: *const c_void,
        status: u32,
        details: Buffer,
        is_reset: bool,
    ) -> u32;
    fn envoy_dynamic_module_on_http_filter_response_headers(
        filter: FilterPtr,
        request: *const c_void,
        end: bool,
    ) -> u32;
    fn envoy_dynamic_module_on_http_filter_response_body(filter: FilterPtr, request: *const c_void, end: bool) -> u32;
    fn envoy_dynamic_module_on_http_filter_response_trailers(filter: FilterPtr, request: *const c_void) -> u32;
    fn envoy_dynamic_module_on_http_filter_stream_complete(filter: FilterPtr, request: *const c_void);
}

/// A namespace of a route's metadata, with its fields. A field without a value is no string.
pub type Namespace = (Vec<u8>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

/// Envoy's side of a request.
#[derive(Default)]
pub struct Request {
    pub headers: Pairs,
    pub trailers: Pairs,
    /// The metadata of the route.
    pub metadata: Vec<Namespace>,
    /// The library's pointer of the request.
    pub module: Option<*const c_void>,
    /// Whether Envoy has no headers to hand over.
    pub hides_headers: bool,
    /// Whether Envoy makes no scheduler.
    pub lacks_scheduler: bool,
    pub states: BTreeMap<Vec<u8>, Vec<u8>>,
    pub answers: usize,
    pub continued: usize,
}

/// Envoy's side of a configuration.
#[derive(Default)]
pub struct Config {
    /// The calls under way: their numbers and their `:path`.
    pub calls: VecDeque<(u64, String)>,
    pub last_call: u64,
    /// Whether calls do not begin.
    pub refuses_calls: bool,
    /// Whether Envoy defines no metrics.
    pub lacks_metrics: bool,
    /// Whether Envoy makes no scheduler.
    pub lacks_scheduler: bool,
    /// What the secret holds. `None` means that Envoy hands over no secret.
    pub secret: Option<Vec<u8>>,
}

struct Scheduler {
    /// The request. Zero stands for a configuration.
    request: usize,
}

/// All that left the library: log lines, names of metrics, filter states, answers.
pub static RECORDED: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// The requests that are to be decided again.
pub static WOKEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());
/// The number of schedulers that were made and not deleted.
pub static SCHEDULERS: AtomicIsize = AtomicIsize::new(0);
/// Whether Envoy only validates a configuration.
pub static VALIDATES: AtomicBool = AtomicBool::new(false);
/// What the counters of panics have counted.
pub static PANICS: AtomicU64 = AtomicU64::new(0);
/// The metrics that count panics.
static PANIC_COUNTERS: Mutex<Vec<usize>> = Mutex::new(Vec::new());
static METRICS: AtomicUsize = AtomicUsize::new(1);

fn record(bytes: &[u8]) {
    let mut recorded = RECORDED.lock().unwrap();
    recorded.extend_from_slice(bytes);
    recorded.push(b'\n');
}

unsafe fn bytes(buffer: Buffer) -> Vec<u8> {
    if buffer.ptr.is_null() {
        return Vec::new();
    }
    unsafe { std::slice::from_raw_parts(buffer.ptr.cast(), buffer.length) }.to_vec()
}

unsafe fn pairs(first: *const Header, count: usize) -> Pairs {
    let headers = if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(first, count) } };
    let text = |ptr, length| unsafe { bytes(Buffer { ptr, length }) };
    headers
        .iter()
        .map(|header| (text(header.name, header.name_length), text(header.value, header.value_length)))
        .collect()
}

unsafe fn request<'a>(filter: FilterPtr) -> &'a mut Request {
    unsafe { &mut *filter.cast() }
}

unsafe fn configuration<'a>(config: ConfigPtr) -> &'a mut Config {
    unsafe { &mut *config.cast() }
}

unsafe fn map<'a>(filter: FilterPtr, kind: u32) -> &'a mut Pairs {
    let request = unsafe { request(filter) };
    if kind == 0 { &mut request.headers } else { &mut request.trailers }
}

/// Lends a map as Envoy does: the library must not read it after it has changed it.
pub fn lend(pairs: &Pairs) -> Vec<Header> {
    pairs.iter().map(|(name, value)| Header::lend(name, value)).collect()
}

extern "C" fn log(_: u32, line: Buffer) {
    record(&unsafe { bytes(line) });
}

extern "C" fn is_validation_mode() -> bool {
    VALIDATES.load(Ordering::SeqCst)
}

extern "C" fn get_headers_size(filter: FilterPtr, kind: u32) -> usize {
    unsafe { map(filter, kind) }.len()
}

extern "C" fn get_headers(filter: FilterPtr, kind: u32, out: *mut Header) -> bool {
    if unsafe { request(filter) }.hides_headers {
        return false;
    }
    for (at, header) in lend(unsafe { map(filter, kind) }).into_iter().enumerate() {
        unsafe { out.add(at).write(header) };
    }
    true
}

extern "C" fn set_header(filter: FilterPtr, kind: u32, name: Buffer, value: Buffer) -> bool {
    let (name, remove) = (unsafe { bytes(name) }, value.ptr.is_null());
    // A new map, so that what was lent before is freed.
    let map = unsafe { map(filter, kind) };
    let mut changed: Pairs = map.iter().filter(|(have, _)| *have != name).cloned().collect();
    if !remove {
        changed.push((name, unsafe { bytes(value) }));
    }
    *map = changed;
    true
}

extern "C" fn set_filter_state(filter: FilterPtr, name: Buffer, value: Buffer) -> bool {
    let (name, value) = unsafe { (bytes(name), bytes(value)) };
    record(&value);
    unsafe { request(filter) }.states.insert(name, value);
    true
}

extern "C" fn send_response(
    filter: FilterPtr,
    status: u32,
    first: *mut Header,
    count: usize,
    body: Buffer,
    details: Buffer,
) {
    for (name, value) in unsafe { pairs(first, count) } {
        record(&name);
        record(&value);
    }
    record(&unsafe { bytes(body) });
    record(&unsafe { bytes(details) });
    let request = unsafe { request(filter) };
    request.answers += 1;
    if let Some(module) = request.module {
        unsafe { envoy_dynamic_module_on_http_filter_local_reply(filter, module, status, details, false) };
        unsafe { respond(filter, module) };
    }
}

/// Calls the hooks of a response: those of an answer of the library are called before the answer is sent.
///
/// # Safety
/// The request is live.
pub unsafe fn respond(filter: FilterPtr, module: *const c_void) {
    let flows = unsafe {
        [
            envoy_dynamic_module_on_http_filter_response_headers(filter, module, false),
            envoy_dynamic_module_on_http_filter_response_body(filter, module, false),
            envoy_dynamic_module_on_http_filter_response_trailers(filter, module),
        ]
    };
    assert_eq!(flows, [abi::CONTINUE; 3]);
    unsafe { envoy_dynamic_module_on_http_filter_stream_complete(filter, module) };
}

extern "C" fn clear_route_cache(_: FilterPtr) {}

/// Returns the fields of a namespace of the route's metadata.
unsafe fn fields<'a>(filter: FilterPtr, namespace: Buffer) -> &'a [(Vec<u8>, Option<Vec<u8>>)] {
    let namespace = unsafe { bytes(namespace) };
    let found = unsafe { request(filter) }.metadata.iter().find(|(name, _)| *name == namespace);
    found.map_or(&[], |(_, fields)| fields)
}

extern "C" fn metadata_count(filter: FilterPtr, _: u32, namespace: Buffer) -> usize {
    unsafe { fields(filter, namespace) }.len()
}

extern "C" fn metadata_keys(filter: FilterPtr, _: u32, namespace: Buffer, out: *mut Buffer) -> bool {
    for (at, (name, _)) in unsafe { fields(filter, namespace) }.iter().enumerate() {
        unsafe { out.add(at).write(Buffer::lend(name)) };
    }
    true
}

extern "C" fn metadata_string(filter: FilterPtr, _: u32, namespace: Buffer, name: Buffer, out: *mut Buffer) -> bool {
    let name = unsafe { bytes(name) };
    let value = unsafe { fields(filter, namespace) }.iter().find(|(have, _)| *have == name);
    let Some((_, Some(value))) = value else { return false };
    unsafe { out.write(Buffer::lend(value)) };
    true
}

extern "C" fn namespaces_count(filter: FilterPtr, _: u32) -> usize {
    unsafe { request(filter) }.metadata.len()
}

extern "C" fn namespaces(filter: FilterPtr, _: u32, out: *mut Buffer) -> bool {
    for (at, (name, _)) in unsafe { request(filter) }.metadata.iter().enumerate() {
        unsafe { out.add(at).write(Buffer::lend(name)) };
    }
    true
}

extern "C" fn count(_: *mut c_void, metric: usize, _: *mut Buffer, _: usize, count: u64) -> u32 {
    if PANIC_COUNTERS.lock().unwrap().contains(&metric) {
        PANICS.fetch_add(count, Ordering::SeqCst);
    }
    0
}

extern "C" fn continue_decoding(filter: FilterPtr) {
    unsafe { request(filter) }.continued += 1;
}

fn scheduler(request: usize) -> SchedulerPtr {
    SCHEDULERS.fetch_add(1, Ordering::SeqCst);
    Box::into_raw(Box::new(Scheduler { request })).cast()
}

extern "C" fn request_scheduler(filter: FilterPtr) -> SchedulerPtr {
    if unsafe { request(filter) }.lacks_scheduler { std::ptr::null_mut() } else { scheduler(filter.addr()) }
}

extern "C" fn config_scheduler(config: ConfigPtr) -> SchedulerPtr {
    if unsafe { configuration(config) }.lacks_scheduler { std::ptr::null_mut() } else { scheduler(0) }
}

extern "C" fn commit(scheduler: SchedulerPtr, _: u64) {
    let request = unsafe { &*scheduler.cast::<Scheduler>() }.request;
    if request != 0 {
        WOKEN.lock().unwrap().push(request);
    }
}

extern "C" fn delete(scheduler: SchedulerPtr) {
    drop(unsafe { Box::from_raw(scheduler.cast::<Scheduler>()) });
    SCHEDULERS.fetch_sub(1, Ordering::SeqCst);
}

extern "C" fn define(config: ConfigPtr, name: Buffer, _: *mut Buffer, _: usize, id: *mut usize) -> u32 {
    let name = unsafe { bytes(name) };
    record(&name);
    if unsafe { configuration(config) }.lacks_metrics {
        return 1;
    }
    let number = METRICS.fetch_add(1, Ordering::SeqCst);
    if name == b"keyward_panics" {
        PANIC_COUNTERS.lock().unwrap().push(number);
    }
    unsafe { *id = number };
    0
}

extern "C" fn subscribe(config: ConfigPtr, name: Buffer, _: Buffer) -> usize {
    record(&unsafe { bytes(name) });
    usize::from(unsafe { configuration(config) }.secret.is_some())
}

extern "C" fn get_secret(config: ConfigPtr, number: usize, out: *mut Buffer) -> bool {
    assert_eq!(number, 1);
    let Some(secret) = unsafe { configuration(config) }.secret.as_ref().filter(|secret| !secret.is_empty()) else {
        return false;
    };
    unsafe { out.write(Buffer::lend(secret)) };
    true
}

extern "C" fn http_callout(
    config: ConfigPtr,
    id: *mut u64,
    _: Buffer,
    first: *mut Header,
    count: usize,
    body: Buffer,
    _: u64,
) -> u32 {
    let headers = unsafe { pairs(first, count) };
    record(&unsafe { bytes(body) });
    let path = headers.iter().find(|(name, _)| name == b":path").map(|(_, path)| path.clone()).unwrap_or_default();
    let config = unsafe { configuration(config) };
    if config.refuses_calls {
        return 1;
    }
    config.last_call += 1;
    config.calls.push_back((config.last_call, String::from_utf8(path).unwrap()));
    unsafe { *id = config.last_call };
    0
}

pub fn abi() -> Abi {
    Abi {
        log,
        is_validation_mode,
        http_get_headers_size: get_headers_size,
        http_get_headers: get_headers,
        http_set_header: set_header,
        http_set_filter_state_bytes: set_filter_state,
        http_send_response: send_response,
        http_clear_route_cache: clear_route_cache,
        http_get_metadata_keys_count: metadata_count,
        http_get_metadata_keys: metadata_keys,
        http_get_metadata_string: metadata_string,
        http_get_metadata_namespaces_count: namespaces_count,
        http_get_metadata_namespaces: namespaces,
        http_filter_increment_counter: count,
        http_filter_continue_decoding: continue_decoding,
        http_filter_scheduler_new: request_scheduler,
        http_filter_scheduler_commit: commit,
        http_filter_scheduler_delete: delete,
        http_filter_config_define_counter: define,
        http_filter_config_define_gauge: define,
        http_filter_config_increment_counter: count,
        http_filter_config_set_gauge: count,
        http_filter_config_scheduler_new: config_scheduler,
        http_filter_config_scheduler_commit: commit,
        http_filter_config_scheduler_delete: delete,
        http_filter_config_http_callout: http_callout,
        http_filter_config_generic_secret_subscribe: Some(subscribe),
        http_filter_config_get_generic_secret: Some(get_secret),
    }
}

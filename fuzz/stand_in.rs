//! A stand-in of Envoy for the native edition: the functions that the library calls, which record what they are asked.

use keyward_native::abi::{Abi, Buffer, ConfigPtr, FilterPtr, Header, SchedulerPtr};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Envoy's side of a request.
#[derive(Default)]
pub struct Request {
    pub headers: Pairs,
    pub trailers: Pairs,
    pub states: BTreeMap<Vec<u8>, Vec<u8>>,
    pub answers: usize,
    pub continued: usize,
}

/// Envoy's side of a configuration.
#[derive(Default)]
pub struct Config {
    /// The calls under way: their numbers and their `:path`.
    pub calls: VecDeque<(u64, String)>,
    last_call: u64,
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

unsafe fn map<'a>(filter: FilterPtr, kind: u32) -> &'a mut Pairs {
    let request = unsafe { request(filter) };
    if kind == 0 { &mut request.headers } else { &mut request.trailers }
}

/// Lends a map as Envoy does: the library must not read it after it has changed it.
pub fn lend(pairs: &Pairs) -> Vec<Header> {
    pairs.iter().map(|(name, value)| Header::lend(name, value)).collect()
}

extern "C" fn log(_: u32, line: Buffer) {
    let line = unsafe { bytes(line) };
    record(&line);
    // Also a check of the caller that fails, since the library's hook for panics is the one of the process.
    if line.starts_with(b"keyward: a bug") {
        eprintln!("{}", String::from_utf8_lossy(&line));
    }
}

extern "C" fn is_validation_mode() -> bool {
    false
}

extern "C" fn get_headers_size(filter: FilterPtr, kind: u32) -> usize {
    unsafe { map(filter, kind) }.len()
}

extern "C" fn get_headers(filter: FilterPtr, kind: u32, out: *mut Header) -> bool {
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
    _: u32,
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
    unsafe { request(filter) }.answers += 1;
}

extern "C" fn clear_route_cache(_: FilterPtr) {}

extern "C" fn metadata_count(_: FilterPtr, _: u32, _: Buffer) -> usize {
    0
}

extern "C" fn metadata_keys(_: FilterPtr, _: u32, _: Buffer, _: *mut Buffer) -> bool {
    false
}

extern "C" fn metadata_string(_: FilterPtr, _: u32, _: Buffer, _: Buffer, _: *mut Buffer) -> bool {
    false
}

extern "C" fn namespaces_count(_: FilterPtr, _: u32) -> usize {
    0
}

extern "C" fn namespaces(_: FilterPtr, _: u32, _: *mut Buffer) -> bool {
    false
}

extern "C" fn count(_: FilterPtr, _: usize, _: *mut Buffer, _: usize, _: u64) -> u32 {
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
    scheduler(filter.addr())
}

extern "C" fn config_scheduler(_: ConfigPtr) -> SchedulerPtr {
    scheduler(0)
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

extern "C" fn define(_: ConfigPtr, name: Buffer, _: *mut Buffer, _: usize, id: *mut usize) -> u32 {
    record(&unsafe { bytes(name) });
    unsafe { *id = METRICS.fetch_add(1, Ordering::SeqCst) };
    0
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
    let config = unsafe { &mut *config.cast::<Config>() };
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
        http_filter_config_generic_secret_subscribe: None,
        http_filter_config_get_generic_secret: None,
    }
}

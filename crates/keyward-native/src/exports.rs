//! The functions that Envoy calls.
//!
//! Each runs in [`guard::hook`], because a panic must not unwind into Envoy. A configuration is an `Arc<Plugin>` that Envoy
//! holds as a pointer. A request's pointer is that of its configuration, so that an ordinary request allocates nothing;
//! one that begins before the first keys are there has an [`Early`] of its own, and its pointer has the lowest bit set.
//! Envoy keeps a configuration for as long as it has requests.

use crate::abi::{self, Buffer, ConfigPtr, FilterPtr, Header};
use crate::guard;
use crate::hooks::{self, Early, Flow, Plugin};
use crate::host::{self, Configuration, abi as functions, copy, serialize};
use crate::logger;
use crate::stream::Stream;
use keyward_policy::sync::MAX_PAGE_BYTES;
use std::ffi::{c_char, c_void};
use std::sync::Arc;

/// The mark of an [`Early`].
const EARLY: usize = 1;

/// What the pointer of a request points to.
enum Filter<'a> {
    Ordinary(&'a Plugin),
    Early(&'a mut Early),
}

/// Reads the pointer of a request.
///
/// # Safety
/// The pointer comes from [`envoy_dynamic_module_on_http_filter_new`] and was not destroyed. Envoy calls the hooks of one
/// request one after the other.
unsafe fn filter<'a>(pointer: *const c_void) -> Option<Filter<'a>> {
    if pointer.is_null() {
        return None;
    }
    if pointer.addr() & EARLY == 0 {
        // SAFETY: without the mark it is that of a configuration, which outlives its requests.
        return Some(Filter::Ordinary(unsafe { &*pointer.cast::<Plugin>() }));
    }
    let early = pointer.map_addr(|address| address & !EARLY).cast_mut().cast::<Early>();
    // SAFETY: with the mark it is that of a boxed `Early`, which nobody else refers to.
    Some(Filter::Early(unsafe { &mut *early }))
}

/// Called once, when Envoy loads the library. Null refuses it.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_program_init() -> *const c_char {
    let load = || match host::load() {
        Ok(version) => {
            logger::install();
            version.as_ptr()
        }
        Err(missing) => {
            host::log_without_abi(&format!(
                "keyward: this Envoy has no envoy_dynamic_module_callback_{missing}: the native edition runs in Envoy 1.39 and 1.40"
            ));
            std::ptr::null()
        }
    };
    guard::log_panics();
    guard::hook("program_init", load, || {}, std::ptr::null())
}

/// Makes a configuration. Null refuses it.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_new(
    config: ConfigPtr,
    _name: Buffer,
    bytes: Buffer,
) -> *const c_void {
    let make = || {
        let Some(abi) = functions() else { return std::ptr::null() };
        // SAFETY: Envoy passes a live configuration, on the main thread, and keeps it until it calls `destroy`. The bytes
        // are live for the call.
        let (configuration, bytes) = unsafe { (Configuration::new(abi, config), copy(bytes)) };
        let plugin = hooks::configure(configuration, &bytes);
        plugin.map_or(std::ptr::null(), |plugin| Arc::into_raw(Arc::new(plugin)).cast())
    };
    guard::hook("config_new", make, || {}, std::ptr::null())
}

/// Ends a configuration. Envoy calls it on the thread that lets go of it last, which may be a worker.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_destroy(plugin: *const c_void) {
    if plugin.is_null() {
        return;
    }
    // SAFETY: the pointer comes from `config_new`, and Envoy gives it back once.
    let plugin = unsafe { Arc::from_raw(plugin.cast::<Plugin>()) };
    // Its ticks must end before Envoy removes the library from memory, so a second attempt is owed.
    guard::hook("config_destroy", || hooks::destroy(&plugin), || hooks::destroy(&plugin), ());
    guard::hook("config_free", move || drop(plugin), || {}, ());
}

/// A configuration's tick.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_scheduled(
    config: ConfigPtr,
    plugin: *const c_void,
    _event: u64,
) {
    let Some(abi) = functions() else { return };
    // SAFETY: Envoy passes a live configuration, on the main thread.
    let configuration = unsafe { Configuration::new(abi, config) };
    // SAFETY: the pointer comes from `config_new` and was not destroyed.
    if let Some(plugin) = unsafe { plugin.cast::<Plugin>().as_ref() } {
        let tick = || hooks::on_tick(configuration, plugin);
        guard::hook("config_scheduled", tick, || hooks::after_lost_tick(plugin), ());
    }
}

/// An answer to a configuration's call.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_http_callout_done(
    _config: ConfigPtr,
    plugin: *const c_void,
    call: u64,
    result: u32,
    headers: *const Header,
    header_count: usize,
    chunks: *const Buffer,
    chunk_count: usize,
) {
    // SAFETY: the pointer comes from `config_new` and was not destroyed.
    let Some(plugin) = (unsafe { plugin.cast::<Plugin>().as_ref() }) else { return };
    let take = || {
        let answered = result == abi::SUCCESS && !headers.is_null();
        // SAFETY: not null, and Envoy passes as many live headers as it says.
        let head =
            if answered { unsafe { serialize(std::slice::from_raw_parts(headers, header_count)) } } else { Vec::new() };
        let mut body = Vec::new();
        if answered && !chunks.is_null() {
            // SAFETY: not null, and Envoy passes as many live chunks as it says.
            for chunk in unsafe { std::slice::from_raw_parts(chunks, chunk_count) } {
                if body.len() <= MAX_PAGE_BYTES {
                    // SAFETY: the chunk is live.
                    body.extend(unsafe { copy(*chunk) });
                }
            }
        }
        hooks::on_answer(plugin, call, &head, &body);
    };
    guard::hook("config_http_callout_done", take, || hooks::after_lost_answer(plugin, call), ());
}

/// Makes a request. Null closes it.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_new(plugin: *const c_void, _filter: FilterPtr) -> *const c_void {
    let make = || {
        // SAFETY: the pointer comes from `config_new` and was not destroyed.
        let Some(live) = (unsafe { plugin.cast::<Plugin>().as_ref() }) else { return std::ptr::null() };
        if !hooks::may_wait(live) {
            return plugin;
        }
        let pointer = plugin.cast::<Plugin>();
        // SAFETY: it is the pointer of an `Arc`, of which one more is made here.
        let shared = unsafe {
            Arc::increment_strong_count(pointer);
            Arc::from_raw(pointer)
        };
        let early = Box::into_raw(Box::new(hooks::early(shared)));
        early.map_addr(|address| address | EARLY).cast::<c_void>().cast_const()
    };
    guard::hook("new", make, || {}, std::ptr::null())
}

/// Decides a request.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_headers(
    stream: FilterPtr,
    pointer: *const c_void,
    _end_of_stream: bool,
) -> u32 {
    let Some(abi) = functions() else { return abi::STOP_ALL };
    // SAFETY: Envoy passes a live request, for this call.
    let stream = unsafe { Stream::new(abi, stream) };
    let decide = || {
        // SAFETY: the pointer comes from `filter_new` and was not destroyed.
        match unsafe { filter(pointer) } {
            Some(Filter::Ordinary(plugin)) => hooks::on_headers(stream, plugin),
            Some(Filter::Early(early)) => hooks::on_early_headers(stream, early),
            None => {
                hooks::refuse(stream);
                Flow::Answered
            }
        }
    };
    // SAFETY: as above.
    let owed = || unsafe { after_panic(stream, pointer) };
    match guard::hook("request_headers", decide, owed, Flow::Answered) {
        Flow::Continue => abi::CONTINUE,
        // Also for a request that was answered: where an answer is not sent, its body must not carry the headers on.
        Flow::Answered | Flow::Wait => abi::STOP_ALL,
    }
}

/// The body of a request whose headers have passed. Envoy keeps the body of one that waits.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_body(
    stream: FilterPtr,
    pointer: *const c_void,
    _end_of_stream: bool,
) -> u32 {
    let Some(abi) = functions() else { return abi::STOP_BODY };
    // SAFETY: Envoy passes a live request, for this call.
    let stream = unsafe { Stream::new(abi, stream) };
    let pass = || {
        // SAFETY: the pointer comes from `filter_new` and was not destroyed.
        if unsafe { may_pass(pointer) } { abi::CONTINUE } else { abi::STOP_BODY }
    };
    // SAFETY: as above.
    guard::hook("request_body", pass, || unsafe { after_panic(stream, pointer) }, abi::STOP_BODY)
}

/// The trailers of a request whose headers have passed.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_trailers(stream: FilterPtr, pointer: *const c_void) -> u32 {
    let Some(abi) = functions() else { return abi::STOP };
    // SAFETY: Envoy passes a live request, for this call.
    let stream = unsafe { Stream::new(abi, stream) };
    let clean = || {
        // SAFETY: the pointer comes from `filter_new` and was not destroyed.
        match unsafe { filter(pointer) } {
            Some(Filter::Ordinary(plugin)) => hooks::on_trailers(stream, plugin),
            Some(Filter::Early(early)) if early.has_passed() => hooks::on_trailers(stream, &early.plugin),
            Some(Filter::Early(_)) | None => return abi::STOP,
        }
        abi::CONTINUE
    };
    // Trailers that could not be cleaned go nowhere, and the request gets an answer instead of waiting for its time limit.
    // SAFETY: as above.
    guard::hook("request_trailers", clean, || unsafe { after_panic(stream, pointer) }, abi::STOP)
}

/// Does what is owed to a request whose hook has panicked.
///
/// # Safety
/// As for [`filter`], and the stream is that of the request.
unsafe fn after_panic(stream: Stream, pointer: *const c_void) {
    // SAFETY: by the caller's word.
    let filter = unsafe { filter(pointer) };
    let plugin = filter.map(|filter| match filter {
        Filter::Ordinary(plugin) => plugin,
        Filter::Early(early) => early.deny(),
    });
    hooks::after_panic(stream, plugin);
}

/// Returns whether the rest of a request may follow its headers. Of an ordinary one it may: Envoy asks for the rest of those
/// alone whose headers have passed.
///
/// # Safety
/// As for [`filter`].
unsafe fn may_pass(pointer: *const c_void) -> bool {
    // SAFETY: by the caller's word.
    match unsafe { filter(pointer) } {
        Some(Filter::Ordinary(_)) => true,
        Some(Filter::Early(early)) => early.has_passed(),
        None => false,
    }
}

/// Decides a waiting request again, on its worker.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_scheduled(stream: FilterPtr, pointer: *const c_void, _event: u64) {
    let Some(abi) = functions() else { return };
    // SAFETY: Envoy passes a live request, for this call.
    let stream = unsafe { Stream::new(abi, stream) };
    // SAFETY: the pointer comes from `filter_new` and was not destroyed.
    let Some(Filter::Early(early)) = (unsafe { filter(pointer) }) else { return };
    // A request that has passed or was denied before stays as it was decided.
    if early.waits() {
        // SAFETY: as above. Nothing uses `early` any more when it runs.
        let owed = || unsafe { after_panic(stream, pointer) };
        if guard::hook("scheduled", || hooks::on_scheduled(stream, early), owed, false) {
            stream.continue_decoding();
        }
    }
}

/// Ends a request.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_destroy(pointer: *const c_void) {
    if pointer.addr() & EARLY == 0 {
        return;
    }
    let early = pointer.map_addr(|address| address & !EARLY).cast_mut().cast::<Early>();
    // SAFETY: with the mark it is the pointer of a boxed `Early`, and Envoy gives it back once.
    let early = unsafe { Box::from_raw(early) };
    guard::hook("destroy", move || drop(early), || {}, ());
}

/// What the names of these hooks begin with.
const PREFIX: &str = "envoy_dynamic_module_on_http_filter_";

/// Hooks that Envoy wants to be there, and at which nothing happens.
macro_rules! nothing_happens {
    ($($name:ident($($argument:ty),*) $(-> $result:ty = $value:expr)?;)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name($(_: $argument),*) $(-> $result)? {
                // Nothing can panic here, but for a test that plants a panic.
                guard::hook(&stringify!($name)[PREFIX.len()..], || {}, || {}, ());
                $($value)?
            }
        )*
    };
}

nothing_happens! {
    envoy_dynamic_module_on_http_filter_response_headers(FilterPtr, *const c_void, bool) -> u32 = abi::CONTINUE;
    envoy_dynamic_module_on_http_filter_response_body(FilterPtr, *const c_void, bool) -> u32 = abi::CONTINUE;
    envoy_dynamic_module_on_http_filter_response_trailers(FilterPtr, *const c_void) -> u32 = abi::CONTINUE;
    envoy_dynamic_module_on_http_filter_stream_complete(FilterPtr, *const c_void);
    envoy_dynamic_module_on_http_filter_http_callout_done(
        FilterPtr, *const c_void, u64, u32, *const Header, usize, *const Buffer, usize
    );
    envoy_dynamic_module_on_http_filter_http_stream_headers(
        FilterPtr, *const c_void, u64, *const Header, usize, bool
    );
    envoy_dynamic_module_on_http_filter_http_stream_data(
        FilterPtr, *const c_void, u64, *const Buffer, usize, bool
    );
    envoy_dynamic_module_on_http_filter_http_stream_trailers(FilterPtr, *const c_void, u64, *const Header, usize);
    envoy_dynamic_module_on_http_filter_http_stream_complete(FilterPtr, *const c_void, u64);
    envoy_dynamic_module_on_http_filter_http_stream_reset(FilterPtr, *const c_void, u64, u32);
    envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(FilterPtr, *const c_void);
    envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(FilterPtr, *const c_void);
    envoy_dynamic_module_on_http_filter_local_reply(FilterPtr, *const c_void, u32, Buffer, bool) -> u32 = abi::CONTINUE;
}

//! The functions that Envoy calls.
//!
//! Each catches panics, which must not unwind into Envoy, and then denies. A configuration is an `Arc<Plugin>` that Envoy
//! holds as a pointer. A request's pointer is that of its configuration, so that an ordinary request allocates nothing;
//! one that begins before the first keys are there has an [`Early`] of its own, and its pointer has the lowest bit set.
//! Envoy keeps a configuration for as long as it has requests.

use crate::abi::{self, Buffer, ConfigPtr, FilterPtr, Header};
use crate::hooks::{self, Early, Flow, Plugin};
use crate::host::{self, Configuration, abi as functions, copy, serialize};
use crate::logger;
use crate::stream::Stream;
use keyward_policy::sync::MAX_PAGE_BYTES;
use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Runs a hook. `None` means that it panicked; the panic is in Envoy's log.
fn guarded<R>(hook: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(hook)).ok()
}

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
    let loaded = guarded(|| match host::load() {
        Ok(version) => {
            logger::install();
            // The default hook writes to standard error, and may quote more than the place.
            std::panic::set_hook(Box::new(|panic| {
                let place = panic.location().map(ToString::to_string).unwrap_or_default();
                host::log(abi::LOG_ERROR, &format!("keyward: a bug: panic at {place}; what was going on is denied"));
            }));
            version.as_ptr()
        }
        Err(missing) => {
            host::log_without_abi(&format!(
                "keyward: this Envoy has no envoy_dynamic_module_callback_{missing}: the native edition runs in Envoy 1.39 and 1.40"
            ));
            std::ptr::null()
        }
    });
    loaded.unwrap_or(std::ptr::null())
}

/// Makes a configuration. Null refuses it.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_new(
    config: ConfigPtr,
    _name: Buffer,
    bytes: Buffer,
) -> *const c_void {
    let made = guarded(|| {
        let abi = functions()?;
        // SAFETY: Envoy passes a live configuration, on the main thread, and keeps it until it calls `destroy`. The bytes
        // are live for the call.
        let (configuration, bytes) = unsafe { (Configuration::new(abi, config), copy(bytes)) };
        hooks::configure(configuration, &bytes)
    });
    made.flatten().map_or(std::ptr::null(), |plugin| Arc::into_raw(Arc::new(plugin)).cast())
}

/// Ends a configuration. Envoy calls it on the thread that lets go of it last, which may be a worker.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_destroy(plugin: *const c_void) {
    if plugin.is_null() {
        return;
    }
    guarded(|| {
        // SAFETY: the pointer comes from `config_new`, and Envoy gives it back once.
        let plugin = unsafe { Arc::from_raw(plugin.cast::<Plugin>()) };
        hooks::destroy(&plugin);
    });
}

/// A configuration's tick.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_scheduled(
    _config: ConfigPtr,
    plugin: *const c_void,
    _event: u64,
) {
    // SAFETY: the pointer comes from `config_new` and was not destroyed.
    if let Some(plugin) = unsafe { plugin.cast::<Plugin>().as_ref() } {
        guarded(|| hooks::on_tick(plugin));
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
    guarded(|| {
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
    });
}

/// Makes a request. Null closes it.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_new(plugin: *const c_void, _filter: FilterPtr) -> *const c_void {
    let made = guarded(|| {
        // SAFETY: the pointer comes from `config_new` and was not destroyed.
        let live = unsafe { plugin.cast::<Plugin>().as_ref() }?;
        if !hooks::may_wait(live) {
            return Some(plugin);
        }
        let pointer = plugin.cast::<Plugin>();
        // SAFETY: it is the pointer of an `Arc`, of which one more is made here.
        let shared = unsafe {
            Arc::increment_strong_count(pointer);
            Arc::from_raw(pointer)
        };
        let early = Box::into_raw(Box::new(hooks::early(shared)));
        Some(early.map_addr(|address| address | EARLY).cast::<c_void>().cast_const())
    });
    made.flatten().unwrap_or(std::ptr::null())
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
    let flow = guarded(|| {
        // SAFETY: the pointer comes from `filter_new` and was not destroyed.
        Some(match unsafe { filter(pointer) }? {
            Filter::Ordinary(plugin) => hooks::on_headers(stream, plugin),
            Filter::Early(early) => hooks::on_early_headers(stream, early),
        })
    });
    match flow.flatten() {
        Some(Flow::Continue) => abi::CONTINUE,
        Some(Flow::Answered) => abi::STOP,
        Some(Flow::Wait) => abi::STOP_ALL,
        None => {
            guarded(|| hooks::refuse(stream));
            abi::STOP
        }
    }
}

/// The body of a request whose headers have passed. Envoy keeps the body of one that waits.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_body(
    _stream: FilterPtr,
    _pointer: *const c_void,
    _end_of_stream: bool,
) -> u32 {
    abi::CONTINUE
}

/// The trailers of a request whose headers have passed.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_trailers(stream: FilterPtr, pointer: *const c_void) -> u32 {
    let cleaned = guarded(|| {
        // SAFETY: Envoy passes a live request, for this call.
        let stream = unsafe { Stream::new(functions()?, stream) };
        // SAFETY: the pointer comes from `filter_new` and was not destroyed.
        match unsafe { filter(pointer) }? {
            Filter::Ordinary(plugin) => hooks::on_trailers(stream, plugin),
            Filter::Early(early) => hooks::on_trailers(stream, &early.plugin),
        }
        Some(())
    });
    // Trailers that could not be cleaned stay here, and the request ends by its time limit.
    if cleaned.flatten().is_some() { abi::CONTINUE } else { abi::STOP }
}

/// Decides a waiting request again, on its worker.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_scheduled(stream: FilterPtr, pointer: *const c_void, _event: u64) {
    let Some(abi) = functions() else { return };
    // SAFETY: Envoy passes a live request, for this call.
    let stream = unsafe { Stream::new(abi, stream) };
    let done = guarded(|| {
        // SAFETY: the pointer comes from `filter_new` and was not destroyed.
        if let Some(Filter::Early(early)) = unsafe { filter(pointer) } {
            hooks::on_scheduled(stream, early);
        }
    });
    if done.is_none() {
        guarded(|| hooks::refuse(stream));
    }
}

/// Ends a request.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_destroy(pointer: *const c_void) {
    if pointer.addr() & EARLY == 0 {
        return;
    }
    guarded(|| {
        let early = pointer.map_addr(|address| address & !EARLY).cast_mut().cast::<Early>();
        // SAFETY: with the mark it is the pointer of a boxed `Early`, and Envoy gives it back once.
        drop(unsafe { Box::from_raw(early) });
    });
}

/// Hooks that Envoy wants to be there, and at which nothing happens.
macro_rules! nothing_happens {
    ($($name:ident($($argument:ty),*) $(-> $result:ty = $value:expr)?;)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name($(_: $argument),*) $(-> $result)? {
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

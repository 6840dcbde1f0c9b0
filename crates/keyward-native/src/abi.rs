//! Envoy's ABI for dynamic modules, as far as it is used: types, and the table of Envoy's functions.
//!
//! Envoy exports its functions to the libraries that it loads. This library looks each of them up by name when it is
//! loaded ([`Abi::load`]) instead of having the dynamic linker bind them: that would end Envoy at the first call of a
//! function that it does not have.
//!
//! The ABI has a version (1.39 says v0.1.0, 1.40 says v0.2.0) that Envoy compares and only warns about. The functions
//! here have the same signatures in both.

use std::ffi::{CStr, c_char, c_void};

/// Envoy's side of a filter configuration.
pub type ConfigPtr = *mut c_void;
/// Envoy's side of a request.
pub type FilterPtr = *mut c_void;
/// A scheduler of Envoy's, which belongs to the module.
pub type SchedulerPtr = *mut c_void;

/// Bytes that Envoy or the module owns.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Buffer {
    /// The first byte. May be null where the length is zero.
    pub ptr: *const c_char,
    /// The number of bytes.
    pub length: usize,
}

impl Buffer {
    /// No bytes.
    pub const NULL: Self = Self { ptr: std::ptr::null(), length: 0 };

    /// Lends bytes to Envoy for one call. Envoy gets no null pointer, because that means "remove" to some functions.
    pub fn lend(bytes: &[u8]) -> Self {
        Self { ptr: bytes.as_ptr().cast(), length: bytes.len() }
    }
}

/// A header that Envoy or the module owns.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// The first byte of the name.
    pub name: *const c_char,
    /// The number of bytes of the name.
    pub name_length: usize,
    /// The first byte of the value.
    pub value: *const c_char,
    /// The number of bytes of the value.
    pub value_length: usize,
}

impl Header {
    /// A header without anything.
    pub const EMPTY: Self = Self { name: std::ptr::null(), name_length: 0, value: std::ptr::null(), value_length: 0 };

    /// Lends a header to Envoy for one call.
    pub fn lend(name: &[u8], value: &[u8]) -> Self {
        Self {
            name: name.as_ptr().cast(),
            name_length: name.len(),
            value: value.as_ptr().cast(),
            value_length: value.len(),
        }
    }
}

/// `envoy_dynamic_module_type_http_header_type`: the map of a request's headers, or of its trailers.
pub const REQUEST_HEADERS: u32 = 0;
/// See [`REQUEST_HEADERS`].
pub const REQUEST_TRAILERS: u32 = 1;

/// `envoy_dynamic_module_type_metadata_source`: the metadata of the route.
pub const ROUTE: u32 = 1;

/// The value of several result types that means success.
pub const SUCCESS: u32 = 0;

/// `envoy_dynamic_module_type_on_http_filter_request_headers_status`: the next filter gets the headers.
pub const CONTINUE: u32 = 0;
/// The trailers stay at this filter, which has answered.
pub const STOP: u32 = 1;
/// `envoy_dynamic_module_type_on_http_filter_request_body_status`: the body stays at this filter, and no more is read.
pub const STOP_BODY: u32 = 2;
/// Headers, body and trailers stay at this filter.
pub const STOP_ALL: u32 = 4;

/// `envoy_dynamic_module_type_log_level`.
pub const LOG_DEBUG: u32 = 1;
/// See [`LOG_DEBUG`].
pub const LOG_INFO: u32 = 2;
/// See [`LOG_DEBUG`].
pub const LOG_WARN: u32 = 3;
/// See [`LOG_DEBUG`].
pub const LOG_ERROR: u32 = 4;

/// Declares Envoy's functions: those that must be there, and those that may be absent.
macro_rules! functions {
    (
        required { $($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)* }
        optional { $($maybe:ident: fn($($other:ty),*) $(-> $value:ty)?;)* }
    ) => {
        /// Envoy's functions. Each is called `envoy_dynamic_module_callback_` and its name here.
        #[derive(Debug, Clone, Copy)]
        pub struct Abi {
            $(#[doc = concat!("`envoy_dynamic_module_callback_", stringify!($name), "`.")] pub $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            $(#[doc = concat!("`envoy_dynamic_module_callback_", stringify!($maybe), "`.")] pub $maybe: Option<unsafe extern "C" fn($($other),*) $(-> $value)?>,)*
        }

        impl Abi {
            /// Looks up all functions with `find`, which returns null for what is absent.
            ///
            /// # Errors
            /// The name of a function that is absent and must not be.
            ///
            /// # Safety
            /// What `find` returns for a name must be null or a function with the signature of that name.
            pub unsafe fn load(find: impl Fn(&CStr) -> *mut c_void) -> Result<Self, &'static str> {
                Ok(Self {
                    $($name: {
                        let name = concat!("envoy_dynamic_module_callback_", stringify!($name), "\0");
                        let found = find(CStr::from_bytes_until_nul(name.as_bytes()).unwrap_or_default());
                        if found.is_null() {
                            return Err(stringify!($name));
                        }
                        // SAFETY: not null, and by the caller's word a function of this signature.
                        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>(found) }
                    },)*
                    $($maybe: {
                        let name = concat!("envoy_dynamic_module_callback_", stringify!($maybe), "\0");
                        let found = find(CStr::from_bytes_until_nul(name.as_bytes()).unwrap_or_default());
                        // SAFETY: null is `None`; otherwise it is, by the caller's word, a function of this signature.
                        unsafe { std::mem::transmute::<*mut c_void, Option<unsafe extern "C" fn($($other),*) $(-> $value)?>>(found) }
                    },)*
                })
            }
        }
    };
}

functions! {
    required {
        log: fn(u32, Buffer);
        is_validation_mode: fn() -> bool;
        http_get_headers_size: fn(FilterPtr, u32) -> usize;
        http_get_headers: fn(FilterPtr, u32, *mut Header) -> bool;
        http_set_header: fn(FilterPtr, u32, Buffer, Buffer) -> bool;
        http_set_filter_state_bytes: fn(FilterPtr, Buffer, Buffer) -> bool;
        http_send_response: fn(FilterPtr, u32, *mut Header, usize, Buffer, Buffer);
        http_clear_route_cache: fn(FilterPtr);
        http_get_metadata_keys_count: fn(FilterPtr, u32, Buffer) -> usize;
        http_get_metadata_keys: fn(FilterPtr, u32, Buffer, *mut Buffer) -> bool;
        http_get_metadata_string: fn(FilterPtr, u32, Buffer, Buffer, *mut Buffer) -> bool;
        http_get_metadata_namespaces_count: fn(FilterPtr, u32) -> usize;
        http_get_metadata_namespaces: fn(FilterPtr, u32, *mut Buffer) -> bool;
        http_filter_increment_counter: fn(FilterPtr, usize, *mut Buffer, usize, u64) -> u32;
        http_filter_continue_decoding: fn(FilterPtr);
        http_filter_scheduler_new: fn(FilterPtr) -> SchedulerPtr;
        http_filter_scheduler_commit: fn(SchedulerPtr, u64);
        http_filter_scheduler_delete: fn(SchedulerPtr);
        http_filter_config_define_counter: fn(ConfigPtr, Buffer, *mut Buffer, usize, *mut usize) -> u32;
        http_filter_config_define_gauge: fn(ConfigPtr, Buffer, *mut Buffer, usize, *mut usize) -> u32;
        http_filter_config_increment_counter: fn(ConfigPtr, usize, *mut Buffer, usize, u64) -> u32;
        http_filter_config_set_gauge: fn(ConfigPtr, usize, *mut Buffer, usize, u64) -> u32;
        http_filter_config_scheduler_new: fn(ConfigPtr) -> SchedulerPtr;
        http_filter_config_scheduler_commit: fn(SchedulerPtr, u64);
        http_filter_config_scheduler_delete: fn(SchedulerPtr);
        http_filter_config_http_callout: fn(ConfigPtr, *mut u64, Buffer, *mut Header, usize, Buffer, u64) -> u32;
    }
    optional {
        http_filter_config_generic_secret_subscribe: fn(ConfigPtr, Buffer, Buffer) -> usize;
        http_filter_config_get_generic_secret: fn(ConfigPtr, usize, *mut Buffer) -> bool;
    }
}

impl Abi {
    /// Returns the version that this Envoy expects a module to state. The functions for secrets came with v0.2.0.
    pub fn version(&self) -> &'static CStr {
        if self.http_filter_config_generic_secret_subscribe.is_some() { c"v0.2.0" } else { c"v0.1.0" }
    }
}

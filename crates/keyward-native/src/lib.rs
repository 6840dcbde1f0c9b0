//! The native edition of the Keyward filter: the glue between Envoy's dynamic modules and [`keyward_edge`].
//!
//! ```text
//! Envoy ─► exports ─► hooks ─► keyward_edge::http ─► keyward_policy::decide ─► Decision
//!             │         │
//!             │         ├─ source: one table and one poll for the whole process
//!             │         └─ hold:   requests that wait for the first keys
//!             └─ guard: a panic in a hook ends here, and denies
//! ```
//!
//! There is no sandbox: a fault of this library is a fault of Envoy. So all `unsafe` code is in `abi`, `exports`, `host`
//! and `stream`, each hook catches panics, and Envoy's functions are looked up by name before anything else happens: a missing
//! one refuses the library instead of ending the process at the first call.
//!
//! Envoy calls the hooks of a configuration on its main thread and those of a request on the request's worker. The
//! library has one thread of its own (`ticks`), because Envoy has no timer for filters.

#[allow(unsafe_code, reason = "the declarations of the foreign function interface")]
pub mod abi;
#[allow(unsafe_code, reason = "the functions that Envoy calls")]
mod exports;
#[cfg(any(test, feature = "failpoint"))]
pub mod failpoint;
mod guard;
mod hold;
mod hooks;
#[allow(unsafe_code, reason = "the calls of Envoy's functions")]
mod host;
mod keys;
mod logger;
mod node;
mod primitives;
mod secret;
mod source;
#[allow(unsafe_code, reason = "the calls of Envoy's functions for one request")]
mod stream;
#[cfg(test)]
mod tests;
mod ticks;
mod usage;

pub use host::install;

// The checks of `fuzz/hooks.rs` name this crate from outside, and its own tests include them.
#[cfg(test)]
#[allow(unused_extern_crates, reason = "only paths of the included file name it")]
extern crate self as keyward_native;

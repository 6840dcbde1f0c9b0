//! The Keyward filter: Envoy glue around [`keyward_policy`].
//!
//! ```text
//! Envoy ─► entry ─► requests ─► http ─► head ─► keyward_policy::decide ─► Decision
//!                                │                                          │
//!                                ├─ allow: forward (credential off, identity on), continue
//!                                ├─ deny:  reply (problem+json), pause
//!                                └─ keys still loading: hold, decided again later
//! ```
//!
//! Only `host` calls the proxy, and only `entry` is called by it. Both exist for WebAssembly alone; natively a stand-in
//! takes the place of `host`, so that everything else compiles, is linted and is documented on every machine. An edition
//! for another host needs another module `host` with the same functions, and an entry of its own.

pub mod head;
pub mod hold;
pub mod http;
pub mod metrics;
pub mod plugin;
pub mod reply;
pub mod requests;
pub mod root;

#[cfg(target_family = "wasm")]
mod entry;
#[cfg(feature = "failpoint")]
mod failpoint;
mod fetch;
mod forward;
#[cfg(target_family = "wasm")]
pub mod host;
#[cfg(not(target_family = "wasm"))]
#[path = "host_stand_in.rs"]
pub mod host;
mod node;
mod source;
#[cfg(feature = "callback-times")]
mod stopwatch;
mod telemetry;
mod token;

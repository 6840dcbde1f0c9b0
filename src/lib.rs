//! The WebAssembly edition of the Keyward filter: the glue between Envoy and [`keyward_edge`].
//!
//! ```text
//! Envoy ─► entry ─► requests ─► keyward_edge::http ─► keyward_policy::decide ─► Decision
//!                      │                 │
//!                      │                 ├─ allow: forward (credential off, identity on), continue
//!                      │                 └─ deny:  reply (problem+json), pause
//!                      └─ keys still loading: hold, decided again later
//! ```
//!
//! Only `host` calls the proxy, and only `entry` is called by it. Both exist for WebAssembly alone; natively a stand-in
//! takes the place of `host`, so that everything else compiles, is linted and is documented on every machine. `edition` is
//! what [`keyward_edge`] knows of both.

pub mod edition;
pub mod hold;
pub mod meter;
pub mod requests;
pub mod root;

#[cfg(target_family = "wasm")]
mod entry;
#[cfg(feature = "failpoint")]
mod failpoint;
mod fetch;
#[cfg(target_family = "wasm")]
pub mod host;
#[cfg(not(target_family = "wasm"))]
#[path = "host_stand_in.rs"]
pub mod host;
mod source;
#[cfg(feature = "callback-times")]
mod stopwatch;

//! The Keyward filter: Envoy glue around [`keyward_policy`].
//!
//! ```text
//! Envoy ─► entry ─ header bytes ─► http ─► head ─► keyward_policy::decide ─► Decision
//!                                   │                                          │
//!                                   ├─ allow: forward (credential off, identity on), continue
//!                                   ├─ deny:  reply (problem+json), pause
//!                                   └─ keys still loading: hold, decided again later
//! ```
//!
//! Only `host` calls the proxy. What decides anything is in the policy core, which calls nothing; so native tests
//! link as long as they do not reach the host.

pub mod head;
pub mod metrics;
pub mod reply;

#[cfg(target_family = "wasm")]
mod entry;
#[cfg(all(target_family = "wasm", feature = "failpoint"))]
mod failpoint;
#[cfg(target_family = "wasm")]
mod fetch;
#[cfg(target_family = "wasm")]
mod forward;
#[cfg(target_family = "wasm")]
mod hold;
#[cfg(target_family = "wasm")]
mod host;
#[cfg(target_family = "wasm")]
mod http;
#[cfg(target_family = "wasm")]
mod plugin;
#[cfg(target_family = "wasm")]
mod root;
#[cfg(target_family = "wasm")]
mod source;
#[cfg(all(target_family = "wasm", feature = "callback-times"))]
mod stopwatch;
#[cfg(target_family = "wasm")]
mod telemetry;

/// What the proxy calls first. In a module of its own, for what the macro makes is public and has no documentation.
#[cfg(target_family = "wasm")]
mod start {
    proxy_wasm::main! {{
        // Also installs the panic hook, without which a trap has no message.
        proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Info);
        proxy_wasm::set_root_context(|context_id| Box::new(crate::root::Root::new(context_id)));
    }}
}

//! The compiled module in an embedded host that plays the proxy: what takes exact timing, or answers that no service
//! gives, and what must never end in a trap.

mod answers;
mod configuration;
mod hold;
mod plugin;
mod ready;
mod route;
mod token;

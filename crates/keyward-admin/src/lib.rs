//! Keyward's admin service and the `keyward` command.
//!
//! `store` keeps, `service` decides, `api` speaks HTTP, `web` is the page, `server` holds connections, `cli` is
//! what people type.

pub mod api;
pub mod catalogue;
pub mod cli;
pub mod clock;
pub mod config;
pub mod lifetime;
pub mod random;
pub mod secret;
pub mod server;
pub mod service;
pub mod store;
pub mod web;

//! Keyward's admin service and the `keyward` command.
//!
//! `store` keeps keys, tokens and usage in a database, and `service` has the use cases. `api`, `web` and `cli` are three
//! interfaces to them that never import one another; what two of them share is in `app`, `audit_words`, `explain` and `plugin_config`.
//! `server` accepts connections.

pub mod address;
pub mod api;
pub mod app;
pub mod audit_words;
pub mod catalogue;
pub mod cli;
pub mod clock;
pub mod config;
pub mod explain;
pub mod lifetime;
pub mod plugin_config;
pub mod random;
pub mod secret;
pub mod server;
pub mod service;
pub mod store;
pub mod suggest;
pub mod token_scope;
pub mod web;

//! The `keyward` command, one file for each subcommand.

pub mod audit;
pub mod check;
mod client;
pub mod completions;
mod error;
pub mod exit;
pub mod explain;
mod find;
mod first_start;
pub mod hash;
pub mod health;
mod input;
pub mod key;
pub mod manifest;
mod output;
pub mod proxies;
pub mod serve;
pub mod store;
pub mod token;
pub mod usage;
pub mod verify;

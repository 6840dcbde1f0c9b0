//! The `keyward` command, one file a subcommand.

pub mod check;
mod client;
pub mod document;
pub mod exit;
pub mod explain;
mod failure;
pub mod hash;
pub mod key;
pub mod manifest;
mod output;
pub mod serve;
pub mod store;
pub mod token;

pub use failure::Failure;

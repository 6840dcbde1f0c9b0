//! The `keyward` command, one file a subcommand.

pub mod check;
pub mod document;
pub mod exit;
pub mod explain;
mod failure;
pub mod hash;
mod output;
pub mod serve;
pub mod token;

pub use failure::Failure;

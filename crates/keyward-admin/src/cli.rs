//! The `keyward` command, one file a subcommand.

pub mod check;
pub mod document;
pub mod exit;
pub mod explain;
pub mod hash;

//! Keyward's admin service and the `keyward` command.

pub mod cli;

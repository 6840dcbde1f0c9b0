//! The store: keys, tombstones, tokens, usage, audit entries and known proxies, in SQLite or PostgreSQL.
//!
//! Every change of a key runs in one transaction that first locks the `store` row, takes the next revision from it and
//! commits both together. Writers queue on that row, so revisions become visible in their order: no reader ever sees
//! revision N+1 before N. A sequence would not give that, since a later number can be committed first.

pub mod audit;
pub mod backup;
mod change;
pub mod check;
mod database;
mod error;
mod folded_name;
mod head;
pub mod keys;
pub mod list;
pub mod manifest;
mod migrations;
pub mod proxies;
mod record;
pub mod search;
mod seed;
mod sql;
pub mod sqlite_file;
pub mod tokens;
mod turns;
pub mod usage;
pub mod usage_days;
pub mod usage_report;
mod writes;

pub use change::Change;
pub use database::{CHANGES, Listener, Notification, RECEIPTS, Store};
pub use error::{Error, Result};
pub use head::Head;
pub use record::{KeyRecord, Status};
pub use writes::WriteCounts;

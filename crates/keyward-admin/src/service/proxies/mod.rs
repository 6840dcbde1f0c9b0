//! Filter instances: which are in contact, what each has applied, and until when those out of contact may serve.
//!
//! Receipts count tables of keys, because a table is what serves: an instance with two admin services has two tables.
//! Each poll says what its table has applied, and its answer is contact. A table is in contact while a poll of it waits
//! at this or another replica, and for a moment after: long enough to apply an answer and poll again, or to open
//! another connection. Afterwards it is unreachable until its own limit of staleness makes it refuse everything, and
//! then gone.
//!
//! A table counts from before the first answer that makes it complete. Older filters do not say which table asks: they
//! count from their second request on, or where the first says that it has applied something.
//!
//! No wall clock is involved: durations are measured here, and replicas send each other ages. Times of day are computed
//! only for output.

mod cluster;
mod contact;
mod limits;
mod message;
mod poll;
mod receipt;
mod registry;
mod replicas;
mod state;
mod timeline;
mod told;
mod vm;

#[cfg(test)]
mod tests;

pub use limits::{Limits, TooManyTables};
pub use message::Message;
pub use poll::{PollGuard, Step};
pub(crate) use receipt::VMS_MAY_BE_MISSING;
pub use receipt::{Applied, Doubts};
pub use registry::{Found, Proxies};
pub use told::{PollHeaders, Question, TableId};
pub use vm::{Answered, ContactState, ProxyView};

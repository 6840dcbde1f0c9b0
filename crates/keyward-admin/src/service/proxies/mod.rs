//! Filter VMs: who is in contact, what each has applied, and until when those out of contact may serve.
//!
//! What is counted is a table of keys in a VM, for that is what serves: a VM with two admin services has two. Each poll says
//! what its table has applied, and its answer is contact. A table is in contact while a poll of it waits here (or at another
//! replica), and for a moment after: long enough to apply an answer and ask again, or to open another connection.
//! Afterwards it is unreachable until its own limit of staleness makes it refuse everything, and then gone.
//!
//! A table counts from before the first answer that makes it complete. Older filters do not say which table asks: they count
//! from their second request on, or where the first says that it has applied something.
//!
//! No wall clock plays a part: durations are measured here, and what replicas tell each other are ages. Times of day are
//! made only when somebody wants to read one.

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
pub use receipt::{Applied, Doubts};
pub use registry::{Found, Proxies};
pub use told::{PollHeaders, Question, TableId};
pub use vm::{Answered, ContactState, ProxyView};

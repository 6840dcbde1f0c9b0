//! The API Keys page: views that are rendered on the server, call the use cases directly, and work as plain links and
//! forms.
//!
//! A dialog is a view with a path of its own. The script fetches it and shows its body in a `<dialog>`, so each thing is
//! done in one way with and without the script.

mod assets;
mod audit;
mod base;
mod changes;
mod chart;
mod chrome;
mod claim;
mod deleted_key;
mod docs;
mod entry;
mod events;
mod example;
mod explain;
mod failure;
mod failure_view;
mod form;
mod guard;
mod home;
mod keys;
mod markup;
mod may;
mod moment;
mod nonce;
mod notice;
mod number;
mod once;
mod proxies;
mod receipt;
mod router;
mod session;
mod sign_in;
mod state;
mod submission;
mod tag;
mod usage;
mod user;
mod view;

pub use base::below;
pub use router::router;

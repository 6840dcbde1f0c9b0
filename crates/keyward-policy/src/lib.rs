//! Keyward's policy core.
//!
//! Everything that decides lives here and nothing that acts: no clock, no I/O, no async, no host
//! calls. Time comes in as an argument, requests come in as bytes, and what comes out is a value.
//! The filter, the admin service and the command line share this one implementation.

pub mod checksum;
pub mod config;
pub mod count;
pub mod credential;
pub mod decide;
pub mod decision;
pub mod digest;
pub mod duration;
pub mod explain;
pub mod header;
pub mod host;
pub mod key;
pub mod manifest;
pub mod media_type;
pub mod path;
pub mod pattern;
pub mod permission;
pub mod policy;
pub mod route;
pub mod rule;
mod sha256x4;
pub mod sync;
pub mod table;
pub mod timeline;
pub mod timestamp;
pub mod usage;

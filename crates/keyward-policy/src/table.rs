//! The keys that are in force, found by digest on every request and by id on every change.
//!
//! A VM may hold a million of them in a linear memory that never shrinks, and no callback may take long. So a key is an
//! [`entry`] of 52 bytes in chunks that are never moved, found through two [indexes](mod@index) of four bytes a slot
//! that grow a part at a time. Permission sets are kept once. What does not fit into an entry stands aside, in [`side`].
//!
//! # Why 16 bytes of a digest are enough
//!
//! Of the 32 bytes of SHA-256 the table keeps and compares the first 16. To be let in without a key one has to find
//! input whose digest starts with the same 128 bits as one of the n digests held: a second preimage, 2¹²⁸ / n tries on
//! average, which is 2¹⁰⁸ at a million keys, each try a request to the proxy, or an offline hash by somebody who has the
//! digests. Collisions, which come at 2⁶⁴, are of no use here: the keys are not chosen by those who would attack, and
//! two keys of one's own with the same 16 bytes only make the second one be refused. By accident two of a million
//! random keys share 128 bits with a probability of 10⁻²⁷.

mod base;
mod entry;
mod hash;
mod index;
mod invalid;
mod key_table;
mod overlay;
mod permissions;
mod record;
mod side;
mod slab;
mod staged;

pub use base::{MAX_ALL_TABLES_BYTES, MAX_TABLE_BYTES};
pub use invalid::{
    InvalidRecord, MAX_ID_BYTES, MAX_KEY_PERMISSIONS, MAX_NAME_BYTES, MAX_PERMISSION_BYTES, RecordProblem, TableFull,
};
pub use key_table::KeyTable;
pub use record::Record;
pub use staged::Staged;

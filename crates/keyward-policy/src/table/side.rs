//! The fields of a key that do not fit into its entry.

use super::slab::Place;
use crate::timestamp::Timestamp;

#[derive(Debug)]
pub(super) enum Side {
    Used {
        name: Box<str>,
        /// `None` means that the id is packed in the entry.
        id: Option<Box<str>>,
        expires_at: Option<Timestamp>,
    },
    Free {
        next: u32,
    },
}

impl Place for Side {
    fn free(next: u32) -> Self {
        Side::Free { next }
    }

    fn next(&self) -> u32 {
        match self {
            Side::Free { next } => *next,
            Side::Used { .. } => u32::MAX,
        }
    }
}

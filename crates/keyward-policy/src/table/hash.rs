//! A hash for texts, for the table's indexes.

use crate::checksum::splitmix64;

/// Hashes a text. It is no defence against chosen texts and need not be: ids and permission names come from the admin
/// service or from the plugin configuration, never from a client.
pub(super) fn hash_text(seed: u64, text: &str) -> u64 {
    let mut hash = splitmix64(seed ^ text.len() as u64);
    for word in text.as_bytes().chunks(8) {
        let word = word.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        hash = splitmix64(hash ^ word);
    }
    hash
}

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
mod index;
mod invalid;
mod permissions;
mod record;
mod side;
mod slab;
mod staged;

pub use invalid::{InvalidRecord, RecordProblem, TableFull};
pub use record::Record;
pub use staged::Staged;

use crate::checksum::{Checksum, splitmix64};
use crate::digest::Digest;
use crate::key::KeyView;
use crate::manifest::{Change, LiveKey};
use crate::sha256x4::LANES;
use base::Base;
use staged::{Overlay, Settled};
use std::fmt;

/// What a table may take, by its own estimate: two of them, one in use and one being built, leave room to spare in the
/// 1 GiB that Envoy allows a VM.
pub const MAX_BYTES: usize = 384 << 20;

/// The live keys of a store, or of a plugin config: at most 16,777,215, within [`MAX_BYTES`].
///
/// Changes go in one by one ([`upsert`](Self::upsert), [`remove`](Self::remove)), or as [`Staged`] ones that all become
/// visible at one moment.
#[derive(Default)]
pub struct KeyTable {
    base: Base,
    /// Committed changes that are not in the base yet. They are what counts.
    overlay: Option<Box<Overlay>>,
}

impl KeyTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Room for `keys` keys altogether, made in steps, so that growth never shows.
    pub fn reserve(&mut self, keys: usize) {
        self.base.reserve(keys);
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.overlay.as_ref().map_or_else(|| self.base.len(), |overlay| overlay.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The checksum over all keys, as `live.checksum` states it.
    pub fn checksum(&self) -> Checksum {
        self.overlay.as_ref().map_or_else(|| self.base.checksum(), |overlay| overlay.checksum())
    }

    /// The key with this digest. Allocates nothing.
    pub fn get(&self, digest: &Digest) -> Option<KeyView<'_>> {
        let Some(overlay) = &self.overlay else { return self.base.get(digest) };
        overlay.get(digest).or_else(|| self.base.get(digest).filter(|view| !overlay.hides(view)))
    }

    /// Whether a key has this id.
    pub fn contains_id(&self, id: &str) -> bool {
        let overlaid = self.overlay.as_ref().and_then(|overlay| overlay.contains_id(id));
        overlaid.unwrap_or_else(|| self.base.contains_id(id))
    }

    /// Takes a key in, in place of whatever had its id; the digest that one had stops working.
    ///
    /// # Errors
    /// [`InvalidRecord`] where `sha256` or `expires_at` cannot be read, where another id holds the digest, or where
    /// there is no room. The table is unchanged then.
    pub fn upsert(&mut self, key: &LiveKey<'_>) -> Result<(), InvalidRecord> {
        self.take(&Record::read(key)?)
    }

    /// Takes changes in, in their order, as [`upsert`](Self::upsert) and [`remove`](Self::remove) would, in less time
    /// for each.
    ///
    /// # Errors
    /// As for `upsert`, for the first change that cannot be taken in; some of those before it may be in.
    pub fn apply(&mut self, changes: &[Change<'_>]) -> Result<(), InvalidRecord> {
        for run in changes.chunk_by(|one, next| one.live().is_some() == next.live().is_some()) {
            for changes in run.chunks(LANES) {
                for record in Record::read_together(changes)? {
                    self.take(&record)?;
                }
                for gone in changes.iter().filter(|change| change.live().is_none()) {
                    self.remove(gone.id());
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, record: &Record<'_>) -> Result<(), InvalidRecord> {
        while self.settle(usize::MAX) {}
        if self.overlay.is_some() {
            return Err(record.invalid(RecordProblem::Full));
        }
        self.base.upsert(record)
    }

    /// Takes the key with this id out; false where there is none.
    pub fn remove(&mut self, id: &str) -> bool {
        while self.settle(usize::MAX) {}
        let was_there = self.contains_id(id);
        if let Some(overlay) = &mut self.overlay {
            overlay.remove(id);
        }
        self.base.remove(id);
        was_there
    }

    /// Makes all staged changes visible, in constant time. [`settle`](Self::settle) then has work to do.
    ///
    /// # Errors
    /// [`TableFull`] where what was committed before did not fit. Nothing changes then.
    pub fn commit(&mut self, staged: Staged) -> Result<(), TableFull> {
        while self.settle(usize::MAX) {}
        if self.overlay.is_some() {
            return Err(TableFull);
        }
        let (len, checksum) = staged.outcome(self);
        self.overlay = Some(Box::new(Overlay::new(staged, len, checksum)));
        Ok(())
    }

    /// Moves about `changes` committed changes to where they stay; true while there are more. Nothing of it is visible.
    pub fn settle(&mut self, changes: usize) -> bool {
        let Some(overlay) = &mut self.overlay else { return false };
        match overlay.settle(&mut self.base, changes) {
            Settled::All => self.overlay = None,
            Settled::Some => return true,
            Settled::Full => {}
        }
        false
    }

    /// Frees a part of a table that has served its time; false once the rest can be dropped at once. A million names
    /// that stand aside would otherwise be freed in one callback.
    pub fn dismantle(&mut self) -> bool {
        self.base.dismantle()
    }

    /// Every key, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = KeyView<'_>> {
        let overlay = self.overlay.as_deref();
        let shown = move |view: &KeyView<'_>| overlay.is_none_or(|overlay| !overlay.hides(view));
        self.base.iter().filter(shown).chain(overlay.into_iter().flat_map(Overlay::iter))
    }
}

/// The number of keys, and nothing of them.
impl fmt::Debug for KeyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyTable").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Ids and permission names come from the admin service or from the plugin config, never from a client.
fn hash_text(seed: u64, text: &str) -> u64 {
    let mut hash = splitmix64(seed ^ text.len() as u64);
    for word in text.as_bytes().chunks(8) {
        let word = word.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        hash = splitmix64(hash ^ word);
    }
    hash
}

#[cfg(test)]
mod tests;

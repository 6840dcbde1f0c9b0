//! The table itself: a base, and an overlay of committed changes.

use super::base::Base;
use super::invalid::{InvalidRecord, RecordProblem};
use super::overlay::{Overlay, Settled};
use super::record::Record;
use crate::checksum::Checksum;
use crate::digest::Digest;
use crate::key::KeyRef;
use crate::manifest::{Change, LiveKey};
use crate::sha256x4::LANES;
use std::fmt;

/// The live keys of a store, or the inline keys of a configuration: at most 16,777,215 keys, within
/// [`MAX_TABLE_BYTES`](super::base::MAX_TABLE_BYTES).
///
/// Changes go in one by one ([`upsert`](Self::upsert), [`remove`](Self::remove)), or as
/// [`Staged`](super::staged::Staged) ones that all become visible at one moment.
#[derive(Default)]
pub struct KeyTable {
    pub(super) base: Base,
    /// Committed changes that are not in the base yet. They take precedence over it.
    pub(super) overlay: Option<Box<Overlay>>,
}

impl KeyTable {
    /// Makes an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes room for `keys` keys altogether, in steps that take little time each.
    pub fn reserve(&mut self, keys: usize) {
        self.base.reserve(keys);
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.overlay.as_ref().map_or_else(|| self.base.len(), |overlay| overlay.len())
    }

    /// Returns about what the keys take in memory. It is a figure of the keys alone, the same on every machine.
    pub fn bytes(&self) -> usize {
        self.base.bytes()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the checksum over all keys, as `live.checksum` states it.
    pub fn checksum(&self) -> Checksum {
        self.overlay.as_ref().map_or_else(|| self.base.checksum(), |overlay| overlay.checksum())
    }

    /// Returns the key with this digest. Allocates nothing.
    #[inline]
    pub fn get(&self, digest: &Digest) -> Option<KeyRef<'_>> {
        let Some(overlay) = &self.overlay else { return self.base.get(digest) };
        overlay.get(digest).or_else(|| self.base.get(digest).filter(|view| !overlay.hides(view)))
    }

    /// Whether a key has this id.
    pub fn contains_id(&self, id: &str) -> bool {
        let overlaid = self.overlay.as_ref().and_then(|overlay| overlay.contains_id(id));
        overlaid.unwrap_or_else(|| self.base.contains_id(id))
    }

    /// Takes a key in, in place of the key with its id. The digest of that one stops working.
    ///
    /// # Errors
    /// Returns [`InvalidRecord`] if `sha256` or `expires_at` cannot be read, if a field is beyond its limit, if another id
    /// holds the digest, or if there is no room. The table is unchanged then.
    pub fn upsert(&mut self, key: &LiveKey<'_>) -> Result<(), InvalidRecord> {
        self.take(&Record::read(key)?)
    }

    /// Takes changes in, in their order, as [`upsert`](Self::upsert) and [`remove`](Self::remove) would, but in less time.
    ///
    /// # Errors
    /// Returns an error as `upsert` does, for the first change that cannot be taken in. Some of those before it may be in.
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

    /// Takes the key with this id out. Returns whether there was one.
    pub fn remove(&mut self, id: &str) -> bool {
        while self.settle(usize::MAX) {}
        let was_there = self.contains_id(id);
        if let Some(overlay) = &mut self.overlay {
            overlay.remove(id);
        }
        self.base.remove(id);
        was_there
    }

    /// Moves about `changes` committed changes into the base. Returns true while there are more. None of it is visible.
    pub fn settle(&mut self, changes: usize) -> bool {
        let Some(overlay) = &mut self.overlay else { return false };
        match overlay.settle(&mut self.base, changes) {
            Settled::All => self.overlay = None,
            Settled::Some => return true,
            Settled::Full => {}
        }
        false
    }

    /// Frees a part of a table that is no longer used. Returns false once the rest can be dropped at once. Otherwise a
    /// million names would be freed in one callback.
    pub fn dismantle(&mut self) -> bool {
        self.base.dismantle()
    }

    /// Returns every key, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = KeyRef<'_>> {
        let overlay = self.overlay.as_deref();
        let shown = move |view: &KeyRef<'_>| overlay.is_none_or(|overlay| !overlay.hides(view));
        self.base.iter().filter(shown).chain(overlay.into_iter().flat_map(Overlay::iter))
    }
}

/// Writes the number of keys and nothing else.
impl fmt::Debug for KeyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyTable").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

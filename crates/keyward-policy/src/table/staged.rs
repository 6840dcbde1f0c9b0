//! Changes that are collected beside a table and become visible at one moment.
//!
//! What a filter missed may come in several pages. Applied page by page they would show, in between, keys as they never
//! were together; so they wait here, and the table answers from them once they are complete. Moving them into the
//! table's base, which takes time, happens afterwards and in parts, behind what is visible.

use super::KeyTable;
use super::base::{At, Base};
use super::invalid::{InvalidRecord, RecordProblem, TableFull};
use super::record::Record;
use crate::checksum::Checksum;
use crate::digest::Digest;
use crate::key::{KeyId, KeyView};
use std::fmt;

/// Changes to one table, which must not change itself until they are committed or dropped.
#[derive(Default)]
pub struct Staged {
    /// The keys that come, and what is said to be gone.
    changed: Base,
    /// What the changes add to the table's length and checksum.
    more: usize,
    fewer: usize,
    checksum: Checksum,
}

impl Staged {
    /// How many keys are changed.
    pub fn len(&self) -> usize {
        self.changed.len()
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys `table` holds after these changes, and its checksum then.
    pub fn outcome(&self, table: &KeyTable) -> (usize, Checksum) {
        let mut checksum = table.checksum();
        checksum.add(self.checksum.bits());
        ((table.len() + self.more).saturating_sub(self.fewer), checksum)
    }

    /// Stages a key, in place of whatever has its id.
    ///
    /// # Errors
    /// [`InvalidRecord`] where another id holds the digest, or there is no room. Nothing is staged then.
    pub fn upsert(&mut self, table: &KeyTable, record: &Record<'_>) -> Result<(), InvalidRecord> {
        let holder = table.base.holder(&record.digest);
        let holder = holder.filter(|id| self.changed.says_of(id.as_str(&mut [0; 20])).is_none());
        if holder.is_some_and(|id| id != KeyId::parse(record.id)) {
            return Err(record.invalid(RecordProblem::DigestTaken));
        }
        let before = self.contribution_of(table, record.id);
        self.changed.upsert(record)?;
        self.more += 1;
        self.checksum.add(record.contribution);
        self.take_out(before);
        Ok(())
    }

    /// Stages a deletion; one of a key that the table does not hold changes nothing.
    ///
    /// # Errors
    /// [`TableFull`] where there is no room. Nothing is staged then.
    pub fn remove(&mut self, table: &KeyTable, id: &str) -> Result<(), TableFull> {
        let before = self.contribution_of(table, id);
        if table.base.contains_id(id) {
            self.changed.put_gone(id)?;
        } else {
            self.changed.remove(id);
        }
        self.take_out(before);
        Ok(())
    }

    /// What the key with this id adds to the checksum now, here or in the table.
    fn contribution_of(&self, table: &KeyTable, id: &str) -> Option<u64> {
        match self.changed.says_of(id) {
            Some(true) => self.changed.contribution_of(id),
            Some(false) => None,
            None => table.base.contribution_of(id),
        }
    }

    fn take_out(&mut self, contribution: Option<u64>) {
        if let Some(contribution) = contribution {
            self.fewer += 1;
            self.checksum.remove(contribution);
        }
    }
}

/// How many changes, and nothing of them.
impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Staged changes that are visible, and on their way into the base.
pub(super) struct Overlay {
    changed: Base,
    len: usize,
    checksum: Checksum,
    /// What a change replaces leaves the base before anything comes in, since a digest may move from one id to another.
    swept: bool,
    /// The next place.
    next: u32,
}

/// How far the changes have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// All are in the base.
    All,
    /// There are more.
    Some,
    /// The base takes no more: the rest stays up here, where it counts as well.
    Full,
}

impl Overlay {
    pub(super) fn new(staged: Staged, len: usize, checksum: Checksum) -> Self {
        Self { changed: staged.changed, len, checksum, swept: false, next: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn checksum(&self) -> Checksum {
        self.checksum
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<KeyView<'_>> {
        self.changed.get(digest)
    }

    /// Whether a key with this id is there, if the changes say.
    pub(super) fn contains_id(&self, id: &str) -> Option<bool> {
        self.changed.says_of(id)
    }

    /// Whether a key of the base counts no more.
    pub(super) fn hides(&self, view: &KeyView<'_>) -> bool {
        self.changed.says_of(view.id.as_str(&mut [0; 20])).is_some()
    }

    /// Takes a key out of what is still up here.
    pub(super) fn remove(&mut self, id: &str) {
        if let Some(contribution) = self.changed.contribution_of(id).filter(|_| self.changed.says_of(id) == Some(true))
        {
            self.changed.remove(id);
            self.len -= 1;
            self.checksum.remove(contribution);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = KeyView<'_>> {
        self.changed.iter()
    }

    /// Moves about `changes` into the base. Nothing leaves here before all is there, so it does not show how far it is.
    pub(super) fn settle(&mut self, base: &mut Base, changes: usize) -> Settled {
        for _ in 0..changes.max(1) {
            match self.changed.at(self.next) {
                Some(At::Free) => {}
                Some(At::Gone(id)) => {
                    base.remove(id.as_str(&mut [0; 20]));
                }
                Some(At::Key { view, digest, contribution }) => {
                    let mut buffer = [0; 20];
                    let id = view.id.as_str(&mut buffer);
                    if !self.swept {
                        base.remove(id);
                    } else if base.upsert(&Record::of_view(id, &view, digest, contribution)).is_err() {
                        return Settled::Full;
                    }
                }
                None if self.swept => return Settled::All,
                None => {
                    self.swept = true;
                    self.next = 0;
                    continue;
                }
            }
            self.next += 1;
        }
        Settled::Some
    }
}

//! Changes that are collected beside a table and become visible at one moment.
//!
//! What a filter missed may come in several pages. Applied page by page, they would show combinations of keys that never
//! existed. So they are collected here, and the table uses them once they are complete. They are moved into the base of
//! the table afterwards, in parts, because that takes time.

use super::base::Base;
use super::invalid::{InvalidRecord, RecordProblem, TableFull};
use super::key_table::KeyTable;
use super::overlay::Overlay;
use super::record::Record;
use crate::checksum::Checksum;
use crate::key::KeyId;
use std::fmt;

/// Changes to one table. The table must not change until they are committed or dropped.
#[derive(Default)]
pub struct Staged {
    /// The keys that are new or changed, and the ids of those that are deleted.
    changed: Base,
    /// What the changes add to the table's length and checksum.
    more: usize,
    fewer: usize,
    checksum: Checksum,
}

impl Staged {
    /// Returns the number of changed keys.
    pub fn len(&self) -> usize {
        self.changed.len()
    }

    /// Whether no key is changed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of keys in `table` after these changes, and its checksum then.
    pub fn outcome(&self, table: &KeyTable) -> (usize, Checksum) {
        let mut checksum = table.checksum();
        checksum.add(self.checksum.bits());
        ((table.len() + self.more).saturating_sub(self.fewer), checksum)
    }

    /// Stages a key, in place of the key with its id.
    ///
    /// # Errors
    /// Returns [`InvalidRecord`] if another id holds the digest, or if there is no room. Nothing is staged then.
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

    /// Stages a deletion. Deleting a key that the table does not hold changes nothing.
    ///
    /// # Errors
    /// Returns [`TableFull`] if there is no room. Nothing is staged then.
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

    /// Returns what the key with this id adds to the checksum now, here or in the table.
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

/// Writes the number of changes and nothing else.
impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl KeyTable {
    /// Makes all staged changes visible, in constant time. [`settle`](Self::settle) then has work to do.
    ///
    /// # Errors
    /// Returns [`TableFull`] if the changes committed before did not fit. Nothing changes then.
    pub fn commit(&mut self, staged: Staged) -> Result<(), TableFull> {
        while self.settle(usize::MAX) {}
        if self.overlay.is_some() {
            return Err(TableFull);
        }
        let (len, checksum) = staged.outcome(self);
        self.overlay = Some(Box::new(Overlay::new(staged.changed, len, checksum)));
        Ok(())
    }
}

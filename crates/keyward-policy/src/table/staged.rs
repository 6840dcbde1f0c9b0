//! Changes that are collected beside a table and become visible at one moment.
//!
//! What a filter missed may come in several pages. Applied page by page they would show, in between, keys as they never
//! were together; so they wait here, and the table answers from them once they are complete. Moving them into the
//! table's base, which takes time, happens afterwards and in parts, behind what is visible.

use super::KeyTable;
use super::base::Base;
use super::invalid::{InvalidRecord, RecordProblem};
use super::record::Record;
use crate::checksum::Checksum;
use crate::digest::Digest;
use crate::key::{KeyId, KeyView};
use crate::permission::PermissionSet;
use crate::timestamp::Timestamp;
use std::collections::BTreeMap;

/// Changes to one table, which must not change itself until they are committed or dropped.
#[derive(Debug, Default)]
pub struct Staged {
    /// By id; None: deleted.
    changed: BTreeMap<Box<str>, Option<Held>>,
    by_digest: BTreeMap<Digest, Box<str>>,
    /// What the changes add to the table's length and checksum.
    more: usize,
    fewer: usize,
    checksum: Checksum,
}

#[derive(Debug)]
struct Held {
    revision: u64,
    name: Box<str>,
    permissions: PermissionSet,
    digest: Digest,
    expires_at: Option<Timestamp>,
    disabled: bool,
    unsupported: bool,
    contribution: u64,
}

impl Staged {
    /// How many keys are changed.
    pub fn len(&self) -> usize {
        self.changed.len()
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
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
    /// [`InvalidRecord`] where another id holds the digest. Nothing is staged then.
    pub fn upsert(&mut self, table: &KeyTable, record: &Record<'_>) -> Result<(), InvalidRecord> {
        let holder = table.base.holder(&record.digest).filter(|id| !self.changed.contains_key(id.as_str(&mut [0; 20])));
        let taken_in_table = holder.is_some_and(|id| id != KeyId::parse(record.id));
        let taken_here = self.by_digest.get(&record.digest).is_some_and(|id| **id != *record.id);
        if taken_in_table || taken_here {
            return Err(record.invalid(RecordProblem::DigestTaken));
        }
        self.take_out(table, record.id);
        let held = Held {
            revision: record.revision,
            name: record.name.into(),
            permissions: record.permissions.iter().collect(),
            digest: record.digest,
            expires_at: record.expires_at,
            disabled: record.disabled,
            unsupported: record.unsupported,
            contribution: record.contribution,
        };
        self.more += 1;
        self.checksum.add(held.contribution);
        self.by_digest.insert(held.digest, record.id.into());
        self.changed.insert(record.id.into(), Some(held));
        Ok(())
    }

    /// Stages a deletion; one of a key that the table does not hold changes nothing.
    pub fn remove(&mut self, table: &KeyTable, id: &str) {
        self.take_out(table, id);
        if table.base.contains_id(id) {
            self.changed.insert(id.into(), None);
        }
    }

    /// Takes whatever has this id, here or in the table, out of length and checksum.
    fn take_out(&mut self, table: &KeyTable, id: &str) {
        let gone = match self.changed.remove(id) {
            Some(Some(held)) => {
                self.by_digest.remove(&held.digest);
                Some(held.contribution)
            }
            Some(None) => None,
            None => table.base.contribution_of(id),
        };
        if let Some(contribution) = gone {
            self.fewer += 1;
            self.checksum.remove(contribution);
        }
    }
}

/// Staged changes that are visible, and on their way into the base.
#[derive(Debug)]
pub(super) struct Overlay {
    staged: Staged,
    len: usize,
    checksum: Checksum,
    /// The id up to which the base was swept; none: not begun.
    swept: Sweep,
}

/// What a change replaces leaves the base before anything comes in, since a digest may move from one id to another.
#[derive(Debug)]
enum Sweep {
    NotBegun,
    UpTo(Box<str>),
    Done,
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
        Self { staged, len, checksum, swept: Sweep::NotBegun }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn checksum(&self) -> Checksum {
        self.checksum
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<KeyView<'_>> {
        let (id, held) = self.staged.changed.get_key_value(self.staged.by_digest.get(digest)?)?;
        held.as_ref().map(|held| held.view(id))
    }

    /// Whether a key with this id is there, if the changes say.
    pub(super) fn contains_id(&self, id: &str) -> Option<bool> {
        self.staged.changed.get(id).map(Option::is_some)
    }

    /// Whether a key of the base counts no more.
    pub(super) fn hides(&self, view: &KeyView<'_>) -> bool {
        self.staged.changed.contains_key(view.id.as_str(&mut [0; 20]))
    }

    /// Takes a key out of what is still up here.
    pub(super) fn remove(&mut self, id: &str) {
        if let Some(Some(held)) = self.staged.changed.remove(id) {
            self.staged.by_digest.remove(&held.digest);
            self.len -= 1;
            self.checksum.remove(held.contribution);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = KeyView<'_>> {
        self.staged.changed.iter().filter_map(|(id, held)| held.as_ref().map(|held| held.view(id)))
    }

    /// Moves about `changes` into the base.
    pub(super) fn settle(&mut self, base: &mut Base, changes: usize) -> Settled {
        let mut left = changes.max(1);
        if !matches!(self.swept, Sweep::Done) {
            use std::ops::Bound::{Excluded, Unbounded};
            let from = match &self.swept {
                Sweep::UpTo(id) => Excluded(&**id),
                _ => Unbounded,
            };
            let mut last = None;
            for (id, _) in self.staged.changed.range::<str, _>((from, Unbounded)).take(left) {
                base.remove(id);
                left -= 1;
                last = Some(id);
            }
            self.swept = match last {
                Some(last) if left == 0 => Sweep::UpTo(last.clone()),
                _ => Sweep::Done,
            };
        }
        while left > 0 {
            let Some((id, held)) = self.staged.changed.pop_first() else { return Settled::All };
            left -= 1;
            let Some(held) = held else { continue };
            if base.upsert(&held.record(&id)).is_err() {
                self.staged.changed.insert(id, Some(held));
                return Settled::Full;
            }
            self.staged.by_digest.remove(&held.digest);
        }
        Settled::Some
    }
}

impl Held {
    fn view<'a>(&'a self, id: &'a str) -> KeyView<'a> {
        KeyView {
            id: KeyId::parse(id),
            name: &self.name,
            permissions: &self.permissions,
            expires_at: self.expires_at,
            disabled: self.disabled,
            unsupported: self.unsupported,
        }
    }

    fn record<'a>(&'a self, id: &'a str) -> Record<'a> {
        Record {
            revision: self.revision,
            id,
            name: &self.name,
            permissions: self.permissions.iter().collect(),
            digest: self.digest,
            expires_at: self.expires_at,
            disabled: self.disabled,
            unsupported: self.unsupported,
            contribution: self.contribution,
        }
    }
}

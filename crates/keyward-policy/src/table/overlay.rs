//! Committed changes that are visible and still have to be moved into the base.

use super::base::{At, Base};
use super::record::Record;
use crate::checksum::Checksum;
use crate::digest::Digest;
use crate::key::KeyRef;

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
    pub(super) fn new(changed: Base, len: usize, checksum: Checksum) -> Self {
        Self { changed, len, checksum, swept: false, next: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn checksum(&self) -> Checksum {
        self.checksum
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<KeyRef<'_>> {
        self.changed.get(digest)
    }

    /// Whether a key with this id is there, if the changes say.
    pub(super) fn contains_id(&self, id: &str) -> Option<bool> {
        self.changed.says_of(id)
    }

    /// Whether a key of the base counts no more.
    pub(super) fn hides(&self, view: &KeyRef<'_>) -> bool {
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

    pub(super) fn iter(&self) -> impl Iterator<Item = KeyRef<'_>> {
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

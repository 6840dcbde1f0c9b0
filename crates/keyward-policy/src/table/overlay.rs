//! Committed changes that are visible and still have to be moved into the base.

use super::base::{At, Base};
use super::record::Record;
use crate::checksum::Checksum;
use crate::digest::Digest;
use crate::key::KeyRef;

/// Staged changes that are visible and on their way into the base.
pub(super) struct Overlay {
    changed: Base,
    len: usize,
    checksum: Checksum,
    /// What a change replaces leaves the base before anything comes in, since a digest may move from one id to another.
    swept: bool,
    /// The next place to be moved.
    next: u32,
}

/// How many of the changes are in the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// All of them are.
    All,
    /// Some of them are.
    Some,
    /// The base takes no more. The rest stays in the overlay, where it is found as well.
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

    /// Whether a key with this id exists. `None` means that the changes do not mention it.
    pub(super) fn contains_id(&self, id: &str) -> Option<bool> {
        self.changed.says_of(id)
    }

    /// Whether a key of the base is replaced or deleted.
    pub(super) fn hides(&self, view: &KeyRef<'_>) -> bool {
        self.changed.says_of(view.id.as_str(&mut [0; 20])).is_some()
    }

    /// Takes a key out of the overlay.
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

    /// Moves about `changes` of them into the base. The overlay keeps all of them until the last one is moved, so the
    /// progress is not visible.
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

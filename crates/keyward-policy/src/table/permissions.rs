//! Permission sets, each of which is kept once for all keys that have it.

use super::entry::MAX_SETS;
use super::hash::hash_text;
use super::index::Index;
use super::slab::{Place, Slab};
use crate::checksum::splitmix64;
use crate::permission::PermissionSet;

#[derive(Debug, Default)]
pub(super) struct PermissionSets {
    slab: Slab<Interned>,
    index: Index,
    bytes: usize,
    /// The set that was asked for last. Keys that follow each other often have the same.
    last: u32,
}

#[derive(Debug)]
enum Interned {
    Used { set: PermissionSet, holders: u32 },
    Free { next: u32 },
}

impl Place for Interned {
    fn free(next: u32) -> Self {
        Interned::Free { next }
    }

    fn next(&self) -> u32 {
        match self {
            Interned::Free { next } => *next,
            Interned::Used { .. } => u32::MAX,
        }
    }
}

impl PermissionSets {
    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&PermissionSet> {
        match self.slab.get(number)? {
            Interned::Used { set, .. } => Some(set),
            Interned::Free { .. } => None,
        }
    }

    /// Returns the number of the set of these names, which are sorted and different, for one more holder. `None` means that
    /// there are too many sets.
    pub(super) fn hold(&mut self, names: &[&str]) -> Option<u32> {
        let same = |number| self.get(number).is_some_and(|set| set.iter().eq(names.iter().copied()));
        let hash = || hash(names.iter().copied());
        let known = if same(self.last) { Some(self.last) } else { self.index.find(hash(), same) };
        if let Some(number) = known {
            self.last = number;
            if let Some(Interned::Used { holders, .. }) = self.slab.get_mut(number) {
                *holders += 1;
            }
            return Some(number);
        }
        let set: PermissionSet = names.iter().collect();
        let bytes = bytes(&set);
        let number = self.slab.insert(Interned::Used { set, holders: 1 }, MAX_SETS).ok()?;
        self.bytes += bytes;
        self.last = number;
        let slab = &self.slab;
        self.index.insert(hash(), number, |number| hash_of(slab, number));
        Some(number)
    }

    /// Drops some of the sets, even if they have holders. Returns false if there are none.
    pub(super) fn drop_chunk(&mut self) -> bool {
        self.slab.drop_chunk()
    }

    /// Returns about what the sets take in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts one holder less. A set without holders is dropped.
    pub(super) fn release(&mut self, number: u32) {
        if let Some(Interned::Used { holders, set }) = self.slab.get_mut(number) {
            *holders -= 1;
            if *holders == 0 {
                self.bytes -= bytes(set);
                let slab = &self.slab;
                self.index.remove(hash_of(slab, number), number, |number| hash_of(slab, number));
                self.slab.remove(number);
            }
        }
    }
}

fn bytes(set: &PermissionSet) -> usize {
    set.iter().map(|name| name.len() + 24).sum::<usize>() + 40
}

fn hash_of(slab: &Slab<Interned>, number: u32) -> u64 {
    match slab.get(number) {
        Some(Interned::Used { set, .. }) => hash(set.iter()),
        _ => 0,
    }
}

fn hash<'a>(names: impl Iterator<Item = &'a str>) -> u64 {
    names.fold(0, |hash, name| hash_text(splitmix64(hash), name))
}

//! A hash index of 24-bit numbers: four bytes a slot, open addressing, grown a 256th at a time.
//!
//! A slot holds the upper 8 bits of the hash as a tag and a number + 1; 0 is an empty slot. What the numbers refer to
//! is kept elsewhere, so look-ups get a comparison, and moves get a function that returns the hash. The index consists of shards
//! that grow on their own: at a million keys one holds four thousand, and rehashing it takes well under a millisecond,
//! while a single table would stop its worker for the time of all of them.

use std::ops::Range;

const SHARDS: usize = 256;

/// The limit of numbers: 24 bits hold the number + 1.
pub(super) const MAX_NUMBERS: u32 = (1 << 24) - 1;

/// A shard gets the room that is sized ahead when it outgrows this: pages of a load come to that at different times, while
/// nearly every key of the first ones is the first of its shard.
const UNSIZED: usize = 8;

/// Sizing ahead stops here. A wrong `live.count` costs at most 20 MiB; a larger table grows past it in steps.
const MAX_RESERVED: usize = 2_000_000;

#[derive(Debug, Default)]
pub(super) struct Index {
    /// It is empty until the first insertion.
    shards: Box<[Shard]>,
    /// The number of entries that a shard makes room for once it gets its first.
    reserved_per_shard: usize,
}

#[derive(Debug, Default, Clone)]
struct Shard {
    slots: Box<[u32]>,
    used: u32,
}

impl Index {
    /// Sizes the shards for `numbers` altogether. Each makes its room when it is next written to.
    pub(super) fn reserve(&mut self, numbers: usize) {
        self.reserved_per_shard = numbers.min(MAX_RESERVED).div_ceil(SHARDS);
    }

    /// Returns the number under `hash` for which `is_it` holds.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let shard = self.shards.get(shard_of(hash))?;
        let tag = (hash >> 56) as u32;
        for slots in shard.probe(hash) {
            for slot in shard.slots.get(slots)? {
                if *slot == 0 {
                    return None;
                }
                let number = (slot & 0xff_ffff) - 1;
                if slot >> 24 == tag && is_it(number) {
                    return Some(number);
                }
            }
        }
        None
    }

    /// Returns the upper 8 bits of the hash that `number` was put under. The lower 56 are given.
    pub(super) fn tag_of(&self, hash: u64, number: u32) -> Option<u8> {
        let shard = self.shards.get(shard_of(hash))?;
        let mut slots = shard.probe(hash).into_iter().filter_map(|slots| shard.slots.get(slots)).flatten();
        slots.find(|slot| **slot & 0xff_ffff == number + 1).map(|slot| (slot >> 24) as u8)
    }

    /// Puts `number`, which is not in the index yet, under `hash`. `hash_of` gives the lower 56 bits of the hash of
    /// any number in the index.
    pub(super) fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        if self.shards.is_empty() {
            self.shards = vec![Shard::default(); SHARDS].into();
        }
        let reserved = self.reserved_per_shard;
        let Some(shard) = self.shards.get_mut(shard_of(hash)) else { return };
        shard.make_room(reserved, hash_of);
        shard.put((hash >> 56) as u32, hash, number);
        shard.used += 1;
    }

    /// Takes `number` out from under `hash`, of which the lower 56 bits count.
    pub(super) fn remove(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        if let Some(shard) = self.shards.get_mut(shard_of(hash)) {
            shard.take(hash, number, hash_of);
        }
    }

    /// Frees some of the shards. Returns false if there are none left. What was in them is not found any more.
    pub(super) fn dismantle(&mut self) -> bool {
        const AT_ONCE: usize = 32;
        let full = self.shards.iter_mut().filter(|shard| !shard.slots.is_empty());
        full.take(AT_ONCE).map(|shard| *shard = Shard::default()).count() > 0
    }
}

#[inline]
fn shard_of(hash: u64) -> usize {
    (hash >> 48) as usize % SHARDS
}

impl Shard {
    #[inline]
    fn home(&self, hash: u64) -> usize {
        // Multiply and shift: any number of slots will do, not only powers of two.
        (((hash & 0xffff_ffff) * self.slots.len() as u64) >> 32) as usize
    }

    /// Returns the slots in probing order: from the home to the end, then from the start.
    #[inline]
    fn probe(&self, hash: u64) -> [Range<usize>; 2] {
        let home = self.home(hash);
        [home..self.slots.len(), 0..home]
    }

    /// Grows if one more would fill over seven eighths, because probing gets long beyond that.
    fn make_room(&mut self, reserved: usize, hash_of: impl Fn(u32) -> u64) {
        let used = self.used as usize;
        if (used + 1) * 8 <= self.slots.len() * 7 {
            return;
        }
        let sized = if used < UNSIZED { reserved.min(UNSIZED) } else { reserved };
        let room_for = (used + 1 + used / 8).max(sized).max(3);
        let grown = vec![0; room_for * 100 / 82 + 1].into_boxed_slice();
        for slot in std::mem::replace(&mut self.slots, grown) {
            if slot != 0 {
                let number = (slot & 0xff_ffff) - 1;
                self.put(slot >> 24, hash_of(number), number);
            }
        }
    }

    fn put(&mut self, tag: u32, hash: u64, number: u32) {
        for slots in self.probe(hash) {
            for slot in self.slots.get_mut(slots).unwrap_or_default() {
                if *slot == 0 {
                    *slot = tag << 24 | (number + 1);
                    return;
                }
            }
        }
    }

    /// Empties the number's slot and moves up what had to probe past it, so that no tombstones remain.
    fn take(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        let holds = |slot: &u32| *slot != 0 && (slot & 0xff_ffff) - 1 == number;
        let Some(mut hole) = self.probe(hash).into_iter().find_map(|slots| {
            let start = slots.start;
            self.slots.get(slots)?.iter().position(holds).map(|position| start + position)
        }) else {
            return;
        };
        self.used -= 1;
        let len = self.slots.len();
        let mut at = hole;
        loop {
            at = if at + 1 == len { 0 } else { at + 1 };
            let slot = self.slots.get(at).copied().unwrap_or(0);
            if slot == 0 || at == hole {
                break;
            }
            let home = self.home(hash_of((slot & 0xff_ffff) - 1));
            // It may move up to the hole unless its home lies behind the hole, on the way to where it is.
            let distance = |from: usize, to: usize| if to >= from { to - from } else { to + len - from };
            if distance(home, at) >= distance(hole, at) {
                if let Some(place) = self.slots.get_mut(hole) {
                    *place = slot;
                }
                hole = at;
            }
        }
        if let Some(place) = self.slots.get_mut(hole) {
            *place = 0;
        }
    }
}

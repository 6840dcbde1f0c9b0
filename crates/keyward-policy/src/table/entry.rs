//! One key in 52 bytes.
//!
//! | bytes | |
//! | --- | --- |
//! | 15 | digest, bytes 1 to 15; byte 0 is the tag in the index |
//! | 8 | contribution to the checksum, to be subtracted when the key is deleted |
//! | 4 | expiry in seconds since the epoch; 0: never |
//! | 3 | number of the permission set (20 bits) and flags (4 bits) |
//! | 10 | id, packed |
//! | 12 | name, filled up with 0xff, which UTF-8 never holds |
//!
//! A longer name, an id of another shape and an expiry with a fraction or outside of 32 bits are kept in a
//! [`Side`](super::side::Side), whose number then takes the place of the name.

use super::slab::Place;

const DISABLED: u8 = 1;
const UNSUPPORTED: u8 = 2;
const ASIDE: u8 = 4;
const LIVE: u8 = 8;
/// The entry notes a deleted key. `LIVE` is not set then; a free place has neither.
const GONE: u8 = UNSUPPORTED;

/// The limit of permission sets in a table.
pub(super) const MAX_SETS: u32 = 1 << 20;

/// The limit of bytes in a name that is kept in the entry itself.
pub(super) const INLINE_NAME: usize = 12;

// Arrays of bytes only: alignment 1, so that nothing is lost between fields or entries.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) digest: [u8; 15],
    contribution: [u8; 8],
    expires_s: [u8; 4],
    set_and_flags: [u8; 3],
    pub(super) id: [u8; 10],
    name: [u8; INLINE_NAME],
}

const _: () = assert!(size_of::<Entry>() == 52);

/// The flags of a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flags {
    pub(super) disabled: bool,
    pub(super) unsupported: bool,
}

/// Where the name, the id and the expiry are.
pub(super) enum Rest<'a> {
    /// They are in the entry. The expiry is in seconds.
    Here { name: &'a str, expires_s: Option<u32> },
    /// They are in the side record with this number.
    Aside(u32),
}

impl Entry {
    pub(super) fn new(
        digest: [u8; 15],
        contribution: u64,
        set: u32,
        flags: Flags,
        id: [u8; 10],
        rest: Rest<'_>,
    ) -> Self {
        let mut bits = LIVE;
        bits |= if flags.disabled { DISABLED } else { 0 };
        bits |= if flags.unsupported { UNSUPPORTED } else { 0 };
        let mut name_bytes = [0xff; INLINE_NAME];
        let mut expires_at_s = 0;
        match rest {
            Rest::Here { name, expires_s } => {
                expires_at_s = expires_s.unwrap_or(0);
                for (to, from) in name_bytes.iter_mut().zip(name.bytes()) {
                    *to = from;
                }
            }
            Rest::Aside(number) => {
                bits |= ASIDE;
                for (to, from) in name_bytes.iter_mut().zip(number.to_le_bytes()) {
                    *to = from;
                }
            }
        }
        let [_, a, b, c] = (set << 4 | u32::from(bits)).to_be_bytes();
        Self {
            digest,
            contribution: contribution.to_le_bytes(),
            expires_s: expires_at_s.to_le_bytes(),
            set_and_flags: [a, b, c],
            id,
            name: name_bytes,
        }
    }

    #[inline]
    fn bits(&self) -> u8 {
        let [_, _, bits] = self.set_and_flags;
        bits
    }

    /// Makes an entry that notes a deleted key. It exists only among staged changes.
    pub(super) fn gone(id: [u8; 10], aside: Option<u32>) -> Self {
        let rest = aside.map_or(Rest::Here { name: "", expires_s: None }, Rest::Aside);
        let mut entry = Self::new([0; 15], 0, 0, Flags { disabled: false, unsupported: false }, id, rest);
        let [a, b, bits] = entry.set_and_flags;
        entry.set_and_flags = [a, b, bits & !LIVE | GONE];
        entry
    }

    pub(super) fn is_gone(&self) -> bool {
        self.bits() & (LIVE | GONE) == GONE
    }

    pub(super) fn is_live(&self) -> bool {
        self.bits() & LIVE != 0
    }

    #[inline]
    pub(super) fn flags(&self) -> Flags {
        Flags { disabled: self.bits() & DISABLED != 0, unsupported: self.bits() & UNSUPPORTED != 0 }
    }

    #[inline]
    pub(super) fn set(&self) -> u32 {
        let [a, b, c] = self.set_and_flags;
        u32::from_be_bytes([0, a, b, c]) >> 4
    }

    pub(super) fn contribution(&self) -> u64 {
        u64::from_le_bytes(self.contribution)
    }

    #[inline]
    pub(super) fn aside(&self) -> Option<u32> {
        let [a, b, c, d, ..] = self.name;
        (self.bits() & ASIDE != 0).then(|| u32::from_le_bytes([a, b, c, d]))
    }

    #[inline]
    pub(super) fn rest(&self) -> Rest<'_> {
        if let Some(number) = self.aside() {
            return Rest::Aside(number);
        }
        let end = self.name.iter().position(|byte| *byte == 0xff).unwrap_or(INLINE_NAME);
        let name = self.name.get(..end).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
        let seconds = u32::from_le_bytes(self.expires_s);
        Rest::Here { name, expires_s: (seconds != 0).then_some(seconds) }
    }
}

impl Place for Entry {
    fn free(next: u32) -> Self {
        Self {
            digest: [0; 15],
            contribution: [0; 8],
            expires_s: next.to_le_bytes(),
            set_and_flags: [0; 3],
            id: [0; 10],
            name: [0; INLINE_NAME],
        }
    }

    fn next(&self) -> u32 {
        u32::from_le_bytes(self.expires_s)
    }
}

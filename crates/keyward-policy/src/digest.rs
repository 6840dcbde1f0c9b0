//! The SHA-256 of a key, which is all that the edge and the store hold of it.

use sha2::{Digest as _, Sha256};
use std::fmt;
use wide::u8x16;

/// The places of the first digit of each pair.
const EVEN: u8x16 = u8x16::new([0, 2, 4, 6, 8, 10, 12, 14, 0, 2, 4, 6, 8, 10, 12, 14]);
/// The places of the second digit of each pair.
const ODD: u8x16 = u8x16::new([1, 3, 5, 7, 9, 11, 13, 15, 1, 3, 5, 7, 9, 11, 13, 15]);

/// SHA-256 over the bytes of a key.
///
/// It is a verifier and not a secret. But guesses can be tested against it, so `Debug` shows nothing and there is no
/// `Display`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Hashes a presented key.
    #[inline]
    pub fn of_key(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Reads 64 hex digits, in either case.
    ///
    /// # Errors
    /// Returns [`InvalidDigest`] for any other length or character.
    pub fn from_hex(text: &str) -> Result<Self, InvalidDigest> {
        let (parts, rest) = text.as_bytes().as_chunks::<16>();
        if parts.len() != 4 || !rest.is_empty() {
            return Err(InvalidDigest);
        }
        // A million of them are read in one load, so sixteen digits go through each step together.
        let mut bytes = [0; 32];
        let mut good = u8x16::MAX;
        for (bytes, digits) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(parts) {
            let digits = u8x16::new(*digits);
            let number = digits - u8x16::splat(b'0');
            let letter = (digits | u8x16::splat(0x20)) - u8x16::splat(b'a');
            let (is_number, is_letter) = (number.simd_lt(u8x16::splat(10)), letter.simd_lt(u8x16::splat(6)));
            good &= is_number | is_letter;
            let value = is_number.bitselect(number, letter + u8x16::splat(10));
            let twice = |values: u8x16| values + values;
            let high = twice(twice(twice(twice(value.shuffle(EVEN)))));
            let all = (high | value.shuffle(ODD)).to_array();
            bytes.iter_mut().zip(all).for_each(|(to, from)| *to = from);
        }
        if good == u8x16::MAX { Ok(Self(bytes)) } else { Err(InvalidDigest) }
    }

    /// Takes the 32 bytes as they are stored.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    #[inline]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Writes 64 lower-case hex digits, for the manifest and for nothing else.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

/// The text is not 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidDigest;

impl fmt::Display for InvalidDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a SHA-256 digest of 64 hex digits")
    }
}

impl std::error::Error for InvalidDigest {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_the_standard_says() {
        // FIPS 180-2, appendix B.1.
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of_key(b"abc").to_hex(), hex);
        assert_eq!(Digest::from_hex(&hex.to_uppercase()), Ok(Digest::of_key(b"abc")));
    }

    #[test]
    fn reads_what_hex_writes_and_nothing_else() {
        for byte in 0..=u8::MAX {
            for at in [0, 31, 63] {
                let mut text = "00".repeat(32).into_bytes();
                text[at] = byte;
                let Ok(text) = std::str::from_utf8(&text) else { continue };
                let mut expected = [0; 32];
                let is_hex = hex::decode_to_slice(text, &mut expected).is_ok();
                assert_eq!(Digest::from_hex(text), is_hex.then_some(Digest(expected)).ok_or(InvalidDigest), "{text}");
            }
        }
    }

    #[test]
    fn refuses_what_is_no_digest() {
        for text in ["", "ab", &"a".repeat(63), &"a".repeat(65), &"g".repeat(64)] {
            assert_eq!(Digest::from_hex(text), Err(InvalidDigest), "{text}");
        }
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Digest::of_key(b"abc")), "Digest(…)");
    }
}

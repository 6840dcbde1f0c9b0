//! The checksum over the live keys of a store.
//!
//! It is a wrapping sum of one 64-bit contribution for each live key. The order of the keys plays no part, and both sides
//! keep the sum up to date by adding and subtracting contributions.

use crate::manifest::LiveKey;
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::fmt;

/// Returns what one live key adds to the checksum: splitmix64(revision XOR h), where h is the first 8
/// bytes, big-endian, of SHA-256 over `id \n name \n sha256 \n expires_at or empty \n disabled 0/1
/// \n permissions sorted, joined by commas`, each exactly as it is on the wire.
pub fn contribution(key: &LiveKey<'_>) -> u64 {
    contribution_of(key, &sorted(&key.permissions))
}

/// Returns the contribution of a key whose permissions are sorted already. Duplicates stay.
pub(crate) fn contribution_of(key: &LiveKey<'_>, sorted: &[&str]) -> u64 {
    let mut text = Vec::with_capacity(256);
    write_text(&mut text, key, sorted);
    let digest: [u8; 32] = Sha256::digest(text).into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    contribution_from(key.revision, u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

/// Returns the contribution of a key whose text is hashed already. `h` is the first word of the digest.
pub(crate) fn contribution_from(revision: u64, h: u64) -> u64 {
    splitmix64(revision ^ h)
}

/// Writes the text that is hashed of a key, with sorted permissions. Hashing it piece by piece takes twice as long.
pub(crate) fn write_text(text: &mut Vec<u8>, key: &LiveKey<'_>, sorted: &[&str]) {
    for field in [&*key.id, &*key.name, &*key.sha256, key.expires_at.as_deref().unwrap_or_default()] {
        text.extend_from_slice(field.as_bytes());
        text.push(b'\n');
    }
    text.extend_from_slice(if key.disabled { b"1\n" } else { b"0\n" });
    for (index, permission) in sorted.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(permission.as_bytes());
    }
}

/// Returns permissions in the order of the checksum.
pub(crate) fn sorted<'a>(permissions: &'a [Cow<'_, str>]) -> Vec<&'a str> {
    let mut sorted: Vec<&str> = Vec::with_capacity(permissions.len());
    for permission in permissions {
        // A handful: inserting beats the standard sort, and is a fraction of its code.
        let at = sorted.partition_point(|have| *have < &**permission);
        sorted.insert(at, permission);
    }
    sorted
}

/// Does one step of the SplitMix64 generator, from the state `x` (Steele, Lea and Flood, 2014; the
/// constants are the reference ones).
pub const fn splitmix64(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The sum over the live keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checksum(u64);

impl Checksum {
    /// Makes it from its 64 bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns its 64 bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Adds the contribution of a key that became live.
    pub fn add(&mut self, contribution: u64) {
        self.0 = self.0.wrapping_add(contribution);
    }

    /// Subtracts the contribution of a key that is no longer live.
    pub fn remove(&mut self, contribution: u64) {
        self.0 = self.0.wrapping_sub(contribution);
    }

    /// Reads its 16 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let well_formed = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        well_formed.then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

/// Writes 16 lower-case hex digits.
impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(permissions: &[&'static str]) -> LiveKey<'static> {
        LiveKey {
            revision: 7,
            id: Cow::Borrowed("key_01"),
            name: Cow::Borrowed("CI Bot"),
            sha256: Cow::Borrowed("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            permissions: permissions.iter().map(|p| Cow::Borrowed(*p)).collect(),
            expires_at: Some(Cow::Borrowed("2027-01-01T00:00:00Z")),
            disabled: false,
            must: Vec::new(),
        }
    }

    #[test]
    fn splitmix64_gives_the_reference_sequence() {
        // The first three outputs of the reference generator seeded with 1234567.
        let gamma = 0x9e37_79b9_7f4a_7c15_u64;
        let out: Vec<u64> = (0..3).map(|n| splitmix64(1_234_567_u64.wrapping_add(gamma.wrapping_mul(n)))).collect();
        assert_eq!(out, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn the_order_of_permissions_plays_no_part_and_every_field_does() {
        let base = contribution(&key(&["records:read", "files:read"]));
        assert_eq!(base, contribution(&key(&["files:read", "records:read"])));
        let changes: [fn(&mut LiveKey<'_>); 7] = [
            |k| k.revision += 1,
            |k| k.id = "key_02".into(),
            |k| k.name = "CI Bo".into(),
            |k| k.sha256 = "00".into(),
            |k| k.expires_at = None,
            |k| k.disabled = true,
            |k| k.permissions.truncate(1),
        ];
        for change in changes {
            let mut other = key(&["records:read", "files:read"]);
            change(&mut other);
            assert_ne!(base, contribution(&other), "{other:?}");
        }
    }

    #[test]
    fn adding_and_removing_in_any_order_comes_back() {
        let mut sum = Checksum::default();
        sum.add(u64::MAX);
        sum.add(5);
        sum.remove(u64::MAX);
        assert_eq!(sum.to_string(), "0000000000000005");
        assert_eq!(Checksum::parse("0000000000000005"), Some(sum));
        assert_eq!(Checksum::parse("+000000000000005"), None);
        assert_eq!(Checksum::parse("5"), None);
    }
}

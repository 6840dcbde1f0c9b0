//! The plaintext of keys and tokens: made here, shown once, never kept.

use crate::random;
use keyward_policy::digest::Digest;
use std::fmt;

/// How many random characters a key has: 214 bits.
const KEY_RANDOM: usize = 36;
/// How many random characters a token has: 256 bits and a little.
const TOKEN_RANDOM: usize = 43;

/// A secret in clear. `Debug` shows nothing and there is no `Display`: it leaves only by [`Secret::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret that came from outside.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Makes an API key: `prefix`, an underscore, 36 random characters of `0-9A-Za-z`, and the CRC-32 (IEEE) of those
    /// 36 as six digits of base 62 (`0-9A-Za-z` in this order), so that a scanner tells a leaked key from noise
    /// without asking anyone.
    pub fn new_key(prefix: &str) -> Self {
        let random = random::base62(KEY_RANDOM);
        let checksum = checksum(&random);
        Self(format!("{prefix}_{random}{checksum}"))
    }

    /// Makes a token for the admin service.
    pub fn new_token() -> Self {
        Self(format!("kwt_{}", random::base62(TOKEN_RANDOM)))
    }

    /// The text itself, for the one place that may show it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is stored and compared.
    pub fn digest(&self) -> Digest {
        Digest::of_key(self.0.as_bytes())
    }

    /// Its last four characters.
    pub fn last_four(&self) -> &str {
        let start = self.0.char_indices().nth_back(3).map_or(0, |(index, _)| index);
        &self.0[start..]
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// CRC-32 (IEEE 802.3) in six digits of base 62, zero-padded.
pub fn checksum(random: &str) -> String {
    let mut value = crc32fast::hash(random.as_bytes());
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = random::BASE62[(value % 62) as usize];
        value /= 62;
    }
    digits.iter().copied().map(char::from).collect()
}

/// The masked form of a key.
pub fn masked(prefix: &str, last_four: &str) -> String {
    format!("{prefix}_…{last_four}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_published_shape() {
        let key = Secret::new_key("kw");
        let body = key.reveal().strip_prefix("kw_").unwrap();
        assert_eq!(body.len(), 42);
        assert!(body.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_eq!(checksum(&body[..36]), body[36..]);
        assert_ne!(key, Secret::new_key("kw"));
    }

    #[test]
    fn the_checksum_is_the_ieee_one() {
        // The check value of CRC-32/ISO-HDLC is cbf43926 = 3421780262 = 3·62⁵ + 45·62⁴ + 35·62³ + 27·62² + 22·62 + 14.
        assert_eq!(checksum("123456789"), "3jZRME");
        assert_eq!(checksum(""), "000000");
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new_key("kw")), "Secret(…)");
    }
}

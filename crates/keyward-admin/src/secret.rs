//! The plaintext of keys and tokens. It is made here, shown once and never kept.

use crate::random;
use keyward_policy::digest::Digest;
use std::fmt;

/// The number of random characters of a key: 214 bits.
const KEY_RANDOM: usize = 36;
/// The number of random characters of a token: 256 bits.
const TOKEN_RANDOM: usize = 43;

/// A secret in clear. `Debug` shows nothing and there is no `Display`: only [`Secret::reveal`] returns the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret that came from outside.
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

    /// Returns the text, for the one place that may show it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns the digest, which is stored and compared.
    pub fn digest(&self) -> Digest {
        Digest::of_key(self.0.as_bytes())
    }

    /// Returns the last four characters.
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

/// Returns the CRC-32 (IEEE 802.3) of a text as six digits of base 62, zero-padded.
pub fn checksum(random: &str) -> String {
    let mut value = crc32fast::hash(random.as_bytes());
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = random::BASE62[(value % 62) as usize];
        value /= 62;
    }
    digits.iter().copied().map(char::from).collect()
}

/// Returns the masked form of a key.
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

//! A key as a decision uses it.

use crate::permission::PermissionSet;
use crate::timestamp::Timestamp;

/// One key in a table, without its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRef<'a> {
    /// The id, which is safe to log and to show.
    pub id: KeyId<'a>,
    /// The name, for people.
    pub name: &'a str,
    /// The permissions that the key grants.
    pub permissions: &'a PermissionSet,
    /// The moment from which on the key is refused. `None` means that the key never expires.
    pub expires_at: Option<Timestamp>,
    /// Whether the key is refused until it is enabled again.
    pub disabled: bool,
    /// Whether its record carries a `must` that this build does not know.
    pub unsupported: bool,
}

/// The id of a key. An id of the admin service takes ten bytes; other texts are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyId<'a> {
    /// `key_` and 16 lower-case base32 characters (RFC 4648), packed.
    Packed([u8; 10]),
    /// Any other id.
    Text(&'a str),
}

const PREFIX: &str = "key_";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The longest id of a key.
pub const MAX_ID_CHARACTERS: usize = 100;

impl<'a> KeyId<'a> {
    /// Returns whether a text can be the id of a key: 1 to [`MAX_ID_CHARACTERS`] characters, none of them a control
    /// character. What a configuration accepts as an id, reports of usage accept too.
    pub fn is_valid(text: &str) -> bool {
        (1..=MAX_ID_CHARACTERS).contains(&text.chars().count()) && !text.chars().any(char::is_control)
    }

    /// Packs an id if it has the shape of the admin service's ids.
    pub fn parse(text: &'a str) -> Self {
        pack(text).map_or(Self::Text(text), Self::Packed)
    }

    /// Returns the text of the id. A packed one is written to `buffer`.
    pub fn as_str<'b>(&'b self, buffer: &'b mut [u8; 20]) -> &'b str {
        match self {
            Self::Text(text) => text,
            Self::Packed(bytes) => {
                let (prefix, body) = buffer.split_at_mut(PREFIX.len());
                prefix.copy_from_slice(PREFIX.as_bytes());
                for (out, five) in body.chunks_exact_mut(8).zip(bytes.chunks_exact(5)) {
                    let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
                    for (index, character) in out.iter_mut().enumerate() {
                        let digit = (bits >> (35 - 5 * index)) & 31;
                        *character = ALPHABET.get(digit as usize).copied().unwrap_or(b'a');
                    }
                }
                std::str::from_utf8(buffer).unwrap_or_default()
            }
        }
    }
}

/// Writes the text of the id, whether it is packed or not.
impl std::fmt::Display for KeyId<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str(&mut [0; 20]))
    }
}

fn pack(text: &str) -> Option<[u8; 10]> {
    let body = text.strip_prefix(PREFIX).filter(|body| body.len() == 16)?;
    let mut packed = [0; 10];
    for (five, eight) in packed.chunks_exact_mut(5).zip(body.as_bytes().chunks_exact(8)) {
        let mut bits = 0_u64;
        for character in eight {
            let digit = match character {
                b'a'..=b'z' => character - b'a',
                b'2'..=b'7' => character - b'2' + 26,
                _ => return None,
            };
            bits = bits << 5 | u64::from(digit);
        }
        let [_, _, _, bytes @ ..] = bits.to_be_bytes();
        five.copy_from_slice(&bytes);
    }
    Some(packed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_id_comes_back_as_it_was(id in "key_[a-z2-7]{16}|key_[a-z0-9]{15,17}|KEY_[a-z]{16}|\\PC{0,30}") {
            prop_assert_eq!(KeyId::parse(&id).to_string(), id);
        }
    }

    #[test]
    fn only_the_services_own_shape_is_packed() {
        assert!(matches!(KeyId::parse("key_abcdefghijklm234"), KeyId::Packed(_)));
        for id in ["key_01", "key_ABCDEFGHIJKLM234", "key_abcdefghijklm018", "kez_abcdefghijklm234", ""] {
            assert_eq!(KeyId::parse(id), KeyId::Text(id));
        }
    }
}

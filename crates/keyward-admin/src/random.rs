//! Random bytes from the operating system.

/// Returns `N` random bytes.
///
/// # Panics
/// Panics when the operating system has no random bytes: nothing that follows could be safe.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = getrandom::fill(&mut bytes) {
        panic!("the operating system gives no random bytes: {error}");
    }
    bytes
}

/// Returns `length` random characters of `0-9A-Za-z`, each equally likely.
pub fn base62(length: usize) -> String {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        for byte in bytes::<64>() {
            // 248 is the largest multiple of 62 that a byte holds; the rest would make some characters likelier.
            if byte < 248 && text.len() < length {
                text.push(char::from(BASE62[usize::from(byte % 62)]));
            }
        }
    }
    text
}

/// The digits of base 62 in their order.
pub const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Returns 16 random characters of lower-case base32 (RFC 4648): 80 bits.
pub fn base32_16() -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    bytes::<16>().iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_comes_up() {
        let text = base62(10_000);
        assert_eq!(text.len(), 10_000);
        assert!(BASE62.iter().all(|digit| text.contains(char::from(*digit))));
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric()));
    }

    #[test]
    fn ids_have_the_shape_that_is_packed_at_the_edge() {
        let id = format!("key_{}", base32_16());
        assert!(matches!(keyward_policy::key::KeyId::parse(&id), keyward_policy::key::KeyId::Packed(_)), "{id}");
        assert_ne!(base32_16(), base32_16());
    }
}

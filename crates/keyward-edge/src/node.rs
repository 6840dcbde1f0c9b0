//! The name by which the admin service knows this proxy.

use keyward_policy::digest::Digest;
use keyward_policy::header::encode_value;
use std::borrow::Cow;

/// The longest name that the admin service takes, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// The number of digits of the hash at the end of a shortened name.
const HASH_DIGITS: usize = 16;

/// Returns Envoy's node id as a header's value: percent-encoded outside visible ASCII. A longer one than the service takes
/// is cut and ends in `~` and a hash of the whole, so that two of them stay two.
pub fn name(id: &[u8]) -> Box<str> {
    let id = String::from_utf8_lossy(id);
    let encoded: Cow<'_, str> = encode_value(&id);
    if encoded.len() <= MAX_NAME_BYTES {
        return encoded.into();
    }
    let start = id.char_indices().map(|(end, _)| encode_value(id.get(..end).unwrap_or_default()));
    let longest = start.take_while(|start| start.len() < MAX_NAME_BYTES - HASH_DIGITS).last().unwrap_or_default();
    let hash = Digest::of_key(id.as_bytes()).to_hex();
    format!("{longest}~{}", hash.get(..HASH_DIGITS).unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_id_has_a_name_that_the_service_takes(id in proptest::collection::vec(any::<u8>(), 0..700)) {
            let name = name(&id);
            prop_assert!(name.len() <= MAX_NAME_BYTES);
            prop_assert!(name.bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }

    #[test]
    fn long_ids_stay_apart_and_short_ones_stay_as_they_are() {
        assert_eq!(&*name(b"edge-1"), "edge-1");
        assert_eq!(&*name("ж".as_bytes()), "%D0%B6");
        let long = "ж".repeat(200);
        let (one, other) = (name(long.as_bytes()), name(format!("{long}2").as_bytes()));
        assert!(one != other && one.starts_with("%D0%B6%D0%B6"));
        let (kept, hash) = one.rsplit_once('~').unwrap();
        assert!(kept.len() % 6 == 0 && hash.len() == HASH_DIGITS, "{one}");
        assert_eq!(name(&[b'a'; 256]).len(), 256);
        assert_eq!(name(&[b'a'; 257]).len(), 256);
    }
}

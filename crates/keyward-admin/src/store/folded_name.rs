//! Names as they are compared: two that look alike are the same.

use unicode_normalization::UnicodeNormalization as _;
use unicode_security::skeleton;

/// Returns a name without what distinguishes it only to a machine: upper and lower case, and characters that look like
/// others, such as a Cyrillic `а` (Unicode's confusable characters, UTS 39).
pub(crate) fn folded(name: &str) -> String {
    let mut latin = String::with_capacity(name.len());
    for c in name.nfkc() {
        // A capital letter may look like another one that its small letter does not look like: Cyrillic `В` and `в`.
        if c.is_ascii() { latin.push(c) } else { latin.extend(skeleton(c.encode_utf8(&mut [0; 4]))) }
    }
    skeleton(&latin.to_lowercase()).collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_are_the_same() {
        for (one, other) in [("CI Bot", "ci bot"), ("admin", "аdmin"), ("Ａpp", "app"), ("modern", "modem")] {
            assert_eq!(folded(one), folded(other));
        }
        for (one, other) in [("key 1", "key 2"), ("a b", "ab"), ("0", "8"), ("ключ", "klyuch")] {
            assert_ne!(folded(one), folded(other));
        }
    }
}

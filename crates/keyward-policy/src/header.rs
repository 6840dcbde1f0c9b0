//! Header names and values, as HTTP writes them.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::borrow::Cow;

/// Whether a byte may be part of a token: a method, a header's name, half of a media type (RFC 9110, 5.6.2).
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a text is a header name that a client can send.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && text.bytes().all(is_token_byte)
}

/// Whether every byte is visible ASCII: 0x21 to 0x7e, without space.
#[inline]
pub fn is_visible_ascii(value: &[u8]) -> bool {
    value.iter().all(u8::is_ascii_graphic)
}

/// Whether an upstream may read this header as the one called `name`: many treat `_` and `-` alike (RFC 3875, 4.1.18).
#[inline]
pub fn is_read_as(header: &[u8], name: &str) -> bool {
    let dashed = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    header.len() == name.len() && header.iter().zip(name.as_bytes()).all(|(a, b)| dashed(a) == dashed(b))
}

/// The characters that a header value could lose or change: control bytes, spaces (lost at the ends) and the escape itself.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// Writes a text as a header value: percent-encoded outside visible ASCII, so that it decodes to the same text.
pub fn encode_value(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'%') {
        return Cow::Borrowed(text);
    }
    encode(text)
}

#[cold]
#[inline(never)]
fn encode(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, ENCODED).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_of_another_kind_is_seen_wherever_it_is() {
        for length in 0..70 {
            let mut value = vec![b'a'; length];
            assert!(is_visible_ascii(&value), "{length}");
            for at in 0..length {
                for byte in [0, b' ', 0x7f, 0x80, 0xff] {
                    value[at] = byte;
                    assert!(!is_visible_ascii(&value), "{byte:#x} at {at} of {length}");
                }
                value[at] = b'~';
            }
        }
    }

    #[test]
    fn values_are_visible_ascii_and_decode_again() {
        assert_eq!(encode_value("CI Bot 100% \r\n\u{e9}"), "CI%20Bot%20100%25%20%0D%0A%C3%A9");
        assert!(matches!(encode_value("CI-Bot"), Cow::Borrowed("CI-Bot")));
        for byte in 0..=u8::MAX {
            let text = char::from(byte).to_string();
            assert_eq!(encode_value(&text), encode(&text), "{byte}");
        }
    }
}

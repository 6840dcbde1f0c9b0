//! The head of a request, read in place from the header map that the proxy hands over.

use keyward_policy::decide::RequestHead;
pub use keyward_policy::header::is_read_as;
use smallvec::SmallVec;

/// One header: name and value.
pub type Header<'a> = (&'a [u8], &'a [u8]);

/// The number of headers that fit without an allocation.
const INLINE: usize = 32;

/// The entries of a serialized header map: `u32` count, then a pair of `u32` lengths for each, then names and values,
/// each followed by a NUL; all little-endian (proxy-wasm ABI 0.2.1, `proxy_get_header_map_pairs`).
pub struct Headers<'a>(SmallVec<[Header<'a>; INLINE]>);

impl<'a> Headers<'a> {
    /// Reads a serialized map. A map whose lengths do not add up has no headers at all, so that the request is refused
    /// because it has no path.
    pub fn parse(map: &'a [u8]) -> Self {
        let mut headers = Self(SmallVec::new());
        if headers.read(map).is_none() {
            headers.0.clear();
        }
        headers
    }

    fn read(&mut self, map: &'a [u8]) -> Option<()> {
        let (count, rest) = map.split_first_chunk::<4>()?;
        let count = u32::from_le_bytes(*count) as usize;
        let (mut lengths, mut data) = rest.split_at_checked(count.checked_mul(8)?)?;
        while let Some((pair, rest)) = lengths.split_first_chunk::<8>() {
            lengths = rest;
            let [a, b, c, d, e, f, g, h] = *pair;
            let name = take(&mut data, u32::from_le_bytes([a, b, c, d]))?;
            let value = take(&mut data, u32::from_le_bytes([e, f, g, h]))?;
            self.0.push((name, value));
        }
        Some(())
    }

    /// Returns the headers in their order. Repeated headers are separate entries.
    pub fn as_slice(&self) -> &[Header<'a>] {
        &self.0
    }

    /// Returns the proxy's id of the request. `None` means that it has none, or one that is no part of a URI as it stands.
    pub fn request_id(&self) -> Option<&'a str> {
        let (_, id) = self.as_slice().iter().find(|(name, _)| *name == b"x-request-id")?;
        let unreserved = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
        std::str::from_utf8(id).ok().filter(|id| (1..=128).contains(&id.len()) && id.as_bytes().iter().all(unreserved))
    }

    /// Returns the head of the request for the policy core. A part that is missing is empty.
    pub fn head(&self) -> RequestHead<'_> {
        let mut head = RequestHead { method: b"", path: b"", host: b"", headers: self.as_slice() };
        for (name, value) in self.as_slice() {
            match *name {
                b":method" => head.method = value,
                b":path" => head.path = value,
                b":authority" => head.host = value,
                [b':', ..] => {}
                // Pseudo headers come first (RFC 9113, 8.3); Envoy keeps them so for HTTP/1 too.
                _ if !head.path.is_empty() && !head.method.is_empty() && !head.host.is_empty() => break,
                _ => {}
            }
        }
        head
    }
}

/// Takes `length` bytes and the NUL behind them from `data`.
fn take<'a>(data: &mut &'a [u8], length: u32) -> Option<&'a [u8]> {
    let (taken, rest) = data.split_at_checked(length as usize)?;
    *data = rest.get(1..)?;
    Some(taken)
}

/// Writes headers as a serialized map.
pub fn serialize(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut map =
        Vec::with_capacity(4 + headers.iter().map(|(name, value)| 10 + name.len() + value.len()).sum::<usize>());
    map.extend((headers.len() as u32).to_le_bytes());
    for (name, value) in headers {
        map.extend((name.len() as u32).to_le_bytes());
        map.extend((value.len() as u32).to_le_bytes());
    }
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        map.extend(text.as_bytes());
        map.push(0);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_in_place() {
        for count in [0, 3, INLINE, INLINE + 1, 200] {
            let values: Vec<String> = (0..count).map(|n| format!("v{n}")).collect();
            let written: Vec<(&str, &str)> = values.iter().map(|value| ("x-n", &**value)).collect();
            let map = serialize(&written);
            let headers = Headers::parse(&map);
            let read: Vec<_> = headers.as_slice().iter().map(|(_, value)| value.to_vec()).collect();
            assert_eq!(read, values.iter().map(|value| value.as_bytes().to_vec()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn pseudo_headers_are_found_and_missing_ones_are_empty() {
        let map = serialize(&[(":method", "GET"), (":path", "/a"), (":authority", "h"), ("x", "y")]);
        let headers = Headers::parse(&map);
        let head = headers.head();
        assert_eq!((head.method, head.path, head.host, head.headers.len()), (&b"GET"[..], &b"/a"[..], &b"h"[..], 4));
        let has = |name: &[u8]| headers.as_slice().iter().any(|(have, _)| *have == name);
        assert!(has(b"x") && !has(b"y"));
        let map = serialize(&[(":method", "CONNECT"), ("x", "y"), (":authority", "h:443")]);
        let headers = Headers::parse(&map);
        assert_eq!((headers.head().path, headers.head().host), (&b""[..], &b"h:443"[..]));
    }

    #[test]
    fn an_underscore_is_read_as_a_dash() {
        for header in ["x-api-key-id", "x_api_key_id", "X-Api_Key-Id"] {
            assert!(is_read_as(header.as_bytes(), "x-api-key-id") && is_read_as(header.as_bytes(), "x_api_key-id"));
        }
        for header in ["x-api-key", "x-api-key-ids", "xxapixkeyxid", ""] {
            assert!(!is_read_as(header.as_bytes(), "x-api-key-id"), "{header}");
        }
    }

    #[test]
    fn the_request_id_is_a_word_or_none() {
        let id = |value: &str| Headers::parse(&serialize(&[("x-request-id", value)])).request_id().map(str::to_owned);
        assert_eq!(id("8f0c6c0a-3b2f-4d0b-9d3f-0a1b2c3d4e5f").as_deref(), Some("8f0c6c0a-3b2f-4d0b-9d3f-0a1b2c3d4e5f"));
        for value in ["", "a b", "a/b", "a%20", "\"", "é", &"a".repeat(129)] {
            assert_eq!(id(value), None, "{value}");
        }
        assert_eq!(Headers::parse(&serialize(&[("x", "y")])).request_id(), None);
    }

    #[test]
    fn a_map_that_does_not_add_up_has_no_headers() {
        let map = serialize(&[(":path", "/a"), ("x", "y")]);
        for end in 0..map.len() {
            assert!(Headers::parse(&map[..end]).as_slice().is_empty(), "{end}");
        }
        assert!(Headers::parse(&u32::MAX.to_le_bytes()).as_slice().is_empty());
    }
}

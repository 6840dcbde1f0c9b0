//! Hosts: the host of a request in its one reading, and the hosts that rules name.
//!
//! A host that two programs could read differently is not compared at all: where rules name hosts, it is refused, as an
//! ambiguous path is.

use std::borrow::Cow;
use std::fmt;

/// Reads the host of a request (`:authority`) in the form that rules compare: in lower case, without its port and
/// without one trailing dot.
///
/// A host has one reading if it is a name of letters, digits, `-` and `_` between single dots, an IPv4 address of four
/// decimal numbers, or an IPv6 address in brackets as RFC 5952 writes it; and if nothing but a decimal port follows.
///
/// # Errors
/// Returns [`AmbiguousHost`] for everything else, with what could be read differently.
pub fn parse(authority: &[u8]) -> Result<Cow<'_, str>, AmbiguousHost> {
    let (host, port) = split_port(authority)?;
    if let Some(port) = port
        && (port.is_empty() || port.len() > 5 || !port.iter().all(u8::is_ascii_digit))
    {
        return Err(AmbiguousHost::Port);
    }
    let host = host.strip_suffix(b".").unwrap_or(host);
    check(host)?;
    // What has passed is ASCII.
    let host = std::str::from_utf8(host).map_err(|_| AmbiguousHost::Character)?;
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Ok(Cow::Owned(host.to_ascii_lowercase()));
    }
    Ok(Cow::Borrowed(host))
}

/// Splits at the colon before the port. An IPv6 address contains colons, within brackets.
fn split_port(authority: &[u8]) -> Result<(&[u8], Option<&[u8]>), AmbiguousHost> {
    let host_len = match authority.first() {
        Some(b'[') => authority.iter().position(|byte| *byte == b']').map(|at| at + 1),
        _ => authority.iter().position(|byte| *byte == b':'),
    };
    let (host, rest) = authority.split_at_checked(host_len.unwrap_or(authority.len())).unwrap_or_default();
    match rest.split_first() {
        None => Ok((host, None)),
        Some((b':', port)) => Ok((host, Some(port))),
        Some(_) => Err(AmbiguousHost::Address),
    }
}

/// Checks a host without port and trailing dot, in any case.
fn check(host: &[u8]) -> Result<(), AmbiguousHost> {
    if host.is_empty() {
        return Err(AmbiguousHost::Empty);
    }
    if let Some(address) = host.strip_prefix(b"[") {
        let address = address.strip_suffix(b"]").ok_or(AmbiguousHost::Address)?;
        return if is_canonical_ipv6(address) { Ok(()) } else { Err(AmbiguousHost::Address) };
    }
    let mut label_len = 0;
    for byte in host {
        match byte {
            b'.' if label_len == 0 => return Err(AmbiguousHost::EmptyLabel),
            b'.' => label_len = 0,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => label_len += 1,
            b'@' => return Err(AmbiguousHost::UserInfo),
            b',' => return Err(AmbiguousHost::Joined),
            b'%' => return Err(AmbiguousHost::Encoded),
            _ => return Err(AmbiguousHost::Character),
        }
    }
    if label_len == 0 {
        return Err(AmbiguousHost::EmptyLabel);
    }
    // Programs that know the old address syntax read a number in the last place as an address: 127.1, 0x7f000001
    // (WHATWG URL, 3.5, "ends in a number").
    let last = host.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    let is_hex = matches!(last, [b'0', b'x' | b'X', digits @ ..] if digits.iter().all(u8::is_ascii_hexdigit));
    if (is_hex || last.iter().all(u8::is_ascii_digit)) && !is_canonical_ipv4(host) {
        return Err(AmbiguousHost::Address);
    }
    Ok(())
}

/// Whether this is four decimal numbers up to 255 without leading zeros.
fn is_canonical_ipv4(text: &[u8]) -> bool {
    let is_octet = |part: &[u8]| {
        let is_short = matches!(part, [b'0'..=b'9'] | [b'1'..=b'9', b'0'..=b'9'] | [b'1', b'0'..=b'9', b'0'..=b'9']);
        is_short || matches!(part, [b'2', b'0'..=b'4', b'0'..=b'9'] | [b'2', b'5', b'0'..=b'5'])
    };
    let mut octets = 0;
    text.split(|byte| *byte == b'.').all(|part| {
        octets += 1;
        is_octet(part)
    }) && octets == 4
}

/// Whether this is an IPv6 address as RFC 5952 writes it, but for its case. An IPv4 address in its last place is
/// refused, as is a zone: both have other spellings that mean the same. So is an address that stands for an IPv4 address
/// (`::ffff:a00:1`), of which a rule would name only one spelling.
fn is_canonical_ipv6(text: &[u8]) -> bool {
    let mut groups = [0_u16; 8];
    let (mut count, mut gap, mut rest) = (0, None, text);
    if let Some(after) = rest.strip_prefix(b"::") {
        (gap, rest) = (Some(0), after);
    }
    while !rest.is_empty() {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (group, after) = rest.split_at_checked(digits).unwrap_or_default();
        let leading_zero = group.len() > 1 && group.first() == Some(&b'0');
        let value = std::str::from_utf8(group).ok().and_then(|group| u16::from_str_radix(group, 16).ok());
        let (Some(value), Some(place), false) = (value, groups.get_mut(count), leading_zero) else { return false };
        *place = value;
        count += 1;
        rest = match after {
            [] => after,
            [b':', b':', after @ ..] if gap.is_none() => {
                gap = Some(count);
                after
            }
            // A colon at the end would leave a group out.
            [b':', after @ ..] if !after.is_empty() => after,
            _ => return false,
        };
    }
    let Some(gap) = gap else {
        // Without `::` there may be no two zeros next to each other.
        return count == 8 && groups.windows(2).all(|pair| *pair != [0, 0]);
    };
    // `::` stands for the first of the longest runs of zeros, and for two groups at least.
    let Some(gap_len) = 8_usize.checked_sub(count).filter(|len| *len >= 2) else { return false };
    let (before, after) = groups.get(..count).unwrap_or_default().split_at_checked(gap).unwrap_or_default();
    let stands_for_ipv4 = before.is_empty() && matches!(after, [0xffff, _, _]);
    let longest = |groups: &[u16]| groups.split(|group| *group != 0).map(<[u16]>::len).max().unwrap_or(0);
    !stands_for_ipv4
        && before.last() != Some(&0)
        && after.first() != Some(&0)
        && longest(before) < gap_len
        && longest(after) <= gap_len
}

/// Why a host has more than one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AmbiguousHost {
    /// There is no host, or nothing but a port.
    Empty,
    /// A name before an `@`, which some programs take for the host.
    UserInfo,
    /// Several `Host` values in one, joined by a comma.
    Joined,
    /// Two dots next to each other, at the start, or more than one at the end.
    EmptyLabel,
    /// Percent-encoding, which some programs decode.
    Encoded,
    /// A character that no host has; non-ASCII names are written with `xn--`.
    Character,
    /// An address in another than its canonical spelling, or brackets around something else.
    Address,
    /// Something other than a decimal number behind the colon.
    Port,
}

impl fmt::Display for AmbiguousHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the host is empty",
            Self::UserInfo => "the host has a user name before it",
            Self::Joined => "the host is several hosts joined by a comma",
            Self::EmptyLabel => "the host has a dot too many",
            Self::Encoded => "the host is percent-encoded",
            Self::Character => "the host has a character that no host has",
            Self::Address => "the host is an address in an unusual spelling",
            Self::Port => "the port is no decimal number",
        })
    }
}

impl std::error::Error for AmbiguousHost {}

/// A host that a rule names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPattern {
    /// This host alone.
    Exact(Box<str>),
    /// Every host of one or more labels, a dot and this text. Written as `*.example.com`.
    Suffix(Box<str>),
}

impl HostPattern {
    /// Reads `api.example.com` or `*.example.com`, in any case.
    ///
    /// # Errors
    /// Returns [`InvalidHost`] for what no request that is let through could name: ports, schemes, paths, stars
    /// elsewhere, and whatever is ambiguous in a request.
    pub fn parse(text: &str) -> Result<Self, InvalidHost> {
        let lower = text.to_ascii_lowercase();
        let lower = lower.strip_suffix('.').unwrap_or(&lower);
        let (rest, is_suffix) = lower.strip_prefix("*.").map_or((lower, false), |rest| (rest, true));
        check(rest.as_bytes()).map_err(|_| InvalidHost)?;
        match is_suffix {
            // An address has no labels before it.
            true if rest.starts_with('[') || is_canonical_ipv4(rest.as_bytes()) => Err(InvalidHost),
            true => Ok(Self::Suffix(rest.into())),
            false => Ok(Self::Exact(rest.into())),
        }
    }

    /// Whether this pattern matches every host that `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Exact(_), Self::Suffix(_)) => false,
            (Self::Suffix(a), Self::Exact(b)) => {
                b.strip_suffix(&**a).is_some_and(|labels| labels.len() > 1 && labels.ends_with('.'))
            }
            (Self::Suffix(a), Self::Suffix(b)) => {
                a == b || b.strip_suffix(&**a).is_some_and(|labels| labels.ends_with('.'))
            }
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Suffix(host) => write!(f, "*.{host}"),
        }
    }
}

/// The text is not a host that a rule can match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidHost;

impl fmt::Display for InvalidHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a host like `api.example.com` or `*.example.com`")
    }
}

impl std::error::Error for InvalidHost {}

#[cfg(test)]
mod tests;

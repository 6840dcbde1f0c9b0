//! Where a store is: a revision, and the mark that tells it from every other change that ever had its number.
//!
//! A revision alone does not name a state. A database that fails over to a copy without the last changes gives their
//! numbers out again. Each commit therefore draws a random mark, and only both together name what the store holds.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// 64 random bits that a commit drew. Written as 16 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mark(u64);

impl Mark {
    /// The mark with these bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits of the mark.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The text is not a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidMark;

impl fmt::Display for InvalidMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be 16 lower-case hex digits")
    }
}

impl FromStr for Mark {
    type Err = InvalidMark;

    fn from_str(text: &str) -> Result<Self, InvalidMark> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(Self).ok_or(InvalidMark)
    }
}

impl Serialize for Mark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mark {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Mark;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&InvalidMark, f)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Mark, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// A state of a store: what it held after the commit of `revision` that drew `mark`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Point {
    /// The number of the last change.
    pub revision: u64,
    /// The mark of its commit.
    pub mark: Mark,
}

/// Says whether the table of a VM enforces anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// The filter refuses what its decision refuses.
    Enforce,
    /// The filter refuses nothing.
    Shadow,
}

impl Enforcement {
    /// The value of `x-keyward-mode`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
        }
    }

    /// Reads a value of `x-keyward-mode`. `None` means that it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Enforce, Self::Shadow].into_iter().find(|mode| mode.as_str() == text)
    }
}

/// Says whether keys of the configuration stand beside the fetched ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InlineKeys {
    /// The configuration has none.
    None,
    /// They answer while there is no usable fetched manifest.
    Fallback,
    /// They always answer.
    Always,
}

impl InlineKeys {
    /// The value of `x-keyward-inline-keys`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Fallback => "fallback",
            Self::Always => "always",
        }
    }

    /// Reads a value of `x-keyward-inline-keys`. `None` means that it is none of the three.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::None, Self::Fallback, Self::Always].into_iter().find(|inline| inline.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_sixteen_hex_digits() {
        for bits in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            let mark = Mark::from_bits(bits);
            assert_eq!(mark.to_string().parse(), Ok(mark));
            let json = serde_json::to_string(&mark).unwrap();
            assert_eq!(serde_json::from_str::<Mark>(&json).unwrap(), mark);
        }
        for wrong in ["", "1", "0123456789ABCDEF", "0123456789abcdef0", "+123456789abcdef", "0123456789abcdeg"] {
            assert_eq!(wrong.parse::<Mark>(), Err(InvalidMark), "{wrong}");
        }
        assert!(serde_json::from_str::<Mark>("12").is_err());
    }
}

//! The lifetime of a key, counted from its creation or regeneration.

use keyward_policy::timestamp::Timestamp;
use std::fmt;
use std::str::FromStr;

/// The lifetimes that a key can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// 7 days.
    Week,
    /// 30 days.
    #[default]
    Month,
    /// 60 days.
    TwoMonths,
    /// 90 days.
    Quarter,
    /// 180 days.
    HalfYear,
    /// No limit.
    Never,
}

impl Lifetime {
    /// All lifetimes, shortest first.
    pub const ALL: [Self; 6] = [Self::Week, Self::Month, Self::TwoMonths, Self::Quarter, Self::HalfYear, Self::Never];

    /// Returns the text that the API uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Week => "7d",
            Self::Month => "30d",
            Self::TwoMonths => "60d",
            Self::Quarter => "90d",
            Self::HalfYear => "180d",
            Self::Never => "never",
        }
    }

    /// Returns the number of days. `None` means no limit.
    pub const fn days(self) -> Option<i64> {
        match self {
            Self::Week => Some(7),
            Self::Month => Some(30),
            Self::TwoMonths => Some(60),
            Self::Quarter => Some(90),
            Self::HalfYear => Some(180),
            Self::Never => None,
        }
    }

    /// Returns from when on a key is refused that is created `now`. The time is a whole second, which the filters' tables
    /// hold at the lowest cost.
    pub fn expires_at(self, now: Timestamp) -> Option<Timestamp> {
        let seconds = now.unix_ms().div_euclid(1000);
        self.days().map(|days| Timestamp::from_unix_ms((seconds + days * 86_400) * 1000))
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not a lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of `7d`, `30d`, `60d`, `90d`, `180d`, `never`")]
pub struct InvalidLifetime;

impl FromStr for Lifetime {
    type Err = InvalidLifetime;

    fn from_str(text: &str) -> Result<Self, InvalidLifetime> {
        Self::ALL.into_iter().find(|lifetime| lifetime.as_str() == text).ok_or(InvalidLifetime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_read_as_it_is_written() {
        for lifetime in Lifetime::ALL {
            assert_eq!(lifetime.to_string().parse(), Ok(lifetime));
        }
        for text in ["", "30", "30D", "1d", "30 d", "Never"] {
            assert_eq!(text.parse::<Lifetime>(), Err(InvalidLifetime), "{text}");
        }
    }

    #[test]
    fn expiry_falls_on_a_whole_second_and_never_later() {
        let now = Timestamp::parse("2026-01-01T00:00:00.999Z").unwrap();
        assert_eq!(Lifetime::Week.expires_at(now), Timestamp::parse("2026-01-08T00:00:00Z").ok());
        assert_eq!(Lifetime::Never.expires_at(now), None);
    }
}

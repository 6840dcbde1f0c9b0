//! Points in time, as they are written on the wire.

use std::fmt;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;

/// A point in time, in milliseconds since 1970-01-01T00:00:00Z.
///
/// Finer fractions are cut off, which can only make an expiry earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Makes it from milliseconds since the epoch.
    pub const fn from_unix_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Returns the milliseconds since the epoch.
    pub const fn unix_ms(self) -> i64 {
        self.0
    }

    /// Makes it from nanoseconds since the epoch, the unit of Envoy's clock.
    pub const fn from_unix_ns(ns: u64) -> Self {
        Self((ns / 1_000_000) as i64)
    }

    /// Returns the number of UTC days from 1970-01-01 to the day of this moment.
    pub const fn day(self) -> i64 {
        self.0.div_euclid(DAY_MS)
    }

    /// Reads a time of RFC 3339 with any offset.
    ///
    /// # Errors
    /// Returns [`InvalidTimestamp`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidTimestamp)?;
        let ms = at.unix_timestamp_nanos().div_euclid(1_000_000);
        i64::try_from(ms).map(Self).map_err(|_| InvalidTimestamp)
    }

    /// Reads a day, as `2026-11-28`, and returns its beginning in UTC.
    ///
    /// # Errors
    /// Returns [`InvalidTimestamp`] for anything else.
    pub fn parse_day(text: &str) -> Result<Self, InvalidTimestamp> {
        Self::parse(&format!("{text}T00:00:00Z"))
    }

    /// Reads an HTTP date as services write it today: `Tue, 24 Nov 2026 03:11:00 GMT` (RFC 9110, IMF-fixdate).
    pub fn parse_http(text: &str) -> Option<Self> {
        const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
        let (date, time) = text.split_once(", ")?.1.strip_suffix(" GMT")?.rsplit_once(' ')?;
        let (day, month, year) = (date.get(..2)?, date.get(3..6)?, date.get(7..)?);
        let month = MONTHS.find(month).filter(|at| at % 3 == 0)? / 3 + 1;
        Self::parse(&format!("{year}-{month:02}-{day}T{time}Z")).ok()
    }
}

/// Writes RFC 3339 in UTC, with a fraction only if there is one.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .ok()
            .and_then(|at| at.format(&Rfc3339).ok());
        // Years outside 0–9999 have no RFC 3339 form; parse() never makes one.
        f.write_str(text.as_deref().unwrap_or("(out of range)"))
    }
}

/// The text is not an RFC 3339 time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidTimestamp;

impl fmt::Display for InvalidTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an RFC 3339 time like `2027-01-01T00:00:00Z`")
    }
}

impl std::error::Error for InvalidTimestamp {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_utc() {
        for text in ["1970-01-01T00:00:00Z", "2027-01-01T00:00:00Z", "2027-01-01T00:00:00.5Z"] {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Timestamp::parse("2027-01-01T02:00:00+02:00"), Timestamp::parse("2027-01-01T00:00:00Z"));
    }

    #[test]
    fn a_fraction_is_cut_never_rounded_up() {
        assert_eq!(Timestamp::parse("1970-01-01T00:00:00.0019999Z").unwrap().unix_ms(), 1);
        assert_eq!(Timestamp::parse("1969-12-31T23:59:59.9999Z").unwrap().unix_ms(), -1);
    }

    #[test]
    fn reads_an_http_date() {
        let at = Timestamp::parse("2026-11-24T03:11:05Z").unwrap();
        assert_eq!(Timestamp::parse_http("Tue, 24 Nov 2026 03:11:05 GMT"), Some(at));
        for text in ["", "Tue, 24 Nov 2026 03:11:05", "2026-11-24T03:11:05Z", "Tuesday, 24-Nov-26 03:11:05 GMT"] {
            assert_eq!(Timestamp::parse_http(text), None, "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "2027-01-01", "2027-01-01T00:00:00", "2027-13-01T00:00:00Z", "1767225600"] {
            assert_eq!(Timestamp::parse(text), Err(InvalidTimestamp), "{text}");
        }
    }
}

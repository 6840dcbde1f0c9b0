//! Durations as the configuration writes them: `<number><ms|s|m|h|d>`.

use std::fmt;
use std::time::Duration;

/// Reads `250ms`, `2s`, `15m`, `1h`, `30d`: a whole number and one unit.
///
/// # Errors
/// Returns [`InvalidDuration`] for a missing or unknown unit, a sign, a fraction, or more than 64 bits of milliseconds.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or(InvalidDuration)?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(InvalidDuration),
    };
    let number: u64 = number.parse().map_err(|_| InvalidDuration)?;
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or(InvalidDuration)
}

/// Writes a duration in the largest unit that fits, so that [`parse`] reads it again. What is finer than a millisecond is
/// cut off.
pub fn format(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit_ms, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if ms > 0 && ms.is_multiple_of(unit_ms) {
            return format!("{}{unit}", ms / unit_ms);
        }
    }
    format!("{ms}ms")
}

/// The text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidDuration;

impl fmt::Display for InvalidDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a duration like `250ms`, `2s`, `15m`, `1h` or `30d`")
    }
}

impl std::error::Error for InvalidDuration {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit_and_writes_it_again() {
        for (text, ms) in [("250ms", 250), ("2s", 2_000), ("15m", 900_000), ("1h", 3_600_000), ("30d", 2_592_000_000)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)));
            assert_eq!(format(Duration::from_millis(ms)), text);
        }
        assert_eq!(format(Duration::ZERO), "0ms");
    }

    #[test]
    fn refuses_the_rest() {
        for text in
            ["", "5", "s", "-1s", "1.5s", "1 s", "1S", "1h30m", "99999999999999999999s", "18446744073709551615d", "1µs"]
        {
            assert_eq!(parse(text), Err(InvalidDuration), "{text}");
        }
    }
}

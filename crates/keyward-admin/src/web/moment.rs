//! Moments as markup: as they are, or as the time until then or since then (`in 30 days`, `3 minutes ago`).
//!
//! A list shows the latter, because it is short whatever the time zone is. The moment itself is in the title.

use super::tag::Tag;
use keyward_policy::count::counted;
use keyward_policy::timestamp::Timestamp;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const MONTH: i64 = 30 * DAY;
const YEAR: i64 = 365 * DAY;

/// Whether a key expires soon: in the last fifth of its lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nearness {
    /// It is not in the last fifth.
    Far,
    /// It is in the last fifth.
    Soon,
    /// It has expired.
    Over,
}

impl Nearness {
    /// Returns how near the end `at` of a lifetime that began at `begun` is.
    pub fn of(at: Timestamp, begun: Timestamp, now: Timestamp) -> Self {
        let (left, lifetime) = (at.unix_ms() - now.unix_ms(), at.unix_ms() - begun.unix_ms());
        match left {
            ..=0 => Self::Over,
            _ if left.saturating_mul(5) <= lifetime => Self::Soon,
            _ => Self::Far,
        }
    }
}

/// Returns the time between now and `at` in words. What is left is rounded up and what is past is rounded down, so that a
/// key of 7 days expires `in 7 days`.
pub(super) fn relative(at: Timestamp, now: Timestamp) -> String {
    let left = at.unix_ms().saturating_sub(now.unix_ms());
    let future = left > 0;
    let length = left.saturating_abs();
    let whole = |unit: i64| if future { length.saturating_add(unit - 1) / unit } else { length / unit };
    let units =
        [(MINUTE, "minute", 60), (HOUR, "hour", 48), (DAY, "day", if future { 366 } else { 60 }), (MONTH, "month", 24)];
    if length < MINUTE {
        return if future { "in less than a minute" } else { "just now" }.to_owned();
    }
    let fitting = units.into_iter().find(|(unit, _, below)| whole(*unit) < *below);
    let (unit, name) = fitting.map_or((YEAR, "year"), |(unit, name, _)| (unit, name));
    let number = whole(unit);
    let words = counted(number.unsigned_abs(), name);
    if future { format!("in {words}") } else { format!("{words} ago") }
}

/// Returns the time between now and `at` as markup. The script puts the local time into the title.
pub(super) fn time_relative(at: Timestamp, now: Timestamp) -> String {
    let text = whole_seconds(at).to_string();
    let title = text.replace('T', " ").replace('Z', " UTC");
    format!("<time data-relative datetime=\"{text}\" title=\"{title}\">{}</time>", relative(at, now))
}

/// Returns when a key expires as markup for a list. Its lifetime began at `begun`.
pub(super) fn expiry_relative(expires_at: Option<Timestamp>, begun: Timestamp, now: Timestamp) -> String {
    let Some(at) = expires_at else { return Tag::new("warn", "Never expires").html() };
    let time = time_relative(at, now);
    match Nearness::of(at, begun, now) {
        // The state of the key says that it has expired.
        Nearness::Far | Nearness::Over => time,
        Nearness::Soon => Tag::new("warn", format!("Expires {time}")).html(),
    }
}

/// A moment as markup: RFC 3339 in UTC, which the script turns into local time with UTC beside it.
pub(super) fn time(at: Timestamp) -> String {
    let text = whole_seconds(at);
    format!("<time datetime=\"{text}\">{text}</time>")
}

/// Returns a time as markup for use inside a sentence.
pub(super) fn time_inline(at: Timestamp) -> String {
    let text = whole_seconds(at);
    format!("<time class=\"inline\" datetime=\"{text}\">{text}</time>")
}

/// Returns a time as markup, shown to the second.
pub(super) fn time_to_the_second(at: Timestamp) -> String {
    let text = whole_seconds(at);
    format!("<time data-seconds datetime=\"{text}\">{text}</time>")
}

pub(super) fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_unix_ms(at.unix_ms().div_euclid(1000) * 1000)
}

/// Returns when a key expires as markup, with words if that is soon, over or never. Its lifetime began at `begun`.
pub(super) fn expiry(expires_at: Option<Timestamp>, begun: Timestamp, now: Timestamp) -> String {
    let Some(at) = expires_at else { return Tag::new("warn", "Never expires").html() };
    match Nearness::of(at, begun, now) {
        // As above.
        Nearness::Far | Nearness::Over => time(at),
        Nearness::Soon => format!("{} {}", time(at), Tag::new("warn", format!("Expires {}", relative(at, now))).html()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn after(start: Timestamp, ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(start.unix_ms() + ms)
    }

    #[test]
    fn what_is_left_is_rounded_up_and_what_is_past_is_rounded_down() {
        let now = at("2026-12-31T23:30:00Z");
        for (ms, says) in [
            (1, "in less than a minute"),
            (MINUTE, "in 1 minute"),
            (MINUTE + 1, "in 2 minutes"),
            (59 * MINUTE + 1, "in 1 hour"),
            (47 * HOUR, "in 47 hours"),
            (7 * DAY - 1, "in 7 days"),
            (180 * DAY, "in 180 days"),
            (3 * YEAR, "in 3 years"),
            (0, "just now"),
            (1 - MINUTE, "just now"),
            (-MINUTE, "1 minute ago"),
            (-2 * MINUTE + 1, "1 minute ago"),
            (-HOUR, "1 hour ago"),
            (-48 * HOUR, "2 days ago"),
            (-59 * DAY, "59 days ago"),
            (-60 * DAY, "2 months ago"),
            (-3 * YEAR, "3 years ago"),
            (i64::MIN / 2, "146235604 years ago"),
        ] {
            assert_eq!(relative(after(now, ms), now), says, "{ms}");
        }
    }

    #[test]
    fn the_words_never_promise_more_than_is_left_nor_less_than_is_past() {
        let now = at("2028-02-29T12:00:00Z");
        for ms in (-400 * DAY..400 * DAY).step_by(usize::try_from(7 * HOUR + 13).unwrap()) {
            let words = relative(after(now, ms), now);
            let number: i64 = words.split(' ').find_map(|word| word.parse().ok()).unwrap_or(0);
            let unit = [("minute", MINUTE), ("hour", HOUR), ("day", DAY), ("month", MONTH), ("year", YEAR)]
                .into_iter()
                .find(|(name, _)| words.contains(name))
                .map_or(1, |(_, unit)| unit);
            if ms > 0 {
                assert!(number * unit >= ms && (number - 1) * unit < ms, "{ms}: {words}");
            } else {
                assert!(number * unit <= -ms && (number + 1) * unit > -ms, "{ms}: {words}");
            }
        }
    }

    #[test]
    fn a_key_is_near_its_end_in_the_last_fifth_of_its_lifetime() {
        let begun = at("2027-01-01T00:00:00Z");
        let end = after(begun, 10 * DAY);
        for (left, nearness) in [
            (10 * DAY, Nearness::Far),
            (2 * DAY + 1, Nearness::Far),
            (2 * DAY, Nearness::Soon),
            (1, Nearness::Soon),
            (0, Nearness::Over),
            (-DAY, Nearness::Over),
        ] {
            assert_eq!(Nearness::of(end, begun, after(end, -left)), nearness, "{left}");
        }
        let new = expiry_relative(Some(end), begun, begun);
        assert!(new.starts_with("<time data-relative datetime=\"2027-01-11T00:00:00Z\""), "{new}");
        assert!(new.contains("title=\"2027-01-11 00:00:00 UTC\">in 10 days<"), "{new}");
        assert!(expiry_relative(Some(end), begun, after(end, -DAY)).contains("warn\">Expires <time"));
        assert!(expiry_relative(Some(end), begun, end).starts_with("<time"));
        assert!(expiry_relative(None, begun, end).contains("Never expires"));
    }

    #[test]
    fn an_expiry_that_is_near_is_said_in_words() {
        let begun = Timestamp::parse("2027-01-01T00:00:00Z").unwrap();
        let at = Timestamp::parse("2027-01-08T00:00:00Z").unwrap();
        let left = |ms: i64| expiry(Some(at), begun, Timestamp::from_unix_ms(at.unix_ms() - ms));
        const DAY: i64 = 86_400_000;
        assert!(expiry(None, begun, begun).contains("Never expires"));
        assert!(left(-1).ends_with("</time>"));
        assert!(left(0).ends_with("</time>"));
        assert!(left(DAY).contains("Expires in 24 hours<"));
        assert_eq!(left(7 * DAY - 1), "<time datetime=\"2027-01-08T00:00:00Z\">2027-01-08T00:00:00Z</time>");
    }
}

//! The check whether the clock can be right before records are deleted by the time of day.

use keyward_policy::timestamp::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

/// The time by which a clock may be ahead of the measured time before it is doubted.
const SLACK: Duration = Duration::from_secs(3_600);
/// The time after which a clock that stays ahead is believed.
const BELIEVED_AFTER: Duration = Duration::from_secs(86_400);

/// The knowledge of a process about the time of day.
#[derive(Debug, Clone)]
pub(super) struct SenseOfTime {
    started: Instant,
    pub last: Option<(Instant, Timestamp)>,
    /// When the clock was first found to be ahead.
    ahead_since: Option<Instant>,
    pub warned: bool,
}

impl Default for SenseOfTime {
    fn default() -> Self {
        Self { started: Instant::now(), last: None, ahead_since: None, warned: false }
    }
}

impl SenseOfTime {
    /// Returns the latest moment that has surely passed. The moment `kept` is known to have passed before.
    pub fn plausible(&mut self, kept: Timestamp, wall: Timestamp, now: Instant) -> Timestamp {
        let (since, from) = self.last.unwrap_or((self.started, kept));
        let passed = i64::try_from((now - since + SLACK).as_millis()).unwrap_or(i64::MAX);
        let most = from.unix_ms().saturating_add(passed);
        if wall.unix_ms() <= most {
            self.ahead_since = None;
            self.warned = false;
            return wall;
        }
        let ahead_since = *self.ahead_since.get_or_insert(now);
        if now - ahead_since >= BELIEVED_AFTER {
            return wall;
        }
        // The slack allows for small steps of the clock. It does not accumulate.
        Timestamp::from_unix_ms(from.unix_ms().saturating_add(i64::try_from((now - since).as_millis()).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_starts_or_jumps_ahead_is_believed_after_a_day() {
        let at = |seconds: i64| Timestamp::from_unix_ms(1_800_000_000_000 + seconds * 1_000);
        let year = 366 * 86_400;
        let start = Instant::now();
        let mut sense = SenseOfTime::default();
        for hour in 0..24 {
            let now = start + Duration::from_secs(3_600 * hour as u64);
            let plausible = sense.plausible(at(0), at(year + 3_600 * hour), now);
            assert!(plausible <= at(86_400), "{hour}: {plausible}");
            sense.last = Some((now, plausible));
        }
        let now = start + Duration::from_secs(86_400);
        assert_eq!(sense.plausible(at(0), at(year + 86_400), now), at(year + 86_400));
        // A clock that is right is believed at once, and so is a small step.
        let mut sense = SenseOfTime::default();
        assert_eq!(sense.plausible(at(0), at(60), Instant::now()), at(60));
        assert_eq!(sense.plausible(at(0), at(-60), Instant::now()), at(-60));
        assert!(sense.plausible(at(0), at(7_200), Instant::now()) < at(3_600), "a jump of two hours");
    }
}

//! Pauses between attempts. They double up to a limit, and differ from VM to VM.

use crate::checksum::splitmix64;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);

/// A source of numbers that differ from VM to VM. They need not be secret.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        splitmix64(self.0)
    }

    /// Returns a random time between half of `pause` and `pause`.
    pub(super) fn jitter(&mut self, pause: Duration) -> Duration {
        let half = pause / 2;
        half + Duration::from_nanos(self.next() % (half.as_nanos() as u64).max(1))
    }

    /// Returns the pause after this number of failures in a row. It is at most `longest`.
    pub(super) fn pause(&mut self, failures: u32, longest: Duration) -> Duration {
        let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
        self.jitter(doubled.min(longest))
    }
}

//! Pauses between tries: they double, they end somewhere, and no two VMs make the same ones.

use crate::checksum::splitmix64;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);

/// A source of numbers that need not be secret, only different from VM to VM.
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

    /// Between half of `pause` and all of it.
    pub(super) fn jitter(&mut self, pause: Duration) -> Duration {
        let half = pause / 2;
        half + Duration::from_nanos(self.next() % (half.as_nanos() as u64).max(1))
    }

    /// The pause after this many failures in a row, at most `longest`.
    pub(super) fn pause(&mut self, failures: u32, longest: Duration) -> Duration {
        let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
        self.jitter(doubled.min(longest))
    }
}

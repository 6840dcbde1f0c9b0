//! The limits of holding requests.
//!
//! Right after a start the filter is without keys for some milliseconds, and refusing clients then would make each
//! rollout an outage. So a request with a well-formed key waits for the first complete manifest, up to `startup_wait`.
//! How a request is held is a matter of the edition.

use crate::host::Host;
use crate::plugin::Plugin;
use std::time::Duration;

/// The number of requests that are held at most: by one VM, or by one process of the native edition.
pub const MAX_HELD: usize = 1_000;

/// The period of the ticks at which waiting requests are decided again.
pub const TICK: Duration = Duration::from_millis(50);

/// Returns whether one more request of this configuration may wait beside those that are `waiting`.
pub fn has_room<H: Host>(plugin: &Plugin<H>, waiting: usize) -> bool {
    plugin.source.is_some() && !plugin.config.startup_wait.is_zero() && waiting < MAX_HELD
}

/// Returns when a request that begins to wait at `now_ns` stops waiting.
pub fn deadline_ns<H: Host>(plugin: &Plugin<H>, now_ns: u64) -> u64 {
    now_ns.saturating_add(u64::try_from(plugin.config.startup_wait.as_nanos()).unwrap_or(u64::MAX))
}

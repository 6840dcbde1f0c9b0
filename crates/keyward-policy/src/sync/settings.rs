//! What one root context was configured with, as far as fetching goes.

use crate::digest::Digest;
use crate::timeline::{Enforcement, InlineKeys};
use std::fmt;
use std::time::Duration;

/// The longest that a request asks the service to hold it.
const MAX_WAIT: Duration = Duration::from_secs(25);

/// What one root context was configured with, as far as fetching goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Sent with every request.
    pub realm: Box<str>,
    /// The edge token; none: the cluster adds it.
    pub token: Option<Box<str>>,
    /// The only store that is accepted; none: the first one seen.
    pub store: Option<Box<str>>,
    /// No contact for that long, and no fetched key is accepted. None: no limit.
    pub max_staleness: Option<Duration>,
    /// Whether this root context refuses anything.
    pub mode: Enforcement,
    /// Whether its configuration has keys of its own.
    pub inline_keys: InlineKeys,
}

impl Settings {
    /// What the service knows the caller by, in a form that may be kept and compared.
    pub(super) fn credential(&self) -> Digest {
        let mut text = self.realm.to_string();
        if let Some(token) = &self.token {
            text.push('\n');
            text.push_str(token);
        }
        Digest::of_key(text.as_bytes())
    }
}

/// How patient the root contexts of a VM can be together: as much as the strictest of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// The shortest `max_staleness`.
    pub(super) max_staleness: Option<Duration>,
}

impl Patience {
    /// How long the service is asked to hold a request: short enough that two answers may be lost before keys go stale.
    pub(super) fn wait(&self) -> Duration {
        // Whole milliseconds, as the wire has them.
        let third = self.max_staleness.map(|max| Duration::from_millis((max.as_millis() / 3) as u64));
        third.map_or(MAX_WAIT, |third| third.min(MAX_WAIT))
    }

    /// How long an answer may take beyond the time that the service holds the request.
    pub(super) fn for_answer(&self) -> Duration {
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(10));
        self.max_staleness.map_or(most, |max| (max / 3).clamp(least, most))
    }

    /// The longest pause between two tries.
    pub(super) fn longest_pause(&self) -> Duration {
        let (least, most) = (Duration::from_millis(500), Duration::from_secs(5));
        self.max_staleness.map_or(most, |max| (max / 6).clamp(least, most))
    }
}

/// Without the token.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("realm", &self.realm)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("store", &self.store)
            .field("max_staleness", &self.max_staleness)
            .field("mode", &self.mode)
            .field("inline_keys", &self.inline_keys)
            .finish()
    }
}

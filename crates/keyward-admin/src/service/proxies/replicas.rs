//! The other replicas that share the store.

use super::contact::Contact;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A replica that has said nothing for this long is not heard: each says something every second.
const SILENCE: Duration = Duration::from_secs(3);
/// How long after it began to listen a replica has usually been told of all VMs.
const INTRODUCTION: Duration = Duration::from_millis(500);
/// How long a replica waits before it asks another one again what it knows.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What another replica says of a table.
#[derive(Debug, Clone)]
pub(super) struct Elsewhere {
    pub replica: Arc<str>,
    pub in_contact: bool,
}

/// What this replica knows of another one.
#[derive(Debug)]
struct Heard {
    /// The last sign of life.
    at: Instant,
    /// It said that it stops.
    stopped: bool,
    /// Everything that it ever told has been heard.
    is_introduced: bool,
    asked_at: Option<Instant>,
}

/// What is to be said besides news of tables.
#[derive(Debug, Clone, Default)]
pub(super) struct Errands {
    /// All others are to tell what they know.
    pub hello: bool,
    /// These are to tell what they know.
    pub asks: BTreeSet<Arc<str>>,
    /// These have then been told everything.
    pub introduces: BTreeSet<Arc<str>>,
}

impl Errands {
    pub fn add(&mut self, other: Self) {
        self.hello |= other.hello;
        self.asks.extend(other.asks);
        self.introduces.extend(other.introduces);
    }
}

/// The other replicas, as far as they were heard since this one began to listen.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    pub contact: Contact,
    pub errands: Errands,
    /// Whether this replica has told anything yet.
    pub has_told: bool,
    heard: HashMap<Arc<str>, Heard>,
    /// When this one last heard itself, which proves that the way is open.
    echo: Option<Instant>,
    /// Since when it has heard everything.
    listening_since: Option<Instant>,
}

impl Replicas {
    /// Listening begins (again). What was told before was read, or is to be told again.
    pub fn listening(&mut self, now: Instant) {
        self.listening_since = Some(now);
        self.echo = None;
        self.heard.clear();
        self.errands.hello = true;
    }

    /// Listening was cut off.
    pub fn not_listening(&mut self) {
        self.listening_since = None;
    }

    /// This replica heard itself.
    pub fn hears_itself(&mut self, now: Instant) {
        self.echo = Some(now);
    }

    /// Another replica said something; `is_new` says that it never did before.
    pub fn hears(&mut self, replica: &Arc<str>, (is_new, introduces, stops): (bool, bool, bool), now: Instant) {
        let heard = self.heard.entry(Arc::clone(replica)).or_insert(Heard {
            at: now,
            stopped: false,
            is_introduced: is_new,
            asked_at: None,
        });
        heard.at = now;
        heard.stopped = stops;
        heard.is_introduced |= introduces;
        if !heard.is_introduced && heard.asked_at.is_none_or(|at| now.duration_since(at) >= ASK_AGAIN) {
            heard.asked_at = Some(now);
            self.errands.asks.insert(Arc::clone(replica));
        }
    }

    pub fn is_heard(&self, replica: &Arc<str>, now: Instant) -> bool {
        self.heard.get(replica).is_some_and(|heard| !heard.stopped && now.duration_since(heard.at) < SILENCE)
    }

    /// When a replica last said something. `None` means that it has not since this one listens.
    pub fn heard_at(&self, replica: &Arc<str>) -> Option<Instant> {
        self.heard.get(replica).map(|heard| heard.at)
    }

    /// When a replica last said something that may be in contact with any table, and has yet to say with which.
    pub fn stranger_heard_at(&self) -> Option<Instant> {
        self.heard.values().filter(|heard| !heard.is_introduced).map(|heard| heard.at).max()
    }

    pub fn sees_all(&self, now: Instant) -> bool {
        self.echo.is_some_and(|at| now.duration_since(at) < SILENCE)
            && self.listening_since.is_some_and(|at| now.duration_since(at) >= INTRODUCTION)
    }
}

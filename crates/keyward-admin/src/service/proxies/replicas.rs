//! The other replicas that share the store.

use super::contact::Contact;
use super::told::TableId;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The time after which a silent replica counts as not heard. Each sends a message every second.
const SILENCE: Duration = Duration::from_secs(3);
/// The time after which a replica that began to listen has usually been informed about all instances.
const INTRODUCTION: Duration = Duration::from_millis(500);
/// The time after which a replica asks another one again about its instances.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What another replica reports about a table.
#[derive(Debug, Clone)]
pub(super) struct Elsewhere {
    pub replica: Arc<str>,
    pub in_contact: bool,
}

/// The knowledge of this replica about another one.
#[derive(Debug)]
struct Heard {
    /// When its last message arrived.
    at: Instant,
    /// Whether it has announced that it stops.
    stopped: bool,
    /// Whether all of its messages have been received.
    is_introduced: bool,
    asked_at: Option<Instant>,
}

/// What has to be sent besides changes of tables.
#[derive(Debug, Clone, Default)]
pub(super) struct Errands {
    /// Whether all others are asked for what they know.
    pub hello: bool,
    /// The replicas that are asked for what they know.
    pub asks: BTreeSet<Arc<str>>,
    /// The replicas that are informed about everything by then.
    pub introduces: BTreeSet<Arc<str>>,
}

impl Errands {
    pub fn add(&mut self, other: Self) {
        self.hello |= other.hello;
        self.asks.extend(other.asks);
        self.introduces.extend(other.introduces);
    }
}

/// The other replicas that were heard since this one began to listen.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    pub contact: Contact,
    pub errands: Errands,
    /// Tables whose changes have to be sent.
    pub unshared: HashSet<TableId>,
    /// Whether this replica has sent a message yet.
    pub has_told: bool,
    heard: HashMap<Arc<str>, Heard>,
    /// When this replica last heard itself, which proves that messages get through.
    echo: Option<Instant>,
    /// When this replica began to hear everything.
    listening_since: Option<Instant>,
}

impl Replicas {
    /// Notes that listening began. Earlier messages were read, or have to be sent again.
    pub fn listening(&mut self, now: Instant) {
        self.listening_since = Some(now);
        self.echo = None;
        self.heard.clear();
        self.errands.hello = true;
    }

    /// Notes that listening was cut off.
    pub fn not_listening(&mut self) {
        self.listening_since = None;
    }

    /// Notes that this replica heard itself.
    pub fn hears_itself(&mut self, now: Instant) {
        self.echo = Some(now);
    }

    /// Notes a message of another replica. `is_new` says that it is its first.
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

    /// Returns when a replica last sent a message. `None` means that it has sent none since this one listens.
    pub fn heard_at(&self, replica: &Arc<str>) -> Option<Instant> {
        self.heard.get(replica).map(|heard| heard.at)
    }

    /// Returns when the last message arrived of a replica that has not yet said which tables it is in contact with.
    pub fn stranger_heard_at(&self) -> Option<Instant> {
        self.heard.values().filter(|heard| !heard.is_introduced).map(|heard| heard.at).max()
    }

    pub fn sees_all(&self, now: Instant) -> bool {
        self.echo.is_some_and(|at| now.duration_since(at) < SILENCE)
            && self.listening_since.is_some_and(|at| now.duration_since(at) >= INTRODUCTION)
    }
}

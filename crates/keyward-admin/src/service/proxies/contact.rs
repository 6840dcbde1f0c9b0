//! The moment as of which an answer is contact, if several replicas share the store.

use std::collections::VecDeque;
use tokio::time::Instant;

/// The number of messages that are remembered until the store is read.
const MAX_TOLD: usize = 64;

/// The messages that a replica has sent to the others, and its readings of the store.
///
/// An answer of a replica is contact as of its last message to the others that was committed before the store was read.
/// So a replica that commits a change and has received every message committed before it knows of every contact that
/// was given without the change: a message that was committed later was followed by a reading that shows the change.
#[derive(Debug, Default)]
pub(super) struct Contact {
    /// Committed messages that no reading has followed yet: the time at which each was begun, and the time at which it
    /// was known to be committed.
    told: VecDeque<(Instant, Instant)>,
    /// When the last reading began.
    read_at: Option<Instant>,
    as_of: Option<Instant>,
}

impl Contact {
    /// Notes that a message that was begun at `begun` is committed.
    pub fn told(&mut self, begun: Instant, now: Instant) {
        if self.told.len() == MAX_TOLD {
            self.told.pop_front();
        }
        self.told.push_back((begun, now));
    }

    /// Notes that the newest state of the store was read, beginning at `begun`, and that pages have this state or a
    /// newer one.
    pub fn read(&mut self, begun: Instant) {
        self.read_at = self.read_at.max(Some(begun));
        while let Some((told, _)) = self.told.front().copied().filter(|(_, committed)| *committed <= begun) {
            self.as_of = self.as_of.max(Some(told));
            self.told.pop_front();
        }
    }

    /// Forgets the messages, because they may not have reached the others.
    pub fn forget_told(&mut self) {
        self.told.clear();
    }

    /// Returns whether the store was read after this moment.
    pub fn has_read_after(&self, moment: Option<Instant>) -> bool {
        self.read_at.is_some_and(|read| moment.is_none_or(|moment| moment <= read))
    }

    /// Returns the moment as of which an answer is contact. `None` means that an answer would be no contact.
    pub fn as_of(&self) -> Option<Instant> {
        self.as_of
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn contact_is_a_message_that_was_committed_before_the_store_was_read() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut contact = Contact::default();
        assert!(!contact.has_read_after(None));
        contact.read(at(1));
        assert_eq!(contact.as_of(), None, "nothing was told");
        contact.told(at(10), at(20));
        contact.read(at(19));
        assert_eq!(contact.as_of(), None, "the reading began before the message was committed");
        contact.read(at(20));
        assert_eq!(contact.as_of(), Some(at(10)));
        contact.told(at(30), at(40));
        contact.told(at(50), at(60));
        contact.read(at(45));
        assert_eq!(contact.as_of(), Some(at(30)));
        assert!(contact.has_read_after(Some(at(45))) && !contact.has_read_after(Some(at(46))));
        contact.read(at(70));
        assert_eq!(contact.as_of(), Some(at(50)));
        // A message that ends late is not newer.
        contact.read(at(20));
        assert_eq!(contact.as_of(), Some(at(50)));
    }
}

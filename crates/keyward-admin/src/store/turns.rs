//! Who writes next: people before everything that happens in the background.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// How long a background write waits for people at most, so that a steady stream of changes does not keep usage and the
/// list of proxies from ever being written. A background write is short.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// The order of writers of one process.
#[derive(Clone)]
pub(super) struct Turns {
    /// How many people write or wait to write.
    people: watch::Sender<usize>,
    /// The one place for writes in the background.
    background: Arc<Semaphore>,
}

/// The turn of one writer, over when dropped.
pub(super) enum Turn {
    Person(watch::Sender<usize>),
    Background(#[allow(dead_code, reason = "given back when the turn is over")] Option<OwnedSemaphorePermit>),
}

impl Default for Turns {
    fn default() -> Self {
        Self { people: watch::Sender::new(0), background: Arc::new(Semaphore::new(1)) }
    }
}

impl Turns {
    /// Takes a person's turn at once. No background write begins before it is over.
    pub fn person(&self) -> Turn {
        self.people.send_modify(|people| *people += 1);
        Turn::Person(self.people.clone())
    }

    /// Waits until no other background write runs and no person writes or waits.
    pub async fn background(&self) -> Turn {
        let place = Arc::clone(&self.background).acquire_owned().await.ok();
        let mut people = self.people.subscribe();
        let _ = tokio::time::timeout(MAX_WAIT, people.wait_for(|people| *people == 0)).await;
        Turn::Background(place)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Self::Person(people) = self {
            people.send_modify(|people| *people -= 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn background_writes_wait_for_people_and_for_each_other() {
        let turns = Turns::default();
        let person = turns.person();
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.background().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(person);
        let first = waiting.await.unwrap();
        // Nobody but another background write is in the way of the second.
        let second = tokio::time::timeout(MAX_WAIT * 2, turns.background());
        assert!(second.await.is_err());
        drop(first);
        turns.background().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_background_write_goes_at_last() {
        let turns = Turns::default();
        let _person = turns.person();
        let begun = tokio::time::Instant::now();
        turns.background().await;
        assert_eq!(begun.elapsed(), MAX_WAIT);
    }
}

//! Connections that have not shown a token or a session yet, and how many of them there may be.
//!
//! Anybody can open a connection, and each costs memory. Those of callers that have proved themselves are limited by the
//! number of connections alone; of all others only a few may be open at once, and where another one comes, the oldest
//! is closed. So whoever only opens connections pushes out their own, while a caller who has something to say has said
//! it long before it is their turn.

use crate::app::Trust;
use crate::app::slowdown::network;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How many connections of strangers may be open.
pub(super) const MAX_STRANGERS: usize = 512;
/// How many of them from one address, or from one /64 network of IPv6.
pub(super) const MAX_STRANGERS_PER_NETWORK: usize = 448;
/// How long a connection may take to say something before it can be closed for another one. A fleet that comes back at
/// once is accepted no faster than it can be answered.
const MIN_AGE: Duration = Duration::from_millis(100);

/// The connections that are open.
pub(super) struct Strangers {
    /// Places for all connections.
    places: Arc<Semaphore>,
    max_strangers: usize,
    max_per_network: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The next connection's number.
    next: u64,
    /// By number, so that the oldest comes first. Some may have proved themselves meanwhile.
    waiting: BTreeMap<u64, Arc<Waiting>>,
    by_network: HashMap<IpAddr, BTreeMap<u64, Arc<Waiting>>>,
}

struct Waiting {
    network: IpAddr,
    since: Instant,
    trust: Trust,
    evicted: Notify,
}

/// The place of one connection, given back when dropped.
pub(super) struct Place {
    number: u64,
    waiting: Arc<Waiting>,
    state: Arc<Mutex<State>>,
    _place: OwnedSemaphorePermit,
}

/// There is no place for another connection.
#[derive(Debug)]
pub(super) struct Full;

impl Strangers {
    /// Makes places for `max_connections` connections altogether.
    pub fn new(max_connections: usize) -> Self {
        // At least half of the places are left for callers that have proved themselves, unless there are very few.
        let max_strangers = MAX_STRANGERS.min((max_connections / 2).max(16));
        Self {
            places: Arc::new(Semaphore::new(max_connections)),
            max_strangers,
            max_per_network: MAX_STRANGERS_PER_NETWORK.min((max_strangers * 7 / 8).max(16)),
            state: Arc::default(),
        }
    }

    /// Finds a place for a new connection, and closes the oldest stranger for it where there are too many.
    ///
    /// # Errors
    /// [`Full`] where all places are taken.
    pub async fn enter(&self, address: IpAddr) -> Result<Place, Full> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Full)?;
        let network = network(address);
        while let Some(wait) = self.make_room(network) {
            tokio::time::sleep(wait).await;
        }
        let waiting =
            Arc::new(Waiting { network, since: Instant::now(), trust: Trust::default(), evicted: Notify::new() });
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.waiting.insert(number, Arc::clone(&waiting));
        state.by_network.entry(network).or_default().insert(number, Arc::clone(&waiting));
        Ok(Place { number, waiting, state: Arc::clone(&self.state), _place: place })
    }

    /// Closes the oldest stranger, of this network or of all, where there are too many. Returns how long to wait where
    /// the oldest is still too young.
    fn make_room(&self, network: IpAddr) -> Option<Duration> {
        let mut state = self.state.lock();
        loop {
            let of_network = state.by_network.get(&network).map_or(0, BTreeMap::len);
            let oldest = if of_network >= self.max_per_network {
                state.by_network.get(&network)?.first_key_value()
            } else if state.waiting.len() >= self.max_strangers {
                state.waiting.first_key_value()
            } else {
                return None;
            };
            let (&number, waiting) = oldest?;
            let waiting = Arc::clone(waiting);
            let age = waiting.since.elapsed();
            if !waiting.trust.is_given() {
                if age < MIN_AGE {
                    return Some(MIN_AGE.saturating_sub(age));
                }
                waiting.evicted.notify_one();
            }
            state.forget(number, waiting.network);
        }
    }
}

impl State {
    fn forget(&mut self, number: u64, network: IpAddr) {
        self.waiting.remove(&number);
        if let Some(waiting) = self.by_network.get_mut(&network) {
            waiting.remove(&number);
            if waiting.is_empty() {
                self.by_network.remove(&network);
            }
        }
    }
}

impl Place {
    /// Returns what a request on this connection marks when its caller has proved itself.
    pub fn trust(&self) -> &Trust {
        &self.waiting.trust
    }

    /// Waits until the connection has to make room for another one.
    pub async fn evicted(&self) {
        self.waiting.evicted.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.state.lock().forget(self.number, self.waiting.network);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    async fn is_evicted(place: &Place) -> bool {
        tokio::time::timeout(Duration::ZERO, place.evicted()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_stranger_of_an_address_makes_room() {
        let strangers = Strangers::new(100_000);
        let other = strangers.enter(B).await.unwrap();
        let mut open = Vec::new();
        for _ in 0..MAX_STRANGERS_PER_NETWORK {
            open.push(strangers.enter(A).await.unwrap());
        }
        assert!(!is_evicted(&open[0]).await);
        open[0].trust().give();
        open.push(strangers.enter(A).await.unwrap());
        // The first has proved itself and stays; it no longer counts.
        assert!(!is_evicted(&open[0]).await && !is_evicted(&open[1]).await);
        let begun = Instant::now();
        open.push(strangers.enter(A).await.unwrap());
        assert_eq!(begun.elapsed(), MIN_AGE, "a new connection has time to say something");
        assert!(is_evicted(&open[1]).await && !is_evicted(&open[2]).await && !is_evicted(&other).await);
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_of_many_addresses_leave_places_to_others() {
        let strangers = Strangers::new(64);
        let mut open = Vec::new();
        for n in 0..1_000 {
            open.push(strangers.enter(IpAddr::from([10, 0, (n / 256) as u8, n as u8])).await.unwrap());
            let mut left = Vec::new();
            for place in open {
                if !is_evicted(&place).await {
                    left.push(place);
                }
            }
            open = left;
            assert!(open.len() <= 32);
        }
        for place in &open {
            place.trust().give();
        }
        while let Ok(place) = strangers.enter(A).await {
            place.trust().give();
            open.push(place);
        }
        assert_eq!(open.len(), 64, "callers that have proved themselves may have all places");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_kept_of_connections_that_are_over() {
        let strangers = Strangers::new(64);
        for n in 0..100 {
            drop(strangers.enter(if n % 2 == 0 { A } else { B }).await.unwrap());
        }
        let state = strangers.state.lock();
        assert!(state.waiting.is_empty() && state.by_network.is_empty());
    }
}

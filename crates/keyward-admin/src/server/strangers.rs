//! Connections that have not shown a token or a session yet, and the limits on their number.
//!
//! Every client can open connections, and each costs memory: little while it is silent, and many times as much after a
//! request other than a poll. Connections of authenticated callers are limited only by the total number of connections.
//! All other connections have limits of their own: when another one arrives above a limit, the oldest is closed. A client
//! that only opens connections displaces its own, while an honest caller authenticates long before its turn comes.

use crate::app::Trust;
use crate::app::slowdown::network;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The number of strangers' connections that may be open and silent, or have only polled.
const MAX_SILENT: usize = 16_384;
/// The number of strangers' connections that may be open and need buffers.
const MAX_BUSY: usize = 512;
/// The number of strangers' connections with buffers from one IPv4 address, or from one /64 network of IPv6.
const MAX_BUSY_PER_NETWORK: usize = 448;
/// The time for which an encrypted connection may be silent before it can be closed for another one. A fleet that
/// reconnects at once is accepted only as fast as it can be answered.
const MIN_AGE: Duration = Duration::from_millis(250);

/// The open connections.
pub(super) struct Strangers {
    /// One permit for each connection that may be open.
    places: Arc<Semaphore>,
    max_silent: usize,
    max_busy: usize,
    max_busy_per_network: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The next connection's number.
    next: u64,
    silent: ByAge,
    busy: ByAge,
    busy_by_network: HashMap<IpAddr, ByAge>,
}

/// Connections by their number, so that the oldest is the first. Some may have authenticated meanwhile.
type ByAge = BTreeMap<u64, Arc<Stranger>>;

struct Stranger {
    number: u64,
    network: IpAddr,
    since: Instant,
    trust: Trust,
    evicted: Notify,
}

/// The place of one connection, which is free again when the value is dropped.
pub(super) struct Place {
    stranger: Arc<Stranger>,
    strangers: Arc<Strangers>,
    _place: OwnedSemaphorePermit,
}

/// The error that no place for another connection is free.
#[derive(Debug)]
pub(super) struct Full;

impl Strangers {
    /// Creates places for `max_connections` connections in total.
    pub fn new(max_connections: usize) -> Arc<Self> {
        // At least half of the places are left for authenticated callers, unless there are very few places.
        let share = (max_connections / 2).max(16);
        let max_busy = MAX_BUSY.min(share);
        Arc::new(Self {
            places: Arc::new(Semaphore::new(max_connections)),
            max_silent: MAX_SILENT.min(share),
            max_busy,
            max_busy_per_network: MAX_BUSY_PER_NETWORK.min((max_busy * 7 / 8).max(16)),
            state: Mutex::default(),
        })
    }

    /// Finds a place for a new connection, and closes the oldest silent connection if there are too many.
    ///
    /// # Errors
    /// Returns [`Full`] if all places are taken.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Full)?;
        let mut state = self.state.lock();
        while state.silent.len() >= self.max_silent {
            let Some((_, oldest)) = state.silent.pop_first() else { break };
            oldest.evict();
        }
        let number = state.next;
        state.next += 1;
        let stranger = Arc::new(Stranger {
            number,
            network: network(address),
            since: Instant::now(),
            trust: Trust::default(),
            evicted: Notify::new(),
        });
        state.silent.insert(number, Arc::clone(&stranger));
        Ok(Place { stranger, strangers: Arc::clone(self), _place: place })
    }
}

impl State {
    /// Returns the oldest busy connection that would have to make room for another one of `network`.
    fn oldest_busy(&self, network: IpAddr, limits: &Strangers) -> Option<Arc<Stranger>> {
        let of_network = self.busy_by_network.get(&network);
        let connections = match of_network {
            Some(connections) if connections.len() >= limits.max_busy_per_network => connections,
            _ if self.busy.len() >= limits.max_busy => &self.busy,
            _ => return None,
        };
        connections.first_key_value().map(|(_, oldest)| Arc::clone(oldest))
    }

    fn forget(&mut self, stranger: &Stranger) {
        self.silent.remove(&stranger.number);
        self.busy.remove(&stranger.number);
        if let Some(connections) = self.busy_by_network.get_mut(&stranger.network) {
            connections.remove(&stranger.number);
            if connections.is_empty() {
                self.busy_by_network.remove(&stranger.network);
            }
        }
    }
}

impl Stranger {
    /// Closes the connection, unless its caller has authenticated.
    fn evict(&self) {
        if !self.trust.is_given() {
            self.evicted.notify_one();
        }
    }
}

impl Place {
    /// Returns the mark that a request on this connection sets when its caller authenticates.
    pub fn trust(&self) -> &Trust {
        &self.stranger.trust
    }

    /// Waits until the connection has to make room for another one.
    pub async fn evicted(&self) {
        self.stranger.evicted.notified().await;
    }

    /// Counts the connection among those that need buffers, and closes the oldest of them if there are too many.
    pub fn grow(&self) {
        let mut state = self.strangers.state.lock();
        state.forget(&self.stranger);
        if self.trust().is_given() {
            return;
        }
        while let Some(oldest) = state.oldest_busy(self.stranger.network, &self.strangers) {
            state.forget(&oldest);
            oldest.evict();
        }
        let (number, network) = (self.stranger.number, self.stranger.network);
        state.busy.insert(number, Arc::clone(&self.stranger));
        state.busy_by_network.entry(network).or_default().insert(number, Arc::clone(&self.stranger));
    }

    /// Counts the connection like [`Place::grow`], but first waits until the connection that has to be closed for it has
    /// been open for [`MIN_AGE`].
    pub async fn grow_in_turn(&self) {
        loop {
            let oldest = self.strangers.state.lock().oldest_busy(self.stranger.network, &self.strangers);
            let age = oldest.filter(|oldest| !oldest.trust.is_given()).map(|oldest| oldest.since.elapsed());
            match age {
                Some(age) if age < MIN_AGE => tokio::time::sleep(MIN_AGE.saturating_sub(age)).await,
                _ => return self.grow(),
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.strangers.state.lock().forget(&self.stranger);
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
    async fn the_oldest_busy_stranger_of_an_address_makes_room() {
        let strangers = Strangers::new(100_000);
        let busy = |address: IpAddr| {
            let place = strangers.enter(address).unwrap();
            place.grow();
            place
        };
        let (other, silent) = (busy(B), strangers.enter(A).unwrap());
        let mut open: Vec<Place> = (0..MAX_BUSY_PER_NETWORK).map(|_| busy(A)).collect();
        assert!(!is_evicted(&open[0]).await);
        open[0].trust().give();
        open.push(busy(A));
        // The first caller has authenticated, so its connection stays and no longer counts.
        assert!(!is_evicted(&open[0]).await && !is_evicted(&open[1]).await);
        open.push(busy(A));
        assert!(is_evicted(&open[1]).await && !is_evicted(&open[2]).await);
        assert!(!is_evicted(&other).await && !is_evicted(&silent).await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_encrypted_connection_has_time_to_say_something() {
        let strangers = Strangers::new(100_000);
        let mut open = Vec::new();
        let begun = Instant::now();
        for _ in 0..MAX_BUSY_PER_NETWORK {
            let place = strangers.enter(A).unwrap();
            place.grow_in_turn().await;
            open.push(place);
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let next = strangers.enter(A).unwrap();
        next.grow_in_turn().await;
        assert_eq!(begun.elapsed(), MIN_AGE);
        assert!(is_evicted(&open[0]).await && !is_evicted(&open[1]).await);
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_of_many_addresses_leave_places_to_others() {
        for grows in [false, true] {
            let strangers = Strangers::new(64);
            let mut open = Vec::new();
            for n in 0..1_000 {
                let place = strangers.enter(IpAddr::from([10, 0, (n / 256) as u8, n as u8])).unwrap();
                if grows {
                    place.grow();
                }
                open.push(place);
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
            while let Ok(place) = strangers.enter(A) {
                place.trust().give();
                open.push(place);
            }
            assert_eq!(open.len(), 64, "callers that have proved themselves may have all places");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_kept_of_connections_that_are_over() {
        let strangers = Strangers::new(64);
        for n in 0..100 {
            let place = strangers.enter(if n % 2 == 0 { A } else { B }).unwrap();
            if n % 3 == 0 {
                place.grow();
            }
        }
        let state = strangers.state.lock();
        assert!(state.silent.is_empty() && state.busy.is_empty() && state.busy_by_network.is_empty());
    }
}

//! Delays and finally refuses answers to wrong tokens, for each address on its own.

use super::summary::Summary;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::time::Instant;

/// Wrong tokens of one address that are answered at once, each minute.
const FREE: u32 = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// How long the answer to each further one waits.
const DELAY: Duration = Duration::from_secs(1);
/// Answers of one address that may wait at once. Further ones are refused.
const MAX_WAITING: u32 = 16;
/// Addresses that are remembered.
const MAX_ADDRESSES: usize = 10_000;
/// The entry of all addresses beyond [`MAX_ADDRESSES`].
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The wrong tokens of each address.
#[derive(Debug)]
pub struct Slowdown {
    addresses: Mutex<HashMap<IpAddr, Failures>>,
    lines: Summary,
}

impl Default for Slowdown {
    fn default() -> Self {
        let lines = Summary::new(|count| tracing::warn!(count, "further wrong tokens came in the last minute"));
        Self { addresses: Mutex::default(), lines }
    }
}

/// Too many wrong tokens came from an address, and too many answers to it wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyFailures;

#[derive(Debug)]
struct Failures {
    count: u32,
    since: Instant,
    waiting: u32,
}

impl Slowdown {
    /// Logs a wrong token with `line`, unless another one was logged in the last minute: then it is only counted.
    pub fn log(&self, line: impl FnOnce()) {
        self.lines.note(line);
    }

    /// Notes a wrong token from an address, and returns when it may be answered.
    ///
    /// # Errors
    /// Returns [`TooManyFailures`] when too many answers to this address wait already.
    pub async fn wrong(&self, peer: Option<IpAddr>) -> Result<(), TooManyFailures> {
        let mut network = network(peer.unwrap_or(OTHERS));
        {
            let mut addresses = self.addresses.lock();
            let now = Instant::now();
            if addresses.len() >= MAX_ADDRESSES && !addresses.contains_key(&network) {
                addresses.retain(|_, failures| failures.waiting > 0 || now.duration_since(failures.since) < MINUTE);
                if addresses.len() >= MAX_ADDRESSES {
                    network = OTHERS;
                }
            }
            let failures = addresses.entry(network).or_insert(Failures { count: 0, since: now, waiting: 0 });
            if now.duration_since(failures.since) >= MINUTE {
                failures.count = 0;
                failures.since = now;
            }
            failures.count = failures.count.saturating_add(1);
            if failures.count <= FREE {
                return Ok(());
            }
            if failures.waiting >= MAX_WAITING {
                return Err(TooManyFailures);
            }
            failures.waiting += 1;
        }
        let _leave = Leave { slowdown: self, network };
        tokio::time::sleep(DELAY).await;
        Ok(())
    }
}

/// An answer that waits. A client that goes away ends the wait early, and then it no longer counts.
struct Leave<'a> {
    slowdown: &'a Slowdown,
    network: IpAddr,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if let Some(failures) = self.slowdown.addresses.lock().get_mut(&self.network) {
            failures.waiting = failures.waiting.saturating_sub(1);
        }
    }
}

/// The network that an address is counted by: IPv6 subscribers have a whole /64.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn the_first_are_free_then_each_waits_and_then_they_are_refused() {
        let slowdown = Arc::new(Slowdown::default());
        let peer = Some("192.0.2.1".parse().unwrap());
        let start = Instant::now();
        for _ in 0..FREE {
            slowdown.wrong(peer).await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        let waiting: Vec<_> = (0..MAX_WAITING)
            .map(|_| {
                let slowdown = Arc::clone(&slowdown);
                tokio::spawn(async move { slowdown.wrong(peer).await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(slowdown.wrong(peer).await, Err(TooManyFailures));
        slowdown.wrong(Some("192.0.2.2".parse().unwrap())).await.unwrap();
        for task in waiting {
            task.await.unwrap().unwrap();
        }
        assert_eq!(start.elapsed(), DELAY);
        tokio::time::advance(MINUTE).await;
        let again = Instant::now();
        slowdown.wrong(peer).await.unwrap();
        assert_eq!(again.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn more_addresses_than_can_be_remembered_are_slowed_as_one() {
        let slowdown = Slowdown::default();
        let address = |n: u32| Some(IpAddr::V4(Ipv4Addr::from_bits(n)));
        for n in 1..=MAX_ADDRESSES as u32 + FREE {
            slowdown.wrong(address(n)).await.unwrap();
        }
        assert_eq!(slowdown.addresses.lock().len(), MAX_ADDRESSES + 1);
        let begun = Instant::now();
        slowdown.wrong(address(1)).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        slowdown.wrong(address(u32::MAX)).await.unwrap();
        assert_eq!(begun.elapsed(), DELAY);
    }

    #[test]
    fn an_ipv6_subscriber_is_one() {
        let a = network("2001:db8::1".parse().unwrap());
        assert_eq!(a, network("2001:db8::ffff:2".parse().unwrap()));
        assert_ne!(a, network("2001:db8:0:1::1".parse().unwrap()));
    }
}

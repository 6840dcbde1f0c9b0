//! Wrong tokens are answered ever more slowly, address by address.

use super::problem::Problem;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::time::Instant;

/// So many wrong tokens a minute are answered at once.
const FREE: u32 = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// Every further one waits this long.
const DELAY: Duration = Duration::from_secs(1);
/// So many of one address may wait; the rest is refused.
const WAITING: u32 = 16;
/// Addresses remembered.
const ADDRESSES: usize = 10_000;
/// Stands for all that cannot be remembered one by one.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What is known of each address.
#[derive(Debug, Default)]
pub struct Slowdown {
    addresses: Mutex<HashMap<IpAddr, Failures>>,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    since: Instant,
    waiting: u32,
}

impl Slowdown {
    /// A wrong token came; returns when it may be answered.
    ///
    /// # Errors
    /// 429 where too many wait already.
    pub async fn wrong(&self, peer: Option<IpAddr>) -> Result<(), Problem> {
        let mut network = network(peer.unwrap_or(NOBODY));
        {
            let mut addresses = self.addresses.lock();
            let now = Instant::now();
            if addresses.len() >= ADDRESSES && !addresses.contains_key(&network) {
                addresses.retain(|_, failures| failures.waiting > 0 || now.duration_since(failures.since) < MINUTE);
                if addresses.len() >= ADDRESSES {
                    network = NOBODY;
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
            if failures.waiting >= WAITING {
                return Err(Problem::slow_down());
            }
            failures.waiting += 1;
        }
        let _leave = Leave { slowdown: self, network };
        tokio::time::sleep(DELAY).await;
        Ok(())
    }
}

/// Whoever gives up waiting no longer counts as waiting.
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

/// One subscriber has a whole /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
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
        let waiting: Vec<_> = (0..WAITING)
            .map(|_| {
                let slowdown = Arc::clone(&slowdown);
                tokio::spawn(async move { slowdown.wrong(peer).await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(slowdown.wrong(peer).await.unwrap_err().code(), "too_many_failures");
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
        for n in 1..=ADDRESSES as u32 + FREE {
            slowdown.wrong(address(n)).await.unwrap();
        }
        assert_eq!(slowdown.addresses.lock().len(), ADDRESSES + 1);
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

//! Receipts, what they promise, and whether that is true.

use crate::fault::Fault;
use crate::world::World;
use keyward_policy::digest::Digest;
use keyward_policy::timeline::Point;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// A receipt that named a time.
pub struct Promise {
    digest: Digest,
    change: Point,
    made_ms: u64,
    /// Everything that was committed until then had reached the replica that made it.
    known_ms: u64,
    by_ms: u64,
}

impl World {
    /// Asks for the receipts of late deletes, and keeps what they promise.
    pub fn ask_receipts(&mut self) {
        let late: Vec<_> = self.deletes.iter().rev().take(3).copied().collect();
        for (digest, change) in late {
            let n = self.dice.below(self.replicas.len() as u64) as usize;
            self.ask_receipt(n, digest, change);
        }
    }

    pub fn ask_receipt(&mut self, n: usize, digest: Digest, change: Point) {
        self.totals.receipts += 1;
        let receipt = self.replicas[n].proxies.applied(change.revision);
        let Some(by) = receipt.refused_everywhere_by else { return };
        // A number that was given out again is another change.
        if !self.store.passed(change) && !self.has(Fault::NoTimeline) {
            return;
        }
        self.totals.times_named += 1;
        let ahead = by.unix_ms() - self.wall_ms.load(Ordering::Relaxed);
        let by_ms = self.now.saturating_add_signed(ahead);
        let replica = &self.replicas[n];
        let has_heard_all = !self.shared || (replica.is_listening && replica.inbox.is_empty());
        let known_ms = if has_heard_all { self.now } else { replica.heard_until };
        self.promises.push(Promise { digest, change, made_ms: self.now, known_ms, by_ms });
    }

    pub fn judge(&mut self) {
        let (now, store) = (self.time(), &self.store);
        if !self.has(Fault::NoTimeline) {
            // A change that was lost is no promise any more: the key may be live again.
            self.promises.retain(|promise| store.passed(promise.change));
        }
        self.promises.retain(|promise| self.now < promise.by_ms + 20_000);
        // Of the promises of one change that are due, the one that knew most speaks of the most tables.
        let mut due: BTreeMap<Point, &Promise> = BTreeMap::new();
        for promise in self.promises.iter().filter(|promise| promise.by_ms <= self.now) {
            self.totals.promises_judged += 1;
            let latest = due.entry(promise.change).or_insert(promise);
            if latest.known_ms < promise.known_ms {
                *latest = promise;
            }
        }
        for promise in due.into_values() {
            for table in &self.tables {
                // An instance in shadow mode, or with inline keys, never refuses, also where its table has the change.
                // A receipt must know of it from the moment at which a page that completes its table is made, for its
                // row was committed before, and the replica has heard all that was committed until `known_ms`. Until
                // then the receipt does not speak of it. Every other table is judged from the start.
                let is_known = table.is_plain() || table.given_at.is_some_and(|at| at <= promise.known_ms);
                if is_known && !store.is_live(&promise.digest) && table.accepts(&promise.digest, now) {
                    self.broken = Some(format!(
                        "at {} ms the table {} of {} accepts a key that was to be refused everywhere by {} ms, as was \
                         said at {} ms (plain: {}, given at {:?}, blind: {}, {} replicas, {} failovers, {} restarts)",
                        self.now,
                        table.id,
                        table.vm,
                        promise.by_ms,
                        promise.made_ms,
                        table.is_plain(),
                        table.given_at,
                        self.is_blind,
                        self.replicas.len(),
                        self.totals.failovers,
                        self.totals.restarts
                    ));
                }
            }
        }
    }
}

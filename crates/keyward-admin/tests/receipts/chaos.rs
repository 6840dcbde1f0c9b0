//! What goes wrong, and what people do meanwhile.

use crate::fault::Fault;
use crate::world::World;
use keyward_admin::service::proxies::{Answered, PollHeaders, Question};
use keyward_policy::timeline::{Enforcement, InlineKeys};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// What is to happen at a chosen moment, because chance alone would hardly ever bring it about there.
pub enum Plan {
    /// The way of a table to the service is cut.
    Cut(String),
    /// A key is deleted at a replica.
    Delete(usize),
    /// A replica is killed and started again.
    Restart(usize),
    /// A person confirms a list.
    Confirm(Seen),
}

/// The list of instances that a person looked at: the replica that showed it, and where that replica knew the store to
/// be.
pub struct Seen {
    n: usize,
    process: u64,
    lineage: u64,
    moves: u64,
}

impl World {
    pub fn chaos(&mut self) {
        let n = self.dice.below(self.replicas.len() as u64) as usize;
        let table = self.dice.below(self.tables.len() as u64) as usize;
        match self.dice.below(22) {
            0 | 1 => {
                self.look(n);
                self.store.create(&mut self.dice);
                self.published(n);
            }
            2..=5 => self.delete(n),
            6 => self.copy = self.store.clone(),
            7 if self.shared => {
                self.fail_over();
            }
            8 | 9 => self.restart(n),
            10..=12 => {
                self.totals.cuts += 1;
                self.tables[table].cut_until = self.now + self.dice.below(60_000);
            }
            13 => {
                let delays = [1, 20, 2_000, 60_000];
                self.tables[table].delay_ms = delays[self.dice.below(4) as usize];
            }
            14 => {
                self.replace_vm();
                self.wall_ms.fetch_add(self.dice.below(7_200_000) as i64 - 3_600_000, Ordering::Relaxed);
            }
            15 => self.forge(n, table),
            16 => {
                let replica = &mut self.replicas[n];
                replica.proxies.not_listening();
                replica.is_listening = false;
                replica.inbox.clear();
                replica.listens_at = self.now + self.dice.below(20_000);
            }
            17 => self.person_looks(n),
            18 if self.shared => {
                // A zone goes down: the store fails over, and no replica lives on.
                self.fail_over();
                for n in 0..self.replicas.len() {
                    self.restart(n);
                }
            }
            19 | 20 => {
                // An instance that was away, or is new, comes into contact for a moment, and a key is deleted just
                // then.
                let away = self.dice.below(12_000);
                let id = if self.dice.chance(50) {
                    self.tables[table].cut_until = self.now + away;
                    self.tables[table].id.clone()
                } else {
                    self.replace_vm()
                };
                let wait = self.tables.iter().find(|table| table.id == id).map_or(0, |table| table.cut_until);
                let open = wait.saturating_sub(self.now);
                let moments = [(); 3].map(|()| open + self.dice.below(1_500));
                self.plan(moments[0], Plan::Cut(id));
                self.plan(moments[1], Plan::Delete(n));
                if self.dice.chance(30) {
                    let other = self.dice.below(self.replicas.len() as u64) as usize;
                    self.plan(moments[2], Plan::Restart(other));
                }
            }
            _ => {}
        }
    }

    pub fn go_ahead(&mut self, plan: Plan) {
        match plan {
            Plan::Cut(id) => {
                let cut_until = self.now + self.dice.below(60_000);
                if let Some(table) = self.tables.iter_mut().find(|table| table.id == id) {
                    self.totals.cuts += 1;
                    table.cut_until = cut_until;
                }
            }
            Plan::Delete(n) => self.delete(n),
            Plan::Restart(n) => self.restart(n),
            Plan::Confirm(seen) => self.person_confirms(&seen),
        }
    }

    fn delete(&mut self, n: usize) {
        // The transaction finds the state that the replica knows, or the replica looks again.
        self.look(n);
        if let Some(digest) = self.store.delete(&mut self.dice) {
            let change = self.store.point();
            self.published(n);
            self.deletes.push((digest, change));
            self.ask_receipt(n, digest, change);
        }
    }

    /// Starts an instance and returns the name of one of its tables. Where there are many, the oldest table ends with
    /// its instance.
    fn replace_vm(&mut self) -> String {
        if self.tables.len() >= 6 {
            self.tables.remove(0);
        }
        self.new_vm();
        self.tables.last().map(|table| table.id.clone()).unwrap_or_default()
    }

    /// The store fails over to a copy that lags behind.
    fn fail_over(&mut self) {
        self.store = self.copy.clone();
        self.lineage += 1;
        self.totals.failovers += 1;
        for replica in &mut self.replicas {
            replica.proxies.not_listening();
            replica.is_listening = false;
            replica.inbox.clear();
            replica.listens_at = self.now + self.dice.below(3_000);
        }
    }

    /// A replica is killed and started again: what it knew is gone, and whoever waited is cut off.
    fn restart(&mut self, n: usize) {
        let replica = self.replica(n);
        self.replicas[n].held.clear();
        self.replicas[n] = replica;
        self.totals.restarts += 1;
    }

    /// A person compares the list that a replica shows with the tables that may serve, and means to confirm it.
    fn person_looks(&mut self, n: usize) {
        self.look(n);
        let list = self.replicas[n].proxies.list();
        let is_shown = |id: &str| list.iter().any(|view| view.table == id || self.has(Fault::OneIdPerVm));
        let mut given = self.tables.iter().filter(|table| table.given_at.is_some());
        if !self.shared || !given.all(|table| is_shown(&table.id)) {
            return;
        }
        if !self.replicas[n].proxies.has_all_rows() {
            // The list cannot be confirmed before the store has it.
            return self.record(n);
        }
        let replica = &self.replicas[n];
        let seen = Seen { n, process: replica.process, lineage: replica.lineage, moves: replica.proxies.moves() };
        let pause = self.dice.below(5_000);
        self.plan(pause, Plan::Confirm(seen));
    }

    /// The person confirms what was seen, at any replica.
    fn person_confirms(&mut self, seen: &Seen) {
        let n = if self.is_blind { seen.n } else { self.dice.below(self.replicas.len() as u64) as usize };
        let replica = &self.replicas[n];
        let is_as_seen = if self.is_blind {
            (replica.process, replica.proxies.moves()) == (seen.process, seen.moves)
        } else {
            replica.lineage == seen.lineage
        };
        if is_as_seen && replica.proxies.has_all_rows() {
            self.totals.confirmations += 1;
            self.confirm(n);
        }
    }

    /// Somebody with a token of their own says that an instance has applied everything.
    fn forge(&mut self, n: usize, table: usize) {
        self.totals.forged += 1;
        let known = self.replicas[n].known;
        let table = &self.tables[table];
        let is_insider = self.has(Fault::ForgedAcknowledgement);
        let headers = PollHeaders {
            node: Some("node".to_owned()),
            vm: Some(table.vm.clone()),
            table: Some(if is_insider { table.id.clone() } else { "guessed".to_owned() }),
            poll: is_insider.then_some(u64::MAX / 2),
            max_staleness: Some(Duration::from_secs(1)),
            mode: Some(Enforcement::Enforce),
            inline_keys: Some(InlineKeys::None),
            ..PollHeaders::default()
        };
        let token: Arc<str> = if is_insider { Arc::clone(&table.token) } else { "another token".into() };
        let question = Question { since: known.revision, base: known.revision, mark: Some(known.mark) };
        if let Ok(Some(guard)) = self.replicas[n].proxies.begin(&headers, &token, question) {
            guard.answered(Answered { complete: true, revision: known.revision, as_of: Instant::now() });
        }
    }
}

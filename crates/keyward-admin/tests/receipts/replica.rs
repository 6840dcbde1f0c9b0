//! A replica of the service.

use crate::fault::Fault;
use crate::table::Sent;
use crate::world::{Event, Process, World};
use keyward_admin::service::proxies::{Message, Proxies};
use keyward_admin::store::proxies::ProxyRecord;
use keyward_policy::timeline::{Mark, Point};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::time::Instant;

/// What a page is kept by: `since`, `base` and `mark`.
pub type PageKey = (u64, u64, Option<Mark>);
/// A page: its body, whether there is more, and its revision; or the status that refuses it.
pub type Page = Result<(String, bool, u64), u16>;

pub struct Replica {
    pub proxies: Arc<Proxies>,
    pub name: Arc<str>,
    /// Tells this process from those that ran here before.
    pub process: u64,
    pub known: Point,
    pub lineage: u64,
    /// Pages that were made while the known state was the newest.
    pub pages: HashMap<PageKey, Page>,
    pub held: Vec<Sent>,
    pub looks_at: u64,
    /// When it next writes the tables that no poll waits for.
    pub records_at: u64,
    /// Whether notifications reach it.
    pub is_listening: bool,
    pub listens_at: u64,
    /// Notifications under way to it, in the order of their commits, with the times of these.
    pub inbox: VecDeque<(u64, String)>,
    /// Everything that was committed until then has reached it.
    pub heard_until: u64,
    /// Whether it is telling the others something.
    pub is_telling: bool,
    /// Whether it is writing tables to the store.
    pub is_writing: bool,
}

/// Tables that are on their way to the store.
pub struct Writing {
    process: Process,
    /// Where the store was when the transaction began. It ends with the server.
    lineage: u64,
    records: Vec<ProxyRecord>,
    messages: Vec<String>,
}

impl World {
    /// Reads the newest state of the store, as the service does twice a second.
    pub fn look(&mut self, n: usize) {
        let found = self.found();
        let sees_moves = !self.has(Fault::NoTimeline);
        let went_back = sees_moves && !self.store.passed(self.replicas[n].known);
        let has_moved = sees_moves && found.has_lineage && self.replicas[n].lineage != self.lineage;
        let replica = &mut self.replicas[n];
        if went_back || has_moved {
            replica.proxies.moved(found, went_back);
            replica.is_listening = false;
            replica.inbox.clear();
            replica.listens_at = self.now + self.dice.below(1_000);
        } else {
            if replica.known.revision < found.head.revision {
                replica.proxies.advance(found.head);
            }
            if found.has_all_tables {
                replica.proxies.confirm();
            }
        }
        let news = replica.known != found.head;
        replica.known = found.head;
        replica.lineage = self.lineage;
        replica.proxies.read(Instant::now());
        if news {
            replica.pages.clear();
            self.wake(n);
        }
    }

    pub fn wake(&mut self, n: usize) {
        for sent in std::mem::take(&mut self.replicas[n].held) {
            self.comes_due(n, sent);
        }
    }

    /// A replica committed a change: it knows at once, the others are told.
    pub fn published(&mut self, n: usize) {
        let point = self.store.point();
        self.replicas[n].known = point;
        self.replicas[n].pages.clear();
        self.replicas[n].proxies.advance(point);
        if self.shared {
            self.notify(format!("change {}", point.revision));
        }
        self.wake(n);
    }

    /// Everybody who listens is told something.
    pub fn notify(&mut self, message: String) {
        for replica in self.replicas.iter_mut().filter(|replica| replica.is_listening) {
            replica.inbox.push_back((self.now, message.clone()));
        }
    }

    pub fn listen(&mut self, n: usize) {
        self.look(n);
        let rows: Vec<_> = self.store.rows.values().cloned().collect();
        let replica = &mut self.replicas[n];
        replica.is_listening = true;
        replica.inbox.clear();
        replica.heard_until = self.now;
        replica.proxies.listening(replica.known.revision, rows);
    }

    /// A replica begins to tell the others what is new.
    pub fn share(&mut self, n: usize) {
        let replica = &mut self.replicas[n];
        if !self.shared || replica.is_telling {
            return;
        }
        replica.is_telling = true;
        let name = Arc::clone(&replica.name);
        let (process, messages) = (replica.process, replica.proxies.take_messages(&name, true));
        let commit = self.dice.below(self.telling_ms);
        let answer = commit + self.dice.below(self.telling_ms);
        self.after(commit, Event::Committed((n, process), messages));
        self.after(answer, Event::Told((n, process), Instant::now()));
    }

    /// Delivers some of the notifications, in their order.
    pub fn hear(&mut self, n: usize) {
        let count = self.dice.below(20) + 5;
        for _ in 0..count {
            let Some((at, text)) = self.replicas[n].inbox.pop_front() else { break };
            self.replicas[n].heard_until = at;
            if let Some(revision) = text.strip_prefix("change ") {
                self.look(n);
                if let Ok(revision) = revision.parse() {
                    self.replicas[n].proxies.heard_change(revision);
                }
            } else if let Ok(mut message) = serde_json::from_str::<serde_json::Value>(&text) {
                if self.has(Fault::WallClocksDiffer) {
                    for news in message["vms"].as_array_mut().into_iter().flatten() {
                        news["g"] = (news["g"].as_u64().unwrap_or(0) + 1_800_000).into();
                    }
                }
                let replica = &self.replicas[n];
                if let Ok(message) = serde_json::from_value::<Message>(message) {
                    replica.proxies.hear(&replica.name, message);
                }
            }
        }
    }

    /// Writes to the store what the replica has to write, unless it is writing already.
    pub fn record(&mut self, n: usize) {
        if self.replicas[n].is_writing {
            return;
        }
        let replica = &self.replicas[n];
        let records = replica.proxies.take_unsaved(1_000);
        if records.is_empty() {
            return;
        }
        let messages = replica.proxies.record_messages(&replica.name, &records);
        let process = (n, replica.process);
        self.replicas[n].is_writing = true;
        let commit = self.dice.below(300);
        self.after(commit, Event::Written(Writing { process, lineage: self.lineage, records, messages }));
    }

    pub fn written(&mut self, writing: Writing) {
        let Writing { process, lineage, records, messages } = writing;
        let is_running = self.is_running(process);
        if lineage != self.lineage {
            if is_running {
                self.replicas[process.0].is_writing = false;
                self.replicas[process.0].proxies.not_saved(records);
            }
            return;
        }
        if !is_running && self.dice.chance(50) {
            return;
        }
        for record in &records {
            let key = [&record.node, &record.vm, &record.table, &record.token].map(Clone::clone);
            self.store.rows.insert(key, record.clone());
        }
        messages.into_iter().for_each(|message| self.notify(message));
        let answer = self.dice.below(300);
        self.after(answer, Event::Saved(process, records));
    }

    pub fn saved(&mut self, process: Process, records: Vec<ProxyRecord>) {
        if !self.is_running(process) {
            return;
        }
        self.replicas[process.0].is_writing = false;
        if self.dice.chance(5) {
            // The answer was lost.
            self.replicas[process.0].proxies.not_saved(records);
        } else {
            self.replicas[process.0].proxies.saved(records);
        }
    }
}

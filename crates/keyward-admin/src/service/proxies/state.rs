//! All tables, and their changes that have to be sent and written.

use super::limits::{Limits, MAX_TABLES, TooManyTables};
use super::replicas::{Errands, Replicas};
use super::timeline::Timeline;
use super::told::TableId;
use super::vm::Vm;
use crate::store::proxies::ProxyRecord;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::time::Instant;

pub(super) struct State {
    pub vms: HashMap<TableId, Vm>,
    /// The number of tables of each token.
    per_token: HashMap<Arc<str>, usize>,
    /// The number of tables of each node.
    per_node: HashMap<Arc<str>, usize>,
    pub timeline: Timeline,
    /// The number of moves of the store when tables were last taken to be written.
    pub moves_when_taken: u64,
    /// The number of times that the store went back or was found on another server.
    pub moves: u64,
    /// When unknown tables may have begun to serve. `None` means that all tables are known.
    pub missing_since: Option<Instant>,
    /// Whether the store names the server that it is on.
    pub has_lineage: bool,
    pub polls: u64,
    /// Tables whose changes are being sent, each with whether it is in contact here.
    pub under_way: Vec<(TableId, bool)>,
    /// The other contents of the messages that are being sent.
    pub errands_under_way: Errands,
    /// Tables that have to be written to the store.
    pub unsaved: HashSet<TableId>,
    /// Tables that have to be removed from the store.
    pub forgotten: Vec<ProxyRecord>,
    /// The other replicas. `None` means that no other replica can serve the store.
    pub replicas: Option<Replicas>,
    /// The newest change that was received, in the order of all messages.
    pub heard_changes: u64,
}

impl State {
    pub fn new(timeline: Timeline, replicas: Option<Replicas>) -> Self {
        Self {
            vms: HashMap::new(),
            per_token: HashMap::new(),
            per_node: HashMap::new(),
            timeline,
            moves_when_taken: 0,
            moves: 0,
            missing_since: None,
            has_lineage: true,
            polls: 0,
            under_way: Vec::new(),
            errands_under_way: Errands::default(),
            unsaved: HashSet::new(),
            forgotten: Vec::new(),
            replicas,
            heard_changes: 0,
        }
    }

    /// Returns the table with this name, which is created if it is not known.
    pub fn entry(&mut self, id: &TableId, now: Instant) -> &mut Vm {
        if !self.vms.contains_key(id) {
            *self.per_token.entry(Arc::clone(&id.token)).or_default() += 1;
            *self.per_node.entry(Arc::clone(&id.node)).or_default() += 1;
        }
        self.vms.entry(id.clone()).or_insert_with(|| Vm::new(now))
    }

    /// Notes that the other replicas have to be informed about a table.
    pub fn share(&mut self, id: &TableId) {
        if let Some(replicas) = &mut self.replicas {
            replicas.unshared.insert(id.clone());
        }
    }

    /// Adds a table that is not known yet.
    pub fn admit(&mut self, id: &TableId, limits: Limits, now: Instant) -> Result<(), TooManyTables> {
        let full = |count: Option<&usize>, most: usize| count.is_some_and(|count| *count >= most).then_some(most);
        let full = full(self.per_token.get(&id.token), limits.per_token)
            .or_else(|| full(self.per_node.get(&id.node), limits.per_node))
            .or_else(|| (self.vms.len() >= MAX_TABLES).then_some(MAX_TABLES));
        match full {
            Some(most) if !self.vms.contains_key(id) => Err(TooManyTables(most)),
            _ => {
                self.entry(id, now);
                Ok(())
            }
        }
    }

    /// Adds tables of the store. Each may have been in contact until now.
    pub fn remember(&mut self, records: Vec<ProxyRecord>, now: Instant) {
        for record in records {
            let (id, remembered) = super::vm::remember(record, now);
            let is_known = self.vms.contains_key(&id);
            let vm = self.entry(&id, now);
            if is_known {
                vm.take_row(remembered, now);
            } else {
                *vm = remembered;
            }
        }
    }

    /// Notes that rows and messages may be lost, so that they have to be written and sent again.
    pub fn lose_rows(&mut self) {
        self.moves += 1;
        if let Some(replicas) = &mut self.replicas {
            replicas.contact.forget_told();
        }
        for (id, vm) in &mut self.vms {
            vm.recorded = None;
            vm.told_at = None;
            if vm.may_serve() {
                self.unsaved.insert(id.clone());
                if let Some(replicas) = &mut self.replicas {
                    replicas.unshared.insert(id.clone());
                }
            }
        }
    }

    fn uncount(&mut self, id: &TableId) {
        for (counts, name) in [(&mut self.per_token, &id.token), (&mut self.per_node, &id.node)] {
            if let Some(count) = counts.get_mut(name) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    counts.remove(name);
                }
            }
        }
    }

    pub fn remove(&mut self, id: &TableId) {
        let Some(vm) = self.vms.remove(id) else { return };
        self.uncount(id);
        self.unsaved.remove(id);
        self.forgotten.extend(vm.row(id));
    }

    pub fn forget(&mut self, vm: &str) -> bool {
        let ids: Vec<TableId> = self.vms.keys().filter(|id| *id.vm == *vm).cloned().collect();
        for id in &ids {
            self.vms.remove(id);
            self.uncount(id);
            self.unsaved.remove(id);
        }
        !ids.is_empty()
    }
}

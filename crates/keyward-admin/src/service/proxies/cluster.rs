//! What replicas of the service tell each other of the VMs that ask them.

use super::told::{TableId, Told};
use super::vm::{Elsewhere, Vm};
use super::{ContactState, Proxies, State};
use crate::store::proxies::ProxyRecord;
use keyward_policy::timeline::{Enforcement, InlineKeys, Mark, Point};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A replica that has said nothing for this long is not heard: each says something every second.
const SILENCE: Duration = Duration::from_secs(3);
/// How long after it began to listen a replica has surely been told of all VMs.
const INTRODUCTION: Duration = Duration::from_millis(500);
/// PostgreSQL carries payloads of less than 8,000 bytes.
const PAYLOAD: usize = 7_900;

/// What one replica says to all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub from: Arc<str>,
    /// It has just begun to listen: tell it of all VMs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hello: bool,
    /// It stops.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bye: bool,
    /// VMs that something changed about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vms: Vec<VmNews>,
    /// A VM that a person has forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgotten: Option<String>,
}

impl Message {
    /// One that says nothing but that its sender lives.
    pub fn beat(from: &Arc<str>) -> Self {
        Self { from: Arc::clone(from), hello: false, bye: false, vms: Vec::new(), forgotten: None }
    }

    /// As it travels.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What is new of a VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VmNews {
    #[serde(rename = "n")]
    node: Arc<str>,
    #[serde(rename = "v")]
    vm: Arc<str>,
    #[serde(rename = "t")]
    table: Arc<str>,
    #[serde(rename = "k")]
    token: Arc<str>,
    #[serde(rename = "f")]
    filter: String,
    #[serde(rename = "s")]
    max_staleness_ms: Option<u64>,
    #[serde(rename = "m")]
    mode: Option<Enforcement>,
    #[serde(rename = "i")]
    inline_keys: Option<InlineKeys>,
    /// What it acknowledged, with the mark where it told one.
    #[serde(rename = "a")]
    applied: Option<u64>,
    #[serde(rename = "p")]
    mark: Option<Mark>,
    #[serde(rename = "c")]
    in_contact: bool,
    /// How long ago its last contact was, in milliseconds: an age means the same to every clock.
    #[serde(rename = "g")]
    age_ms: u64,
    /// What the store's row carries, where it was just written.
    #[serde(rename = "x")]
    stamp: Option<i64>,
    /// Two polls for it disagree.
    #[serde(rename = "d", default, skip_serializing_if = "std::ops::Not::not")]
    disputed: bool,
}

/// The last sign of life of a replica.
#[derive(Debug)]
struct Heard {
    at: Instant,
    /// It said that it stops.
    stopped: bool,
}

/// The other replicas.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    heard: HashMap<Arc<str>, Heard>,
    /// When this one last heard itself, which proves that the way is open.
    echo: Option<Instant>,
    /// Since when it has heard everything.
    listening_since: Option<Instant>,
}

impl Replicas {
    pub fn is_heard(&self, replica: &Arc<str>, now: Instant) -> bool {
        self.heard.get(replica).is_some_and(|heard| !heard.stopped && now.duration_since(heard.at) < SILENCE)
    }

    /// When a replica last said something; none: it is not known.
    pub fn heard_at(&self, replica: &Arc<str>) -> Option<Instant> {
        self.heard.get(replica).map(|heard| heard.at)
    }

    /// When any other replica last said something. It may have given a table contact as of then, and not have told so yet.
    pub fn last_heard(&self) -> Option<Instant> {
        self.heard.values().map(|heard| heard.at).max()
    }

    pub fn sees_all(&self, now: Instant) -> bool {
        self.echo.is_some_and(|at| now.duration_since(at) < SILENCE)
            && self.listening_since.is_some_and(|at| now.duration_since(at) >= INTRODUCTION)
    }
}

impl Proxies {
    /// The messages that tell what changed since the last call; one with nothing in it where nothing did and `beat` is
    /// due.
    pub fn take_messages(&self, me: &Arc<str>, beat: bool) -> Vec<String> {
        let mut state = self.state.lock();
        let now = Instant::now();
        let ids: Vec<TableId> = state.unshared.drain().collect();
        state.under_way.clone_from(&ids);
        let hello = std::mem::take(&mut state.ask_again);
        let mut messages = Vec::new();
        let mut batch = Vec::new();
        let mut size = 0;
        for id in ids {
            let Some(vm) = state.vms.get(&id).filter(|vm| vm.counted) else { continue };
            // More than the names need even if every character were escaped.
            let bytes = news_bytes(&id, vm);
            if size + bytes > PAYLOAD - 100 {
                messages.push(encode(me, std::mem::take(&mut batch)));
                size = 0;
            }
            size += bytes;
            batch.push(news(&state, &id, vm, None, now));
        }
        if !batch.is_empty() || ((beat || hello) && messages.is_empty()) {
            messages.push(encode(me, batch));
        }
        if hello {
            messages.push(Message { hello: true, ..Message::beat(me) }.encode());
        }
        messages
    }

    /// What is to be told of tables in the transaction that records them.
    pub fn record_messages(&self, me: &Arc<str>, records: &[ProxyRecord]) -> Vec<String> {
        let state = self.state.lock();
        if state.replicas.is_none() {
            return Vec::new();
        }
        let now = Instant::now();
        let mut messages = Vec::new();
        let (mut batch, mut size) = (Vec::new(), 0);
        for record in records {
            let id = id_of(record);
            let Some(vm) = state.vms.get(&id) else { continue };
            let bytes = news_bytes(&id, vm);
            if size + bytes > PAYLOAD - 100 {
                messages.push(encode(me, std::mem::take(&mut batch)));
                size = 0;
            }
            size += bytes;
            batch.push(news(&state, &id, vm, Some(record.stamp), now));
        }
        if !batch.is_empty() {
            messages.push(encode(me, batch));
        }
        messages
    }

    /// The others were told something, and this replica lived when that began.
    pub fn told_others(&self, begun: Instant) {
        self.state.lock().beat_at = Some(begun);
    }

    /// No contact is given that is newer: what other replicas believe of this one is at least as new.
    pub fn contact_until(&self) -> Instant {
        let state = self.state.lock();
        match (&state.replicas, state.beat_at) {
            (None, _) => Instant::now(),
            (Some(_), Some(at)) => at,
            (Some(_), None) => state.started,
        }
    }

    /// Every change up to this one was heard of, and with it whatever was told before.
    pub fn heard_change(&self, revision: u64) {
        let mut state = self.state.lock();
        state.heard_changes = state.heard_changes.max(revision);
        drop(state);
        self.changed.notify_waiters();
    }

    /// What [`Proxies::take_messages`] gave could not be told: it is to be told again.
    pub fn not_told(&self) {
        let mut state = self.state.lock();
        let ids = std::mem::take(&mut state.under_way);
        state.unshared.extend(ids);
    }

    /// Listening begins (again). Afterwards the store was read: it is at `revision` and remembers these.
    pub fn listening(&self, revision: u64, known: Vec<ProxyRecord>) {
        let mut state = self.state.lock();
        let now = Instant::now();
        state.heard_changes = revision;
        for record in known {
            let (id, vm) = super::vm::remember(record, now);
            if !state.vms.contains_key(&id) {
                state.count(&id);
                state.vms.insert(id, vm);
            }
        }
        // What the others told while nobody listened may have been lost in a failover.
        state.rows_may_be_lost(now);
        if let Some(replicas) = &mut state.replicas {
            replicas.listening_since = Some(now);
            replicas.echo = None;
        }
    }

    /// Listening was cut off.
    pub fn not_listening(&self) {
        if let Some(replicas) = &mut self.state.lock().replicas {
            replicas.listening_since = None;
        }
    }

    /// Another replica, or this one, said something.
    pub fn hear(&self, me: &Arc<str>, message: Message) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(replicas) = &mut state.replicas else { return };
        let now = Instant::now();
        if message.from == *me {
            replicas.echo = Some(now);
            return;
        }
        let heard = Heard { at: now, stopped: message.bye };
        replicas.heard.insert(Arc::clone(&message.from), heard);
        if message.hello {
            // Those out of contact too: whoever did not listen for a while has missed that they were ever there.
            let replicas = Some(&*replicas);
            let known = state.vms.iter().filter(|(_, vm)| vm.counted && vm.state(now, replicas) != ContactState::Gone);
            state.unshared.extend(known.map(|(id, _)| id.clone()));
        }
        if let Some(name) = message.forgotten {
            state.forget(&name);
        }
        for news in message.vms {
            // What was under way is older than its age says: this is no later than the contact.
            let contact = now.checked_sub(Duration::from_millis(news.age_ms)).unwrap_or(state.started);
            let id = TableId { node: news.node, vm: news.vm, table: news.table, token: news.token };
            if !state.vms.contains_key(&id) {
                state.count(&id);
            }
            let vm = state.vms.entry(id).or_insert_with(|| Vm::new(contact));
            let is_new = !std::mem::replace(&mut vm.counted, true);
            match (news.applied, news.mark) {
                (Some(revision), Some(mark)) => {
                    vm.claims(Point { revision, mark }, &state.timeline);
                }
                (Some(revision), None) if revision <= state.timeline.head().revision => {
                    vm.has_applied(revision);
                }
                _ => {}
            }
            vm.contact = vm.contact.max(contact);
            if news.in_contact || is_new {
                vm.told = Told {
                    filter: news.filter,
                    max_staleness: news.max_staleness_ms.map(Duration::from_millis),
                    mode: news.mode,
                    inline_keys: news.inline_keys,
                };
            }
            if let Some(stamp) = news.stamp {
                vm.recorded = Some((vm.told.clone(), stamp));
            }
            if news.disputed {
                vm.dispute(now);
            }
            vm.elsewhere.retain(|at| at.replica != message.from);
            vm.elsewhere.push(Elsewhere { replica: Arc::clone(&message.from), in_contact: news.in_contact });
        }
        drop(guard);
        self.changed.notify_waiters();
    }
}

fn encode(me: &Arc<str>, vms: Vec<VmNews>) -> String {
    Message { vms, ..Message::beat(me) }.encode()
}

fn id_of(record: &ProxyRecord) -> TableId {
    TableId {
        node: record.node.as_str().into(),
        vm: record.vm.as_str().into(),
        table: record.table.as_str().into(),
        token: record.token.as_str().into(),
    }
}

/// More than the news of a table need even if every character were escaped.
fn news_bytes(id: &TableId, vm: &Vm) -> usize {
    6 * (id.node.len() + id.vm.len() + id.table.len() + id.token.len() + vm.told.filter.len()) + 260
}

fn news(state: &State, id: &TableId, vm: &Vm, stamp: Option<i64>, now: Instant) -> VmNews {
    let mark = vm.applied.and_then(|revision| state.timeline.mark_of(revision));
    let is_older_filter = id.table.is_empty();
    VmNews {
        in_contact: vm.in_contact_here(now),
        filter: vm.told.filter.clone(),
        max_staleness_ms: vm.told.max_staleness.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
        mode: vm.told.mode,
        inline_keys: vm.told.inline_keys,
        applied: vm.applied.filter(|_| mark.is_some() || is_older_filter),
        mark: mark.filter(|_| !is_older_filter),
        age_ms: u64::try_from(now.saturating_duration_since(vm.contact).as_millis()).unwrap_or(u64::MAX),
        stamp,
        disputed: vm.is_disputed(now),
        node: Arc::clone(&id.node),
        vm: Arc::clone(&id.vm),
        table: Arc::clone(&id.table),
        token: Arc::clone(&id.token),
    }
}

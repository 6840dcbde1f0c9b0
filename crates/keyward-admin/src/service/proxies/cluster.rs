//! The exchange between replicas of the service about the instances that poll them.

use super::message::{Message, VmNews};
use super::registry::Proxies;
use super::replicas::{Elsewhere, Errands};
use super::state::State;
use super::told::{TableId, Told};
use super::vm::{ContactState, Vm};
use crate::store::proxies::ProxyRecord;
use keyward_policy::timeline::Point;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The largest message in bytes: PostgreSQL carries payloads of less than 8,000 bytes.
const PAYLOAD: usize = 7_900;

impl Proxies {
    /// Returns messages with the changes since the last call. If nothing changed and `beat` is due, it returns an empty
    /// one. The caller must then call [`Proxies::told_others`] or [`Proxies::not_told`].
    pub fn take_messages(&self, me: &Arc<str>, beat: bool) -> Vec<String> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let now = Instant::now();
        let Some(replicas) = &mut state.replicas else { return Vec::new() };
        let errands = std::mem::take(&mut replicas.errands);
        let is_new = errands.hello && !replicas.has_told;
        state.errands_under_way.add(errands.clone());
        let mut messages = Vec::new();
        if errands.hello {
            messages.push(Message { hello: true, is_new, ..Message::beat(me) }.encode());
        }
        let unshared = std::mem::take(&mut replicas.unshared);
        let mut batch = Batch::new(me);
        for id in unshared {
            let Some(vm) = state.vms.get_mut(&id).filter(|vm| vm.may_serve()) else { continue };
            let in_contact = vm.in_contact_here(now);
            if !in_contact {
                vm.told_at = None;
            }
            state.under_way.push((id.clone(), in_contact));
            if let Some(vm) = state.vms.get(&id) {
                batch.add(state, &id, vm, None, now);
            }
        }
        messages.extend(batch.finish());
        // This part is sent last: a replica that receives it has received all changes.
        let Errands { asks, introduces, .. } = errands;
        if !asks.is_empty() || !introduces.is_empty() || (beat && messages.is_empty()) {
            messages.push(Message { asks, introduces, ..Message::beat(me) }.encode());
        }
        if let Some(replicas) = &mut state.replicas {
            replicas.has_told |= !messages.is_empty();
        }
        messages
    }

    /// Returns the messages about tables for the transaction that records them.
    pub fn record_messages(&self, me: &Arc<str>, records: &[ProxyRecord]) -> Vec<String> {
        let mut state = self.state.lock();
        let Some(replicas) = &mut state.replicas else { return Vec::new() };
        replicas.has_told = true;
        let now = Instant::now();
        let mut batch = Batch::new(me);
        for record in records {
            let id = id_of(record);
            if let Some(vm) = state.vms.get(&id) {
                batch.add(&state, &id, vm, Some(record.stamp), now);
            }
        }
        batch.finish()
    }

    /// Notes that all messages of [`Proxies::take_messages`] are committed. Sending them began at `begun`.
    pub fn told_others(&self, begun: Instant) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let now = Instant::now();
        let told = std::mem::take(&mut state.under_way);
        state.errands_under_way = Errands::default();
        let Some(replicas) = &mut state.replicas else { return };
        replicas.contact.told(begun, now);
        for (id, in_contact) in told {
            if let Some(vm) = state.vms.get_mut(&id).filter(|_| in_contact) {
                vm.told_at = vm.told_at.or(Some(now));
            }
        }
        drop(guard);
        self.progress.notify_waiters();
    }

    /// Notes that every change up to this one has been received, and so every message that was sent before it.
    pub fn heard_change(&self, revision: u64) {
        let mut state = self.state.lock();
        state.heard_changes = state.heard_changes.max(revision);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Notes that the messages of [`Proxies::take_messages`] could not be sent and must be sent again.
    pub fn not_told(&self) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let ids = std::mem::take(&mut state.under_way);
        let errands = std::mem::take(&mut state.errands_under_way);
        if let Some(replicas) = &mut state.replicas {
            replicas.unshared.extend(ids.into_iter().map(|(id, _)| id));
            replicas.errands.add(errands);
        }
    }

    /// Notes that listening began, and that the store was read afterwards: it is at `revision` and has these tables.
    pub fn listening(&self, revision: u64, known: Vec<ProxyRecord>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let now = Instant::now();
        state.heard_changes = revision;
        // Other replicas may have given contact until now, and have reported it while this one did not listen.
        state.remember(known, now);
        for vm in state.vms.values_mut() {
            vm.contact = now;
            vm.elsewhere.clear();
        }
        if !state.has_lineage {
            // The store may have failed over meanwhile.
            state.missing_since = Some(now);
        }
        if let Some(replicas) = &mut state.replicas {
            replicas.listening(now);
        }
    }

    /// Notes that listening was cut off.
    pub fn not_listening(&self) {
        let mut state = self.state.lock();
        if let Some(replicas) = &mut state.replicas {
            replicas.not_listening();
        }
        if !state.has_lineage {
            // The connection may have ended because the store failed over, which nothing else shows.
            state.lose_rows();
        }
    }

    /// Applies a message from another replica, or from this one.
    pub fn hear(&self, me: &Arc<str>, message: Message) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(replicas) = &mut state.replicas else { return };
        let now = Instant::now();
        if message.from == *me {
            replicas.hears_itself(now);
            return;
        }
        let introduces = message.introduces.contains(me);
        replicas.hears(&message.from, (message.is_new, introduces, message.bye), now);
        if message.hello || message.asks.contains(me) {
            replicas.errands.introduces.insert(Arc::clone(&message.from));
            // Tables out of contact are included, because a replica that did not listen has never heard of them.
            let all = Some(&*replicas);
            let known = state.vms.iter().filter(|(_, vm)| vm.may_serve() && vm.state(now, all) != ContactState::Gone);
            let known: Vec<_> = known.map(|(id, _)| id.clone()).collect();
            replicas.unshared.extend(known);
        }
        if let Some(name) = message.forgotten {
            state.forget(&name);
        }
        for news in message.vms {
            // The message took time, so its age is too small, and this moment is no earlier than the contact. Moments
            // before this process began cannot be represented.
            let contact = now.checked_sub(Duration::from_millis(news.age_ms)).unwrap_or(now);
            let id = TableId { node: news.node, vm: news.vm, table: news.table, token: news.token };
            let head = state.timeline.head().revision;
            let is_known = state.vms.contains_key(&id);
            state.entry(&id, contact);
            let Some(vm) = state.vms.get_mut(&id) else { continue };
            let is_new = !is_known || !vm.may_serve();
            vm.counted |= !news.may_be_gone;
            vm.may_hold |= news.may_be_gone;
            match (news.applied, news.mark) {
                (Some(revision), Some(mark)) => {
                    vm.claims(Point { revision, mark }, &state.timeline);
                }
                (Some(revision), None) if revision <= head => {
                    vm.has_applied(revision);
                }
                _ => {}
            }
            vm.contact = vm.contact.max(contact);
            let told = Told {
                filter: news.filter,
                max_staleness: news.max_staleness_ms.map(Duration::from_millis),
                mode: news.mode,
                inline_keys: news.inline_keys,
            };
            if is_new || (news.in_contact && !vm.in_contact_here(now)) || told.serves_longer_than(&vm.told) {
                vm.told = told;
            }
            if let Some(stamp) = news.stamp {
                vm.is_written(stamp, now);
            }
            if news.disputed {
                vm.dispute(now);
            }
            // The message of a row may be older than one that was committed before it, so it does not end a contact.
            let was_in_contact = vm.elsewhere.iter().any(|at| at.replica == message.from && at.in_contact);
            let in_contact = news.in_contact || (news.stamp.is_some() && was_in_contact);
            vm.elsewhere.retain(|at| at.replica != message.from);
            vm.elsewhere.push(Elsewhere { replica: Arc::clone(&message.from), in_contact });
        }
        drop(guard);
        self.changed.notify_waiters();
    }
}

/// Messages that are being composed, each up to the largest size.
struct Batch<'a> {
    me: &'a Arc<str>,
    messages: Vec<String>,
    news: Vec<VmNews>,
    bytes: usize,
}

impl<'a> Batch<'a> {
    fn new(me: &'a Arc<str>) -> Self {
        Self { me, messages: Vec::new(), news: Vec::new(), bytes: 0 }
    }

    fn add(&mut self, state: &State, id: &TableId, vm: &Vm, stamp: Option<i64>, now: Instant) {
        let bytes = news_bytes(id, vm);
        if self.bytes + bytes > PAYLOAD - 100 {
            self.close();
        }
        self.bytes += bytes;
        self.news.push(news(state, id, vm, stamp, now));
    }

    fn close(&mut self) {
        if !self.news.is_empty() {
            let vms = std::mem::take(&mut self.news);
            self.messages.push(Message { vms, ..Message::beat(self.me) }.encode());
            self.bytes = 0;
        }
    }

    fn finish(mut self) -> Vec<String> {
        self.close();
        self.messages
    }
}

fn id_of(record: &ProxyRecord) -> TableId {
    TableId {
        node: record.node.as_str().into(),
        vm: record.vm.as_str().into(),
        table: record.table.as_str().into(),
        token: record.token.as_str().into(),
    }
}

/// More bytes than the changes of a table need, even if every character is escaped.
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
        may_be_gone: !vm.counted,
        disputed: vm.is_disputed(now),
        node: Arc::clone(&id.node),
        vm: Arc::clone(&id.vm),
        table: Arc::clone(&id.table),
        token: Arc::clone(&id.token),
    }
}

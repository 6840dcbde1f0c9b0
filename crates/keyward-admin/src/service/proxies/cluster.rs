//! What replicas of the service tell each other of the VMs that ask them.

use super::vm::{Elsewhere, Vm};
use super::{ContactState, Proxies, VmId};
use keyward_policy::timestamp::Timestamp;
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
}

/// What is new of a VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VmNews {
    #[serde(rename = "n")]
    node: Arc<str>,
    #[serde(rename = "v")]
    vm: Arc<str>,
    #[serde(rename = "f")]
    filter: String,
    #[serde(rename = "s")]
    max_staleness_ms: Option<u64>,
    #[serde(rename = "a")]
    applied: u64,
    #[serde(rename = "c")]
    in_contact: bool,
    #[serde(rename = "t")]
    last_contact_ms: i64,
}

/// The last sign of life of a replica, by both clocks.
#[derive(Debug)]
struct Heard {
    at: Instant,
    time: Timestamp,
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
    pub fn heard_at(&self, replica: &Arc<str>) -> Option<Timestamp> {
        self.heard.get(replica).map(|heard| heard.time)
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
        let ids: Vec<VmId> = state.unshared.drain().collect();
        state.under_way.clone_from(&ids);
        let mut messages = Vec::new();
        let mut batch = Vec::new();
        let mut size = 0;
        for id in ids {
            let Some(vm) = state.vms.get(&id).filter(|vm| vm.counted) else { continue };
            // More than the names need even if every character were escaped.
            let bytes = 6 * (id.node.len() + id.vm.len() + vm.filter.len()) + 120;
            if size + bytes > PAYLOAD - 100 {
                messages.push(encode(me, std::mem::take(&mut batch)));
                size = 0;
            }
            size += bytes;
            batch.push(VmNews {
                in_contact: vm.in_contact_here(now),
                filter: vm.filter.clone(),
                max_staleness_ms: vm.max_staleness.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
                applied: vm.applied,
                last_contact_ms: vm.last_contact_at.unix_ms(),
                node: id.node,
                vm: id.vm,
            });
        }
        if !batch.is_empty() || (beat && messages.is_empty()) {
            messages.push(encode(me, batch));
        }
        messages
    }

    /// What [`Proxies::take_messages`] gave could not be told: it is to be told again.
    pub fn not_told(&self) {
        let mut state = self.state.lock();
        let ids = std::mem::take(&mut state.under_way);
        state.unshared.extend(ids);
    }

    /// Listening begins (again).
    pub fn listening(&self) {
        if let Some(replicas) = &mut self.state.lock().replicas {
            replicas.listening_since = Some(Instant::now());
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
        let heard = Heard { at: now, time: self.now(), stopped: message.bye };
        replicas.heard.insert(Arc::clone(&message.from), heard);
        if message.hello {
            // Those out of contact too: whoever did not listen for a while has missed that they were ever there.
            let (time, replicas) = (self.now(), Some(&*replicas));
            let known =
                state.vms.iter().filter(|(_, vm)| vm.counted && vm.state(now, time, replicas) != ContactState::Gone);
            state.unshared.extend(known.map(|(id, _)| id.clone()));
        }
        for news in message.vms {
            let last_contact = Timestamp::from_unix_ms(news.last_contact_ms);
            let id = VmId { node: news.node, vm: news.vm };
            let vm = state.vms.entry(id).or_insert_with(|| Vm::new(last_contact));
            let is_new = !std::mem::replace(&mut vm.counted, true);
            vm.applied = vm.applied.max(news.applied);
            vm.last_contact_at = vm.last_contact_at.max(last_contact);
            if news.in_contact || is_new {
                vm.filter = news.filter;
                vm.max_staleness = news.max_staleness_ms.map(Duration::from_millis);
            }
            vm.elsewhere.retain(|at| at.replica != message.from);
            vm.elsewhere.push(Elsewhere { replica: Arc::clone(&message.from), in_contact: news.in_contact });
        }
        drop(guard);
        self.changed.notify_waiters();
    }
}

fn encode(me: &Arc<str>, vms: Vec<VmNews>) -> String {
    let message = Message { from: Arc::clone(me), hello: false, bye: false, vms };
    serde_json::to_string(&message).unwrap_or_default()
}

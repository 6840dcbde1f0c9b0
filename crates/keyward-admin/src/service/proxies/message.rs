//! The messages that replicas send each other.

use keyward_policy::timeline::{Enforcement, InlineKeys, Mark};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A message of one replica to all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The replica that sends the message.
    pub from: Arc<str>,
    /// Whether the sender has just begun to listen and asks to be informed about all instances.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hello: bool,
    /// Whether this is the sender's first message.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_new: bool,
    /// The replicas that the sender asks about all instances.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub asks: BTreeSet<Arc<str>>,
    /// The replicas that the sender has now informed about all instances that it knows.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub introduces: BTreeSet<Arc<str>>,
    /// Whether the sender stops.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bye: bool,
    /// The instances that have changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vms: Vec<VmNews>,
    /// The instances that a person has forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgotten: Option<String>,
}

impl Message {
    /// Creates a message that says only that its sender lives.
    pub fn beat(from: &Arc<str>) -> Self {
        Self {
            from: Arc::clone(from),
            hello: false,
            is_new: false,
            asks: BTreeSet::new(),
            introduces: BTreeSet::new(),
            bye: false,
            vms: Vec::new(),
            forgotten: None,
        }
    }

    /// Returns the message as JSON.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The changes of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VmNews {
    #[serde(rename = "n")]
    pub(super) node: Arc<str>,
    #[serde(rename = "v")]
    pub(super) vm: Arc<str>,
    #[serde(rename = "t")]
    pub(super) table: Arc<str>,
    #[serde(rename = "k")]
    pub(super) token: Arc<str>,
    #[serde(rename = "f")]
    pub(super) filter: String,
    #[serde(rename = "s")]
    pub(super) max_staleness_ms: Option<u64>,
    #[serde(rename = "m")]
    pub(super) mode: Option<Enforcement>,
    #[serde(rename = "i")]
    pub(super) inline_keys: Option<InlineKeys>,
    /// The revision that the instance acknowledged, with its mark if it sent one.
    #[serde(rename = "a")]
    pub(super) applied: Option<u64>,
    #[serde(rename = "p")]
    pub(super) mark: Option<Mark>,
    #[serde(rename = "c")]
    pub(super) in_contact: bool,
    /// The age of its last contact in milliseconds. An age means the same to every clock.
    #[serde(rename = "g")]
    pub(super) age_ms: u64,
    /// The contents of the instance's row in the store, if it was just written.
    #[serde(rename = "x")]
    pub(super) stamp: Option<i64>,
    /// Whether the instance has polled only once and may be gone.
    #[serde(rename = "h", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) may_be_gone: bool,
    /// Whether two polls for the instance disagree.
    #[serde(rename = "d", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) disputed: bool,
}

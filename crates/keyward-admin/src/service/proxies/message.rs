//! The messages that replicas send each other.

use keyward_policy::timeline::{Enforcement, InlineKeys, Mark};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What one replica says to all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub from: Arc<str>,
    /// It has just begun to listen: tell it of all VMs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hello: bool,
    /// It has told nothing before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_new: bool,
    /// These are to tell it of all VMs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub asks: BTreeSet<Arc<str>>,
    /// These have now been told of all VMs that it knows.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub introduces: BTreeSet<Arc<str>>,
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

    /// As it travels.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What is new of a VM.
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
    /// What it acknowledged, with the mark where it told one.
    #[serde(rename = "a")]
    pub(super) applied: Option<u64>,
    #[serde(rename = "p")]
    pub(super) mark: Option<Mark>,
    #[serde(rename = "c")]
    pub(super) in_contact: bool,
    /// How long ago its last contact was, in milliseconds: an age means the same to every clock.
    #[serde(rename = "g")]
    pub(super) age_ms: u64,
    /// What the store's row carries, where it was just written.
    #[serde(rename = "x")]
    pub(super) stamp: Option<i64>,
    /// It asked once, and may be gone.
    #[serde(rename = "h", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) may_be_gone: bool,
    /// Two polls for it disagree.
    #[serde(rename = "d", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) disputed: bool,
}

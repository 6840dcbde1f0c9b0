//! What a poll tells of the table that it is for.

use keyward_policy::timeline::{Enforcement, InlineKeys, Mark};
use std::sync::Arc;
use std::time::Duration;

/// Names a table of keys in a filter VM.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId {
    /// The Envoy that the VM runs in (`x-keyward-node`).
    pub node: Arc<str>,
    /// The VM (`x-keyward-vm`).
    pub vm: Arc<str>,
    /// The table (`x-keyward-table`): random bits that only the VM knows. Empty for older filters.
    pub table: Arc<str>,
    /// The token that fetches it. The same name with another token is another table.
    pub token: Arc<str>,
}

/// What the headers of a poll say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PollHeaders {
    /// `x-keyward-node`.
    pub node: Option<String>,
    /// `x-keyward-vm`. A caller without it is not a filter and is not counted.
    pub vm: Option<String>,
    /// `x-keyward-table`.
    pub table: Option<String>,
    /// `x-keyward-poll`: rises with each poll that the VM sends.
    pub poll: Option<u64>,
    /// `x-keyward-realm`.
    pub realm: Option<String>,
    /// `x-keyward-filter`: the version of the filter.
    pub filter: Option<String>,
    /// `x-keyward-max-staleness`. `None` means that there is no limit, or none that is understood.
    pub max_staleness: Option<Duration>,
    /// `x-keyward-mode`. `None` means that the filter does not say.
    pub mode: Option<Enforcement>,
    /// `x-keyward-inline-keys`. `None` means that the filter does not say.
    pub inline_keys: Option<InlineKeys>,
}

impl PollHeaders {
    pub(super) fn id(&self, token: &Arc<str>) -> Option<TableId> {
        Some(TableId {
            vm: self.vm.as_deref()?.into(),
            node: self.node.as_deref().unwrap_or_default().into(),
            table: self.table.as_deref().unwrap_or_default().into(),
            token: Arc::clone(token),
        })
    }

    pub(super) fn told(&self) -> Told {
        Told {
            filter: self.filter.clone().unwrap_or_default(),
            max_staleness: self.max_staleness,
            mode: self.mode,
            inline_keys: self.inline_keys,
        }
    }
}

/// Which changes a poll asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Question {
    /// What was received so far.
    pub since: u64,
    /// Tombstones up to here are of no use.
    pub base: u64,
    /// The mark of `since`, where the table in use is at it: with it the poll acknowledges.
    pub mark: Option<Mark>,
}

/// What is told of a table besides its place in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub filter: String,
    pub max_staleness: Option<Duration>,
    pub mode: Option<Enforcement>,
    pub inline_keys: Option<InlineKeys>,
}

impl Told {
    /// Whether a table of which this was told may serve longer than one of which `other` was told.
    pub fn serves_longer_than(&self, other: &Self) -> bool {
        match (self.limit(), other.limit()) {
            (None, limit) => limit.is_some(),
            (Some(_), None) => false,
            (Some(ours), Some(theirs)) => ours > theirs,
        }
    }

    /// How long after its last contact the VM may accept a key of the store. `None` means that there is no limit: keys of
    /// the configuration may answer for as long as the VM lives, and in shadow mode it refuses nothing.
    pub fn limit(&self) -> Option<Duration> {
        let has_inline = matches!(self.inline_keys, Some(InlineKeys::Fallback | InlineKeys::Always));
        let is_shadow = self.mode == Some(Enforcement::Shadow);
        self.max_staleness.filter(|_| !has_inline && !is_shadow)
    }
}

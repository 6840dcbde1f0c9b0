//! The facts that a poll states about its table.

use keyward_policy::timeline::{Enforcement, InlineKeys, Mark};
use std::sync::Arc;
use std::time::Duration;

/// The name of a table of keys in a filter instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId {
    /// The Envoy that the instance runs in (`x-keyward-node`).
    pub node: Arc<str>,
    /// The instance (`x-keyward-vm`).
    pub vm: Arc<str>,
    /// The table (`x-keyward-table`): random bits that only the instance knows. Empty for older filters.
    pub table: Arc<str>,
    /// The token that fetches the table. The same names with another token are another table.
    pub token: Arc<str>,
}

/// The contents of a poll's headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PollHeaders {
    /// `x-keyward-node`.
    pub node: Option<String>,
    /// `x-keyward-vm`. A caller without it is not a filter and is not counted.
    pub vm: Option<String>,
    /// `x-keyward-table`.
    pub table: Option<String>,
    /// `x-keyward-poll`, which rises with each poll that the instance sends.
    pub poll: Option<u64>,
    /// `x-keyward-realm`.
    pub realm: Option<String>,
    /// `x-keyward-filter`: the version of the filter.
    pub filter: Option<String>,
    /// `x-keyward-max-staleness`. `None` means that there is no limit, or one that this service does not understand.
    pub max_staleness: Option<Duration>,
    /// `x-keyward-mode`. `None` means that the filter does not state it.
    pub mode: Option<Enforcement>,
    /// `x-keyward-inline-keys`. `None` means that the filter does not state it.
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

/// The changes that a poll asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Question {
    /// The revision up to which changes have been received.
    pub since: u64,
    /// The revision up to which tombstones are not needed.
    pub base: u64,
    /// The mark of `since` if the table in use is at it. With a mark the poll is an acknowledgement.
    pub mark: Option<Mark>,
}

/// The facts about a table other than its revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub filter: String,
    pub max_staleness: Option<Duration>,
    pub mode: Option<Enforcement>,
    pub inline_keys: Option<InlineKeys>,
}

impl Told {
    /// Returns whether a table with these facts may serve longer than one with the facts `other`.
    pub fn serves_longer_than(&self, other: &Self) -> bool {
        match (self.limit(), other.limit()) {
            (None, limit) => limit.is_some(),
            (Some(_), None) => false,
            (Some(ours), Some(theirs)) => ours > theirs,
        }
    }

    /// Returns the time after its last contact for which the instance may accept a key of the store. `None` means that
    /// there is no limit: inline keys work for as long as the instance lives, and in shadow mode it refuses nothing.
    pub fn limit(&self) -> Option<Duration> {
        let has_inline = matches!(self.inline_keys, Some(InlineKeys::Fallback | InlineKeys::Always));
        let is_shadow = self.mode == Some(Enforcement::Shadow);
        self.max_staleness.filter(|_| !has_inline && !is_shadow)
    }
}

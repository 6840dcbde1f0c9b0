//! A table of keys in an instance, and its polls.

use crate::dice::Dice;
use keyward_admin::service::proxies::PollGuard;
use keyward_policy::digest::Digest;
use keyward_policy::sync::{ManifestSync, Request, RootId, Settings};
use keyward_policy::timeline::{Enforcement, InlineKeys};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A table of keys in an instance.
pub struct Table {
    pub id: String,
    pub vm: String,
    pub token: Arc<str>,
    pub sync: ManifestSync,
    pub root: RootId,
    mode: Enforcement,
    inline_keys: InlineKeys,
    /// When the first page that completes it was made.
    pub given_at: Option<u64>,
    /// Until when the way to the service is cut.
    pub cut_until: u64,
    /// The longest delay each way.
    pub delay_ms: u64,
}

impl Table {
    /// A table of an instance. Where `is_limited`, it serves for `longest` without contact at most.
    pub fn new(dice: &mut Dice, vm: &str, is_limited: bool, longest: u64, now: Duration) -> Self {
        let mode = if !is_limited && dice.chance(15) { Enforcement::Shadow } else { Enforcement::Enforce };
        let inline = [InlineKeys::None, InlineKeys::None, InlineKeys::None, InlineKeys::Fallback, InlineKeys::Always];
        let inline_keys = dice.pick(&inline).copied().filter(|_| !is_limited).unwrap_or(InlineKeys::None);
        let limits = if is_limited {
            &[Some(3), Some(6), Some(longest)][..]
        } else {
            &[Some(3), Some(6), Some(15), Some(40), None]
        };
        let settings = Settings {
            realm: "r".into(),
            token: None,
            store: None,
            max_staleness: dice.pick(limits).copied().flatten().map(Duration::from_secs),
            mode,
            inline_keys,
        };
        let mut sync = ManifestSync::new(dice.next());
        let root = sync.attach(settings, now);
        Self {
            id: format!("{:032x}", dice.next()),
            vm: vm.to_owned(),
            token: "token".into(),
            sync,
            root,
            mode,
            inline_keys,
            given_at: None,
            cut_until: 0,
            delay_ms: [1, 20, 2_000, 60_000][dice.below(4) as usize],
        }
    }

    /// Whether a request with this key would pass.
    pub fn accepts(&self, digest: &Digest, now: Duration) -> bool {
        let serves = self.sync.keys(self.root, now);
        match self.mode {
            Enforcement::Shadow => serves.is_ok(),
            // A configuration may hold a copy under another id.
            _ if self.inline_keys != InlineKeys::None => self.sync.in_use().is_some(),
            Enforcement::Enforce => serves.is_ok_and(|keys| keys.get(digest).is_some()),
        }
    }

    /// Whether it refuses everything once it has been without contact for its limit.
    pub fn is_plain(&self) -> bool {
        self.mode == Enforcement::Enforce && self.inline_keys == InlineKeys::None
    }
}

/// A poll under way.
pub struct Sent {
    pub table: String,
    pub request: Request,
    pub arrived: Option<Instant>,
    pub guard: Option<PollGuard>,
    pub until: u64,
    pub first: bool,
    /// It was held already, or its table counts since.
    pub is_due: bool,
}

//! The use of keys, as filters report it, and a key with all that is known of it.

use super::tokens::Principal;
use super::{Error, Result, Service};
use crate::store::keys::KeyRecord;
use crate::store::usage::UsageTotal;
use crate::store::usage_days::{self, DayCount, MAX_DAYS};
use crate::store::usage_report::{KeyUsage, Requests};
use keyward_policy::timestamp::{DAY_MS, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// How long a batch waits for the others of its token. Then it is refused, and the filter sends it again later.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// A key and its use.
#[derive(Debug)]
pub struct KeyDetail {
    /// The key as the store keeps it.
    pub key: KeyRecord,
    /// The use of the key as a whole first, then of each permission that was ever needed.
    pub usage: Vec<UsageTotal>,
}

/// Returns the number of denied requests of all these days, by the code of the denial.
pub fn denied_by_code(days: &[DayUsage]) -> BTreeMap<&str, u64> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (code, count) in days.iter().flat_map(|day| &day.denied) {
        let sum = sums.entry(code).or_default();
        *sum = sum.saturating_add(*count);
    }
    sums
}

/// What was done with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    /// Whether it was added now. A batch is added once.
    pub counted: bool,
    /// The number of its requests whose day is not kept.
    pub outside: u64,
}

/// The requests of one day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DayUsage {
    /// The number of UTC days since 1970-01-01.
    pub day: i64,
    /// The number of allowed requests.
    pub allowed: u64,
    /// The number of denied requests by the code of the denial.
    pub denied: BTreeMap<String, u64>,
}

impl DayUsage {
    /// Returns the number of denied requests.
    pub fn denied_count(&self) -> u64 {
        self.denied.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Returns the day as it is written: `2026-11-28`.
    pub fn date(&self) -> String {
        let mut text = Timestamp::from_unix_ms(self.day.saturating_mul(DAY_MS)).to_string();
        text.truncate("2026-11-28".len());
        text
    }
}

/// The turn of one batch among those of its token, over when dropped.
#[derive(Debug)]
pub struct UsageTurn(#[allow(dead_code, reason = "given back when the turn is over")] OwnedSemaphorePermit);

impl Service {
    /// Returns a key with its use.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`], or an error when the store cannot be read.
    pub async fn key_detail(&self, id: &str) -> Result<KeyDetail> {
        let key = self.store.key(id).await?;
        let usage = self.store.key_usage(id).await?;
        Ok(KeyDetail { key, usage })
    }

    /// Waits until no other batch of the same token is being read or added. A batch takes up to a few times its size in
    /// memory, so it must not be read before.
    ///
    /// # Errors
    /// Returns [`Error::OutOfScope`]; [`Error::Busy`] where that takes too long.
    pub async fn usage_turn(
        &self,
        principal: &Principal,
        realm: Option<&str>,
        node: Option<&str>,
    ) -> Result<UsageTurn> {
        principal.scope.check(realm, node)?;
        match tokio::time::timeout(MAX_WAIT, Arc::clone(&principal.usage).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(UsageTurn(turn)),
            _ => Err(Error::Busy),
        }
    }

    /// Adds a batch of an instance and returns whether it was new. Permissions that the catalogue does not have are
    /// left out: no key can have been granted them.
    ///
    /// # Errors
    /// Returns an error when the store cannot be written.
    pub async fn add_usage(&self, vm: &str, seq: u64, mut keys: Vec<KeyUsage>) -> Result<Added> {
        for key in &mut keys {
            if let Requests::Allowed { permissions, .. } = &mut key.requests {
                permissions.retain(|(name, _)| self.settings.catalogue.contains(name));
            }
        }
        let now = self.clock().now();
        let counted = self.store.add_usage(vm, seq, &keys, now).await?;
        Ok(Added { counted, outside: if counted { usage_days::outside(&keys, now) } else { 0 } })
    }

    /// Returns the requests of the newest days, today included: those of a key, or of all keys together without an id.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`], or an error when the store cannot be read.
    pub async fn usage_by_day(&self, id: Option<&str>, days: u16) -> Result<Vec<DayUsage>> {
        if let Some(id) = id {
            self.store.key(id).await?;
        }
        let today = self.clock().now().day();
        let first = today - i64::from(days).clamp(1, MAX_DAYS) + 1;
        let mut all: Vec<DayUsage> = (first..=today).map(|day| DayUsage { day, ..DayUsage::default() }).collect();
        for DayCount { day, code, count } in self.store.usage_days(id, first).await? {
            // What was counted by a clock that was ahead is of no day yet.
            let Some(usage) = usize::try_from(day - first).ok().and_then(|place| all.get_mut(place)) else { continue };
            if code.is_empty() {
                usage.allowed = count;
            } else {
                usage.denied.insert(code, count);
            }
        }
        Ok(all)
    }
}

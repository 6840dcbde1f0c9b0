//! The use of keys, as filters report it, and a key with all that is known of it.

use super::tokens::Principal;
use super::{Error, Result, Service};
use crate::store::keys::KeyRecord;
use crate::store::usage::{KeyUsage, UsageTotal};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
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

/// The turn of one batch among those of its token, over when dropped.
#[derive(Debug)]
pub struct UsageTurn(#[allow(dead_code, reason = "given back when the turn is over")] OwnedSemaphorePermit);

impl Service {
    /// Returns a key with its use.
    ///
    /// # Errors
    /// [`Error::NotFound`]; when the store cannot be read.
    pub async fn key_detail(&self, id: &str) -> Result<KeyDetail> {
        let key = self.store.key(id).await?;
        let usage = self.store.key_usage(id).await?;
        Ok(KeyDetail { key, usage })
    }

    /// Waits until no other batch of the same token is being read or added. A batch takes up to a few times its size in
    /// memory, so it must not be read before.
    ///
    /// # Errors
    /// [`Error::OutOfScope`]; [`Error::Busy`] where that takes too long.
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

    /// Adds a batch of a VM and returns whether it was new. A key that is given twice is added up. Permissions that the
    /// catalogue does not have are left out: no key can have been granted them.
    ///
    /// # Errors
    /// Returns an error when the store cannot be written.
    pub async fn add_usage(&self, vm: &str, seq: u64, keys: Vec<KeyUsage>) -> Result<bool> {
        let mut by_id: BTreeMap<String, KeyUsage> = BTreeMap::new();
        for mut key in keys {
            key.permissions.retain(|(name, _)| self.settings.catalogue.contains(name));
            match by_id.entry(key.id.clone()) {
                Entry::Vacant(place) => drop(place.insert(key)),
                Entry::Occupied(mut place) => add_up(place.get_mut(), key),
            }
        }
        let keys: Vec<KeyUsage> = by_id.into_values().collect();
        Ok(self.store.add_usage(vm, seq, &keys, self.clock().now()).await?)
    }
}

fn add_up(total: &mut KeyUsage, more: KeyUsage) {
    total.count = total.count.saturating_add(more.count);
    total.last_used_at = total.last_used_at.max(more.last_used_at);
    for (permission, count) in more.permissions {
        match total.permissions.iter_mut().find(|(name, _)| *name == permission) {
            Some((_, known)) => *known = known.saturating_add(count),
            None => total.permissions.push((permission, count)),
        }
    }
}

//! Use of keys, as filters report it, and a key with all that is known of it.

use super::{Result, Service};
use crate::store::keys::KeyRecord;
use crate::store::usage::{KeyUsage, UsageTotal};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// A key and its use.
#[derive(Debug)]
pub struct KeyDetail {
    /// As it is kept.
    pub key: KeyRecord,
    /// The whole first, then each permission that was ever needed.
    pub usage: Vec<UsageTotal>,
}

impl Service {
    /// One key with its use.
    ///
    /// # Errors
    /// [`super::Error::NotFound`]; when the store cannot be read.
    pub async fn key_detail(&self, id: &str) -> Result<KeyDetail> {
        let key = self.store.key(id).await?;
        let usage = self.store.key_usage(id).await?;
        Ok(KeyDetail { key, usage })
    }

    /// Adds a batch of a VM; whether it was new. A key that stands there twice is added up.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn add_usage(&self, vm: &str, seq: u64, keys: Vec<KeyUsage>) -> Result<bool> {
        let mut by_id: BTreeMap<String, KeyUsage> = BTreeMap::new();
        for key in keys {
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

//! Use of keys, as filters report it, and a key with all that is known of it.

use super::{Error, FieldError, Result, Service};
use crate::store::keys::KeyRecord;
use crate::store::usage::{KeyUsage, UsageTotal};
use std::collections::HashSet;

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
    /// [`Error::NotFound`]; when the store cannot be read.
    pub async fn key_detail(&self, id: &str) -> Result<KeyDetail> {
        let key = self.store.key(id).await?;
        let usage = self.store.key_usage(id).await?;
        Ok(KeyDetail { key, usage })
    }

    /// Adds a batch of a VM; whether it was new.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a key or a permission of a key stands there twice; when the store cannot be written.
    pub async fn add_usage(&self, vm: &str, seq: u64, keys: &[KeyUsage]) -> Result<bool> {
        let mut errors = Vec::new();
        let mut ids = HashSet::new();
        for (index, key) in keys.iter().enumerate() {
            if !ids.insert(&key.id) {
                errors.push(FieldError::new(format!("keys[{index}].id"), "stands there twice"));
            }
        }
        if !errors.is_empty() {
            return Err(Error::Invalid(errors));
        }
        Ok(self.store.add_usage(vm, seq, keys, self.clock().now()).await?)
    }
}

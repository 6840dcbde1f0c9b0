//! Keys are made, listed, changed, regenerated and deleted.

use super::proxies::Applied;
use super::{Error, FieldError, Result, Service, validate};
use crate::lifetime::Lifetime;
use crate::random;
use crate::secret::Secret;
use crate::store::keys::{By, KeyEdit, KeyRecord, NewDigest, NewKey};
use std::time::Duration;

/// A key to be made.
#[derive(Debug, Clone)]
pub struct CreateKey {
    /// Unique among live keys.
    pub name: String,
    /// Of the catalogue.
    pub permissions: Vec<String>,
    /// How long it lives.
    pub expires_in: Lifetime,
}

/// What to change; none: leave as it is.
#[derive(Debug, Clone, Default)]
pub struct EditKey {
    /// Another name.
    pub name: Option<String>,
    /// Other permissions.
    pub permissions: Option<Vec<String>>,
    /// Refuse it, or no longer.
    pub disabled: Option<bool>,
}

/// A created or regenerated key with its plaintext, which no later call returns.
#[derive(Debug)]
pub struct IssuedKey {
    /// The key as the store keeps it.
    pub key: KeyRecord,
    /// The text that the key's holder sends.
    pub secret: Secret,
}

/// A part of the list.
#[derive(Debug)]
pub struct KeyPage {
    /// Newest first.
    pub keys: Vec<KeyRecord>,
    /// Where the next part begins; none: this is the last.
    pub next: Option<i64>,
}

impl Service {
    /// What is wrong with a key to be made, as far as can be said without the store.
    pub fn check_key(&self, request: &CreateKey) -> Vec<FieldError> {
        let mut errors = Vec::new();
        validate::name("name", &request.name, &mut errors);
        validate::permissions(request.permissions.clone(), &[], &self.settings.catalogue, &mut errors);
        errors
    }

    /// Makes a key.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NameTaken`]; when the store cannot be written.
    pub async fn create_key(&self, actor: &str, request: CreateKey) -> Result<IssuedKey> {
        let mut errors = Vec::new();
        validate::name("name", &request.name, &mut errors);
        let permissions = validate::permissions(request.permissions, &[], &self.settings.catalogue, &mut errors);
        if !errors.is_empty() {
            return Err(Error::Invalid(errors));
        }
        let secret = Secret::new_key(&self.settings.key_prefix);
        let new = NewKey {
            id: format!("key_{}", random::base32_16()),
            name: request.name,
            permissions,
            expires_in: request.expires_in,
            secret: self.stored(&secret),
        };
        let (key, head) = self.store.create_key(&new, self.by(actor)).await?;
        self.feed.publish(head);
        Ok(IssuedKey { key, secret })
    }

    /// A part of the list, newest first: up to `limit` keys after `cursor` (a [`KeyPage::next`]) in which `q` is found.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list_keys(&self, q: &str, cursor: Option<i64>, limit: u32) -> Result<KeyPage> {
        let mut keys = self.store.list_keys(q.trim(), cursor, limit + 1).await?;
        let more = keys.len() > limit as usize;
        keys.truncate(limit as usize);
        let next = keys.last().filter(|_| more).map(|key| key.seq);
        Ok(KeyPage { keys, next })
    }

    /// One key.
    ///
    /// # Errors
    /// [`Error::NotFound`]; when the store cannot be read.
    pub async fn key(&self, id: &str) -> Result<KeyRecord> {
        Ok(self.store.key(id).await?)
    }

    /// Changes a key and returns it as it is now. With `expected`, only a key at that revision is changed.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NotFound`], [`Error::NameTaken`], [`Error::RevisionMismatch`]; when the store cannot
    /// be written.
    pub async fn edit_key(&self, actor: &str, id: &str, edit: EditKey, expected: Option<u64>) -> Result<KeyRecord> {
        let mut errors = Vec::new();
        if let Some(name) = &edit.name {
            validate::name("name", name, &mut errors);
        }
        let permissions = match edit.permissions {
            Some(wanted) => {
                let has = self.store.key(id).await?.permissions;
                Some(validate::permissions(wanted, &has, &self.settings.catalogue, &mut errors))
            }
            None => None,
        };
        if !errors.is_empty() {
            return Err(Error::Invalid(errors));
        }
        let edit = KeyEdit { name: edit.name, permissions, disabled: edit.disabled };
        let changed = self.store.edit_key(id, &edit, expected, self.by(actor)).await?;
        if let Some(head) = changed.head {
            self.feed.publish(head);
        }
        Ok(changed.after)
    }

    /// Replaces the plaintext of a key and starts its lifetime again. The old plaintext is refused from then on.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::RevisionMismatch`]; when the store cannot be written.
    pub async fn regenerate_key(&self, actor: &str, id: &str, expected: Option<u64>) -> Result<IssuedKey> {
        let secret = Secret::new_key(&self.settings.key_prefix);
        let changed = self.store.regenerate_key(id, &self.stored(&secret), expected, self.by(actor)).await?;
        if let Some(head) = changed.head {
            self.feed.publish(head);
        }
        Ok(IssuedKey { key: changed.after, secret })
    }

    /// Deletes a key and returns it as it was, with the revision of the delete.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::RevisionMismatch`]; when the store cannot be written.
    pub async fn delete_key(&self, actor: &str, id: &str, expected: Option<u64>) -> Result<KeyRecord> {
        let (key, head) = self.store.delete_key(id, expected, self.by(actor)).await?;
        self.feed.publish(head);
        Ok(key)
    }

    /// Waits until every VM in contact has applied `revision`, for `wait` at most, and returns the receipt.
    pub async fn receipt(&self, revision: u64, wait: Duration) -> Applied {
        self.proxies.receipt(revision, wait).await
    }

    pub(super) fn by<'a>(&self, actor: &'a str) -> By<'a> {
        By { actor, at: self.clock().now() }
    }

    fn stored(&self, secret: &Secret) -> NewDigest {
        NewDigest {
            digest: secret.digest(),
            prefix: self.settings.key_prefix.clone(),
            last_four: secret.last_four().to_owned(),
        }
    }
}

/// Checks what new keys begin with: 1 to 20 of A-Z a-z 0-9 and inner underscores.
///
/// # Errors
/// What is wrong with it.
pub fn check_prefix(prefix: &str) -> std::result::Result<(), FieldError> {
    let ok = (1..=20).contains(&prefix.len())
        && prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !prefix.starts_with('_')
        && !prefix.ends_with('_');
    ok.then_some(())
        .ok_or_else(|| FieldError::new("key_prefix", "must have 1 to 20 characters of A-Z a-z 0-9, and _ between them"))
}

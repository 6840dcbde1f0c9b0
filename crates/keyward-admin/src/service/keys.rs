//! Use cases of keys: create, list, change, regenerate and delete.

use super::proxies::Applied;
use super::{Error, FieldError, Result, Service, validate};
use crate::lifetime::Lifetime;
use crate::random;
use crate::secret::Secret;
use crate::store::keys::{By, KeyEdit, KeyRecord, NewDigest, NewKey};
use crate::store::list::{Cursor, Filter, KeyPage, Sort};
use std::time::Duration;

/// A key that is to be created.
#[derive(Debug, Clone)]
pub struct CreateKey {
    /// The name, unique among live keys.
    pub name: String,
    /// The machine names of the permissions to grant.
    pub permissions: Vec<String>,
    /// The lifetime.
    pub expires_in: Lifetime,
}

/// What to change of a key. `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct EditKey {
    /// The new name.
    pub name: Option<String>,
    /// The new permissions.
    pub permissions: Option<Vec<String>>,
    /// Whether the key is to be refused.
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

/// What is asked of the list of keys.
#[derive(Debug, Default)]
pub struct KeyQuery {
    /// Which keys.
    pub filter: Filter,
    /// The order. `None` means the one that suits the filter.
    pub sort: Option<Sort>,
    /// A page's `next` or `previous`, which carries its order. `None` asks for the first page.
    pub cursor: Option<Cursor>,
    /// The largest number of keys.
    pub limit: u32,
}

impl Service {
    /// Returns the mistakes in a key that is to be created, as far as they can be found without the store.
    pub fn check_key(&self, request: &CreateKey) -> Vec<FieldError> {
        let mut errors = Vec::new();
        validate::name("name", &validate::normalized(&request.name), &mut errors);
        validate::permissions(request.permissions.clone(), &[], &self.settings.catalogue, &mut errors);
        errors
    }

    /// Creates a key.
    ///
    /// # Errors
    /// Returns [`Error::Invalid`], [`Error::NameTaken`], or an error when the store cannot be written.
    pub async fn create_key(&self, actor: &str, mut request: CreateKey) -> Result<IssuedKey> {
        let mut errors = Vec::new();
        request.name = validate::normalized(&request.name);
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

    /// Returns a page of the list of keys.
    ///
    /// # Errors
    /// Returns an error when the store cannot be read.
    pub async fn list_keys(&self, query: &KeyQuery) -> Result<KeyPage> {
        let KeyQuery { filter, sort, cursor, limit } = query;
        let sort = sort.unwrap_or(Sort { by: filter.usual_order(), reversed: false });
        Ok(self.store.key_page(filter, sort, cursor.as_ref(), *limit, self.clock().now()).await?)
    }

    /// Returns the newest keys in which `q` is found.
    ///
    /// # Errors
    /// Returns an error when the store cannot be read.
    pub async fn find_keys(&self, q: &str, limit: u32) -> Result<Vec<KeyRecord>> {
        Ok(self.store.list_keys(q.trim(), None, limit).await?)
    }

    /// Counts the keys that pass a filter, up to one more than [`MAX_COUNT`](crate::store::list::MAX_COUNT). `None` means
    /// that counting would take long.
    ///
    /// # Errors
    /// Returns an error when the store cannot be read.
    pub async fn count_keys(&self, filter: &Filter) -> Result<Option<u64>> {
        if filter.is_empty() {
            return Ok(Some(self.feed.state().head.live_count));
        }
        Ok(self.store.count_keys(filter, self.clock().now()).await?)
    }

    /// Returns a key.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`], or an error when the store cannot be read.
    pub async fn key(&self, id: &str) -> Result<KeyRecord> {
        Ok(self.store.key(id).await?)
    }

    /// Changes a key and returns it as it is now. With `expected`, only a key at that revision is changed.
    ///
    /// # Errors
    /// Returns [`Error::Invalid`], [`Error::NotFound`], [`Error::NameTaken`], [`Error::RevisionMismatch`], or an error when the store cannot
    /// be written.
    pub async fn edit_key(&self, actor: &str, id: &str, edit: EditKey, expected: Option<u64>) -> Result<KeyRecord> {
        let mut errors = Vec::new();
        let edit = EditKey { name: edit.name.map(|name| validate::normalized(&name)), ..edit };
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
    /// Returns [`Error::NotFound`], [`Error::RevisionMismatch`], or an error when the store cannot be written.
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
    /// Returns [`Error::NotFound`], [`Error::RevisionMismatch`], or an error when the store cannot be written.
    pub async fn delete_key(&self, actor: &str, id: &str, expected: Option<u64>) -> Result<KeyRecord> {
        let (key, head) = self.store.delete_key(id, expected, self.by(actor)).await?;
        self.feed.publish(head);
        Ok(key)
    }

    /// Counts the keys that are accepted now and expire within each of these times.
    ///
    /// # Errors
    /// Returns an error when the store cannot be read.
    pub async fn count_expiring<const N: usize>(&self, within: [Duration; N]) -> Result<[u64; N]> {
        Ok(self.store.count_expiring(self.clock().now(), within).await?)
    }

    /// Returns the keys of which the most requests were denied today, `limit` at most, with the number of these requests.
    ///
    /// # Errors
    /// Returns an error when the store cannot be read.
    pub async fn most_denied_today(&self, limit: u32) -> Result<Vec<(String, u64)>> {
        Ok(self.store.most_denied(self.clock().now().day(), limit).await?)
    }

    /// Waits until every instance in contact has applied `revision`, for `wait` at most, and returns the receipt.
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

/// Checks a key prefix: 1 to 20 characters of A-Z, a-z and 0-9, with underscores between them.
///
/// # Errors
/// A description of the mistake.
pub fn check_prefix(prefix: &str) -> std::result::Result<(), FieldError> {
    let ok = (1..=20).contains(&prefix.len())
        && prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !prefix.starts_with('_')
        && !prefix.ends_with('_');
    ok.then_some(())
        .ok_or_else(|| FieldError::new("key_prefix", "must have 1 to 20 characters of A-Z a-z 0-9, and _ between them"))
}

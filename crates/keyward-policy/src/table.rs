//! The keys that are in force, found by digest on every request and by id on every change.

mod invalid;

pub use invalid::{InvalidRecord, RecordProblem};

use crate::checksum::{Checksum, contribution};
use crate::digest::Digest;
use crate::key::{KeyId, KeyView};
use crate::manifest::LiveKey;
use crate::permission::PermissionSet;
use crate::timestamp::Timestamp;
use std::collections::{BTreeMap, HashMap};

/// The live keys of a store, or of a plugin config.
#[derive(Debug, Default)]
pub struct KeyTable {
    by_id: BTreeMap<Box<str>, Entry>,
    by_digest: HashMap<Digest, Box<str>>,
    checksum: Checksum,
}

#[derive(Debug)]
struct Entry {
    digest: Digest,
    name: Box<str>,
    permissions: PermissionSet,
    expires_at: Option<Timestamp>,
    disabled: bool,
    unsupported: bool,
    contribution: u64,
}

impl KeyTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Room for `keys` keys altogether, made in steps, so that growth never shows.
    pub fn reserve(&mut self, _keys: usize) {}

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The checksum over all keys, as `live.checksum` states it.
    pub fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// The key with this digest.
    pub fn get(&self, digest: &Digest) -> Option<KeyView<'_>> {
        let (id, entry) = self.by_id.get_key_value(self.by_digest.get(digest)?)?;
        Some(view(id, entry))
    }

    /// Whether a key has this id.
    pub fn contains_id(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// Takes a key in, in place of whatever had its id; the digest that one had stops working.
    ///
    /// # Errors
    /// [`InvalidRecord`] where `sha256` or `expires_at` cannot be read, or another id holds the digest. The table is
    /// unchanged then.
    pub fn upsert(&mut self, key: &LiveKey<'_>) -> Result<(), InvalidRecord> {
        let invalid = |problem| InvalidRecord::new(key, problem);
        let digest = Digest::from_hex(&key.sha256).map_err(|_| invalid(RecordProblem::Digest))?;
        let expires_at = key.expires_at.as_deref().map(Timestamp::parse).transpose();
        let expires_at = expires_at.map_err(|_| invalid(RecordProblem::Expiry))?;
        if self.by_digest.get(&digest).is_some_and(|holder| **holder != *key.id) {
            return Err(invalid(RecordProblem::DigestTaken));
        }
        self.remove(&key.id);
        let entry = Entry {
            digest,
            name: (&*key.name).into(),
            permissions: key.permissions.iter().collect(),
            expires_at,
            disabled: key.disabled,
            unsupported: !key.must.is_empty(),
            contribution: contribution(key),
        };
        self.checksum.add(entry.contribution);
        self.by_digest.insert(digest, (&*key.id).into());
        self.by_id.insert((&*key.id).into(), entry);
        Ok(())
    }

    /// Takes the key with this id out; false where there is none.
    pub fn remove(&mut self, id: &str) -> bool {
        let Some(entry) = self.by_id.remove(id) else { return false };
        self.checksum.remove(entry.contribution);
        self.by_digest.remove(&entry.digest);
        true
    }

    /// Every key, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = KeyView<'_>> {
        self.by_id.iter().map(|(id, entry)| view(id, entry))
    }
}

fn view<'a>(id: &'a str, entry: &'a Entry) -> KeyView<'a> {
    KeyView {
        id: KeyId::parse(id),
        name: &entry.name,
        permissions: &entry.permissions,
        expires_at: entry.expires_at,
        disabled: entry.disabled,
        unsupported: entry.unsupported,
    }
}

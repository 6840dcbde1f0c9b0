//! Changes of keys, each in one transaction.

use super::change::Change;
use super::database::Store;
use super::error::{Error, Result};
use super::folded_name::folded;
use super::head::{Head, signed};
pub use super::record::KeyRecord;
use super::record::{read_key, select_keys};
use super::search::{self, Property};
use super::sql::{Arg, Priority, Tx};
use crate::lifetime::Lifetime;
use keyward_policy::digest::Digest;
use keyward_policy::timestamp::Timestamp;
use serde_json::json;
use std::time::Duration;

/// What the store keeps of a plaintext.
#[derive(Debug, Clone)]
pub struct NewDigest {
    /// The SHA-256 digest of the plaintext.
    pub digest: Digest,
    /// The part of the plaintext before its last underscore.
    pub prefix: String,
    /// The last four characters of the plaintext.
    pub last_four: String,
}

/// A key that is to be created.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// A new and unique id.
    pub id: String,
    /// A valid name, which another key may have.
    pub name: String,
    /// The machine names of the permissions to grant.
    pub permissions: Vec<String>,
    /// The chosen lifetime.
    pub expires_in: Lifetime,
    /// What is kept of the plaintext.
    pub secret: NewDigest,
}

/// What to change of a key. `None` leaves a field as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyEdit {
    /// The new name.
    pub name: Option<String>,
    /// The new permissions.
    pub permissions: Option<Vec<String>>,
    /// Whether the key is to be refused.
    pub disabled: Option<bool>,
}

/// Who makes a change, and when.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// The name of the token, or of the person who runs the command.
    pub actor: &'a str,
    /// The time of the change.
    pub at: Timestamp,
}

/// A key before and after a change.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The key before the change.
    pub before: KeyRecord,
    /// The key after the change.
    pub after: KeyRecord,
    /// The state of the store after the change. `None` means that nothing had to change.
    pub head: Option<Head>,
}

const BY_ID: &str = select_keys!("keys k", "WHERE k.id = $1");
const BY_NAME: &str = "SELECT id FROM keys WHERE name = $1 AND seq <> $2";
const EXPIRED: &str = select_keys!("keys k", "WHERE k.expires_at < $1 ORDER BY k.expires_at LIMIT $2");

impl Store {
    /// Returns the key with this id.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`], or an error when the database cannot be read.
    pub async fn key(&self, id: &str) -> Result<KeyRecord> {
        if !may_be_id(id) {
            return Err(Error::NotFound);
        }
        let row = self.pool.row(BY_ID, &[Arg::Text(id)]).await?;
        read_key(&row.ok_or(Error::NotFound)?)
    }

    /// Creates a key.
    ///
    /// # Errors
    /// Returns [`Error::NameTaken`], or an error when the database cannot be written: then nothing was.
    pub async fn create_key(&self, new: &NewKey, by: By<'_>) -> Result<(KeyRecord, Head)> {
        let mut change = self.change().await?;
        let key = change.insert_key(new, by).await?;
        let detail = json!({ "permissions": key.permissions, "expires_in": key.expires_in.as_str() });
        change.audit(by.at.unix_ms(), by.actor, "key.create", &key.id, &key.name, Some(key.revision), &detail).await?;
        Ok((key, change.commit().await?))
    }

    /// Replaces the plaintext of a key and starts its lifetime again. The old plaintext goes in the same revision.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`], [`Error::RevisionMismatch`], or an error when the database cannot be written: then nothing was.
    pub async fn regenerate_key(
        &self,
        id: &str,
        secret: &NewDigest,
        expected: Option<u64>,
        by: By<'_>,
    ) -> Result<Changed> {
        let mut change = self.change().await?;
        let before = change.key(id, expected).await?;
        let after = KeyRecord {
            digest: secret.digest,
            prefix: secret.prefix.clone(),
            last_four: secret.last_four.clone(),
            regenerated_at: Some(by.at),
            expires_at: before.expires_in.expires_at(by.at),
            ..before.clone()
        };
        change.replace_key(&before, after, by, "key.regenerate", &json!({})).await
    }

    /// Changes the name or the permissions of a key, or whether it is refused.
    ///
    /// # Errors
    /// Returns the errors of [`Store::regenerate_key`], and [`Error::NameTaken`].
    pub async fn edit_key(&self, id: &str, edit: &KeyEdit, expected: Option<u64>, by: By<'_>) -> Result<Changed> {
        let mut change = self.change().await?;
        let before = change.key(id, expected).await?;
        let mut after = before.clone();
        let mut detail = serde_json::Map::new();
        if let Some(name) = edit.name.as_ref().filter(|name| **name != before.name) {
            if change.name_taken(name, Some(before.seq)).await? {
                return Err(Error::NameTaken);
            }
            detail.insert("name".into(), json!({ "before": before.name, "after": name }));
            after.name.clone_from(name);
        }
        if let Some(permissions) = edit.permissions.as_ref().filter(|new| **new != before.permissions) {
            detail.insert("permissions".into(), json!({ "before": before.permissions, "after": permissions }));
            after.permissions.clone_from(permissions);
        }
        if let Some(disabled) = edit.disabled.filter(|disabled| *disabled != before.disabled) {
            detail.insert("disabled".into(), json!({ "before": before.disabled, "after": disabled }));
            after.disabled = disabled;
        }
        if detail.is_empty() {
            return Ok(Changed { before, after, head: None });
        }
        change.replace_key(&before, after, by, "key.update", &detail.into()).await
    }

    /// Deletes a key and leaves a tombstone.
    ///
    /// # Errors
    /// Returns the errors of [`Store::regenerate_key`].
    pub async fn delete_key(&self, id: &str, expected: Option<u64>, by: By<'_>) -> Result<(KeyRecord, Head)> {
        let mut change = self.change().await?;
        let mut key = change.key(id, expected).await?;
        key.revision = change.bury_key(&key, by, "key.delete").await?;
        Ok((key, change.commit().await?))
    }

    /// Deletes up to `limit` keys that expired before `before`, each with a revision of its own. Returns the keys as they
    /// were, and the new state of the store if there were any.
    ///
    /// # Errors
    /// Returns an error when the database cannot be written: then nothing was.
    pub async fn purge_expired(
        &self,
        before: Timestamp,
        limit: u32,
        by: By<'_>,
    ) -> Result<(Vec<KeyRecord>, Option<Head>)> {
        let args = [Arg::Int(before.unix_ms()), Arg::Int(i64::from(limit))];
        if self.pool.row(EXPIRED, &[args[0], Arg::Int(1)]).await?.is_none() {
            return Ok((Vec::new(), None));
        }
        let mut change = self.change_as(Priority::Background).await?;
        let rows = change.tx.rows(EXPIRED, &args).await?;
        let keys: Vec<KeyRecord> = rows.iter().map(read_key).collect::<Result<_>>()?;
        for key in &keys {
            change.bury_key(key, by, "key.purge").await?;
        }
        Ok((keys, Some(change.commit().await?)))
    }

    /// Counts the keys that are accepted at `now` and expire within each of these times after it.
    ///
    /// # Errors
    /// Returns an error when the database cannot be read.
    pub async fn count_expiring<const N: usize>(&self, now: Timestamp, within: [Duration; N]) -> Result<[u64; N]> {
        let mut counts = [0; N];
        for (count, within) in counts.iter_mut().zip(within) {
            let until = now.unix_ms().saturating_add(i64::try_from(within.as_millis()).unwrap_or(i64::MAX));
            let sql = "SELECT COUNT(*) FROM keys WHERE expires_at > $1 AND expires_at <= $2 AND disabled = 0";
            let row = self.pool.row(sql, &[Arg::Int(now.unix_ms()), Arg::Int(until)]).await?;
            *count = row.map(|row| row.int(0)).transpose()?.unwrap_or(0).cast_unsigned();
        }
        Ok(counts)
    }
}

/// Returns whether a text can be an id that this service gave. PostgreSQL fails at a NUL, which no id has.
fn may_be_id(id: &str) -> bool {
    id.bytes().all(|b| b.is_ascii_graphic())
}

impl Change {
    async fn key(&mut self, id: &str, expected: Option<u64>) -> Result<KeyRecord> {
        if !may_be_id(id) {
            return Err(Error::NotFound);
        }
        let row = self.tx.row(BY_ID, &[Arg::Text(id)]).await?;
        let key = read_key(&row.ok_or(Error::NotFound)?)?;
        match expected {
            Some(revision) if revision != key.revision => Err(Error::RevisionMismatch { current: key.revision }),
            _ => Ok(key),
        }
    }

    /// Returns whether another key than `own` has the name, or one that looks like it.
    async fn name_taken(&mut self, name: &str, own: Option<i64>) -> Result<bool> {
        let property = Property::Name(&folded(name)).to_string();
        let own = Arg::Int(own.unwrap_or(-1));
        let looks_like_it = "SELECT seq FROM key_prefixes WHERE prefix = $1 AND seq <> $2 LIMIT 1";
        Ok(self.tx.row(BY_NAME, &[Arg::Text(name), own]).await?.is_some()
            || self.tx.row(looks_like_it, &[Arg::Text(&property), own]).await?.is_some())
    }

    /// Adds a key without an audit entry.
    pub(super) async fn insert_key(&mut self, new: &NewKey, by: By<'_>) -> Result<KeyRecord> {
        if self.name_taken(&new.name, None).await? {
            return Err(Error::NameTaken);
        }
        let mut key = KeyRecord {
            seq: 0,
            id: new.id.clone(),
            name: new.name.clone(),
            digest: new.secret.digest,
            prefix: new.secret.prefix.clone(),
            last_four: new.secret.last_four.clone(),
            permissions: new.permissions.clone(),
            created_at: by.at,
            regenerated_at: None,
            expires_in: new.expires_in,
            expires_at: new.expires_in.expires_at(by.at),
            disabled: false,
            revision: self.next_revision(),
            last_used_at: None,
        };
        key.seq = insert(&mut self.tx, &key).await?;
        search::add(&mut self.tx, &key).await?;
        self.added(&key.wire());
        Ok(key)
    }

    async fn replace_key(
        mut self,
        before: &KeyRecord,
        mut after: KeyRecord,
        by: By<'_>,
        action: &str,
        detail: &serde_json::Value,
    ) -> Result<Changed> {
        after.revision = self.next_revision();
        self.removed(&before.wire());
        self.added(&after.wire());
        let sql = "UPDATE keys SET name = $2, sha256 = $3, prefix = $4, last_four = $5, permissions = $6, \
                   regenerated_at = $7, expires_at = $8, disabled = $9, revision = $10 WHERE seq = $1";
        let args = [
            Arg::Int(after.seq),
            Arg::Text(&after.name),
            Arg::Bytes(after.digest.as_bytes()),
            Arg::Text(&after.prefix),
            Arg::Text(&after.last_four),
            Arg::Text(&after.permissions.join(",")),
            Arg::OptInt(after.regenerated_at.map(Timestamp::unix_ms)),
            Arg::OptInt(after.expires_at.map(Timestamp::unix_ms)),
            Arg::Int(i64::from(after.disabled)),
            Arg::Int(signed(after.revision)),
        ];
        self.tx.execute(sql, &args).await?;
        search::replace(&mut self.tx, before, &after).await?;
        self.audit(by.at.unix_ms(), by.actor, action, &after.id, &after.name, Some(after.revision), detail).await?;
        let head = self.commit().await?;
        Ok(Changed { before: before.clone(), after, head: Some(head) })
    }

    /// Deletes a key, leaves its tombstone and writes an audit entry. Returns the revision of the delete.
    async fn bury_key(&mut self, key: &KeyRecord, by: By<'_>, action: &str) -> Result<u64> {
        let revision = self.next_revision();
        self.removed(&key.wire());
        search::remove(&mut self.tx, key).await?;
        self.tx.execute("DELETE FROM keys WHERE seq = $1", &[Arg::Int(key.seq)]).await?;
        self.tx.execute("DELETE FROM key_usage WHERE key_id = $1", &[Arg::Text(&key.id)]).await?;
        self.tx.execute("DELETE FROM usage_days WHERE key_id = $1", &[Arg::Text(&key.id)]).await?;
        self.tx
            .execute(
                "INSERT INTO tombstones (revision, id, deleted_at) VALUES ($1, $2, $3)",
                &[Arg::Int(signed(revision)), Arg::Text(&key.id), Arg::Int(by.at.unix_ms())],
            )
            .await?;
        self.audit(by.at.unix_ms(), by.actor, action, &key.id, &key.name, Some(revision), &json!({})).await?;
        Ok(revision)
    }
}

async fn insert(tx: &mut Tx, key: &KeyRecord) -> Result<i64> {
    let permissions = key.permissions.join(",");
    let search = search::text(key);
    let folded = search::fold(&search);
    let mut args = vec![
        Arg::Text(&key.id),
        Arg::Text(&key.name),
        Arg::Bytes(key.digest.as_bytes()),
        Arg::Text(&key.prefix),
        Arg::Text(&key.last_four),
        Arg::Text(&permissions),
        Arg::Int(key.created_at.unix_ms()),
        Arg::Text(key.expires_in.as_str()),
        Arg::OptInt(key.expires_at.map(Timestamp::unix_ms)),
        Arg::Int(i64::from(key.disabled)),
        Arg::Int(signed(key.revision)),
    ];
    let sql = if tx.is_postgres() {
        args.extend([Arg::Text(&search), Arg::Text(&folded)]);
        "INSERT INTO keys (id, name, sha256, prefix, last_four, permissions, created_at, expires_in, expires_at, \
         disabled, revision, search, folded) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) RETURNING seq"
    } else {
        "INSERT INTO keys (id, name, sha256, prefix, last_four, permissions, created_at, expires_in, expires_at, \
         disabled, revision) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING seq"
    };
    let row = tx.row(sql, &args).await?;
    Ok(row.ok_or_else(|| Error::Corrupt("an insert that gives no row".into()))?.int(0)?)
}

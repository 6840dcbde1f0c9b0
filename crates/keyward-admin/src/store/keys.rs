//! Keys as the store keeps them.

use super::sql::{Arg, Row, Tx};
use super::{Change, Error, Head, Result, Store, search, signed, unsigned};
use crate::lifetime::Lifetime;
use keyward_policy::digest::Digest;
use keyward_policy::manifest::LiveKey;
use keyward_policy::timestamp::Timestamp;
use serde_json::json;
use std::borrow::Cow;

/// A live key: everything but its plaintext, which nobody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Place in the order of creation.
    pub seq: i64,
    /// `key_` and 16 base32 characters.
    pub id: String,
    /// What people call it; unique among live keys.
    pub name: String,
    /// Of the key in use.
    pub digest: Digest,
    /// The words before the underscore of the key in use.
    pub prefix: String,
    /// The last four characters of the key in use.
    pub last_four: String,
    /// Machine names, in the order they were given.
    pub permissions: Vec<String>,
    /// When it was first made.
    pub created_at: Timestamp,
    /// When it was last regenerated.
    pub regenerated_at: Option<Timestamp>,
    /// The chosen lifetime.
    pub expires_in: Lifetime,
    /// When it is refused; none: never.
    pub expires_at: Option<Timestamp>,
    /// Refused until enabled again.
    pub disabled: bool,
    /// Of its last change.
    pub revision: u64,
    /// When a filter last let it through, as far as filters have told; none: never.
    pub last_used_at: Option<Timestamp>,
}

/// What a new or regenerated key is stored as.
#[derive(Debug, Clone)]
pub struct NewDigest {
    /// Of the plaintext.
    pub digest: Digest,
    /// The words before the underscore.
    pub prefix: String,
    /// The last four characters.
    pub last_four: String,
}

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Fresh and unique.
    pub id: String,
    /// Valid, but perhaps taken.
    pub name: String,
    /// Of the catalogue.
    pub permissions: Vec<String>,
    /// The chosen lifetime.
    pub expires_in: Lifetime,
    /// Of its plaintext.
    pub secret: NewDigest,
}

/// What to change of a key; none: leave as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyEdit {
    /// Another name.
    pub name: Option<String>,
    /// Other permissions.
    pub permissions: Option<Vec<String>>,
    /// Refuse it, or no longer.
    pub disabled: Option<bool>,
}

/// Who changes something, and when.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// Name of the token, or of who stands behind the command.
    pub actor: &'a str,
    /// When.
    pub at: Timestamp,
}

/// A key before and after a change.
#[derive(Debug, Clone)]
pub struct Changed {
    /// As it was.
    pub before: KeyRecord,
    /// As it is.
    pub after: KeyRecord,
    /// The store afterwards; none: nothing had to change.
    pub head: Option<Head>,
}

const BY_ID: &str = "SELECT k.seq, k.id, k.name, k.sha256, k.prefix, k.last_four, k.permissions, k.created_at, \
    k.regenerated_at, k.expires_in, k.expires_at, k.disabled, k.revision, u.last_used_at \
    FROM keys k LEFT JOIN key_usage u ON u.key_id = k.id AND u.permission = '' WHERE k.id = $1";
const BY_NAME: &str = "SELECT id FROM keys WHERE name = $1";

impl KeyRecord {
    /// The record as it stands in the manifest and in the checksum.
    pub fn wire(&self) -> LiveKey<'_> {
        LiveKey {
            revision: self.revision,
            id: Cow::Borrowed(&self.id),
            name: Cow::Borrowed(&self.name),
            sha256: Cow::Owned(self.digest.to_hex()),
            permissions: self.permissions.iter().map(|name| Cow::Borrowed(name.as_str())).collect(),
            expires_at: self.expires_at.map(|at| Cow::Owned(at.to_string())),
            disabled: self.disabled,
            must: Vec::new(),
        }
    }
}

/// Reads the columns that make a key, in the order in which every statement here selects them.
pub(super) fn read_key(row: &Row) -> Result<KeyRecord> {
    let corrupt = |what: &str| Error::Corrupt(format!("a key's {what}"));
    Ok(KeyRecord {
        seq: row.int(0)?,
        id: row.text(1)?,
        name: row.text(2)?,
        digest: Digest::from_bytes(row.bytes(3)?.try_into().map_err(|_| corrupt("digest"))?),
        prefix: row.text(4)?,
        last_four: row.text(5)?,
        permissions: permissions(&row.text(6)?).map(str::to_owned).collect(),
        created_at: Timestamp::from_unix_ms(row.int(7)?),
        regenerated_at: row.opt_int(8)?.map(Timestamp::from_unix_ms),
        expires_in: row.text(9)?.parse().map_err(|_| corrupt("lifetime"))?,
        expires_at: row.opt_int(10)?.map(Timestamp::from_unix_ms),
        disabled: row.int(11)? != 0,
        revision: unsigned(row.int(12)?)?,
        last_used_at: row.opt_int(13)?.map(Timestamp::from_unix_ms),
    })
}

/// The names in the column of permissions.
pub(super) fn permissions(column: &str) -> impl Iterator<Item = &str> {
    column.split(',').filter(|name| !name.is_empty())
}

impl Store {
    /// The key with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`]; or when the database cannot be read.
    pub async fn key(&self, id: &str) -> Result<KeyRecord> {
        if !may_be_id(id) {
            return Err(Error::NotFound);
        }
        let row = self.pool.row(BY_ID, &[Arg::Text(id)]).await?;
        read_key(&row.ok_or(Error::NotFound)?)
    }

    /// Makes a key.
    ///
    /// # Errors
    /// [`Error::NameTaken`]; or when the database cannot be written: then nothing was.
    pub async fn create_key(&self, new: &NewKey, by: By<'_>) -> Result<(KeyRecord, Head)> {
        let mut change = self.change().await?;
        let key = change.insert_key(new, by).await?;
        let detail = json!({ "permissions": key.permissions, "expires_in": key.expires_in.as_str() });
        change.audit(by.at.unix_ms(), by.actor, "key.create", &key.id, &key.name, Some(key.revision), &detail).await?;
        Ok((key, change.commit().await?))
    }

    /// Gives a key another plaintext, and its lifetime anew; the old one goes in the same revision.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::RevisionMismatch`]; or when the database cannot be written: then nothing was.
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

    /// Changes name, permissions or whether a key is refused.
    ///
    /// # Errors
    /// As [`Store::regenerate_key`], and [`Error::NameTaken`].
    pub async fn edit_key(&self, id: &str, edit: &KeyEdit, expected: Option<u64>, by: By<'_>) -> Result<Changed> {
        let mut change = self.change().await?;
        let before = change.key(id, expected).await?;
        let mut after = before.clone();
        let mut detail = serde_json::Map::new();
        if let Some(name) = edit.name.as_ref().filter(|name| **name != before.name) {
            if change.name_taken(name).await? {
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

    /// Deletes a key for good and leaves a tombstone.
    ///
    /// # Errors
    /// As [`Store::regenerate_key`].
    pub async fn delete_key(&self, id: &str, expected: Option<u64>, by: By<'_>) -> Result<(KeyRecord, Head)> {
        let mut change = self.change().await?;
        let mut key = change.key(id, expected).await?;
        key.revision = change.bury_key(&key, by, "key.delete").await?;
        Ok((key, change.commit().await?))
    }

    /// Deletes up to `limit` keys that expired before `before`, each with its own revision; how many they were.
    ///
    /// # Errors
    /// When the database cannot be written: then nothing was.
    pub async fn purge_expired(&self, before: Timestamp, limit: u32, by: By<'_>) -> Result<(usize, Option<Head>)> {
        const EXPIRED: &str = "SELECT k.seq, k.id, k.name, k.sha256, k.prefix, k.last_four, k.permissions, \
            k.created_at, k.regenerated_at, k.expires_in, k.expires_at, k.disabled, k.revision, k.expires_at \
            FROM keys k WHERE k.expires_at < $1 ORDER BY k.expires_at LIMIT $2";
        let args = [Arg::Int(before.unix_ms()), Arg::Int(i64::from(limit))];
        if self.pool.row(EXPIRED, &[args[0], Arg::Int(1)]).await?.is_none() {
            return Ok((0, None));
        }
        let mut change = self.change().await?;
        let rows = change.tx.rows(EXPIRED, &args).await?;
        for row in &rows {
            change.bury_key(&read_key(row)?, by, "key.purge").await?;
        }
        Ok((rows.len(), Some(change.commit().await?)))
    }
}

/// PostgreSQL fails at a text with a NUL in it, where no key has one.
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

    async fn name_taken(&mut self, name: &str) -> Result<bool> {
        Ok(self.tx.row(BY_NAME, &[Arg::Text(name)]).await?.is_some())
    }

    /// Adds a key without an audit entry.
    pub(super) async fn insert_key(&mut self, new: &NewKey, by: By<'_>) -> Result<KeyRecord> {
        if self.name_taken(&new.name).await? {
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

    /// Deletes a key, leaves its tombstone and says so in the audit log; the revision of the delete.
    async fn bury_key(&mut self, key: &KeyRecord, by: By<'_>, action: &str) -> Result<u64> {
        let revision = self.next_revision();
        self.removed(&key.wire());
        search::remove(&mut self.tx, key).await?;
        self.tx.execute("DELETE FROM keys WHERE seq = $1", &[Arg::Int(key.seq)]).await?;
        self.tx.execute("DELETE FROM key_usage WHERE key_id = $1", &[Arg::Text(&key.id)]).await?;
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

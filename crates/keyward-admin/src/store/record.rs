//! A key as the store keeps it, and the columns that hold it.

use super::error::{Error, Result};
use super::head::unsigned;
use super::sql::Row;
use crate::lifetime::Lifetime;
use keyward_policy::digest::Digest;
use keyward_policy::manifest::LiveKey;
use keyward_policy::timestamp::Timestamp;
use std::borrow::Cow;
use std::str::FromStr;

/// A live key, without its plaintext, which is kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The position of the key in the order of creation.
    pub seq: i64,
    /// The id of the key: `key_` and 16 base32 characters.
    pub id: String,
    /// The name of the key, unique among live keys.
    pub name: String,
    /// The SHA-256 digest of the current plaintext.
    pub digest: Digest,
    /// The part of the current plaintext before its last underscore.
    pub prefix: String,
    /// The last four characters of the current plaintext.
    pub last_four: String,
    /// The machine names of the granted permissions, in the order in which they were given.
    pub permissions: Vec<String>,
    /// When the key was created.
    pub created_at: Timestamp,
    /// When the key was last regenerated. `None` means never.
    pub regenerated_at: Option<Timestamp>,
    /// The chosen lifetime.
    pub expires_in: Lifetime,
    /// From when on the key is refused. `None` means that it does not expire.
    pub expires_at: Option<Timestamp>,
    /// Whether the key is refused until somebody enables it again.
    pub disabled: bool,
    /// The revision of the key's last change.
    pub revision: u64,
    /// When a filter last let the key through, as far as filters have reported it. `None` means never.
    pub last_used_at: Option<Timestamp>,
}

/// Whether filters accept a key. A disabled key stays disabled when it expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The key is accepted.
    Active,
    /// The key's lifetime is over.
    Expired,
    /// Somebody disabled the key.
    Disabled,
}

impl FromStr for Status {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        match text {
            "active" => Ok(Self::Active),
            "expired" => Ok(Self::Expired),
            "disabled" => Ok(Self::Disabled),
            _ => Err(()),
        }
    }
}

/// Makes a `SELECT` of the columns that [`read_key`] reads. `$from` names `keys k`; `$rest` is what follows the joins.
macro_rules! select_keys {
    ($from:expr, $rest:expr) => {
        concat!(
            "SELECT k.seq, k.id, k.name, k.sha256, k.prefix, k.last_four, k.permissions, k.created_at, \
             k.regenerated_at, k.expires_in, k.expires_at, k.disabled, k.revision, u.last_used_at FROM ",
            $from,
            " LEFT JOIN key_usage u ON u.key_id = k.id AND u.permission = '' ",
            $rest
        )
    };
}
pub(super) use select_keys;

/// Reads a key from a row that [`select_keys`] selected.
pub(super) fn read_key(row: &Row) -> Result<KeyRecord> {
    let corrupt = |column: &str| Error::Corrupt(format!("the column `{column}` of a key"));
    Ok(KeyRecord {
        seq: row.int("seq")?,
        id: row.text("id")?,
        name: row.text("name")?,
        digest: Digest::from_bytes(row.bytes("sha256")?.try_into().map_err(|_| corrupt("sha256"))?),
        prefix: row.text("prefix")?,
        last_four: row.text("last_four")?,
        permissions: split_permissions(&row.text("permissions")?).map(str::to_owned).collect(),
        created_at: Timestamp::from_unix_ms(row.int("created_at")?),
        regenerated_at: row.opt_int("regenerated_at")?.map(Timestamp::from_unix_ms),
        expires_in: row.text("expires_in")?.parse().map_err(|_| corrupt("expires_in"))?,
        expires_at: row.opt_int("expires_at")?.map(Timestamp::from_unix_ms),
        disabled: row.int("disabled")? != 0,
        revision: unsigned(row.int("revision")?)?,
        last_used_at: row.opt_int("last_used_at")?.map(Timestamp::from_unix_ms),
    })
}

/// Splits the column `permissions` into machine names.
pub(super) fn split_permissions(column: &str) -> impl Iterator<Item = &str> {
    column.split(',').filter(|name| !name.is_empty())
}

impl KeyRecord {
    /// Returns whether filters accept the key at `now`.
    pub fn status(&self, now: Timestamp) -> Status {
        match self.expires_at {
            _ if self.disabled => Status::Disabled,
            Some(at) if at <= now => Status::Expired,
            _ => Status::Active,
        }
    }

    /// Returns the record as the manifest and the checksum hold it.
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

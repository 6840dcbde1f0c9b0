//! What filters fetch: changes since a revision, and the removal of old tombstones.

use super::database::Store;
use super::error::{Error, Result};
use super::head::{Head, missing_row, read_head, select_head, signed, unsigned};
use super::record::split_permissions;
use super::sql::{Arg, Priority, Row};
use keyward_policy::manifest::{Change as WireChange, LiveKey};
use keyward_policy::timeline::{Mark, Point};
use keyward_policy::timestamp::Timestamp;
use std::borrow::Cow;

/// How many revisions back marks are kept.
const MAX_KEPT_MARKS: u64 = 100_000;

/// The newest change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChange {
    /// The key is live, as given.
    Live(ManifestKey),
    /// The key is gone.
    Deleted {
        /// Of the delete.
        revision: u64,
        /// Which key.
        id: String,
    },
}

/// Of a key, what filters get to know.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct ManifestKey {
    revision: i64,
    /// Which key.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// In lower-case hex.
    sha256: String,
    /// Joined by commas.
    permissions: String,
    expires_at: Option<i64>,
    disabled: i64,
}

impl ManifestKey {
    fn read(row: &Row) -> sqlx::Result<Self> {
        Ok(Self {
            revision: row.int(0)?,
            id: row.text(1)?,
            name: row.text(2)?,
            sha256: row.text(3)?,
            permissions: row.text(4)?,
            expires_at: row.opt_int(5)?,
            disabled: row.int(6)?,
        })
    }

    /// As it stands in the manifest and in the checksum: just as [`KeyRecord::wire`](super::KeyRecord::wire).
    pub fn wire(&self) -> LiveKey<'_> {
        let expires_at = self.expires_at.map(|ms| Cow::Owned(Timestamp::from_unix_ms(ms).to_string()));
        LiveKey {
            revision: self.revision.unsigned_abs(),
            id: Cow::Borrowed(&self.id),
            name: Cow::Borrowed(&self.name),
            sha256: Cow::Borrowed(&self.sha256),
            permissions: split_permissions(&self.permissions).map(Cow::Borrowed).collect(),
            expires_at,
            disabled: self.disabled != 0,
            must: Vec::new(),
        }
    }
}

impl KeyChange {
    /// Its revision.
    pub fn revision(&self) -> u64 {
        match self {
            Self::Live(key) => key.revision.unsigned_abs(),
            Self::Deleted { revision, .. } => *revision,
        }
    }

    /// As it stands in the manifest.
    pub fn wire(&self) -> WireChange<'_> {
        match self {
            Self::Live(key) => WireChange::Live(key.wire()),
            Self::Deleted { revision, id } => WireChange::Deleted { revision: *revision, id: Cow::Borrowed(id) },
        }
    }
}

/// One page of changes, all of one state of the store.
#[derive(Debug, Clone)]
pub struct Changes {
    /// The store at that moment.
    pub head: Head,
    /// In rising order of revision.
    pub changes: Vec<KeyChange>,
    /// Where the next page begins; the head's where there is none.
    pub revision: u64,
    /// Whether there is a next page.
    pub more: bool,
}

impl Changes {
    /// The same as pages of up to `limit` changes; one without any where there are none.
    pub fn split(self, limit: usize) -> Vec<Self> {
        let Self { head, mut changes, revision, more } = self;
        let mut pages = Vec::new();
        while changes.len() > limit {
            let rest = changes.split_off(limit);
            let revision = changes.last().map_or(revision, KeyChange::revision);
            pages.push(Self {
                head: head.clone(),
                changes: std::mem::replace(&mut changes, rest),
                revision,
                more: true,
            });
        }
        pages.push(Self { head, changes, revision, more });
        pages
    }
}

/// All in one row of one statement, which sees one state of the store: the SQLite driver hands each statement to its thread
/// and each row back, which takes longer than reading it. A load of 200,000 keys in pages of 150 took 1.2 s with a row for
/// each key, and takes 0.7 s. `$1` is `since`, `$2` the later of it and `base`, `$3` the most keys and the most tombstones.
const SQLITE_ALL: &str = select_head!(
    "''",
    ", (SELECT json_group_array(json_array(revision, id, name, lower(hex(sha256)), permissions, expires_at, disabled)) \
     FROM (SELECT * FROM keys WHERE revision > $1 ORDER BY revision LIMIT $3)) AS live, \
     (SELECT json_group_array(json_array(revision, id)) \
     FROM (SELECT * FROM tombstones WHERE revision > $2 ORDER BY revision LIMIT $3)) AS dead"
);
const POSTGRES_LIVE: &str = "SELECT revision, id, name, encode(sha256, 'hex'), permissions, expires_at, disabled \
    FROM keys WHERE revision > $1 ORDER BY revision LIMIT $2";
const POSTGRES_DEAD: &str = "SELECT revision, id FROM tombstones WHERE revision > $1 ORDER BY revision LIMIT $2";

impl Store {
    /// Up to `limit` changes after `since`, without the tombstones up to `base`, which the asker has no use for.
    ///
    /// # Errors
    /// Returns [`Error::Forked`] where `mark` is given and is not the mark of `since`, [`Error::Ahead`] where `since` or `base` is
    /// later than the store, [`Error::Compacted`] where a tombstone after `base` is gone (never for `since` 0, from where
    /// there is nothing to unlearn); or when the database cannot be read.
    pub async fn changes(&self, since: u64, base: u64, mark: Option<Mark>, limit: u32) -> Result<Changes> {
        let asker = Point { revision: since, mark: mark.unwrap_or_default() };
        let check = |row: Option<&Row>| {
            let head = read_head(row, asker)?;
            if since.max(base) > head.revision {
                return Err(Error::Ahead(head.revision));
            }
            if mark.is_some() && head.after.is_none() {
                return Err(Error::Forked(head.revision));
            }
            if since > 0 && base < head.compacted {
                return Err(Error::Compacted(head.compacted));
            }
            Ok(head)
        };
        let limit = limit as usize;
        let (since, base) = (Arg::Int(signed(since)), Arg::Int(signed(since.max(base))));
        let one_more = Arg::Int(signed(limit as u64 + 1));
        let (head, mut changes) = if self.pool.is_postgres() {
            let mut tx = self.pool.begin_read().await?;
            let head = check(tx.row(self.head_sql.select, &[since]).await?.as_ref())?;
            let mut changes = Vec::new();
            for row in tx.rows(POSTGRES_LIVE, &[since, one_more]).await? {
                changes.push(KeyChange::Live(ManifestKey::read(&row)?));
            }
            for row in tx.rows(POSTGRES_DEAD, &[base, one_more]).await? {
                changes.push(KeyChange::Deleted { revision: unsigned(row.int(0)?)?, id: row.text(1)? });
            }
            tx.commit().await?;
            (head, changes)
        } else {
            let row = self.pool.row(SQLITE_ALL, &[since, base, one_more]).await?.ok_or_else(missing_row)?;
            let head = check(Some(&row))?;
            let corrupt = |_| Error::Corrupt("the columns of some key".into());
            let live: Vec<ManifestKey> = serde_json::from_str(&row.text("live")?).map_err(corrupt)?;
            let dead: Vec<(u64, String)> = serde_json::from_str(&row.text("dead")?).map_err(corrupt)?;
            let live = live.into_iter().map(KeyChange::Live);
            let dead = dead.into_iter().map(|(revision, id)| KeyChange::Deleted { revision, id });
            (head, live.chain(dead).collect())
        };
        changes.sort_unstable_by_key(KeyChange::revision);
        let more = changes.len() > limit;
        changes.truncate(limit);
        let revision = match changes.last() {
            Some(last) if more => last.revision(),
            _ => head.revision,
        };
        Ok(Changes { head, changes, revision, more })
    }

    /// Removes the tombstones of deletes before `before`; none: there were none.
    ///
    /// # Errors
    /// Returns an error when the database cannot be written: then nothing was.
    pub async fn compact(&self, before: Timestamp) -> Result<Option<Head>> {
        const NEWEST: &str = "SELECT MAX(revision) FROM tombstones WHERE deleted_at < $1";
        let before = [Arg::Int(before.unix_ms())];
        let newest = |row: Option<Row>| row.map_or(Ok(None), |row| row.opt_int(0));
        if newest(self.pool.row(NEWEST, &before).await?)?.is_none() {
            return Ok(None);
        }
        let mut change = self.change_as(Priority::Background).await?;
        let row = change.tx.row(NEWEST, &before).await?;
        let Some(newest) = newest(row)? else { return Ok(None) };
        change.tx.execute("DELETE FROM tombstones WHERE revision <= $1", &[Arg::Int(newest)]).await?;
        change.head.compacted = change.head.compacted.max(unsigned(newest)?);
        // Whoever is further behind than this loads everything anew in any case.
        let oldest = change.head.revision.saturating_sub(MAX_KEPT_MARKS);
        let sql = "DELETE FROM timeline WHERE revision < $1";
        change.tx.execute(sql, &[Arg::Int(signed(oldest))]).await?;
        Ok(Some(change.commit().await?))
    }
}

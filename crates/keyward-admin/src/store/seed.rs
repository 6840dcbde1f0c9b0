//! Creates many keys at once, for benchmarks: the rows of [`Store::create_key`], with audit entries of other times.

use super::database::Store;
use super::error::Result;
use super::head::Head;
use super::keys::By;
use super::record::KeyRecord;
use super::search;
use super::sql::Arg;
use crate::lifetime::Lifetime;
use crate::random;
use crate::secret::Secret;
use serde_json::json;

/// The time over which audit entries are spread.
const MINUTES: u32 = 2_000_000;

impl Store {
    /// Creates a key for each secret, named `seed-0000001` and so on from `first`, in one transaction.
    ///
    /// # Errors
    /// Returns an error when the database cannot be written, or a name is taken: then nothing was.
    pub async fn seed(&self, first: u32, secrets: &[Secret], by: By<'_>) -> Result<Head> {
        const SETS: [&[&str]; 4] = [
            &["records:read"],
            &["records:read", "files:read"],
            &["records:read", "records:write"],
            &["records:read", "records:write", "records:delete", "files:read", "files:write"],
        ];
        let mut change = self.change().await?;
        let mut keys = Vec::with_capacity(secrets.len());
        for (n, secret) in (first..).zip(secrets) {
            let lifetime = if n % 3 == 0 { Lifetime::Never } else { Lifetime::HalfYear };
            let key = KeyRecord {
                seq: 0,
                id: format!("key_{}", random::base32_16()),
                name: format!("seed-{n:07}"),
                digest: secret.digest(),
                prefix: "kw".to_owned(),
                last_four: secret.last_four().to_owned(),
                permissions: SETS[n as usize % SETS.len()].iter().map(|name| (*name).to_owned()).collect(),
                created_at: by.at,
                regenerated_at: None,
                expires_in: lifetime,
                expires_at: lifetime.expires_at(by.at),
                disabled: false,
                revision: change.next_revision(),
                last_used_at: None,
            };
            change.added(&key.wire());
            keys.push(key);
        }
        let rows: Vec<_> = keys
            .iter()
            .map(|key| {
                json!({
                    "i": key.id, "n": key.name, "d": key.digest.to_hex(), "l": key.last_four,
                    "p": key.permissions.join(","), "c": key.created_at.unix_ms(), "t": key.expires_in.as_str(),
                    "e": key.expires_at.map(|at| at.unix_ms()), "r": key.revision, "s": search::text(key),
                    "f": search::fold(&search::text(key)),
                })
            })
            .collect();
        // The entries are a minute apart and end before now, so that a day is a small part of the log.
        let minutes = |n: u32| by.at.unix_ms() - i64::from(MINUTES - n % MINUTES) * 60_000;
        let entries: Vec<_> = (first..)
            .zip(&keys)
            .map(|(n, key)| {
                let action = if n % 1_000 == 0 { "key.regenerate" } else { "key.create" };
                json!({"t": minutes(n), "a": action, "i": key.id, "n": key.name, "r": key.revision})
            })
            .collect();
        let entries = json!(entries).to_string();
        let starts: Vec<_> =
            keys.iter().flat_map(|key| search::starts(key).into_iter().map(|start| (start, &key.id))).collect();
        let rows = json!(rows).to_string();
        let starts = json!(starts).to_string();
        if change.tx.is_postgres() {
            change
                .tx
                .execute(
                    "INSERT INTO keys (id, name, sha256, prefix, last_four, permissions, created_at, expires_in, \
                     expires_at, disabled, revision, search, folded) SELECT i, n, decode(d, 'hex'), 'kw', l, p, c, t, e, 0, r, s, f \
                     FROM jsonb_to_recordset($1::jsonb) AS x (i text, n text, d text, l text, p text, c bigint, t text, \
                     e bigint, r bigint, s text, f text) ORDER BY r",
                    &[Arg::Text(&rows)],
                )
                .await?;
            change
                .tx
                .execute(
                    "INSERT INTO key_prefixes (prefix, seq) SELECT e ->> 0, k.seq FROM jsonb_array_elements($1::jsonb) e \
                     JOIN keys k ON k.id = e ->> 1",
                    &[Arg::Text(&starts)],
                )
                .await?;
        } else {
            change
                .tx
                .execute(
                    "INSERT INTO keys (id, name, sha256, prefix, last_four, permissions, created_at, expires_in, \
                     expires_at, disabled, revision) SELECT value ->> 'i', value ->> 'n', unhex(value ->> 'd'), 'kw', \
                     value ->> 'l', value ->> 'p', value ->> 'c', value ->> 't', value ->> 'e', 0, value ->> 'r' \
                     FROM json_each($1) ORDER BY key",
                    &[Arg::Text(&rows)],
                )
                .await?;
            change
                .tx
                .execute(
                    "INSERT INTO key_search (rowid, text) SELECT k.seq, e.value ->> 's' FROM json_each($1) e \
                     JOIN keys k ON k.id = e.value ->> 'i' ORDER BY k.seq",
                    &[Arg::Text(&rows)],
                )
                .await?;
            change
                .tx
                .execute(
                    "INSERT INTO key_prefixes (prefix, seq) SELECT e.value ->> 0, k.seq FROM json_each($1) e \
                     JOIN keys k ON k.id = e.value ->> 1",
                    &[Arg::Text(&starts)],
                )
                .await?;
        }
        let sql = if change.tx.is_postgres() {
            "INSERT INTO audit (at, actor, action, subject_id, subject_name, revision, detail) \
             SELECT t, $2, a, i, n, r, '{}' FROM jsonb_to_recordset($1::jsonb) \
             AS x (t bigint, a text, i text, n text, r bigint) ORDER BY r"
        } else {
            "INSERT INTO audit (at, actor, action, subject_id, subject_name, revision, detail) \
             SELECT value ->> 't', $2, value ->> 'a', value ->> 'i', value ->> 'n', value ->> 'r', '{}' \
             FROM json_each($1) ORDER BY key"
        };
        change.tx.execute(sql, &[Arg::Text(&entries), Arg::Text(by.actor)]).await?;
        change.commit().await
    }
}

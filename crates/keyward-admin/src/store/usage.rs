//! How often and when each key was used, as filters report it in batches.

use super::database::Store;
use super::error::Result;
use super::head::{signed, unsigned};
use super::sql::Arg;
use keyward_policy::timestamp::Timestamp;
use serde_json::json;

/// What one VM tells of one key since its last batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUsage {
    /// Which key.
    pub id: String,
    /// Requests let through.
    pub count: u64,
    /// The newest of them.
    pub last_used_at: Timestamp,
    /// How many of them needed each permission.
    pub permissions: Vec<(String, u64)>,
}

/// How often one permission of a key, or the key as a whole, was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageTotal {
    /// A machine name; empty: the key as a whole.
    pub permission: String,
    /// Requests let through.
    pub count: u64,
    /// The newest of them.
    pub last_used_at: Timestamp,
}

impl Store {
    /// Adds a batch unless this one or a later one of the same VM was added before; whether it was. Keys that are gone
    /// are passed over. The ids, and the permissions of one id, must not repeat. Sums end where JSON would no longer
    /// carry them exactly.
    ///
    /// # Errors
    /// When the database cannot be written: then nothing was.
    pub async fn add_usage(&self, vm: &str, seq: u64, keys: &[KeyUsage], now: Timestamp) -> Result<bool> {
        /// As in the statements.
        const MOST: u64 = 9_000_000_000_000_000;
        const SQLITE: &str = "INSERT INTO key_usage (key_id, permission, count, last_used_at) \
            SELECT e.value ->> 0, e.value ->> 1, e.value ->> 2, e.value ->> 3 FROM json_each($1) e \
            WHERE EXISTS (SELECT 1 FROM keys WHERE id = e.value ->> 0) \
            ON CONFLICT (key_id, permission) DO UPDATE SET count = min(count + excluded.count, 9000000000000000), \
            last_used_at = max(last_used_at, excluded.last_used_at)";
        const POSTGRES: &str = "INSERT INTO key_usage (key_id, permission, count, last_used_at) \
            SELECT e ->> 0, e ->> 1, (e ->> 2)::bigint, (e ->> 3)::bigint FROM jsonb_array_elements($1::jsonb) e \
            WHERE EXISTS (SELECT 1 FROM keys WHERE id = e ->> 0) \
            ON CONFLICT (key_id, permission) DO UPDATE SET count = least(key_usage.count + excluded.count, 9000000000000000), \
            last_used_at = greatest(key_usage.last_used_at, excluded.last_used_at)";

        let mut rows = Vec::new();
        for key in keys {
            let at = key.last_used_at.min(now).unix_ms();
            rows.push((key.id.as_str(), "", key.count.min(MOST), at));
            let permissions = key.permissions.iter();
            rows.extend(permissions.map(|(name, count)| (key.id.as_str(), name.as_str(), (*count).min(MOST), at)));
        }
        // In one order, so that two batches never wait for each other's rows.
        rows.sort_unstable();

        let mut tx = self.pool.begin_write().await?;
        let newer = "INSERT INTO usage_batches (vm, seq, received_at) VALUES ($1, $2, $3) \
                     ON CONFLICT (vm) DO UPDATE SET seq = excluded.seq, received_at = excluded.received_at \
                     WHERE usage_batches.seq < excluded.seq";
        let args = [Arg::Text(vm), Arg::Int(signed(seq)), Arg::Int(now.unix_ms())];
        if tx.execute(newer, &args).await? == 0 {
            return Ok(false);
        }
        let sql = if tx.is_postgres() { POSTGRES } else { SQLITE };
        tx.execute(sql, &[Arg::Text(&json!(rows).to_string())]).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// What is known of a key's use: the whole and each permission that was ever needed.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn key_usage(&self, id: &str) -> Result<Vec<UsageTotal>> {
        let sql = "SELECT permission, count, last_used_at FROM key_usage WHERE key_id = $1 ORDER BY permission";
        let rows = self.pool.rows(sql, &[Arg::Text(id)]).await?;
        rows.iter()
            .map(|row| {
                Ok(UsageTotal {
                    permission: row.text(0)?,
                    count: unsigned(row.int(1)?)?,
                    last_used_at: Timestamp::from_unix_ms(row.int(2)?),
                })
            })
            .collect()
    }

    /// Forgets the batch numbers of VMs that have not reported since `before`.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn forget_batches(&self, before: Timestamp) -> Result<()> {
        let mut tx = self.pool.begin_write().await?;
        tx.execute("DELETE FROM usage_batches WHERE received_at < $1", &[Arg::Int(before.unix_ms())]).await?;
        Ok(tx.commit().await?)
    }
}

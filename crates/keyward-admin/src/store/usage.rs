//! The number and time of uses of each key, which filters report in batches.

use super::database::Store;
use super::error::Result;
use super::head::{signed, unsigned};
use super::search::Property;
use super::sql::{Arg, Priority, Tx};
use super::usage_days::{self, DayRow};
use super::usage_report::{KeyUsage, MAX_SUM, Requests};
use keyward_policy::timestamp::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;
use std::ops::Range;

/// The number of rows that one transaction writes. It is small, so that a person's change does not wait long, but as large
/// as the batches that filters send.
const MAX_ROWS: usize = 2_000;

/// The uses of one permission of a key, or of the key as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageTotal {
    /// The machine name of the permission. The empty name stands for the key as a whole.
    pub permission: String,
    /// The number of allowed requests.
    pub count: u64,
    /// When the newest of them was allowed.
    pub last_used_at: Timestamp,
}

/// Key, permission, count and time.
type UsageRow<'a> = (&'a str, &'a str, u64, i64);

/// What a batch adds to the tables, in the order in which it is added.
struct Rows<'a> {
    totals: Vec<UsageRow<'a>>,
    days: Vec<DayRow<'a>>,
}

impl Store {
    /// Adds a batch, unless this one or a later one of the same instance was added before. Returns whether it was added
    /// now. Keys that do not exist are passed over. An id that is given twice is added up. Requests of days that are
    /// not kept are in the totals of their key only.
    ///
    /// A large batch is added in several transactions, and other writes may come between them. If one of them fails, the
    /// same batch sent again continues where the first one ended.
    ///
    /// # Errors
    /// Returns an error when the database cannot be written.
    pub async fn add_usage(&self, vm: &str, seq: u64, keys: &[KeyUsage], now: Timestamp) -> Result<bool> {
        let rows = Rows::new(keys, now);
        let mut known = None;
        loop {
            let mut tx = self.pool.begin_write(Priority::Background).await?;
            let added = match known {
                Some(added) => added,
                None => match begin_batch(&mut tx, vm, seq, now).await? {
                    Some(added) if added <= rows.len() => added,
                    _ => return Ok(false),
                },
            };
            let next = rows.len().min(added + MAX_ROWS);
            let is_last = next >= rows.len();
            if !advance_batch(&mut tx, vm, seq, added, (!is_last).then_some(next)).await? {
                // Somebody else is adding the same batch.
                return Ok(false);
            }
            rows.add(&mut tx, vm, added..next).await?;
            tx.commit().await?;
            if is_last {
                return Ok(true);
            }
            known = Some(next);
        }
    }

    /// Returns the use of a key: as a whole first, then for each permission that was ever needed.
    ///
    /// # Errors
    /// Returns an error when the database cannot be read.
    pub async fn key_usage(&self, id: &str) -> Result<Vec<UsageTotal>> {
        let sql = "SELECT permission, count, last_used_at FROM key_usage WHERE key_id = $1 ORDER BY permission";
        let rows = self.pool.rows(sql, &[Arg::Text(id)]).await?;
        rows.iter()
            .map(|row| {
                Ok(UsageTotal {
                    permission: row.text("permission")?,
                    count: unsigned(row.int("count")?)?,
                    last_used_at: Timestamp::from_unix_ms(row.int("last_used_at")?),
                })
            })
            .collect()
    }

    /// Forgets the batch numbers of instances that have not reported since `before`.
    ///
    /// # Errors
    /// Returns an error when the database cannot be written.
    pub async fn forget_batches(&self, before: Timestamp) -> Result<()> {
        let mut tx = self.pool.begin_write(Priority::Background).await?;
        tx.execute("DELETE FROM usage_batches WHERE received_at < $1", &[Arg::Int(before.unix_ms())]).await?;
        tx.commit().await
    }
}

/// Takes the batch's number and returns how many of its rows were added already. `None` means that all were, or that a
/// later batch was.
async fn begin_batch(tx: &mut Tx, vm: &str, seq: u64, now: Timestamp) -> Result<Option<usize>> {
    const BEGIN: &str = "INSERT INTO usage_batches (vm, seq, received_at, added) VALUES ($1, $2, $3, 0) \
        ON CONFLICT (vm) DO UPDATE SET seq = excluded.seq, received_at = excluded.received_at, added = 0 \
        WHERE usage_batches.seq < excluded.seq";
    const ADDED: &str = "SELECT added FROM usage_batches WHERE vm = $1 AND seq = $2";
    if tx.execute(BEGIN, &[Arg::Text(vm), Arg::Int(signed(seq)), Arg::Int(now.unix_ms())]).await? > 0 {
        return Ok(Some(0));
    }
    let row = tx.row(ADDED, &[Arg::Text(vm), Arg::Int(signed(seq))]).await?;
    let added = row.map_or(Ok(None), |row| row.opt_int("added"))?;
    Ok(added.map(unsigned).transpose()?.and_then(|added| usize::try_from(added).ok()))
}

/// Notes that a batch is about to have `next` rows added, or all with `None`; returns whether it had `added` before.
async fn advance_batch(tx: &mut Tx, vm: &str, seq: u64, added: usize, next: Option<usize>) -> Result<bool> {
    let sql = "UPDATE usage_batches SET added = $4 WHERE vm = $1 AND seq = $2 AND added = $3";
    let next = next.map(|next| signed(next as u64));
    let args = [Arg::Text(vm), Arg::Int(signed(seq)), Arg::Int(signed(added as u64)), Arg::OptInt(next)];
    Ok(tx.execute(sql, &args).await? > 0)
}

async fn add_rows(tx: &mut Tx, rows: &[UsageRow<'_>]) -> Result<()> {
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
    const SQLITE_USED: &str = "DELETE FROM key_prefixes WHERE prefix = $2 AND seq IN \
        (SELECT k.seq FROM json_each($1) e JOIN keys k ON k.id = e.value ->> 0 WHERE e.value ->> 1 = '')";
    const POSTGRES_USED: &str = "DELETE FROM key_prefixes WHERE prefix = $2 AND seq IN \
        (SELECT k.seq FROM jsonb_array_elements($1::jsonb) e JOIN keys k ON k.id = e ->> 0 WHERE e ->> 1 = '')";
    let (sql, used) = if tx.is_postgres() { (POSTGRES, POSTGRES_USED) } else { (SQLITE, SQLITE_USED) };
    let rows = json!(rows).to_string();
    tx.execute(sql, &[Arg::Text(&rows)]).await?;
    tx.execute(used, &[Arg::Text(&rows), Arg::Text(&Property::NeverUsed.to_string())]).await?;
    Ok(())
}

impl<'a> Rows<'a> {
    /// Adds up a batch. The rows are in one order, so that two batches never wait for each other's rows, and so that a
    /// batch that is sent again has the same rows in the same places.
    fn new(keys: &'a [KeyUsage], now: Timestamp) -> Self {
        let mut totals: BTreeMap<(&str, &str), (u64, i64)> = BTreeMap::new();
        for key in keys {
            let Requests::Allowed { count, permissions } = &key.requests else { continue };
            let at = key.at.min(now).unix_ms();
            let needed = permissions.iter().map(|(name, count)| (name.as_str(), *count));
            for (name, count) in std::iter::once(("", *count)).chain(needed) {
                let total = totals.entry((&key.id, name)).or_insert((0, at));
                *total = (total.0.saturating_add(count), total.1.max(at));
            }
        }
        let row = |((id, name), (count, at)): ((&'a str, &'a str), (u64, i64))| (id, name, count.min(MAX_SUM), at);
        Self { totals: totals.into_iter().map(row).collect(), days: usage_days::rows_of(keys, now) }
    }

    fn len(&self) -> usize {
        self.totals.len() + self.days.len()
    }

    /// Adds the rows at these places.
    async fn add(&self, tx: &mut Tx, vm: &str, places: Range<usize>) -> Result<()> {
        let first = self.totals.len();
        if let Some(some) =
            self.totals.get(places.start.min(first)..places.end.min(first)).filter(|some| !some.is_empty())
        {
            add_rows(tx, some).await?;
        }
        let days = places.start.saturating_sub(first)..places.end.saturating_sub(first);
        if let Some(some) = self.days.get(days).filter(|some| !some.is_empty()) {
            usage_days::add_rows(tx, vm, some).await?;
        }
        Ok(())
    }
}

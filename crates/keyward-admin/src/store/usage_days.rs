//! The number of requests by key and day, allowed ones and denied ones, of the newest days.

use super::database::Store;
use super::error::Result;
use super::head::unsigned;
use super::sql::{Arg, Priority, Tx};
use super::usage_report::{KeyUsage, MAX_SUM, Requests};
use keyward_policy::timestamp::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// The number of days that are kept, today included.
pub const MAX_DAYS: i64 = 90;
/// How far a filter's clock may be ahead. Requests of the next day are counted today.
const MAX_DAYS_AHEAD: i64 = 1;
/// The rows over which the sum of one day and code is spread.
const PARTS: u64 = 16;
/// The number of rows that one transaction deletes. It is small, so that a person's change does not wait long.
const MAX_DELETED_ROWS: i64 = 2_000;

/// Key, day, code and count.
pub(super) type DayRow<'a> = (&'a str, i64, &'a str, u64);

/// The number of requests of one day that were decided in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayCount {
    /// The number of UTC days since 1970-01-01.
    pub day: i64,
    /// The code of the denial. The empty text stands for requests that were allowed.
    pub code: String,
    /// The number of requests.
    pub count: u64,
}

/// Returns the day that requests at `at` are counted on. `None` means that they are too old, or that the moment is
/// invented.
fn day_of(at: Timestamp, now: Timestamp) -> Option<i64> {
    let today = now.day();
    let is_kept = (today - MAX_DAYS + 1..=today + MAX_DAYS_AHEAD).contains(&at.day());
    is_kept.then(|| at.day().min(today))
}

/// Returns how many requests of a batch belong to no day that is kept.
pub fn outside(keys: &[KeyUsage], now: Timestamp) -> u64 {
    let dropped = keys.iter().filter(|key| day_of(key.at, now).is_none());
    dropped.fold(0, |sum: u64, key| match &key.requests {
        Requests::Allowed { count, .. } => sum.saturating_add(*count),
        Requests::Denied(codes) => codes.iter().fold(sum, |sum, (_, count)| sum.saturating_add(*count)),
    })
}

/// Adds up a batch by key, day and code.
pub(super) fn rows_of(keys: &[KeyUsage], now: Timestamp) -> Vec<DayRow<'_>> {
    let mut sums: BTreeMap<(&str, i64, &str), u64> = BTreeMap::new();
    for key in keys {
        let Some(day) = day_of(key.at, now) else { continue };
        let mut add = |code: &'static str, count: u64| {
            let sum = sums.entry((&key.id, day, code)).or_default();
            *sum = sum.saturating_add(count);
        };
        match &key.requests {
            Requests::Allowed { count, .. } => add("", *count),
            Requests::Denied(codes) => codes.iter().for_each(|(code, count)| add(code.as_str(), *count)),
        }
    }
    let counted = sums.into_iter().filter(|(_, count)| *count > 0);
    counted.map(|((id, day, code), count)| (id, day, code, count.min(MAX_SUM))).collect()
}

/// Adds rows to those of their keys and to those of all keys together.
pub(super) async fn add_rows(tx: &mut Tx, vm: &str, rows: &[DayRow<'_>]) -> Result<()> {
    const SQLITE: &str = "INSERT INTO usage_days (key_id, day, code, count) \
        SELECT e.value ->> 0, e.value ->> 1, e.value ->> 2, e.value ->> 3 FROM json_each($1) e \
        WHERE EXISTS (SELECT 1 FROM keys WHERE id = e.value ->> 0) \
        ON CONFLICT (key_id, day, code) DO UPDATE SET count = min(count + excluded.count, 9000000000000000)";
    const POSTGRES: &str = "INSERT INTO usage_days (key_id, day, code, count) \
        SELECT e ->> 0, (e ->> 1)::bigint, e ->> 2, (e ->> 3)::bigint FROM jsonb_array_elements($1::jsonb) e \
        WHERE EXISTS (SELECT 1 FROM keys WHERE id = e ->> 0) \
        ON CONFLICT (key_id, day, code) DO UPDATE SET count = least(usage_days.count + excluded.count, 9000000000000000)";
    const SQLITE_TOTALS: &str = "INSERT INTO usage_totals (day, code, part, count) \
        SELECT e.value ->> 1, e.value ->> 2, $2, min(sum(e.value ->> 3), 9000000000000000) FROM json_each($1) e \
        WHERE EXISTS (SELECT 1 FROM keys WHERE id = e.value ->> 0) GROUP BY 1, 2 \
        ON CONFLICT (day, code, part) DO UPDATE SET count = min(count + excluded.count, 9000000000000000)";
    const POSTGRES_TOTALS: &str = "INSERT INTO usage_totals (day, code, part, count) \
        SELECT (e ->> 1)::bigint, e ->> 2, $2, least(sum((e ->> 3)::bigint), 9000000000000000)::bigint \
        FROM jsonb_array_elements($1::jsonb) e \
        WHERE EXISTS (SELECT 1 FROM keys WHERE id = e ->> 0) GROUP BY 1, 2 ORDER BY 1, 2 \
        ON CONFLICT (day, code, part) DO UPDATE SET count = least(usage_totals.count + excluded.count, 9000000000000000)";
    let (days, totals) = if tx.is_postgres() { (POSTGRES, POSTGRES_TOTALS) } else { (SQLITE, SQLITE_TOTALS) };
    let mut hasher = DefaultHasher::new();
    vm.hash(&mut hasher);
    let part = i64::try_from(hasher.finish() % PARTS).unwrap_or_default();
    let rows = json!(rows).to_string();
    tx.execute(days, &[Arg::Text(&rows)]).await?;
    tx.execute(totals, &[Arg::Text(&rows), Arg::Int(part)]).await?;
    Ok(())
}

impl Store {
    /// Returns the requests of a key since a day, or of all keys together without an id: days in their order, and of a
    /// day the allowed requests first.
    ///
    /// # Errors
    /// Returns an error when the database cannot be read.
    pub async fn usage_days(&self, id: Option<&str>, since: i64) -> Result<Vec<DayCount>> {
        const KEY: &str = "SELECT day, code, count FROM usage_days WHERE key_id = $1 AND day >= $2 ORDER BY day, code";
        const SQLITE_ALL: &str = "SELECT day, code, min(sum(count), 9000000000000000) AS count FROM usage_totals \
            WHERE day >= $1 GROUP BY day, code ORDER BY day, code";
        const POSTGRES_ALL: &str = "SELECT day, code, least(sum(count), 9000000000000000)::bigint AS count FROM usage_totals \
            WHERE day >= $1 GROUP BY day, code ORDER BY day, code";
        let all = if self.pool.is_postgres() { POSTGRES_ALL } else { SQLITE_ALL };
        let rows = match id {
            Some(id) => self.pool.rows(KEY, &[Arg::Text(id), Arg::Int(since)]).await?,
            None => self.pool.rows(all, &[Arg::Int(since)]).await?,
        };
        let count = |row: &super::sql::Row| {
            Ok(DayCount { day: row.int("day")?, code: row.text("code")?, count: unsigned(row.int("count")?)? })
        };
        rows.iter().map(count).collect()
    }

    /// Returns the keys of which the most requests were denied on a day, `limit` at most, with the number of these requests.
    ///
    /// # Errors
    /// Returns an error when the database cannot be read.
    pub async fn most_denied(&self, day: i64, limit: u32) -> Result<Vec<(String, u64)>> {
        const SQLITE: &str = "SELECT key_id, min(sum(count), 9000000000000000) AS count FROM usage_days \
            WHERE day = $1 AND code <> '' GROUP BY key_id ORDER BY 2 DESC, key_id LIMIT $2";
        const POSTGRES: &str = "SELECT key_id, least(sum(count), 9000000000000000)::bigint AS count FROM usage_days \
            WHERE day = $1 AND code <> '' GROUP BY key_id ORDER BY 2 DESC, key_id LIMIT $2";
        let sql = if self.pool.is_postgres() { POSTGRES } else { SQLITE };
        let rows = self.pool.rows(sql, &[Arg::Int(day), Arg::Int(limit.into())]).await?;
        rows.iter().map(|row| Ok((row.text("key_id")?, unsigned(row.int("count")?)?))).collect()
    }

    /// Deletes the requests of days that are not kept any more.
    ///
    /// # Errors
    /// Returns an error when the database cannot be written.
    pub async fn forget_usage_days(&self, now: Timestamp) -> Result<()> {
        const DAYS: &str = "DELETE FROM usage_days WHERE (key_id, day, code) IN \
            (SELECT key_id, day, code FROM usage_days WHERE day < $1 LIMIT $2)";
        let first = Arg::Int(now.day() - MAX_DAYS + 1);
        loop {
            let mut tx = self.pool.begin_write(Priority::Background).await?;
            let deleted = tx.execute(DAYS, &[first, Arg::Int(MAX_DELETED_ROWS)]).await?;
            tx.commit().await?;
            if deleted < MAX_DELETED_ROWS.unsigned_abs() {
                break;
            }
        }
        let mut tx = self.pool.begin_write(Priority::Background).await?;
        tx.execute("DELETE FROM usage_totals WHERE day < $1", &[first]).await?;
        tx.commit().await
    }
}

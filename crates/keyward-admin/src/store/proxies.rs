//! Tables of keys that filter instances may serve from, kept so that a restarted service still counts those that may
//! hold an old key.

use super::database::{CONFIRM, RECEIPTS, Store};
use super::error::Result;
use super::head::unsigned;
use super::sql::{Arg, Priority};
use keyward_policy::timeline::{Enforcement, InlineKeys};
use serde_json::json;
use std::time::Duration;

/// A table of a filter instance, as its last poll described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyRecord {
    /// The Envoy that the instance runs in.
    pub node: String,
    /// The instance's name.
    pub vm: String,
    /// The instance's name for the table. Empty where the filter sends none.
    pub table: String,
    /// The token that the table is fetched with. Empty where it was not kept.
    pub token: String,
    /// The version of the filter.
    pub filter: String,
    /// How long the table serves without contact. `None` means no limit.
    pub max_staleness: Option<Duration>,
    /// Whether the instance refuses anything. `None` means that it does not say.
    pub mode: Option<Enforcement>,
    /// Whether the configuration has keys of its own. `None` means that the instance does not say.
    pub inline_keys: Option<InlineKeys>,
    /// Whether the table counts. One of an older filter that asked once may be that of an instance which Envoy threw
    /// away.
    pub counts: bool,
    /// Differs with each write of the row.
    pub stamp: i64,
}

impl Store {
    /// All tables that are kept.
    ///
    /// # Errors
    /// Returns an error when the database cannot be read.
    pub async fn proxies(&self) -> Result<Vec<ProxyRecord>> {
        let sql = "SELECT node, vm, table_id, token, filter, max_staleness_ms, mode, inline_keys, counts, stamp \
                   FROM known_tables";
        let rows = self.pool.rows(sql, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(ProxyRecord {
                    node: row.text("node")?,
                    vm: row.text("vm")?,
                    table: row.text("table_id")?,
                    token: row.text("token")?,
                    filter: row.text("filter")?,
                    max_staleness: row
                        .opt_int("max_staleness_ms")?
                        .map(unsigned)
                        .transpose()?
                        .map(Duration::from_millis),
                    mode: Enforcement::parse(&row.text("mode")?),
                    inline_keys: InlineKeys::parse(&row.text("inline_keys")?),
                    counts: row.int("counts")? != 0,
                    stamp: row.int("stamp")?,
                })
            })
            .collect()
    }

    /// Keeps some, and tells the other replicas of them in the same transaction.
    ///
    /// # Errors
    /// Returns an error when the database cannot be written: then nothing was.
    pub async fn save_proxies(&self, records: &[ProxyRecord], messages: &[String]) -> Result<()> {
        const SQLITE: &str = "INSERT INTO known_tables (node, vm, table_id, token, filter, max_staleness_ms, mode, \
            inline_keys, counts, stamp) SELECT value ->> 'n', value ->> 'v', value ->> 't', value ->> 'k', \
            value ->> 'f', value ->> 's', value ->> 'm', value ->> 'i', value ->> 'c', value ->> 'x' \
            FROM json_each($1) WHERE true \
            ON CONFLICT (node, vm, table_id, token) DO UPDATE SET filter = excluded.filter, \
            max_staleness_ms = excluded.max_staleness_ms, mode = excluded.mode, inline_keys = excluded.inline_keys, \
            counts = excluded.counts, stamp = excluded.stamp";
        const POSTGRES: &str = "INSERT INTO known_tables (node, vm, table_id, token, filter, max_staleness_ms, mode, \
            inline_keys, counts, stamp) SELECT n, v, t, k, f, s, m, i, c, x FROM jsonb_to_recordset($1::jsonb) AS r \
            (n text, v text, t text, k text, f text, s bigint, m text, i text, c bigint, x bigint) ORDER BY n, v, t, k \
            ON CONFLICT (node, vm, table_id, token) DO UPDATE SET filter = excluded.filter, \
            max_staleness_ms = excluded.max_staleness_ms, mode = excluded.mode, inline_keys = excluded.inline_keys, \
            counts = excluded.counts, stamp = excluded.stamp";
        let rows: Vec<_> = records
            .iter()
            .map(|record| {
                let staleness = record.max_staleness.map(|limit| i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
                json!({
                    "n": record.node, "v": record.vm, "t": record.table, "k": record.token, "f": record.filter,
                    "s": staleness, "m": record.mode.map_or("", Enforcement::as_str),
                    "i": record.inline_keys.map_or("", InlineKeys::as_str), "c": i64::from(record.counts),
                    "x": record.stamp,
                })
            })
            .collect();
        let rows = json!(rows).to_string();
        let mut tx = self.pool.begin_write(Priority::Person).await?;
        let sql = if tx.is_postgres() { POSTGRES } else { SQLITE };
        tx.execute(sql, &[Arg::Text(&rows)]).await?;
        if tx.is_postgres() {
            for message in messages {
                tx.execute("SELECT pg_notify($1, $2)", &[Arg::Text(RECEIPTS), Arg::Text(message)]).await?;
            }
        }
        tx.commit().await
    }

    /// Forgets tables, each only if its row was not written again since.
    ///
    /// # Errors
    /// Returns an error when the database cannot be written: then nothing was.
    pub async fn forget_proxies(&self, records: &[ProxyRecord]) -> Result<()> {
        // In steps, so that thousands of proxies do not keep a person's change waiting.
        for some in records.chunks(500) {
            let mut tx = self.pool.begin_write(Priority::Background).await?;
            for record in some {
                let args = [
                    Arg::Text(&record.node),
                    Arg::Text(&record.vm),
                    Arg::Text(&record.table),
                    Arg::Text(&record.token),
                    Arg::Int(record.stamp),
                ];
                let sql = "DELETE FROM known_tables WHERE node = $1 AND vm = $2 AND table_id = $3 AND token = $4 \
                           AND stamp = $5";
                tx.execute(sql, &args).await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }

    /// Forgets every table of an instance, for a person, and tells the other replicas.
    ///
    /// # Errors
    /// Returns an error when the database cannot be written: then nothing was.
    pub async fn forget_vm(&self, vm: &str, by: super::keys::By<'_>, message: &str) -> Result<()> {
        let mut change = self.change().await?;
        change.tx.execute("DELETE FROM known_tables WHERE vm = $1", &[Arg::Text(vm)]).await?;
        change.audit(by.at.unix_ms(), by.actor, "proxy.forget", vm, "", None, &json!({})).await?;
        if change.tx.is_postgres() {
            change.tx.execute("SELECT pg_notify($1, $2)", &[Arg::Text(RECEIPTS), Arg::Text(message)]).await?;
        }
        change.commit().await?;
        Ok(())
    }

    /// Keeps that no table is missing in a store that lives at `lineage`, and tells the other replicas. Returns whether it
    /// lives there.
    ///
    /// # Errors
    /// Returns an error when the database cannot be written: then nothing was.
    pub async fn confirm_tables(&self, lineage: &str, by: super::keys::By<'_>) -> Result<bool> {
        let mut change = self.change().await?;
        if change.head.lineage.as_deref() != Some(lineage) {
            return Ok(false);
        }
        change.tx.execute(CONFIRM, &[Arg::Text(lineage)]).await?;
        change.audit(by.at.unix_ms(), by.actor, "proxies.confirm", "", "", None, &json!({})).await?;
        change.commit().await?;
        Ok(true)
    }

    /// The moment that has surely come, as it was last kept.
    ///
    /// # Errors
    /// Returns an error when the database cannot be read.
    pub async fn plausible_at(&self) -> Result<Option<i64>> {
        let row = self.pool.row("SELECT plausible_at FROM clock WHERE one = 1", &[]).await?;
        Ok(row.map(|row| row.int("plausible_at")).transpose()?)
    }

    /// Keeps the moment that has surely come.
    ///
    /// # Errors
    /// Returns an error when the database cannot be written.
    pub async fn keep_plausible_at(&self, at: i64) -> Result<()> {
        let mut tx = self.pool.begin_write(Priority::Background).await?;
        let sql = "INSERT INTO clock (one, plausible_at) VALUES (1, $1) \
                   ON CONFLICT (one) DO UPDATE SET plausible_at = excluded.plausible_at";
        tx.execute(sql, &[Arg::Int(at)]).await?;
        tx.commit().await
    }
}

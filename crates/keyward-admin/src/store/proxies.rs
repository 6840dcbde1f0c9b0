//! Filter VMs that were seen, kept so that a restarted service still counts those that may hold an old key.

use super::database::Store;
use super::error::Result;
use super::head::{signed, unsigned};
use super::sql::{Arg, Priority};
use keyward_policy::timestamp::Timestamp;
use std::time::Duration;

/// A filter VM as it was when something last changed about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyRecord {
    /// Which Envoy.
    pub node: String,
    /// Which of its VMs.
    pub vm: String,
    /// Version of the filter.
    pub filter: String,
    /// How long it serves without contact; none: for ever.
    pub max_staleness: Option<Duration>,
    /// The newest revision that it is known to have applied.
    pub applied: u64,
    /// Whether it was in contact then: if so, it may have been until this service stopped.
    pub in_contact: bool,
    /// Its last contact, where it was not.
    pub last_contact_at: Timestamp,
}

impl Store {
    /// All that are kept.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn proxies(&self) -> Result<Vec<ProxyRecord>> {
        let sql = "SELECT node, vm, filter, max_staleness_ms, applied, in_contact, last_contact_at FROM proxies";
        let rows = self.pool.rows(sql, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(ProxyRecord {
                    node: row.text(0)?,
                    vm: row.text(1)?,
                    filter: row.text(2)?,
                    max_staleness: row.opt_int(3)?.map(unsigned).transpose()?.map(Duration::from_millis),
                    applied: unsigned(row.int(4)?)?,
                    in_contact: row.int(5)? != 0,
                    last_contact_at: Timestamp::from_unix_ms(row.int(6)?),
                })
            })
            .collect()
    }

    /// Keeps what is new of some, and forgets others, given by node and VM.
    ///
    /// # Errors
    /// When the database cannot be written: then nothing was.
    pub async fn save_proxies(&self, changed: &[ProxyRecord], gone: &[(String, String)]) -> Result<()> {
        const UPSERT: &str = "INSERT INTO proxies (node, vm, filter, max_staleness_ms, applied, in_contact, \
            last_contact_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (node, vm) DO UPDATE SET \
            filter = excluded.filter, max_staleness_ms = excluded.max_staleness_ms, applied = excluded.applied, \
            in_contact = excluded.in_contact, last_contact_at = excluded.last_contact_at";
        // In steps, so that thousands of proxies that come back at once do not keep a delete waiting.
        for some in changed.chunks(500) {
            let mut tx = self.pool.begin_write(Priority::Background).await?;
            for proxy in some {
                let staleness = proxy.max_staleness.map(|limit| i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
                let args = [
                    Arg::Text(&proxy.node),
                    Arg::Text(&proxy.vm),
                    Arg::Text(&proxy.filter),
                    Arg::OptInt(staleness),
                    Arg::Int(signed(proxy.applied)),
                    Arg::Int(i64::from(proxy.in_contact)),
                    Arg::Int(proxy.last_contact_at.unix_ms()),
                ];
                tx.execute(UPSERT, &args).await?;
            }
            tx.commit().await?;
        }
        for some in gone.chunks(500) {
            let mut tx = self.pool.begin_write(Priority::Background).await?;
            for (node, vm) in some {
                let args = [Arg::Text(node), Arg::Text(vm)];
                tx.execute("DELETE FROM proxies WHERE node = $1 AND vm = $2", &args).await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }
}

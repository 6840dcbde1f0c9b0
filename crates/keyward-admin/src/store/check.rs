//! Checks a whole database: that the file is sound, and that the keys are those that the store says it has.

use super::database::Store;
use super::error::{Error, Result};
use super::head::{Head, read_head, unsigned};
use super::record::{KeyRecord, read_key, select_keys};
use super::sql::{Arg, Database};
use keyward_policy::checksum::{Checksum, contribution};
use keyward_policy::count::counted;
use keyward_policy::timeline::Point;
use std::time::Duration;

/// How long a check may take.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How many keys are read at once.
const PAGE: i64 = 2_000;
/// How many lines SQLite writes about a damaged file at most.
const MAX_PROBLEMS: usize = 10;

const KEYS: &str = select_keys!("keys k", "WHERE k.seq > $1 ORDER BY k.seq LIMIT $2");

/// How thorough a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Everything but whether the indexes of a SQLite file agree with their tables: quick enough for a start.
    Quick,
    /// Everything.
    Full,
}

impl Store {
    /// Checks the database and returns its state.
    ///
    /// # Errors
    /// Returns [`Error::Corrupt`] with everything that was found, or an error when the database cannot be read.
    pub async fn check(&self, depth: Depth) -> Result<Head> {
        let mut problems = Vec::new();
        let mut tx = self.pool.begin_long_read(PATIENCE).await?;
        if let Database::Sqlite { .. } = self.pool.database() {
            let sql = match depth {
                Depth::Quick => "PRAGMA quick_check(10)",
                Depth::Full => "PRAGMA integrity_check(10)",
            };
            for row in tx.rows(sql, &[]).await? {
                let line = row.text(0)?;
                if line != "ok" && problems.len() < MAX_PROBLEMS {
                    problems.push(line);
                }
            }
            if !problems.is_empty() {
                // What a damaged file says about its keys means nothing.
                return Err(Error::Corrupt(problems.join("; ")));
            }
        }
        let head = read_head(tx.row(self.head_sql.select, &[Arg::Int(0)]).await?.as_ref(), Point::default())?;
        let (mut count, mut checksum, mut newest) = (0, Checksum::default(), 0);
        let mut after = 0;
        loop {
            let rows = tx.rows(KEYS, &[Arg::Int(after), Arg::Int(PAGE)]).await?;
            for row in &rows {
                let key: KeyRecord = read_key(row)?;
                count += 1;
                checksum.add(contribution(&key.wire()));
                newest = newest.max(key.revision);
                after = key.seq;
            }
            if (rows.len() as i64) < PAGE {
                break;
            }
        }
        let buried = tx.row("SELECT MAX(revision) AS newest FROM tombstones", &[]).await?;
        let buried = buried.map_or(Ok(None), |row| row.opt_int("newest"))?.map_or(Ok(0), unsigned)?;
        tx.commit().await?;
        if count != head.live_count {
            problems.push(format!("the table has {}, and the store counts {}", counted(count, "key"), head.live_count));
        }
        if checksum != head.checksum {
            problems.push(format!("the checksum of the keys is {checksum}, and the store says {}", head.checksum));
        }
        if newest.max(buried) > head.revision {
            let revision = head.revision;
            problems
                .push(format!("there is a change of revision {}, and the store is at {revision}", newest.max(buried)));
        }
        if problems.is_empty() { Ok(head) } else { Err(Error::Corrupt(problems.join("; "))) }
    }
}

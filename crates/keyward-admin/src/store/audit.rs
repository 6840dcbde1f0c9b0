//! The audit log: who did what when. Entries are only ever added: the database refuses to change or delete them.

use super::database::Store;
use super::error::{Error, Result};
use super::head::unsigned;
use super::sql::{Arg, Row};
use keyward_policy::timestamp::Timestamp;

/// One entry of the audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// The position of the entry in the log.
    pub seq: i64,
    /// When it was done.
    pub at: Timestamp,
    /// The name of the token that did it, or of the person who ran the command.
    pub actor: String,
    /// What was done: `key.create`, `key.regenerate`, `key.update`, `key.delete`, `key.purge`, `token.create`,
    /// `token.revoke` or `store.new_identity`.
    pub action: String,
    /// The id of the key, the token or the store.
    pub subject_id: String,
    /// The name that the key or the token had then.
    pub subject_name: String,
    /// The revision of the change. `None` means that it took none.
    pub revision: Option<u64>,
    /// Further details: a JSON object.
    pub detail: serde_json::Value,
}

/// Selects entries. Empty fields select all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// The id of a key, a token or a store.
    pub subject_id: Option<String>,
    /// The name of an actor.
    pub actor: Option<String>,
    /// An action.
    pub action: Option<String>,
    /// Only entries of this moment and later ones.
    pub since: Option<Timestamp>,
    /// Only entries before this moment.
    pub until: Option<Timestamp>,
}

macro_rules! select {
    ($where:literal) => {
        concat!(
            "SELECT seq, at, actor, action, subject_id, subject_name, revision, detail FROM audit \
             WHERE seq < $1 AND at >= $3 AND at < $4 AND ",
            $where,
            " ORDER BY seq DESC LIMIT $2"
        )
    };
}

fn read_entry(row: &Row) -> Result<AuditEntry> {
    Ok(AuditEntry {
        seq: row.int(0)?,
        at: Timestamp::from_unix_ms(row.int(1)?),
        actor: row.text(2)?,
        action: row.text(3)?,
        subject_id: row.text(4)?,
        subject_name: row.text(5)?,
        revision: row.opt_int(6)?.map(unsigned).transpose()?,
        detail: serde_json::from_str(&row.text(7)?).map_err(|_| Error::Corrupt("an audit entry's detail".into()))?,
    })
}

impl Store {
    /// Returns up to `limit` entries older than `before` (an [`AuditEntry::seq`]), newest first.
    ///
    /// # Errors
    /// Returns an error when the database cannot be read.
    pub async fn audit(&self, filter: &AuditFilter, before: Option<i64>, limit: u32) -> Result<Vec<AuditEntry>> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (subject, actor, action) = (text(&filter.subject_id), text(&filter.actor), text(&filter.action));
        // No entry contains a NUL, and PostgreSQL fails at it.
        if [&subject, &actor, &action].iter().any(|text| text.contains('\0')) {
            return Ok(Vec::new());
        }
        let args = [
            Arg::Int(before.unwrap_or(i64::MAX)),
            Arg::Int(i64::from(limit)),
            Arg::Int(filter.since.map_or(i64::MIN, Timestamp::unix_ms)),
            Arg::Int(filter.until.map_or(i64::MAX, Timestamp::unix_ms)),
            Arg::Text(&subject),
            Arg::Text(&actor),
            Arg::Text(&action),
        ];
        // One statement for each combination, so that each finds its index. The narrowest condition comes first.
        let (sql, used) = match (&filter.subject_id, &filter.actor, &filter.action) {
            (Some(_), _, _) => (select!("subject_id = $5 AND ($6 = '' OR actor = $6) AND ($7 = '' OR action = $7)"), 7),
            (None, Some(_), _) => (select!("actor = $6 AND $5 = '' AND ($7 = '' OR action = $7)"), 7),
            (None, None, Some(_)) => (select!("action = $7 AND $5 = '' AND $6 = ''"), 7),
            (None, None, None) => (select!("TRUE"), 4),
        };
        self.pool.rows(sql, &args[..used]).await?.iter().map(read_entry).collect()
    }
}

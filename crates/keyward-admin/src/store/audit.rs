//! The audit log: who did what when. Entries are only ever added: the database refuses to change or delete them.

use super::database::Store;
use super::error::{Error, Result};
use super::head::unsigned;
use super::sql::{Arg, Row};
use keyward_policy::timestamp::Timestamp;

/// Every action that is recorded.
pub const ACTIONS: [&str; 10] = [
    "key.create",
    "key.regenerate",
    "key.update",
    "key.delete",
    "key.purge",
    "token.create",
    "token.revoke",
    "proxy.forget",
    "proxies.confirm",
    "store.new_identity",
];

/// One entry of the audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// The position of the entry in the log.
    pub seq: i64,
    /// When it was done.
    pub at: Timestamp,
    /// The name of the token that did it, or of the person who ran the command.
    pub actor: String,
    /// What was done: one of [`ACTIONS`].
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

/// Says whether a range of time ends before anything can be in it. A range that is open on one side never does.
pub fn ends_before_it_begins(since: Option<Timestamp>, until: Option<Timestamp>) -> bool {
    since.zip(until).is_some_and(|(since, until)| until <= since)
}

/// Makes the statement that selects up to `$2` entries, newest first. The subject is `$3`, the actor `$4`, the action `$5`.
macro_rules! select {
    ($where:expr, $order:literal) => {
        concat!(
            "SELECT seq, at, actor, action, subject_id, subject_name, revision, detail FROM audit WHERE ",
            $where,
            " ORDER BY ",
            $order,
            " DESC LIMIT $2"
        )
    };
}
/// Goes by the places in the log, from before place `$1`.
macro_rules! by_place {
    ($where:literal) => {
        select!(concat!("seq < $1 AND ", $where), "seq")
    };
}
/// Goes by the times, from before time `$7` and place `$1`, until time `$6`.
macro_rules! by_time {
    ($where:literal) => {
        select!(concat!("(at, seq) < ($7, $1) AND at >= $6 AND ", $where), "at DESC, seq")
    };
}

/// Returns the statement for a filter, the number of its parameters, and whether it goes by the times. Each statement walks
/// an index that has all its conditions, so that a page costs the same however long the log is. The exception is a subject
/// with further conditions: the entries of one key or token are few.
fn statement(filter: &AuditFilter, is_postgres: bool) -> (&'static str, usize, bool) {
    let has_range = filter.since.is_some() || filter.until.is_some();
    match (&filter.subject_id, &filter.actor, &filter.action, has_range) {
        (Some(_), _, _, _) => {
            let sql = by_place!(
                "subject_id = $3 AND ($4 = '' OR actor = $4) AND ($5 = '' OR action = $5) AND at >= $6 AND at < $7"
            );
            (sql, 7, false)
        }
        (None, None, None, false) => (by_place!("TRUE"), 2, false),
        (None, Some(_), None, false) => (by_place!("actor = $4 AND $3 = ''"), 4, false),
        (None, None, Some(_), false) => (by_place!("action = $5 AND $3 = '' AND $4 = ''"), 5, false),
        (None, None, None, true) => (by_time!("$3 = '' AND $4 = '' AND $5 = ''"), 7, true),
        (None, Some(_), None, true) => (by_time!("actor = $4 AND $3 = '' AND $5 = ''"), 7, true),
        (None, None, Some(_), true) => (by_time!("action = $5 AND $3 = '' AND $4 = ''"), 7, true),
        // PostgreSQL begins to read at the first column of a compared row alone, so each column is also compared by itself.
        (None, Some(_), Some(_), _) if is_postgres => {
            let sql = select!(
                "actor = $4 AND action = $5 AND at >= $6 AND at <= $7 AND (actor, action, at, seq) < ($4, $5, $7, $1) \
                 AND $3 = ''",
                "actor DESC, action DESC, at DESC, seq"
            );
            (sql, 7, true)
        }
        // Written so that no other index serves: SQLite would choose one that has the action alone.
        (None, Some(_), Some(_), _) => {
            let sql = select!(
                "(actor, action, at, seq) < ($4, $5, $7, $1) AND (actor, action, at) >= ($4, $5, $6) AND $3 = ''",
                "actor DESC, action DESC, at DESC, seq"
            );
            (sql, 7, true)
        }
    }
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
    /// Returns up to `limit` entries older than `before` (an [`AuditEntry::seq`]), newest first: in the order in which they
    /// were added, or, for a range of time and for an actor together with an action, in that of their times. The two differ
    /// only where a clock was set back.
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
        let (sql, used, is_by_time) = statement(filter, self.pool.is_postgres());
        let end = filter.until.map_or((i64::MAX, i64::MAX), |until| (until.unix_ms(), i64::MIN));
        let (until, place) =
            if is_by_time { self.audit_place(before).await?.min(end) } else { (end.0, before.unwrap_or(i64::MAX)) };
        let args = [
            Arg::Int(place),
            Arg::Int(i64::from(limit)),
            Arg::Text(&subject),
            Arg::Text(&actor),
            Arg::Text(&action),
            Arg::Int(filter.since.map_or(i64::MIN, Timestamp::unix_ms)),
            Arg::Int(until),
        ];
        self.pool.rows(sql, &args[..used]).await?.iter().map(read_entry).collect()
    }

    /// Returns the time and the place of an entry, or those after all entries.
    async fn audit_place(&self, seq: Option<i64>) -> Result<(i64, i64)> {
        let Some(seq) = seq else { return Ok((i64::MAX, i64::MAX)) };
        let row = self.pool.row("SELECT at FROM audit WHERE seq = $1", &[Arg::Int(seq)]).await?;
        Ok((row.map(|row| row.int(0)).transpose()?.unwrap_or(i64::MAX), seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{Connection as _, Row as _};

    #[tokio::test]
    async fn every_filter_walks_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("keyward.db").display());
        let _store = Store::open(&url).await.unwrap();
        let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
        for number in 0..32 {
            let text = |bit: u32| (number & bit != 0).then(|| "a".to_owned());
            let moment = |bit: u32| (number & bit != 0).then(|| Timestamp::from_unix_ms(1));
            let filter = AuditFilter {
                subject_id: text(1),
                actor: text(2),
                action: text(4),
                since: moment(8),
                until: moment(16),
            };
            let (sql, used, _) = statement(&filter, false);
            let explain = format!("EXPLAIN QUERY PLAN {sql}");
            let mut query = sqlx::query(sqlx::AssertSqlSafe(explain));
            for place in 0..used {
                query = if (2..5).contains(&place) { query.bind("a") } else { query.bind(1_i64) };
            }
            let plan = query.fetch_all(&mut database).await.unwrap();
            let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
            let index = match (&filter.subject_id, &filter.actor, &filter.action, number & 24 != 0) {
                (Some(_), _, _, _) => "INDEX audit_by_subject (",
                (None, None, None, false) => "PRIMARY KEY (rowid<",
                (None, Some(_), None, false) => "INDEX audit_by_actor (",
                (None, None, Some(_), false) => "INDEX audit_by_action (",
                (None, None, None, true) => "INDEX audit_by_time (",
                (None, Some(_), None, true) => "INDEX audit_by_actor_and_time (",
                (None, None, Some(_), true) => "INDEX audit_by_action_and_time (",
                (None, Some(_), Some(_), _) => "INDEX audit_by_actor_action_and_time (",
            };
            // One step: nothing is sorted.
            assert!(plan.len() == 1 && plan[0].contains("SEARCH") && plan[0].contains(index), "{filter:?}: {plan:?}");
        }
    }
}

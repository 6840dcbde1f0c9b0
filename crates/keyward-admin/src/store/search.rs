//! Lists and searches of keys, newest first.
//!
//! Three characters and more are looked for anywhere in name, id and last four, by trigrams; one or two at the starts
//! of the name, its words, the id (after `key_`) and the last four, by a table of starts. Both keep the order of
//! creation by themselves, so that a page of a million matches costs no more than a page of ten.

use super::database::Store;
use super::error::Result;
use super::record::{KeyRecord, read_key, select_keys};
use super::sql::{Arg, Database, Tx};
use std::collections::BTreeSet;

/// How many of the newest keys PostgreSQL looks through before it asks the trigram index: a frequent text is found
/// among them at once, and for a rare one the index has little to sort.
const NEWEST: i64 = 5_000;

const ALL: &str = select_keys!("keys k", "WHERE k.seq < $1 ORDER BY k.seq DESC LIMIT $2");
// The page is cut before it is joined: the other way round a planner may walk all keys to meet a rare start.
const BY_START: &str = select_keys!(
    "(SELECT seq FROM key_prefixes WHERE prefix = $3 AND seq < $1 ORDER BY seq DESC LIMIT $2) p \
     JOIN keys k ON k.seq = p.seq",
    "ORDER BY k.seq DESC"
);
const SQLITE_BY_TRIGRAM: &str = select_keys!(
    "(SELECT rowid AS seq FROM key_search WHERE text MATCH $3 AND rowid < $1 ORDER BY rowid DESC LIMIT $2) s \
     JOIN keys k ON k.seq = s.seq",
    "ORDER BY k.seq DESC"
);
const POSTGRES_NEWEST: &str = select_keys!(
    "(SELECT * FROM (SELECT * FROM keys WHERE seq < $1 ORDER BY seq DESC LIMIT $4) n \
     WHERE strpos(n.search, $3) > 0 ORDER BY n.seq DESC LIMIT $2) k",
    "ORDER BY k.seq DESC"
);
// OFFSET 0 keeps the planner from walking all keys in order, in the hope of an early match.
const POSTGRES_BY_TRIGRAM: &str = select_keys!(
    "(SELECT m.seq FROM (SELECT seq, search FROM keys WHERE folded LIKE $3 OFFSET 0) m \
     WHERE m.seq < $1 AND strpos(m.search, $4) > 0 ORDER BY m.seq DESC LIMIT $2) s JOIN keys k ON k.seq = s.seq",
    "ORDER BY k.seq DESC"
);

impl Store {
    /// Returns up to `limit` live keys older than `before` (a [`KeyRecord::seq`]), newest first, in which `q` is found. An
    /// empty `q` finds all.
    ///
    /// # Errors
    /// Returns an error when the database cannot be read.
    pub async fn list_keys(&self, q: &str, before: Option<i64>, limit: u32) -> Result<Vec<KeyRecord>> {
        // No name has one, and PostgreSQL fails at a NUL.
        if q.chars().any(char::is_control) {
            return Ok(Vec::new());
        }
        let q = q.to_lowercase();
        let page = [Arg::Int(before.unwrap_or(i64::MAX)), Arg::Int(i64::from(limit))];
        let pool = &self.pool;
        let rows = match (q.chars().count(), pool.database()) {
            (0, _) => pool.rows(ALL, &page).await?,
            (1 | 2, _) => pool.rows(BY_START, &[page[0], page[1], Arg::Text(&q)]).await?,
            (_, Database::Sqlite { .. }) => {
                let phrase = format!("\"{}\"", q.replace('"', "\"\""));
                pool.rows(SQLITE_BY_TRIGRAM, &[page[0], page[1], Arg::Text(&phrase)]).await?
            }
            (_, Database::Postgres { .. }) => {
                let newest = [page[0], page[1], Arg::Text(&q), Arg::Int(NEWEST)];
                let rows = pool.rows(POSTGRES_NEWEST, &newest).await?;
                if rows.len() >= limit as usize {
                    rows
                } else {
                    let pattern = format!("%{}%", fold(&q));
                    pool.rows(POSTGRES_BY_TRIGRAM, &[page[0], page[1], Arg::Text(&pattern), Arg::Text(&q)]).await?
                }
            }
        };
        rows.iter().map(read_key).collect()
    }
}

/// Returns the text that is searched, in lower case.
pub(super) fn text(key: &KeyRecord) -> String {
    format!("{}\n{}\n{}", key.name, key.id, key.last_four).to_lowercase()
}

/// Replaces every character that is not a letter or digit of ASCII by one that is, always by the same one. A text that
/// contains another still contains it when both are folded; the other way round has to be checked. Nothing in a folded
/// text means anything to `LIKE`.
pub(super) fn fold(text: &str) -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let fold = |c: char| match c {
        'a'..='z' | '0'..='9' => c,
        // Fibonacci hashing: neighbours in an alphabet come apart.
        _ => char::from(LETTERS[(u32::from(c).wrapping_mul(2_654_435_769) >> 16) as usize % 36]),
    };
    text.chars().map(fold).collect()
}

/// Returns the starts of one and two characters by which a key is found.
pub(super) fn starts(key: &KeyRecord) -> BTreeSet<String> {
    let name = key.name.to_lowercase();
    let id = key.id.strip_prefix("key_").unwrap_or(&key.id);
    let last_four = key.last_four.to_lowercase();
    let mut starts = BTreeSet::new();
    for text in [name.as_str(), id, &last_four].into_iter().chain(name.split_whitespace()) {
        for length in [1, 2] {
            let start: String = text.chars().take(length).collect();
            if start.chars().count() == length {
                starts.insert(start);
            }
        }
    }
    starts
}

/// Adds a new key to the search.
pub(super) async fn add(tx: &mut Tx, key: &KeyRecord) -> Result<()> {
    if !tx.is_postgres() {
        let args = [Arg::Int(key.seq), Arg::Text(&text(key))];
        tx.execute("INSERT INTO key_search (rowid, text) VALUES ($1, $2)", &args).await?;
    }
    for start in starts(key) {
        let args = [Arg::Text(&start), Arg::Int(key.seq)];
        tx.execute("INSERT INTO key_prefixes (prefix, seq) VALUES ($1, $2)", &args).await?;
    }
    Ok(())
}

/// Replaces the texts of a changed key in the search.
pub(super) async fn replace(tx: &mut Tx, before: &KeyRecord, after: &KeyRecord) -> Result<()> {
    let now = text(after);
    if text(before) == now {
        return Ok(());
    }
    let sql = if tx.is_postgres() {
        "UPDATE keys SET search = $2, folded = $3 WHERE seq = $1"
    } else {
        "UPDATE key_search SET text = $2 WHERE rowid = $1"
    };
    let folded = fold(&now);
    let args = [Arg::Int(after.seq), Arg::Text(&now), Arg::Text(&folded)];
    tx.execute(sql, if tx.is_postgres() { &args } else { &args[..2] }).await?;
    let (old, new) = (starts(before), starts(after));
    for start in old.difference(&new) {
        let args = [Arg::Text(start), Arg::Int(after.seq)];
        tx.execute("DELETE FROM key_prefixes WHERE prefix = $1 AND seq = $2", &args).await?;
    }
    for start in new.difference(&old) {
        let args = [Arg::Text(start), Arg::Int(after.seq)];
        tx.execute("INSERT INTO key_prefixes (prefix, seq) VALUES ($1, $2)", &args).await?;
    }
    Ok(())
}

/// Removes a deleted key from the search.
pub(super) async fn remove(tx: &mut Tx, key: &KeyRecord) -> Result<()> {
    if !tx.is_postgres() {
        tx.execute("DELETE FROM key_search WHERE rowid = $1", &[Arg::Int(key.seq)]).await?;
    }
    for start in starts(key) {
        let args = [Arg::Text(&start), Arg::Int(key.seq)];
        tx.execute("DELETE FROM key_prefixes WHERE prefix = $1 AND seq = $2", &args).await?;
    }
    Ok(())
}

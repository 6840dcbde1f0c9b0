//! Searches of keys in the order of creation, and the keys that have a property.
//!
//! Three characters and more are looked for anywhere in name, id and last four, by trigrams; one or two at the starts
//! of the name, its words, the id (after `key_`) and the last four, by a table of starts. Both keep the order of
//! creation by themselves, so that a page of a million matches costs no more than a page of ten.

use super::database::Store;
use super::error::Result;
use super::folded_name::folded;
use super::head::signed;
use super::record::{KeyRecord, read_key, select_keys};
use super::sql::{Arg, Database, Pool, Priority, Row, Tx};
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt;

/// The number of names that one transaction folds at the start after an upgrade.
const MAX_AT_ONCE: u64 = 5_000;

/// How many of the nearest keys PostgreSQL looks through before it asks the trigram index: a frequent text is found among
/// them at once, and for a rare one the index has little to sort.
const NEAREST: i64 = 5_000;

/// Makes the statement that walks from after a place: `$op` and `$dir` are `>` and nothing, or `<` and ` DESC`. The page is
/// cut before it is joined: the other way round a planner may walk all keys to meet a rare start.
macro_rules! by_start {
    ($op:literal, $dir:literal) => {
        select_keys!(
            concat!(
                "(SELECT seq FROM key_prefixes WHERE prefix = $3 AND seq ",
                $op,
                " $1 ORDER BY seq",
                $dir,
                " LIMIT $2) p JOIN keys k ON k.seq = p.seq"
            ),
            concat!("ORDER BY k.seq", $dir)
        )
    };
}
macro_rules! sqlite_by_trigram {
    ($op:literal, $dir:literal) => {
        select_keys!(
            concat!(
                "(SELECT rowid AS seq FROM key_search WHERE text MATCH $3 AND rowid ",
                $op,
                " $1 ORDER BY rowid",
                $dir,
                " LIMIT $2) s JOIN keys k ON k.seq = s.seq"
            ),
            concat!("ORDER BY k.seq", $dir)
        )
    };
}
macro_rules! postgres_nearest {
    ($op:literal, $dir:literal) => {
        select_keys!(
            concat!(
                "(SELECT * FROM (SELECT * FROM keys WHERE seq ",
                $op,
                " $1 ORDER BY seq",
                $dir,
                " LIMIT $4) n WHERE strpos(n.search, $3) > 0 ORDER BY n.seq",
                $dir,
                " LIMIT $2) k"
            ),
            concat!("ORDER BY k.seq", $dir)
        )
    };
}
// OFFSET 0 keeps the planner from walking all keys in order, in the hope of an early match.
macro_rules! postgres_by_trigram {
    ($op:literal, $dir:literal) => {
        select_keys!(
            concat!(
                "(SELECT m.seq FROM (SELECT seq, search FROM keys WHERE folded LIKE $3 OFFSET 0) m WHERE m.seq ",
                $op,
                " $1 AND strpos(m.search, $4) > 0 ORDER BY m.seq",
                $dir,
                " LIMIT $2) s JOIN keys k ON k.seq = s.seq"
            ),
            concat!("ORDER BY k.seq", $dir)
        )
    };
}

/// What keys are listed by. Stands in `key_prefixes` beside the starts, and is longer than those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Property<'a> {
    Disabled,
    NeverExpires,
    NeverUsed,
    Permission(&'a str),
    /// The folded name, of which each key has another.
    Name(&'a str),
}

impl fmt::Display for Property<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("=disabled"),
            Self::NeverExpires => f.write_str("=never expires"),
            Self::NeverUsed => f.write_str("=never used"),
            Self::Permission(id) => write!(f, "=permission {id}"),
            Self::Name(folded) => write!(f, "=name {folded}"),
        }
    }
}

impl Store {
    /// Returns up to `limit` live keys older than `before` (a [`KeyRecord::seq`]), newest first, in which `q` is found. An
    /// empty `q` finds all.
    ///
    /// # Errors
    /// Returns an error when the database cannot be read.
    pub async fn list_keys(&self, q: &str, before: Option<i64>, limit: u32) -> Result<Vec<KeyRecord>> {
        const ALL: &str = select_keys!("keys k", "WHERE k.seq < $1 ORDER BY k.seq DESC LIMIT $2");
        let before = before.unwrap_or(i64::MAX);
        let rows = match q {
            "" => self.pool.rows(ALL, &[Arg::Int(before), Arg::Int(i64::from(limit))]).await?,
            q => find(&self.pool, q, before, limit, true).await?,
        };
        rows.iter().map(read_key).collect()
    }
}

impl Store {
    /// Adds the folded names of keys that an older version made. Two of them may be the same; new ones may not.
    pub(super) async fn fold_names(&self) -> Result<()> {
        const SQLITE: &str = "INSERT INTO key_prefixes (prefix, seq) SELECT e.value ->> 0, k.seq FROM json_each($1) e \
            JOIN keys k ON k.seq = e.value ->> 1 WHERE true ON CONFLICT DO NOTHING";
        const POSTGRES: &str = "INSERT INTO key_prefixes (prefix, seq) SELECT e ->> 0, k.seq \
            FROM jsonb_array_elements($1::jsonb) e JOIN keys k ON k.seq = (e ->> 1)::bigint ON CONFLICT DO NOTHING";
        let row = self.pool.row("SELECT names_folded FROM store WHERE one = 1", &[]).await?;
        if row.is_none_or(|row| row.int(0).is_ok_and(|folded| folded != 0)) {
            return Ok(());
        }
        let mut after = 0;
        loop {
            let sql = "SELECT seq, name FROM keys WHERE seq > $1 ORDER BY seq LIMIT $2";
            let rows = self.pool.rows(sql, &[Arg::Int(after), Arg::Int(signed(MAX_AT_ONCE))]).await?;
            let mut names = Vec::with_capacity(rows.len());
            for row in &rows {
                after = row.int(0)?;
                names.push((Property::Name(&folded(&row.text(1)?)).to_string(), after));
            }
            let names = json!(names).to_string();
            let mut tx = self.pool.begin_write(Priority::Background).await?;
            tx.execute(if tx.is_postgres() { POSTGRES } else { SQLITE }, &[Arg::Text(&names)]).await?;
            let is_last = (rows.len() as u64) < MAX_AT_ONCE;
            if is_last {
                tx.execute("UPDATE store SET names_folded = 1 WHERE one = 1", &[]).await?;
            }
            tx.commit().await?;
            if is_last {
                return Ok(());
            }
        }
    }
}

/// Returns up to `limit` keys in which `q`, which is not empty, is found: those nearest after `from` in the order of
/// creation, or before it.
pub(super) async fn find(pool: &Pool, q: &str, from: i64, limit: u32, down: bool) -> Result<Vec<Row>> {
    // No name has one, and PostgreSQL fails at a NUL.
    if q.chars().any(char::is_control) {
        return Ok(Vec::new());
    }
    let q = q.to_lowercase();
    let page = [Arg::Int(from), Arg::Int(i64::from(limit))];
    match (q.chars().count(), pool.database()) {
        (0..=2, _) => by_prefix(pool, &q, from, limit, down).await,
        (_, Database::Sqlite { .. }) => {
            let phrase = format!("\"{}\"", q.replace('"', "\"\""));
            let sql = if down { sqlite_by_trigram!("<", " DESC") } else { sqlite_by_trigram!(">", "") };
            pool.rows(sql, &[page[0], page[1], Arg::Text(&phrase)]).await
        }
        (_, Database::Postgres { .. }) => {
            let nearest = [page[0], page[1], Arg::Text(&q), Arg::Int(NEAREST)];
            let sql = if down { postgres_nearest!("<", " DESC") } else { postgres_nearest!(">", "") };
            let rows = pool.rows(sql, &nearest).await?;
            if rows.len() >= limit as usize {
                return Ok(rows);
            }
            let pattern = format!("%{}%", fold(&q));
            let sql = if down { postgres_by_trigram!("<", " DESC") } else { postgres_by_trigram!(">", "") };
            pool.rows(sql, &[page[0], page[1], Arg::Text(&pattern), Arg::Text(&q)]).await
        }
    }
}

/// Returns up to `limit` keys with a property, as [`find`] does.
pub(super) async fn having(pool: &Pool, property: Property<'_>, from: i64, limit: u32, down: bool) -> Result<Vec<Row>> {
    by_prefix(pool, &property.to_string(), from, limit, down).await
}

async fn by_prefix(pool: &Pool, prefix: &str, from: i64, limit: u32, down: bool) -> Result<Vec<Row>> {
    let sql = if down { by_start!("<", " DESC") } else { by_start!(">", "") };
    pool.rows(sql, &[Arg::Int(from), Arg::Int(i64::from(limit)), Arg::Text(prefix)]).await
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

/// Returns the starts of one and two characters by which a key is found, and its properties.
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
    starts.insert(Property::Name(&folded(&key.name)).to_string());
    starts.extend(key.permissions.iter().map(|id| Property::Permission(id).to_string()));
    let others = [
        (key.disabled, Property::Disabled),
        (key.expires_at.is_none(), Property::NeverExpires),
        (key.last_used_at.is_none(), Property::NeverUsed),
    ];
    starts.extend(others.iter().filter(|(has, _)| *has).map(|(_, property)| property.to_string()));
    starts
}

/// Adds a new key to the search.
pub(super) async fn add(tx: &mut Tx, key: &KeyRecord) -> Result<()> {
    if !tx.is_postgres() {
        let args = [Arg::Int(key.seq), Arg::Text(&text(key))];
        tx.execute("INSERT INTO key_search (rowid, text) VALUES ($1, $2)", &args).await?;
    }
    add_starts(tx, key.seq, starts(key).iter()).await
}

/// All in one statement: each is a round trip to the database, and a key has a dozen of starts and more.
async fn add_starts(tx: &mut Tx, seq: i64, starts: impl Iterator<Item = &String>) -> Result<()> {
    const SQLITE: &str = "INSERT INTO key_prefixes (prefix, seq) SELECT value, $2 FROM json_each($1)";
    const POSTGRES: &str =
        "INSERT INTO key_prefixes (prefix, seq) SELECT e, $2 FROM jsonb_array_elements_text($1::jsonb) e";
    change_starts(tx, if tx.is_postgres() { POSTGRES } else { SQLITE }, seq, starts).await
}

/// As [`add_starts`].
async fn remove_starts(tx: &mut Tx, seq: i64, starts: impl Iterator<Item = &String>) -> Result<()> {
    const SQLITE: &str = "DELETE FROM key_prefixes WHERE prefix IN (SELECT value FROM json_each($1)) AND seq = $2";
    const POSTGRES: &str = "DELETE FROM key_prefixes WHERE prefix = ANY (ARRAY \
        (SELECT jsonb_array_elements_text($1::jsonb))) AND seq = $2";
    change_starts(tx, if tx.is_postgres() { POSTGRES } else { SQLITE }, seq, starts).await
}

async fn change_starts(tx: &mut Tx, sql: &'static str, seq: i64, starts: impl Iterator<Item = &String>) -> Result<()> {
    let starts: Vec<&String> = starts.collect();
    if !starts.is_empty() {
        tx.execute(sql, &[Arg::Text(&json!(starts).to_string()), Arg::Int(seq)]).await?;
    }
    Ok(())
}

/// Replaces the texts and the properties of a changed key in the search.
pub(super) async fn replace(tx: &mut Tx, before: &KeyRecord, after: &KeyRecord) -> Result<()> {
    let now = text(after);
    if text(before) != now {
        let sql = if tx.is_postgres() {
            "UPDATE keys SET search = $2, folded = $3 WHERE seq = $1"
        } else {
            "UPDATE key_search SET text = $2 WHERE rowid = $1"
        };
        let folded = fold(&now);
        let args = [Arg::Int(after.seq), Arg::Text(&now), Arg::Text(&folded)];
        tx.execute(sql, if tx.is_postgres() { &args } else { &args[..2] }).await?;
    }
    let (old, new) = (starts(before), starts(after));
    remove_starts(tx, after.seq, old.difference(&new)).await?;
    add_starts(tx, after.seq, new.difference(&old)).await
}

/// Removes a deleted key from the search.
pub(super) async fn remove(tx: &mut Tx, key: &KeyRecord) -> Result<()> {
    if !tx.is_postgres() {
        tx.execute("DELETE FROM key_search WHERE rowid = $1", &[Arg::Int(key.seq)]).await?;
    }
    remove_starts(tx, key.seq, starts(key).iter()).await
}

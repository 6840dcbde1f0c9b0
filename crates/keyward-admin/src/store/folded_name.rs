//! Names as they are compared: two that look alike are the same.

use super::database::Store;
use super::error::Result;
use super::head::signed;
use super::search::Property;
use super::sql::{Arg, Priority, Row};
use serde_json::json;
use unicode_normalization::UnicodeNormalization as _;
use unicode_security::skeleton;

/// The number of names that one transaction folds at the start after an upgrade.
const MAX_AT_ONCE: u64 = 5_000;

/// Returns a name without what distinguishes it only to a machine: upper and lower case, and characters that look like
/// others, such as a Cyrillic `а` (Unicode's confusable characters, UTS 39).
pub(crate) fn folded(name: &str) -> String {
    let mut latin = String::with_capacity(name.len());
    for c in name.nfkc() {
        // A capital letter may look like another one that its small letter does not look like: Cyrillic `В` and `в`.
        if c.is_ascii() { latin.push(c) } else { latin.extend(skeleton(c.encode_utf8(&mut [0; 4]))) }
    }
    skeleton(&latin.to_lowercase()).collect::<String>().to_lowercase()
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
                names.push((property(row)?, after));
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

fn property(row: &Row) -> Result<String> {
    Ok(Property::Name(&folded(&row.text(1)?)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_are_the_same() {
        for (one, other) in [("CI Bot", "ci bot"), ("admin", "аdmin"), ("Ａpp", "app"), ("modern", "modem")] {
            assert_eq!(folded(one), folded(other));
        }
        for (one, other) in [("key 1", "key 2"), ("a b", "ab"), ("0", "8"), ("ключ", "klyuch")] {
            assert_ne!(folded(one), folded(other));
        }
    }
}

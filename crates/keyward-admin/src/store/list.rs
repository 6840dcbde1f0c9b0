//! Lists of keys: filters, orders, and pages in both directions.
//!
//! Each list walks one index: the order of creation, names, expiry, the keys with one property, or a search. What the
//! index does not decide is checked key by key, for a limited number of keys: then a page ends early and says where the
//! list goes on. So a page costs about the same whatever is asked for.

use super::database::Store;
use super::error::Result;
use super::record::{KeyRecord, Status, read_key, select_keys};
use super::search::{self, Property};
use super::sql::{Arg, Row};
use keyward_policy::timestamp::Timestamp;
use std::fmt;
use std::str::FromStr;

/// Keys that are read for one page at most.
const MAX_READ: usize = 1_000;
/// Keys that are read at once after the first, which is as long as the page.
const CHUNK: u32 = 500;
/// Where keys that never expire come in the order of expiry. The statements below name it too.
const NEVER: i64 = i64::MAX;
/// The largest number of keys that [`Store::count_keys`] counts.
pub const MAX_COUNT: u64 = 1_000;

/// The orders that a list can have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// The order of creation, newest first.
    #[default]
    Created,
    /// By name, whatever the case of its ASCII letters.
    Name,
    /// The keys that expire soonest first; those that never expire come last.
    Expires,
}

/// An order, or its reverse.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sort {
    /// The order.
    pub by: Order,
    /// Whether the order is reversed.
    pub reversed: bool,
}

/// Which keys a list holds. The default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// A text that name, id or last four characters hold. An empty text is in every key.
    pub q: String,
    /// Only keys with this status.
    pub status: Option<Status>,
    /// Only keys with this permission.
    pub permission: Option<String>,
    /// Only keys that no filter has reported a use of.
    pub never_used: bool,
    /// Only keys that never expire.
    pub never_expires: bool,
    /// Only keys that expire after now and not after this moment.
    pub expires_until: Option<Timestamp>,
}

/// The place of a key in an order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// The lower case of the name, in the order of names.
    name: String,
    /// When the key expires, in the order of expiry.
    end: i64,
    seq: i64,
}

/// A place in a list, from which a page goes on. It carries the order of the list; its text is opaque to callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    sort: Sort,
    /// Whether the page is the one before the place.
    is_backwards: bool,
    place: Place,
}

/// A page of a list.
#[derive(Debug)]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<KeyRecord>,
    /// The next page. `None` means that this is the last one.
    pub next: Option<Cursor>,
    /// The page before. `None` means that this is the first one.
    pub previous: Option<Cursor>,
}

impl Filter {
    /// Returns whether every key passes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the order that suits the filter best.
    pub fn usual_order(&self) -> Order {
        let by_end = self.expires_until.is_some() || self.status == Some(Status::Expired);
        if by_end && self.q.is_empty() { Order::Expires } else { Order::Created }
    }

    fn passes(&self, key: &KeyRecord, now: Timestamp) -> bool {
        self.status.is_none_or(|status| key.status(now) == status)
            && self.permission.as_ref().is_none_or(|wanted| key.permissions.contains(wanted))
            && !(self.never_used && key.last_used_at.is_some())
            && !(self.never_expires && key.expires_at.is_some())
            && self.expires_until.is_none_or(|until| key.expires_at.is_some_and(|at| now < at && at <= until))
    }

    /// The property whose keys are likely the fewest.
    fn property(&self) -> Option<Property<'_>> {
        if self.status == Some(Status::Disabled) {
            return Some(Property::Disabled);
        }
        if self.never_used {
            return Some(Property::NeverUsed);
        }
        let permission = self.permission.as_deref().map(Property::Permission);
        permission.or(self.never_expires.then_some(Property::NeverExpires))
    }

    /// The ends of the keys that may pass, the first and the last.
    fn ends(&self, now: Timestamp) -> (i64, i64) {
        let after = now.unix_ms().saturating_add(1);
        let (mut first, mut last) = (i64::MIN, NEVER);
        if let Some(until) = self.expires_until {
            (first, last) = (after, until.unix_ms());
        }
        match self.status {
            Some(Status::Expired) => last = last.min(now.unix_ms()),
            Some(Status::Active) => first = first.max(after),
            Some(Status::Disabled) | None => {}
        }
        if self.never_expires {
            first = NEVER;
        }
        (first, last)
    }
}

impl Place {
    fn of(key: &KeyRecord) -> Self {
        Self {
            name: key.name.to_ascii_lowercase(),
            end: key.expires_at.map_or(NEVER, Timestamp::unix_ms),
            seq: key.seq,
        }
    }
}

impl Sort {
    /// Whether the index is walked from its end.
    fn is_descending(self, is_backwards: bool) -> bool {
        (self.by == Order::Created) ^ self.reversed ^ is_backwards
    }
}

/// Makes the statement that walks one index from after a place: `$op` and `$dir` are `>` and nothing, or `<` and ` DESC`.
/// SQLite compares pairs without seeking where one of them is an expression, so the expression is also compared by itself:
/// otherwise a page far into the list reads all that comes before it.
macro_rules! by_seq {
    ($op:literal, $dir:literal) => {
        select_keys!("keys k", concat!("WHERE k.seq ", $op, " $1 ORDER BY k.seq", $dir, " LIMIT $2"))
    };
}
macro_rules! by_name {
    ($op:literal, $dir:literal) => {
        select_keys!(
            "keys k",
            concat!(
                "WHERE lower(k.name) ",
                $op,
                "= $3 AND (lower(k.name), k.seq) ",
                $op,
                " ($3, $1) ORDER BY lower(k.name)",
                $dir,
                ", k.seq",
                $dir,
                " LIMIT $2"
            )
        )
    };
}
/// Many keys may end at one time, above all those that never do. So the rest of these and the later ends are two ranges, each
/// of which is sought: by a comparison of pairs SQLite would read all that end at that time, up to the place.
macro_rules! by_end {
    ($op:literal, $dir:literal) => {
        select_keys!(
            concat!(
                "(SELECT * FROM (SELECT * FROM keys WHERE COALESCE(expires_at, 9223372036854775807) = $3 AND seq ",
                $op,
                " $1 ORDER BY seq",
                $dir,
                " LIMIT $2) s UNION ALL SELECT * FROM (SELECT * FROM keys WHERE COALESCE(expires_at, 9223372036854775807) ",
                $op,
                " $3 ORDER BY COALESCE(expires_at, 9223372036854775807)",
                $dir,
                ", seq",
                $dir,
                " LIMIT $2) o) k"
            ),
            concat!(
                "ORDER BY COALESCE(k.expires_at, 9223372036854775807)",
                $dir,
                ", k.seq",
                $dir,
                " LIMIT $2"
            )
        )
    };
}

impl Store {
    /// Returns up to `limit` keys that pass a filter: the first page in the order of `sort`, or the one that `cursor` asks
    /// for, in the order that it carries. A search keeps the order of creation.
    ///
    /// A page may hold fewer keys than `limit`, or none, and still name a next one, where few of many keys pass.
    ///
    /// # Errors
    /// Returns an error when the database cannot be read.
    pub async fn key_page(
        &self,
        filter: &Filter,
        sort: Sort,
        cursor: Option<&Cursor>,
        limit: u32,
        now: Timestamp,
    ) -> Result<KeyPage> {
        let page = self.walk(filter, sort, cursor, limit, now).await?;
        match cursor {
            // What was before the place is gone: the list begins here now.
            Some(Cursor { sort, is_backwards: true, .. }) if page.keys.is_empty() && page.previous.is_none() => {
                self.walk(filter, *sort, None, limit, now).await
            }
            _ => Ok(page),
        }
    }

    async fn walk(
        &self,
        filter: &Filter,
        sort: Sort,
        cursor: Option<&Cursor>,
        limit: u32,
        now: Timestamp,
    ) -> Result<KeyPage> {
        let mut sort = cursor.map_or(sort, |cursor| cursor.sort);
        let searches = !filter.q.is_empty();
        let is_backwards = cursor.is_some_and(|cursor| cursor.is_backwards);
        if searches && sort.by != Order::Created {
            sort = Sort::default();
        }
        let down = sort.is_descending(is_backwards);
        let (first, last) = if sort.by == Order::Expires { filter.ends(now) } else { (i64::MIN, NEVER) };
        let begin = || match down {
            true => Place { name: "\u{10ffff}".to_owned(), end: last, seq: i64::MAX },
            false => Place { name: String::new(), end: first, seq: i64::MIN },
        };
        let mut place = cursor.map_or_else(begin, |cursor| cursor.place.clone());
        let limit = limit as usize;
        let (mut keys, mut read, mut more) = (Vec::new(), 0, false);
        let mut chunk = u32::try_from(limit + 1).unwrap_or(CHUNK);
        'pages: loop {
            let rows = self.next_rows(filter, sort.by, down, &place, chunk).await?;
            let count = rows.len();
            for row in &rows {
                let key = read_key(row)?;
                let at = Place::of(&key);
                if sort.by == Order::Expires && (at.end < first || at.end > last) {
                    break 'pages;
                }
                if filter.passes(&key, now) {
                    if keys.len() == limit {
                        more = true;
                        break 'pages;
                    }
                    keys.push(key);
                }
                place = at;
            }
            read += count;
            if count < chunk as usize {
                break;
            }
            if read >= MAX_READ {
                more = true;
                break;
            }
            chunk = CHUNK;
        }
        // A page that is full ends with its last key; one that ended early goes on after the last key that was read.
        let end = more.then(|| keys.last().filter(|_| keys.len() == limit).map_or(place, Place::of));
        if is_backwards {
            keys.reverse();
        }
        let to = |is_backwards: bool, place: Place| Cursor { sort, is_backwards, place };
        let onwards = end.map(|place| to(is_backwards, place));
        let edge = if is_backwards { keys.last() } else { keys.first() };
        let edge = edge.map(Place::of).or_else(|| cursor.map(|cursor| cursor.place.clone()));
        let back = edge.filter(|_| cursor.is_some()).map(|place| to(!is_backwards, place));
        let (next, previous) = if is_backwards { (back, onwards) } else { (onwards, back) };
        Ok(KeyPage { keys, next, previous })
    }

    /// Reads the next keys of the index that the list walks.
    async fn next_rows(&self, filter: &Filter, by: Order, down: bool, place: &Place, limit: u32) -> Result<Vec<Row>> {
        let pool = &self.pool;
        if !filter.q.is_empty() {
            return search::find(pool, &filter.q, place.seq, limit, down).await;
        }
        let args = [Arg::Int(place.seq), Arg::Int(i64::from(limit))];
        match by {
            Order::Created => match filter.property() {
                Some(property) => search::having(pool, property, place.seq, limit, down).await,
                None => pool.rows(if down { by_seq!("<", " DESC") } else { by_seq!(">", "") }, &args).await,
            },
            Order::Name => {
                let args = [args[0], args[1], Arg::Text(&place.name)];
                pool.rows(if down { by_name!("<", " DESC") } else { by_name!(">", "") }, &args).await
            }
            Order::Expires => {
                let args = [args[0], args[1], Arg::Int(place.end)];
                pool.rows(if down { by_end!("<", " DESC") } else { by_end!(">", "") }, &args).await
            }
        }
    }

    /// Counts the keys that pass a filter, up to one more than [`MAX_COUNT`]. `None` means that no index counts them.
    ///
    /// # Errors
    /// Returns an error when the database cannot be read.
    pub async fn count_keys(&self, filter: &Filter, now: Timestamp) -> Result<Option<u64>> {
        let most = Arg::Int(i64::try_from(MAX_COUNT).unwrap_or(i64::MAX) + 1);
        let only = |filter: &Filter, alone: Filter| *filter == alone;
        let row = if let Some(until) = filter.expires_until {
            if !only(filter, Filter { expires_until: Some(until), ..Filter::default() }) {
                return Ok(None);
            }
            let sql = "SELECT COUNT(*) FROM (SELECT 1 AS one FROM keys \
                       WHERE COALESCE(expires_at, 9223372036854775807) BETWEEN $1 AND $2 LIMIT $3) n";
            let (first, last) = filter.ends(now);
            self.pool.row(sql, &[Arg::Int(first), Arg::Int(last), most]).await?
        } else {
            let alone = match filter.property() {
                Some(Property::Disabled) => Filter { status: Some(Status::Disabled), ..Filter::default() },
                Some(Property::NeverUsed) => Filter { never_used: true, ..Filter::default() },
                Some(Property::NeverExpires) => Filter { never_expires: true, ..Filter::default() },
                Some(Property::Permission(_)) => Filter { permission: filter.permission.clone(), ..Filter::default() },
                Some(Property::Name(_)) | None => return Ok(None),
            };
            let Some(property) = filter.property().filter(|_| only(filter, alone)) else { return Ok(None) };
            let sql = "SELECT COUNT(*) FROM (SELECT 1 AS one FROM key_prefixes WHERE prefix = $1 LIMIT $2) n";
            self.pool.row(sql, &[Arg::Text(&property.to_string()), most]).await?
        };
        Ok(Some(row.map(|row| row.int(0)).transpose()?.unwrap_or(0).cast_unsigned()))
    }
}

impl FromStr for Sort {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let (reversed, name) = text.strip_prefix('-').map_or((false, text), |name| (true, name));
        let by = match name {
            "created" => Order::Created,
            "name" => Order::Name,
            "expires" => Order::Expires,
            _ => return Err(()),
        };
        Ok(Self { by, reversed })
    }
}

/// `c1f`, `e18c2….1f` or `n6369….1f`: the order, and the place in it. A capital reverses the order; `b` before it asks for
/// the page before the place.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { name, end, seq } = &self.place;
        let letter = match self.sort.by {
            Order::Created => 'c',
            Order::Name => 'n',
            Order::Expires => 'e',
        };
        let letter = if self.sort.reversed { letter.to_ascii_uppercase() } else { letter };
        let back = if self.is_backwards { "b" } else { "" };
        match self.sort.by {
            Order::Created => write!(f, "{back}{letter}{seq:x}"),
            Order::Name => write!(f, "{back}{letter}{}.{seq:x}", hex::encode(name)),
            Order::Expires => write!(f, "{back}{letter}{end:x}.{seq:x}"),
        }
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let (is_backwards, rest) = text.strip_prefix('b').map_or((false, text), |rest| (true, rest));
        let letter = rest.chars().next().ok_or(())?;
        let by = match letter.to_ascii_lowercase() {
            'c' => Order::Created,
            'n' => Order::Name,
            'e' => Order::Expires,
            _ => return Err(()),
        };
        let sort = Sort { by, reversed: letter.is_ascii_uppercase() };
        let rest = rest.get(letter.len_utf8()..).ok_or(())?;
        let (value, seq) = if by == Order::Created { ("", rest) } else { rest.split_once('.').ok_or(())? };
        let number = |text: &str| i64::from_str_radix(text, 16).ok().filter(|number| *number >= 0).ok_or(());
        let mut place = Place { name: String::new(), end: 0, seq: number(seq)? };
        match by {
            Order::Created => {}
            Order::Name => {
                let name = hex::decode(value).map_err(|_| ())?;
                // No name holds control characters, and PostgreSQL fails at a NUL.
                place.name = String::from_utf8_lossy(&name).replace(char::is_control, "");
            }
            Order::Expires => place.end = number(value)?,
        }
        Ok(Self { sort, is_backwards, place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{Connection as _, Row as _};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Counts the steps of SQLite's machine: a page must not read what comes before it, nor sort what comes after it,
    /// wherever it begins and however many keys are equal in what the order goes by.
    #[tokio::test]
    async fn a_page_costs_the_same_wherever_it_begins() {
        const KEYS: i64 = 9_000;
        const PAGE: i64 = 10;
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("keyward.db").display());
        let _store = Store::open(&url).await.unwrap();
        let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
        // A third of the keys ends at one time, a third at times of their own, and a third never.
        sqlx::query(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
             INSERT INTO keys (seq, id, name, sha256, prefix, last_four, permissions, created_at, expires_in, expires_at, \
             disabled, revision) SELECT i, 'key_' || i, printf('key %05d', i * 7919 % $1), randomblob(32), 'kw', 'abcd', 'read', \
             i, '', CASE i % 3 WHEN 0 THEN 5000 WHEN 1 THEN i * 7919 % $1 * 10 END, 0, i FROM n",
        )
        .bind(KEYS)
        .execute(&mut database)
        .await
        .unwrap();
        let steps = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&steps);
        database.lock_handle().await.unwrap().set_progress_handler(1, move || {
            count.fetch_add(1, Ordering::Relaxed);
            true
        });
        for (by, sql) in [
            (Order::Created, by_seq!(">", "")),
            (Order::Created, by_seq!("<", " DESC")),
            (Order::Name, by_name!(">", "")),
            (Order::Name, by_name!("<", " DESC")),
            (Order::Expires, by_end!(">", "")),
            (Order::Expires, by_end!("<", " DESC")),
        ] {
            for place in (1..=KEYS).step_by(113) {
                let key = sqlx::query("SELECT name, expires_at FROM keys WHERE seq = $1").bind(place);
                let key = key.fetch_one(&mut database).await.unwrap();
                let page = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(place).bind(PAGE);
                let page = match by {
                    Order::Created => page,
                    Order::Name => page.bind(key.get::<String, _>("name")),
                    Order::Expires => page.bind(key.get::<Option<i64>, _>("expires_at").unwrap_or(NEVER)),
                };
                let before = steps.load(Ordering::Relaxed);
                let rows = page.fetch_all(&mut database).await.unwrap().len();
                let taken = steps.load(Ordering::Relaxed) - before;
                // Some hundreds begin a statement and some dozens make a row, of up to twice a page; reading one part of
                // the three that the keys are of takes thousands.
                assert!(taken < 2_500 && rows <= 10, "{taken} steps for {rows} rows from {place}: {sql}");
            }
        }
    }

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_is_read_as_it_was_written(
            by in 0..3usize, reversed: bool, is_backwards: bool, name in "\\PC{0,100}", end in 0..=i64::MAX, seq in 1..=i64::MAX
        ) {
            let by = [Order::Created, Order::Name, Order::Expires][by];
            let mut place = Place { name: String::new(), end: 0, seq };
            match by {
                Order::Created => {}
                Order::Name => place.name = name,
                Order::Expires => place.end = end,
            }
            let cursor = Cursor { sort: Sort { by, reversed }, is_backwards, place };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn whatever_is_no_cursor_is_refused_and_not_a_panic(text in "\\PC{0,40}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert!(cursor.to_string().parse() == Ok(cursor));
            }
        }
    }
}

//! The row of the `store` table: identity, newest revision and checksum.

use super::error::{Error, Result};
use super::sql::Row;
use keyward_policy::checksum::Checksum;
use keyward_policy::timeline::{Mark, Point};

/// The newest state of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The identity of the store. A different identity means a different set of keys.
    pub identity: String,
    /// The newest revision. 0 means that nothing was ever changed.
    pub revision: u64,
    /// The number of live keys.
    pub live_count: u64,
    /// The checksum of the live keys at `revision`.
    pub checksum: Checksum,
    /// The revision of the newest tombstone that was removed. 0 means that none was.
    pub compacted: u64,
    /// A number that rises with every change that takes no revision: of tokens, and of the identity.
    pub version: u64,
    /// What the commit of `revision` drew.
    pub mark: Mark,
    /// A state that is known to have led to this one: for a commit, the one that it found. `None` means that the state
    /// which the reader knew is not among those that led here: the store went back.
    pub after: Option<Point>,
    /// Where the store lives: its identity, and on PostgreSQL also the server's system identifier and timeline, which a
    /// failover changes. `None` means that the server does not say.
    pub lineage: Option<String>,
    /// Whether the rows of tables are known to be complete at this `lineage`.
    pub has_all_tables: bool,
}

impl Head {
    /// The state that the store is in.
    pub fn point(&self) -> Point {
        Point { revision: self.revision, mark: self.mark }
    }
}

/// Makes the statement that selects the row, and further columns with it. `$1` is the revision of the state that the reader
/// knows.
macro_rules! select_head {
    ($place:literal, $more:literal) => {
        concat!(
            "SELECT identity, head, live_count, live_checksum, compacted, version, mark, confirmed, \
             (SELECT mark FROM timeline WHERE revision = $1) AS mark_then, ",
            $place,
            " AS place",
            $more,
            " FROM store WHERE one = 1"
        )
    };
}
pub(super) use select_head;

/// How the row of the `store` table is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeadSql {
    /// Selects the row. `$1` is the revision of the state that the reader knows.
    pub select: &'static str,
    /// Locks the row for a change, and returns it.
    pub lock: &'static str,
}

macro_rules! head_sql {
    ($place:literal) => {
        HeadSql {
            select: select_head!($place, ""),
            // An update and not `SELECT … FOR UPDATE`, which SQLite does not know.
            lock: concat!(
                "UPDATE store SET head = head WHERE one = 1 RETURNING identity, head, live_count, live_checksum, compacted, \
                 version, mark, confirmed, mark AS mark_then, ",
                $place,
                " AS place"
            ),
        }
    };
}

impl HeadSql {
    /// For a file: its identity is all that there is.
    pub const SQLITE: Self = head_sql!("''");
    /// For a server that says where it is. The segment that is written tells the timeline from the promotion on; the
    /// control file follows only with the next checkpoint.
    pub const POSTGRES: Self = head_sql!(
        "(SELECT system_identifier::text FROM pg_control_system()) || '/' || \
         left(pg_walfile_name(pg_current_wal_lsn()), 8)"
    );
    /// For a server that does not let this role ask.
    pub const POSTGRES_WITHOUT_PLACE: Self = head_sql!("NULL::text");
}

/// Reads the row of the `store` table; `None` is an error, since every open store has the row.
pub(super) fn read_head(row: Option<&Row>, known: Point) -> Result<Head> {
    let row = row.ok_or_else(missing_row)?;
    let mark = |bits: i64| Mark::from_bits(bits.cast_unsigned());
    let now = Point { revision: unsigned(row.int("head")?)?, mark: mark(row.int("mark")?) };
    let then = if known.revision == now.revision { Some(now.mark) } else { row.opt_int("mark_then")?.map(mark) };
    let identity = row.text("identity")?;
    let lineage = row.opt_text("place")?.map(|place| format!("{identity}/{place}"));
    Ok(Head {
        mark: now.mark,
        after: (then == Some(known.mark)).then_some(known),
        has_all_tables: lineage.is_some() && lineage == row.opt_text("confirmed")?,
        lineage,
        identity,
        revision: now.revision,
        live_count: unsigned(row.int("live_count")?)?,
        checksum: Checksum::from_bits(row.int("live_checksum")?.cast_unsigned()),
        compacted: unsigned(row.int("compacted")?)?,
        version: unsigned(row.int("version")?)?,
    })
}

/// Every open store has its row.
pub(super) fn missing_row() -> Error {
    Error::Corrupt("the row of the store is missing".into())
}

/// Converts a column that never holds a number below zero.
pub(super) fn unsigned(value: i64) -> Result<u64> {
    u64::try_from(value).map_err(|_| Error::Corrupt(format!("a number below zero: {value}")))
}

/// Converts a revision or a count for a column; both stay far below the limit.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

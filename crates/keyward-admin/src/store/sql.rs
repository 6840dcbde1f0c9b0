//! The thin layer that lets one SQL text serve SQLite and PostgreSQL.
//!
//! Both understand `$1` parameters, `ON CONFLICT` and `RETURNING`, so that nearly every statement is written once.
//! Integers are 64 bits and flags are 0 or 1 in both.
//!
//! Three things hold for every call here. It ends within [`PATIENCE`], even if the database never answers. A connection
//! on which a statement failed, or was given up, is closed and never used again: on a full disk SQLite ends the
//! transaction by itself, and a connection that is still believed to be in one refuses every later change. And writes
//! of people come before writes in the background.

use super::error::{Error, Result};
use super::sqlite_file::SqliteFile;
use super::turns::{Turn, Turns};
use super::writes::Writes;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, ColumnIndex, PgPool, Postgres, Row as _, Sqlite, SqlitePool};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

/// How long a transaction or a read may take, the wait for a connection and for locks included.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long the end of an abandoned transaction may take before its connection is closed instead.
const ROLLBACK_PATIENCE: Duration = Duration::from_secs(2);

/// Connections to one of the two databases. Clones share them.
#[derive(Clone)]
pub struct Pool {
    database: Database,
    /// Who writes next.
    turns: Turns,
    /// Whether writes succeed.
    pub writes: Arc<Writes>,
}

/// The connections of a [`Pool`].
#[derive(Clone)]
pub enum Database {
    /// One connection writes, several read; WAL lets them.
    Sqlite {
        /// A pool of one connection, so that writers queue here and not in SQLite's busy handler.
        write: SqlitePool,
        /// A pool of read-only connections; the same pool as `write` for a database in memory.
        read: SqlitePool,
        /// The file. `None` means that the database is in memory.
        file: Option<Arc<SqliteFile>>,
    },
    /// One pool for both.
    Postgres {
        /// The connections.
        pool: PgPool,
        /// Limits the connections of writers, which queue for the store's row while they hold one, so that some are left
        /// for readers.
        writers: Arc<Semaphore>,
    },
}

/// Who wants to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// A person waits for the change.
    Person,
    /// Nobody waits: usage, known proxies, cleaning up. It goes after all people.
    Background,
}

/// A parameter.
#[derive(Debug, Clone, Copy)]
pub enum Arg<'a> {
    /// A number, a flag or a time.
    Int(i64),
    /// A number or NULL.
    OptInt(Option<i64>),
    /// Text.
    Text(&'a str),
    /// Text or NULL.
    OptText(Option<&'a str>),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// A row of a result.
pub enum Row {
    /// A row from SQLite.
    Sqlite(SqliteRow),
    /// A row from PostgreSQL.
    Postgres(PgRow),
}

/// A column, by its name or its position.
pub trait Column: ColumnIndex<SqliteRow> + ColumnIndex<PgRow> {}

impl<C: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>> Column for C {}

impl Row {
    /// Returns the number in a column.
    pub fn int(&self, column: impl Column) -> sqlx::Result<i64> {
        match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => row.try_get(column),
        }
    }

    /// Returns the number in a column, or `None` for NULL.
    pub fn opt_int(&self, column: impl Column) -> sqlx::Result<Option<i64>> {
        match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => row.try_get(column),
        }
    }

    /// Returns the text in a column.
    pub fn text(&self, column: impl Column) -> sqlx::Result<String> {
        match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => row.try_get(column),
        }
    }

    /// Returns the text in a column, or `None` for NULL.
    pub fn opt_text(&self, column: impl Column) -> sqlx::Result<Option<String>> {
        match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => row.try_get(column),
        }
    }

    /// Returns the bytes in a column.
    pub fn bytes(&self, column: impl Column) -> sqlx::Result<Vec<u8>> {
        match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => row.try_get(column),
        }
    }
}

fn sqlite_arguments(args: &[Arg<'_>]) -> sqlx::Result<SqliteArguments> {
    let mut out = SqliteArguments::default();
    for arg in args {
        match *arg {
            Arg::Int(value) => out.add(value),
            Arg::OptInt(value) => out.add(value),
            Arg::Text(value) => out.add(value.to_owned()),
            Arg::OptText(value) => out.add(value.map(str::to_owned)),
            Arg::Bytes(value) => out.add(value.to_vec()),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(out)
}

fn postgres_arguments(args: &[Arg<'_>]) -> sqlx::Result<PgArguments> {
    let mut out = PgArguments::default();
    for arg in args {
        match *arg {
            Arg::Int(value) => out.add(value),
            Arg::OptInt(value) => out.add(value),
            Arg::Text(value) => out.add(value),
            Arg::OptText(value) => out.add(value),
            Arg::Bytes(value) => out.add(value),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(out)
}

/// A connection in use. It goes back to its pool only if every statement on it came to its end.
struct Lease {
    connection: Connection,
    /// Whether a statement failed, or has begun and did not end.
    is_spoiled: bool,
    /// Whether the connection is the only one there can be: that of a database in memory.
    is_only_one: bool,
}

enum Connection {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

impl Lease {
    fn new(connection: Connection, is_only_one: bool) -> Self {
        Self { connection, is_spoiled: false, is_only_one }
    }

    /// Runs `work`, a statement on the connection, until `deadline`.
    async fn run<T>(&mut self, deadline: Instant, statement: Statement<'_>, take: fn(Answer) -> T) -> sqlx::Result<T> {
        self.is_spoiled = true;
        let answer = timeout_at(deadline, statement.run(&mut self.connection)).await;
        let answer = answer.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
        self.is_spoiled = false;
        Ok(take(answer))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.is_spoiled && !self.is_only_one {
            match &mut self.connection {
                Connection::Sqlite(connection) => connection.close_on_drop(),
                Connection::Postgres(connection) => connection.close_on_drop(),
            }
        }
    }
}

/// A statement with its parameters.
struct Statement<'a> {
    sql: &'static str,
    args: &'a [Arg<'a>],
    wants_rows: bool,
}

struct Answer {
    rows: Vec<Row>,
    affected: u64,
}

impl Statement<'_> {
    async fn run(self, connection: &mut Connection) -> sqlx::Result<Answer> {
        let (mut rows, mut affected) = (Vec::new(), 0);
        match connection {
            Connection::Sqlite(connection) => {
                let query = sqlx::query_with(self.sql, sqlite_arguments(self.args)?);
                if self.wants_rows {
                    rows = query.fetch_all(&mut **connection).await?.into_iter().map(Row::Sqlite).collect();
                } else {
                    affected = query.execute(&mut **connection).await?.rows_affected();
                }
            }
            Connection::Postgres(connection) => {
                let query = sqlx::query_with(self.sql, postgres_arguments(self.args)?);
                if self.wants_rows {
                    rows = query.fetch_all(&mut **connection).await?.into_iter().map(Row::Postgres).collect();
                } else {
                    affected = query.execute(&mut **connection).await?.rows_affected();
                }
            }
        }
        Ok(Answer { rows, affected })
    }
}

/// An open transaction; rolled back when dropped.
pub struct Tx {
    /// `None` after the end.
    lease: Option<Lease>,
    deadline: Instant,
    /// Where the outcome of a write is noted.
    writes: Option<Arc<Writes>>,
    held: Held,
}

/// What a writer gives back when its transaction is over.
#[derive(Default)]
struct Held {
    _turn: Option<Turn>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Pool {
    /// Makes a pool of the connections of one database.
    pub fn new(database: Database) -> Self {
        Self { database, turns: Turns::default(), writes: Arc::default() }
    }

    /// Begins to watch the file of a SQLite database.
    pub fn with_file(mut self, noted: SqliteFile) -> Self {
        if let Database::Sqlite { file, .. } = &mut self.database {
            *file = Some(Arc::new(noted));
        }
        self
    }

    /// Checks that the file of a SQLite database is still the one that is open.
    pub fn check_file(&self) -> Result<()> {
        match &self.database {
            Database::Sqlite { file: Some(file), .. } => file.check(),
            _ => Ok(()),
        }
    }

    /// Returns the connections, for what only one of the two databases can do.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Returns whether this is PostgreSQL.
    pub fn is_postgres(&self) -> bool {
        matches!(self.database, Database::Postgres { .. })
    }

    /// Starts a transaction that will write. On SQLite it holds the write lock from the start.
    pub async fn begin_write(&self, priority: Priority) -> Result<Tx> {
        let deadline = Instant::now() + PATIENCE;
        let begun = match timeout_at(deadline, self.begin_write_until(priority, deadline)).await {
            Ok(begun) => begun,
            Err(_) => Err(sqlx::Error::PoolTimedOut.into()),
        };
        begun.inspect_err(|error| self.writes.failed(error))
    }

    async fn begin_write_until(&self, priority: Priority, deadline: Instant) -> Result<Tx> {
        let turn = match priority {
            Priority::Person => self.turns.person(),
            Priority::Background => self.turns.background().await,
        };
        let mut held = Held { _turn: Some(turn), _place: None };
        self.check_file()?;
        let (lease, begin) = match &self.database {
            Database::Sqlite { write, file, .. } => {
                (Lease::new(Connection::Sqlite(write.acquire().await?), file.is_none()), "BEGIN IMMEDIATE")
            }
            Database::Postgres { pool, writers } => {
                let place = Arc::clone(writers).acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
                held._place = Some(place);
                (Lease::new(Connection::Postgres(pool.acquire().await?), false), "BEGIN")
            }
        };
        Tx::begin(lease, begin, deadline, Some(Arc::clone(&self.writes)), held).await
    }

    /// Starts a transaction that sees one state of the store throughout.
    pub async fn begin_read(&self) -> Result<Tx> {
        self.begin_long_read(PATIENCE).await
    }

    /// Starts a transaction that sees one state of the store throughout, and may take as long as `patience`.
    pub async fn begin_long_read(&self, patience: Duration) -> Result<Tx> {
        let begin = match &self.database {
            Database::Sqlite { .. } => "BEGIN",
            Database::Postgres { .. } => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        Tx::begin(self.read_lease().await?, begin, Instant::now() + patience, None, Held::default()).await
    }

    async fn read_lease(&self) -> Result<Lease> {
        let lease = async {
            Ok::<_, sqlx::Error>(match &self.database {
                Database::Sqlite { read, file, .. } => {
                    Lease::new(Connection::Sqlite(read.acquire().await?), file.is_none())
                }
                Database::Postgres { pool, .. } => Lease::new(Connection::Postgres(pool.acquire().await?), false),
            })
        };
        Ok(timeout(PATIENCE, lease).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))?)
    }

    /// Runs one statement that reads.
    pub async fn rows(&self, sql: &'static str, args: &[Arg<'_>]) -> Result<Vec<Row>> {
        let deadline = Instant::now() + PATIENCE;
        let statement = Statement { sql, args, wants_rows: true };
        Ok(self.read_lease().await?.run(deadline, statement, |answer| answer.rows).await?)
    }

    /// Runs one statement that reads at most one row.
    pub async fn row(&self, sql: &'static str, args: &[Arg<'_>]) -> Result<Option<Row>> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }
}

impl Tx {
    async fn begin(
        lease: Lease,
        begin: &'static str,
        deadline: Instant,
        writes: Option<Arc<Writes>>,
        held: Held,
    ) -> Result<Self> {
        // A transaction from now on: one whose begin is given up may have begun all the same.
        let mut tx = Self { lease: Some(lease), deadline, writes, held };
        tx.execute(begin, &[]).await?;
        Ok(tx)
    }

    async fn run<T>(&mut self, statement: Statement<'_>, take: fn(Answer) -> T) -> Result<T> {
        let lease = self.lease.as_mut().filter(|lease| !lease.is_spoiled);
        // Nothing can follow a statement that failed: PostgreSQL would answer COMMIT with a rollback and call it done.
        let lease = lease.ok_or(Error::Database(sqlx::Error::PoolClosed))?;
        let done = lease.run(self.deadline, statement, take).await.map_err(Error::from);
        if let (Err(error), Some(writes)) = (&done, &self.writes) {
            writes.failed(error);
        }
        done
    }

    /// Runs a statement and returns the number of rows that it changed.
    pub async fn execute(&mut self, sql: &'static str, args: &[Arg<'_>]) -> Result<u64> {
        self.run(Statement { sql, args, wants_rows: false }, |answer| answer.affected).await
    }

    /// Runs a statement and returns its rows.
    pub async fn rows(&mut self, sql: &'static str, args: &[Arg<'_>]) -> Result<Vec<Row>> {
        self.run(Statement { sql, args, wants_rows: true }, |answer| answer.rows).await
    }

    /// Runs a statement and returns its first row.
    pub async fn row(&mut self, sql: &'static str, args: &[Arg<'_>]) -> Result<Option<Row>> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// Commits.
    pub async fn commit(mut self) -> Result<()> {
        self.execute("COMMIT", &[]).await?;
        self.lease = None;
        if let Some(writes) = &self.writes {
            writes.succeeded();
        }
        Ok(())
    }

    /// Returns whether this is PostgreSQL.
    pub fn is_postgres(&self) -> bool {
        matches!(&self.lease, Some(Lease { connection: Connection::Postgres(_), .. }))
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        let Some(mut lease) = self.lease.take() else { return };
        if lease.is_spoiled && !lease.is_only_one {
            // Closing the connection rolls back.
            return;
        }
        let held = std::mem::take(&mut self.held);
        tokio::spawn(async move {
            let deadline = Instant::now() + ROLLBACK_PATIENCE;
            let _ = lease.run(deadline, Statement { sql: "ROLLBACK", args: &[], wants_rows: false }, |_| ()).await;
            drop((lease, held));
        });
    }
}

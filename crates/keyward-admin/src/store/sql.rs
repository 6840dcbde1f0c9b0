//! The thin layer that lets one SQL text serve SQLite and PostgreSQL.
//!
//! Both understand `$1` parameters, `ON CONFLICT` and `RETURNING`, so that nearly every statement is written once.
//! Integers are 64 bits and flags are 0 or 1 in both.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, ColumnIndex, PgPool, Postgres, Row as _, Sqlite, SqlitePool, Transaction};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a call may wait for a lock or a connection before it fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Connections to one of the two databases.
#[derive(Clone)]
pub enum Pool {
    /// One connection writes, several read; WAL lets them.
    Sqlite {
        /// At most one connection, so that writers queue here and not in SQLite's busy handler.
        write: SqlitePool,
        /// The same pool as `write` for a database in memory.
        read: SqlitePool,
    },
    /// One pool for both.
    Postgres {
        /// The connections.
        pool: PgPool,
        /// Places for writers. They queue for the store's row, each with a connection in its hand: some are left for those
        /// who read.
        writers: Arc<Semaphore>,
    },
}

/// An open transaction; rolled back when dropped.
pub enum Tx {
    /// On SQLite.
    Sqlite(Transaction<'static, Sqlite>),
    /// On PostgreSQL; a writer with its place.
    Postgres(
        Transaction<'static, Postgres>,
        #[allow(dead_code, reason = "given back when the transaction is over")] Option<OwnedSemaphorePermit>,
    ),
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
            Arg::Bytes(value) => out.add(value),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(out)
}

impl Pool {
    /// Whether this is PostgreSQL.
    pub fn is_postgres(&self) -> bool {
        matches!(self, Pool::Postgres { .. })
    }

    /// Starts a transaction that will write. On SQLite it holds the write lock from the start.
    pub async fn begin_write(&self) -> sqlx::Result<Tx> {
        Ok(match self {
            Pool::Sqlite { write, .. } => Tx::Sqlite(write.begin_with("BEGIN IMMEDIATE").await?),
            Pool::Postgres { pool, writers } => {
                let place = tokio::time::timeout(PATIENCE, Arc::clone(writers).acquire_owned()).await;
                let place = place.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?;
                Tx::Postgres(pool.begin().await?, Some(place))
            }
        })
    }

    /// Starts a transaction that sees one state of the store throughout.
    pub async fn begin_read(&self) -> sqlx::Result<Tx> {
        Ok(match self {
            Pool::Sqlite { read, .. } => Tx::Sqlite(read.begin().await?),
            Pool::Postgres { pool, .. } => {
                Tx::Postgres(pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?, None)
            }
        })
    }

    /// Runs one statement that reads.
    pub async fn rows(&self, sql: &'static str, args: &[Arg<'_>]) -> sqlx::Result<Vec<Row>> {
        match self {
            Pool::Sqlite { read, .. } => {
                let rows = sqlx::query_with(sql, sqlite_arguments(args)?).fetch_all(read).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Pool::Postgres { pool, .. } => {
                let rows = sqlx::query_with(sql, postgres_arguments(args)?).fetch_all(pool).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Runs one statement that reads at most one row.
    pub async fn row(&self, sql: &'static str, args: &[Arg<'_>]) -> sqlx::Result<Option<Row>> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }
}

impl Tx {
    /// Runs a statement; how many rows it touched.
    pub async fn execute(&mut self, sql: &'static str, args: &[Arg<'_>]) -> sqlx::Result<u64> {
        Ok(match self {
            Tx::Sqlite(tx) => sqlx::query_with(sql, sqlite_arguments(args)?).execute(&mut **tx).await?.rows_affected(),
            Tx::Postgres(tx, _) => {
                sqlx::query_with(sql, postgres_arguments(args)?).execute(&mut **tx).await?.rows_affected()
            }
        })
    }

    /// Runs a statement for its rows.
    pub async fn rows(&mut self, sql: &'static str, args: &[Arg<'_>]) -> sqlx::Result<Vec<Row>> {
        Ok(match self {
            Tx::Sqlite(tx) => {
                let rows = sqlx::query_with(sql, sqlite_arguments(args)?).fetch_all(&mut **tx).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Tx::Postgres(tx, _) => {
                let rows = sqlx::query_with(sql, postgres_arguments(args)?).fetch_all(&mut **tx).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Runs a statement for at most one row.
    pub async fn row(&mut self, sql: &'static str, args: &[Arg<'_>]) -> sqlx::Result<Option<Row>> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// Commits.
    pub async fn commit(self) -> sqlx::Result<()> {
        match self {
            Tx::Sqlite(tx) => tx.commit().await,
            Tx::Postgres(tx, _) => tx.commit().await,
        }
    }

    /// Whether this is PostgreSQL.
    pub fn is_postgres(&self) -> bool {
        matches!(self, Tx::Postgres(..))
    }
}

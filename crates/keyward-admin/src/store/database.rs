//! The store itself: opening a database, its newest state, and what replicas tell each other.

use super::error::{Error, Result};
use super::head::{Head, HeadSql, read_head, signed};
use super::migrations;
use super::sql::{Arg, Database, PATIENCE, Pool, Priority};
use super::sqlite_file::{SqliteFile, create_private, sqlite_path};
use super::writes::WriteCounts;
use keyward_policy::timeline::Point;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, PgPool};
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The channel on which PostgreSQL notifies every replica of a change of keys or tokens.
pub const CHANGES: &str = "keyward_changes";
/// The channel on which replicas share what filter instances have acknowledged.
pub const RECEIPTS: &str = "keyward_receipts";

/// The number of connections to PostgreSQL.
const MAX_CONNECTIONS: u32 = 10;
/// How many connections to PostgreSQL may be writing at the same time.
const MAX_WRITERS: usize = 6;
/// A write is tried for its own sake where there was none for this long.
const MAX_UNTRIED: Duration = Duration::from_secs(10);

/// The store of keys, tokens, usage, audit entries and known proxies. Clones share their connections.
#[derive(Clone)]
pub struct Store {
    pub(super) pool: Pool,
    pub(super) head_sql: HeadSql,
}

/// How to open a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// A SQLite file that is missing is created.
    Create,
    /// A SQLite file that is missing is an error.
    Existing,
}

/// Receives the notifications of other replicas.
pub struct Listener(PgListener);

/// One notification of a replica.
#[derive(Debug)]
pub struct Notification {
    /// [`CHANGES`] or [`RECEIPTS`].
    pub channel: String,
    /// The text that the replica sent.
    pub payload: String,
}

impl Listener {
    /// Waits for the next notification. `None` means that the connection was lost.
    ///
    /// # Errors
    /// Returns an error when the database cannot be reached.
    pub async fn next(&mut self) -> Result<Option<Notification>> {
        let notification = self.0.try_recv().await?;
        Ok(notification.map(|n| Notification { channel: n.channel().to_owned(), payload: n.payload().to_owned() }))
    }
}

impl Store {
    /// Opens a database and brings its schema to this version's. A SQLite file that is missing is created.
    ///
    /// # Errors
    /// Returns [`Error::Url`] for a URL that begins with neither `sqlite:` nor `postgres:`; otherwise what the database says.
    pub async fn open(url: &str) -> Result<Self> {
        Self::open_as(url, Opening::Create).await
    }

    /// Opens a database that somebody else created, and brings its schema to this version's.
    ///
    /// # Errors
    /// Returns the errors of [`Store::open`], and [`Error::Url`] where there is no such file.
    pub async fn open_existing(url: &str) -> Result<Self> {
        Self::open_as(url, Opening::Existing).await
    }

    async fn open_as(url: &str, opening: Opening) -> Result<Self> {
        let database = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let pool = open_postgres(url).await.map_err(|error| unreachable_at(url, error))?;
            Database::Postgres { pool, writers: Arc::new(Semaphore::new(MAX_WRITERS)) }
        } else if url.starts_with("sqlite:") {
            open_sqlite(url, opening).await?
        } else {
            return Err(Error::Url("the database URL must begin with `sqlite://` or `postgres://`".into()));
        };
        let pool = Pool::new(database);
        migrations::run(pool.database()).await?;
        let head_sql = match pool.database() {
            Database::Sqlite { .. } => HeadSql::SQLITE,
            Database::Postgres { pool, .. } => postgres_head_sql(pool).await,
        };
        let store = Self { pool, head_sql };
        store.make_identity().await?;
        store.fold_names().await?;
        store.note_file(url).await
    }

    /// Begins to watch that the files of a SQLite database stay the ones that are open. They exist from the first
    /// transaction on.
    async fn note_file(self, url: &str) -> Result<Self> {
        let Some(path) = sqlite_path(url)? else { return Ok(self) };
        let options = SqliteConnectOptions::new().filename(&path).read_only(true).disable_statement_logging();
        let mut anchor = options.connect().await?;
        // The log is opened by the first statement.
        sqlx::query("SELECT one FROM store").fetch_all(&mut anchor).await?;
        Ok(Self { pool: self.pool.with_file(SqliteFile::note(path, Some(anchor))?), ..self })
    }

    /// Returns whether several replicas may share this store.
    pub fn is_shared(&self) -> bool {
        self.pool.is_postgres()
    }

    /// Reads the newest state.
    ///
    /// # Errors
    /// Returns an error when the database cannot be read.
    pub async fn head(&self) -> Result<Head> {
        self.head_after(Point::default()).await
    }

    /// Reads the newest state, and whether `known` led to it.
    ///
    /// # Errors
    /// Returns an error when the database cannot be read.
    pub async fn head_after(&self, known: Point) -> Result<Head> {
        read_head(self.pool.row(self.head_sql.select, &[Arg::Int(signed(known.revision))]).await?.as_ref(), known)
    }

    /// Gives the store a new identity, so that every filter starts over. It is needed after a backup was restored.
    ///
    /// # Errors
    /// Returns an error when the database cannot be written.
    pub async fn new_identity(&self, actor: &str, at: i64) -> Result<Head> {
        let mut change = self.change().await?;
        let identity = new_identity();
        let old = std::mem::replace(&mut change.head.identity, identity.clone());
        change.head.version += 1;
        change.head.lineage = change.head.lineage.map(|lineage| lineage.replacen(&old, &identity, 1));
        change.head.has_all_tables = false;
        let detail = serde_json::json!({ "before": old });
        change.audit(at, actor, "store.new_identity", &identity, "", None, &detail).await?;
        change.commit().await
    }

    /// Returns why the store cannot be written. `None` means that the last write succeeded.
    pub fn write_failure(&self) -> Option<String> {
        self.pool.writes.failure()
    }

    /// Returns how many writes this process has made.
    pub fn write_counts(&self) -> WriteCounts {
        self.pool.writes.counts()
    }

    /// Writes something for the sake of writing, unless a write succeeded lately. The outcome is in
    /// [`Store::write_failure`].
    pub async fn try_writing(&self) {
        if self.pool.check_file().is_ok() && self.pool.writes.are_fresh(MAX_UNTRIED) {
            return;
        }
        // As many pages as a change of a key, so that a disk with room for one page does not count as writable.
        const FILLER: [u8; 16 << 10] = [0; 16 << 10];
        let sql = "INSERT INTO write_probe (one, filler) VALUES (1, $1) \
                   ON CONFLICT (one) DO UPDATE SET filler = excluded.filler";
        // The pool notes how it ends.
        let _ = async {
            let mut tx = self.pool.begin_write(Priority::Background).await?;
            tx.execute(sql, &[Arg::Bytes(&FILLER)]).await?;
            tx.commit().await
        }
        .await;
    }

    /// Listens for notifications of other replicas. `None` means that no other process can share this store.
    ///
    /// # Errors
    /// Returns an error when the database cannot be reached.
    pub async fn listen(&self) -> Result<Option<Listener>> {
        let Database::Postgres { pool, .. } = self.pool.database() else { return Ok(None) };
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen_all([CHANGES, RECEIPTS]).await?;
        Ok(Some(Listener(listener)))
    }

    /// Sends notifications to every listening replica, this one included. On SQLite it does nothing.
    ///
    /// # Errors
    /// Returns an error when the database cannot be reached, or a payload has 8,000 bytes or more.
    pub async fn notify(&self, channel: &str, payloads: &[String]) -> Result<()> {
        if let Database::Postgres { pool, .. } = self.pool.database() {
            for payload in payloads {
                sqlx::query("SELECT pg_notify($1, $2)").bind(channel).bind(payload).execute(pool).await?;
            }
        }
        Ok(())
    }

    /// Closes all connections. On SQLite this also copies the write-ahead log into the database file.
    pub async fn close(&self) {
        match self.pool.database() {
            Database::Sqlite { write, read, file } => {
                read.close().await;
                if let Some(file) = file {
                    file.release().await;
                }
                // The last one folds the log into the file, which takes one that may write.
                write.close().await;
            }
            Database::Postgres { pool, .. } => pool.close().await,
        }
    }

    async fn make_identity(&self) -> Result<()> {
        let mut tx = self.pool.begin_write(Priority::Person).await?;
        let made = tx
            .execute(
                "INSERT INTO store (one, identity, head, live_count, live_checksum, compacted, version) \
                 VALUES (1, $1, 0, 0, 0, 0, 0) ON CONFLICT (one) DO NOTHING",
                &[Arg::Text(&new_identity())],
            )
            .await?;
        if made > 0 {
            // No instance has asked yet: nobody is missing.
            let head = read_head(tx.row(self.head_sql.select, &[Arg::Int(0)]).await?.as_ref(), Point::default())?;
            if let Some(lineage) = &head.lineage {
                tx.execute(CONFIRM, &[Arg::Text(lineage)]).await?;
            }
        }
        tx.commit().await
    }
}

/// Keeps that no table is missing where the store lives now.
pub(super) const CONFIRM: &str = "UPDATE store SET confirmed = $1 WHERE one = 1";

/// Asks a server where it is. One that does not say costs receipts some time after each start.
async fn postgres_head_sql(pool: &PgPool) -> HeadSql {
    let asked = sqlx::query("SELECT system_identifier, pg_walfile_name(pg_current_wal_lsn()) FROM pg_control_system()");
    match asked.fetch_one(pool).await {
        Ok(_) => HeadSql::POSTGRES,
        Err(error) => {
            tracing::warn!(
                %error,
                "PostgreSQL does not say which server and timeline this is, so that a failover cannot be told from a \
                 restart: receipts name no time until somebody runs `keyward proxies confirm`; let the role execute \
                 pg_control_system, pg_current_wal_lsn and pg_walfile_name"
            );
            HeadSql::POSTGRES_WITHOUT_PLACE
        }
    }
}

fn new_identity() -> String {
    format!("st_{}", hex::encode(crate::random::bytes::<16>()))
}

/// Says which database it is that cannot be reached.
fn unreachable_at(url: &str, error: Error) -> Error {
    let Error::Database(error) = error else { return error };
    let address = url.split('?').next().unwrap_or_default();
    let address = address
        .rsplit_once('@')
        .map_or_else(|| address.split_once("://").map_or(address, |(_, address)| address), |(_, address)| address);
    Error::Unreachable(format!(
        "the database at `{address}` cannot be opened: {error}; check that it runs, and KEYWARD_DATABASE_URL"
    ))
}

async fn open_postgres(url: &str) -> Result<PgPool> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|error| Error::Url(format!("the database URL cannot be read: {error}")))?
        .application_name("keyward")
        // A replica that hangs in a transaction must not hold the store's row for ever.
        .options([
            ("statement_timeout", "60s"),
            ("lock_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "20s"),
            // A change that was acknowledged survives a crash, whatever the server's default is.
            ("synchronous_commit", "on"),
            // A plan made without knowing the limit of a page would gather far more rows than it needs.
            ("plan_cache_mode", "force_custom_plan"),
        ])
        .disable_statement_logging();
    Ok(PgPoolOptions::new().max_connections(MAX_CONNECTIONS).acquire_timeout(PATIENCE).connect_with(options).await?)
}

async fn open_sqlite(url: &str, opening: Opening) -> Result<Database> {
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|error| Error::Url(format!("the database URL cannot be read: {error}")))?
        .create_if_missing(opening == Opening::Create)
        .busy_timeout(PATIENCE)
        .disable_statement_logging();
    // A connection that is never given up keeps the write-ahead log in its place. Testing it before each use takes a round
    // trip to its thread, and closes it if the caller gives up meanwhile; there is no server that could have gone away.
    let pool = |most| {
        let options = SqlitePoolOptions::new().max_connections(most).min_connections(1);
        options.acquire_timeout(PATIENCE).idle_timeout(None).max_lifetime(None).test_before_acquire(false)
    };
    let Some(path) = sqlite_path(url)? else {
        // Another connection would be another database, and so would a connection opened anew.
        let write = pool(1).connect_with(options).await?;
        return Ok(Database::Sqlite { read: write.clone(), write, file: None });
    };
    let options = options
        .filename(&path)
        .journal_mode(SqliteJournalMode::Wal)
        // An acknowledged change survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        .pragma("mmap_size", "268435456");
    let is_missing = std::fs::metadata(&path).map_or(true, |file| file.len() == 0);
    match opening {
        Opening::Existing if is_missing => return Err(missing(&path)),
        Opening::Create if is_missing => create_missing(&path)?,
        _ => {}
    }
    let write = pool(1).connect_with(options.clone()).await?;
    let read = pool(4).connect_lazy_with(options.read_only(true));
    Ok(Database::Sqlite { read, write, file: None })
}

fn missing(path: &Path) -> Error {
    Error::Url(format!(
        "there is no database at `{}`: run the command where the service runs, or set KEYWARD_DATABASE_URL as it is set \
         for the service; `keyward serve` creates a new database",
        path.display()
    ))
}

/// Creates a missing database file that only its owner can read. SQLite gives its side files the same mode.
fn create_missing(path: &Path) -> Result<()> {
    match create_private(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::Url(format!("the database file `{}` cannot be created: {error}", path.display()))),
    }
}

//! What is kept: keys, tombstones, tokens, usage, audit entries and known proxies, in SQLite or PostgreSQL.
//!
//! Every change of a key runs in one transaction that first locks the `store` row, takes the next revision from it and
//! commits both together. Writers queue on that row, so revisions become visible in their order: no reader ever sees
//! revision N+1 before N. A sequence would not give that, since a later number can be committed first.

pub mod audit;
mod change;
pub mod keys;
pub mod manifest;
mod migrations;
pub mod proxies;
pub mod search;
mod seed;
mod sql;
pub mod tokens;
pub mod usage;

pub use change::Change;
use keyward_policy::checksum::Checksum;
use sql::{Pool, Row};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, PgPool};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The channel on which PostgreSQL tells every replica of a change of keys or tokens.
pub const CHANGES: &str = "keyward_changes";
/// The channel on which replicas share what filter VMs have acknowledged.
pub const RECEIPTS: &str = "keyward_receipts";

/// How long a statement may wait for a lock or a connection before the call fails.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections to PostgreSQL, and how many of them may be writing.
const CONNECTIONS: u32 = 10;
const WRITERS: usize = 6;

/// Where everything is kept. Clones share their connections.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
}

/// The newest state of the store, as one row holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Identity of the store; another one means another set of keys.
    pub identity: String,
    /// The newest revision; 0: nothing ever changed.
    pub revision: u64,
    /// How many keys are live.
    pub live_count: u64,
    /// Over the live keys at `revision`.
    pub checksum: Checksum,
    /// Revision of the newest tombstone that was removed; 0: none was.
    pub compacted: u64,
    /// Rises with every change that takes no revision: of tokens, and of the identity.
    pub version: u64,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No key has that id.
    #[error("no such key")]
    NotFound,
    /// A live key or token has that name already.
    #[error("the name is taken")]
    NameTaken,
    /// The key is not at the revision that the caller knows.
    #[error("the key is at revision {current}")]
    RevisionMismatch {
        /// Where it is.
        current: u64,
    },
    /// A tombstone that the asker would need is gone.
    #[error("changes up to revision {0} are no longer kept")]
    Compacted(u64),
    /// The asker is ahead of the store.
    #[error("the store is at revision {0}")]
    Ahead(u64),
    /// The database cannot be reached, or refused.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The database has another shape than this version makes.
    #[error("the database could not be brought to this version's shape: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The address is not one of a database we know.
    #[error("{0}")]
    Url(String),
    /// What is stored cannot be: somebody changed it by hand, or the disk did.
    #[error("the database holds something that Keyward did not write: {0}")]
    Corrupt(String),
}

/// What the store answers.
pub type Result<T> = std::result::Result<T, Error>;

const HEAD: &str = "SELECT identity, head, live_count, live_checksum, compacted, version FROM store WHERE one = 1";

impl Store {
    /// Opens a database, makes it where it is a missing SQLite file, and brings it to this version's shape.
    ///
    /// # Errors
    /// [`Error::Url`] for an address that is neither `sqlite://…` nor `postgres://…`; otherwise what the database says.
    pub async fn open(url: &str) -> Result<Self> {
        let pool = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Pool::Postgres { pool: open_postgres(url).await?, writers: Arc::new(Semaphore::new(WRITERS)) }
        } else if url.starts_with("sqlite:") {
            open_sqlite(url).await?
        } else {
            return Err(Error::Url("the database address must begin with `sqlite://` or `postgres://`".into()));
        };
        migrations::run(&pool).await?;
        let store = Self { pool };
        store.make_identity().await?;
        Ok(store)
    }

    /// Whether several replicas may share this store.
    pub fn is_shared(&self) -> bool {
        self.pool.is_postgres()
    }

    /// The newest state.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn head(&self) -> Result<Head> {
        let row = self.pool.row(HEAD, &[]).await?;
        read_head(&row.ok_or_else(|| Error::Corrupt("the row of the store is missing".into()))?)
    }

    /// Gives the store another identity, so that every filter starts over: after a backup was restored.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn new_identity(&self, actor: &str, at: i64) -> Result<Head> {
        let mut change = self.change().await?;
        let identity = make_identity();
        let old = std::mem::replace(&mut change.head.identity, identity.clone());
        change.head.version += 1;
        let detail = serde_json::json!({ "before": old });
        change.audit(at, actor, "store.new_identity", &identity, "", None, &detail).await?;
        change.commit().await
    }

    /// Listens for what other replicas say; none where nobody else can share the store.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn listen(&self) -> Result<Option<PgListener>> {
        let Pool::Postgres { pool, .. } = &self.pool else { return Ok(None) };
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen_all([CHANGES, RECEIPTS]).await?;
        Ok(Some(listener))
    }

    /// Says something on a channel to every listening replica, this one included. No effect on SQLite.
    ///
    /// # Errors
    /// When the database cannot be reached, or a payload has 8,000 bytes or more.
    pub async fn notify(&self, channel: &str, payloads: &[String]) -> Result<()> {
        if let Pool::Postgres { pool, .. } = &self.pool {
            for payload in payloads {
                sqlx::query("SELECT pg_notify($1, $2)").bind(channel).bind(payload).execute(pool).await?;
            }
        }
        Ok(())
    }

    /// Closes all connections; on SQLite this folds the write-ahead log into the file.
    pub async fn close(&self) {
        match &self.pool {
            Pool::Sqlite { write, read } => {
                read.close().await;
                write.close().await;
            }
            Pool::Postgres { pool, .. } => pool.close().await,
        }
    }

    async fn make_identity(&self) -> Result<()> {
        let mut tx = self.pool.begin_write().await?;
        tx.execute(
            "INSERT INTO store (one, identity, head, live_count, live_checksum, compacted, version) \
             VALUES (1, $1, 0, 0, 0, 0, 0) ON CONFLICT (one) DO NOTHING",
            &[sql::Arg::Text(&make_identity())],
        )
        .await?;
        Ok(tx.commit().await?)
    }
}

fn make_identity() -> String {
    format!("st_{}", hex::encode(crate::random::bytes::<16>()))
}

fn read_head(row: &Row) -> Result<Head> {
    Ok(Head {
        identity: row.text(0)?,
        revision: unsigned(row.int(1)?)?,
        live_count: unsigned(row.int(2)?)?,
        checksum: Checksum::from_bits(row.int(3)?.cast_unsigned()),
        compacted: unsigned(row.int(4)?)?,
        version: unsigned(row.int(5)?)?,
    })
}

/// A number that we only ever store as zero or more.
fn unsigned(value: i64) -> Result<u64> {
    u64::try_from(value).map_err(|_| Error::Corrupt(format!("a number below zero: {value}")))
}

/// The other way; revisions and counts stay far below the limit.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

async fn open_postgres(url: &str) -> Result<PgPool> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|error| Error::Url(format!("the address of the database is not understood: {error}")))?
        .application_name("keyward")
        // A replica that hangs in a transaction must not hold the store's row for ever.
        .options([
            ("statement_timeout", "60s"),
            ("lock_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "20s"),
            // A plan made without knowing the limit of a page would gather far more rows than it needs.
            ("plan_cache_mode", "force_custom_plan"),
        ])
        .disable_statement_logging();
    Ok(PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE).connect_with(options).await?)
}

async fn open_sqlite(url: &str) -> Result<Pool> {
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|error| Error::Url(format!("the address of the database is not understood: {error}")))?
        .create_if_missing(true)
        .busy_timeout(PATIENCE)
        .disable_statement_logging();
    let one = || SqlitePoolOptions::new().max_connections(1).min_connections(1).acquire_timeout(PATIENCE);
    if url.contains(":memory:") {
        // Another connection would be another database, and so would a connection opened anew.
        let write = one().idle_timeout(None).max_lifetime(None).connect_with(options).await?;
        return Ok(Pool::Sqlite { read: write.clone(), write });
    }
    let options = options
        .journal_mode(SqliteJournalMode::Wal)
        // An acknowledged change survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        .pragma("mmap_size", "268435456");
    create_private(options.get_filename())?;
    let write = one().connect_with(options.clone()).await?;
    let read = SqlitePoolOptions::new().max_connections(4).acquire_timeout(PATIENCE);
    Ok(Pool::Sqlite { read: read.connect_lazy_with(options.read_only(true)), write })
}

/// Makes a missing database file readable by its owner alone; SQLite gives its side files the same mode.
fn create_private(path: &std::path::Path) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create_new(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::Url(format!("the database file `{}` cannot be made: {error}", path.display()))),
    }
}

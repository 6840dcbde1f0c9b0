//! The store itself: opening a database, its newest state, and what replicas tell each other.

use super::error::{Error, Result};
use super::head::{HEAD, Head, read_head};
use super::migrations;
use super::sql::{Arg, PATIENCE, Pool};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, PgPool};
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The channel on which PostgreSQL notifies every replica of a change of keys or tokens.
pub const CHANGES: &str = "keyward_changes";
/// The channel on which replicas share what filter VMs have acknowledged.
pub const RECEIPTS: &str = "keyward_receipts";

/// The number of connections to PostgreSQL.
const MAX_CONNECTIONS: u32 = 10;
/// How many connections to PostgreSQL may be writing at the same time.
const MAX_WRITERS: usize = 6;

/// The store of keys, tokens, usage, audit entries and known proxies. Clones share their connections.
#[derive(Clone)]
pub struct Store {
    pub(super) pool: Pool,
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
    /// When the database cannot be reached.
    pub async fn next(&mut self) -> Result<Option<Notification>> {
        let notification = self.0.try_recv().await?;
        Ok(notification.map(|n| Notification { channel: n.channel().to_owned(), payload: n.payload().to_owned() }))
    }
}

impl Store {
    /// Opens a database and brings its schema to this version's. A SQLite file that is missing is created.
    ///
    /// # Errors
    /// [`Error::Url`] for a URL that begins with neither `sqlite:` nor `postgres:`; otherwise what the database says.
    pub async fn open(url: &str) -> Result<Self> {
        let pool = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Pool::Postgres { pool: open_postgres(url).await?, writers: Arc::new(Semaphore::new(MAX_WRITERS)) }
        } else if url.starts_with("sqlite:") {
            open_sqlite(url).await?
        } else {
            return Err(Error::Url("the database URL must begin with `sqlite://` or `postgres://`".into()));
        };
        migrations::run(&pool).await?;
        let store = Self { pool };
        store.make_identity().await?;
        Ok(store)
    }

    /// Returns whether several replicas may share this store.
    pub fn is_shared(&self) -> bool {
        self.pool.is_postgres()
    }

    /// Reads the newest state.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn head(&self) -> Result<Head> {
        read_head(self.pool.row(HEAD, &[]).await?.as_ref())
    }

    /// Gives the store a new identity, so that every filter starts over. It is needed after a backup was restored.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn new_identity(&self, actor: &str, at: i64) -> Result<Head> {
        let mut change = self.change().await?;
        let identity = new_identity();
        let old = std::mem::replace(&mut change.head.identity, identity.clone());
        change.head.version += 1;
        let detail = serde_json::json!({ "before": old });
        change.audit(at, actor, "store.new_identity", &identity, "", None, &detail).await?;
        change.commit().await
    }

    /// Listens for notifications of other replicas. `None` means that no other process can share this store.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn listen(&self) -> Result<Option<Listener>> {
        let Pool::Postgres { pool, .. } = &self.pool else { return Ok(None) };
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen_all([CHANGES, RECEIPTS]).await?;
        Ok(Some(Listener(listener)))
    }

    /// Sends notifications to every listening replica, this one included. On SQLite it does nothing.
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

    /// Closes all connections. On SQLite this also copies the write-ahead log into the database file.
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
            &[Arg::Text(&new_identity())],
        )
        .await?;
        Ok(tx.commit().await?)
    }
}

fn new_identity() -> String {
    format!("st_{}", hex::encode(crate::random::bytes::<16>()))
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
            // A plan made without knowing the limit of a page would gather far more rows than it needs.
            ("plan_cache_mode", "force_custom_plan"),
        ])
        .disable_statement_logging();
    Ok(PgPoolOptions::new().max_connections(MAX_CONNECTIONS).acquire_timeout(PATIENCE).connect_with(options).await?)
}

async fn open_sqlite(url: &str) -> Result<Pool> {
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|error| Error::Url(format!("the database URL cannot be read: {error}")))?
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

/// Creates a missing database file that only its owner can read. SQLite gives its side files the same mode.
fn create_private(path: &Path) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create_new(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::Url(format!("the database file `{}` cannot be created: {error}", path.display()))),
    }
}

//! The errors of the store.

use sqlx::migrate::MigrateError;

/// Why the store did not carry out a call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No key or token has that id.
    #[error("there is no such key")]
    NotFound,
    /// A live key or token has that name already.
    #[error("the name is taken")]
    NameTaken,
    /// The key is not at the revision that the caller expects.
    #[error("the key is at revision {current}")]
    RevisionMismatch {
        /// The revision of the key's last change.
        current: u64,
    },
    /// The caller would need a tombstone that has been removed.
    #[error("changes up to revision {0} are no longer kept")]
    Compacted(u64),
    /// The caller is at a state that did not lead to the store's: the store went back and took another way.
    #[error("the store at revision {0} came another way")]
    Forked(u64),
    /// The caller asks for changes after a revision that the store has not reached.
    #[error("the store is at revision {0}")]
    Ahead(u64),
    /// The database cannot be reached, or it refused a statement.
    #[error("the database failed: {0}")]
    Database(sqlx::Error),
    /// The schema of the database could not be brought to this version's.
    #[error("the schema of the database could not be updated: {0}")]
    Migration(MigrateError),
    /// The database URL is not usable.
    #[error("{0}")]
    Url(String),
    /// A database of this version's or an older schema was expected.
    #[error("{0}")]
    NewerSchema(String),
    /// The database cannot be reached when it is opened.
    #[error("{0}")]
    Unreachable(String),
    /// The database file was removed or replaced while it was open. Nothing is written any more, since it would be lost.
    #[error(
        "{0}: what is written now would be lost, so nothing is; move the file back, or stop the service and restore a backup"
    )]
    Replaced(String),
    /// A service or another program works on the database.
    #[error("the database `{0}` is in use: stop the service first")]
    InUse(String),
    /// The database holds something that Keyward did not write: it was edited, or the disk is faulty.
    #[error("the database is damaged: {0}")]
    Corrupt(String),
}

/// The result of a call of the store.
pub type Result<T> = std::result::Result<T, Error>;

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        // SQLite: corrupt (11), not a database (26); PostgreSQL: data corrupted, index corrupted.
        let is_damage = error.as_database_error().and_then(|error| error.code()).is_some_and(|code| {
            ["XX001", "XX002"].contains(&&*code)
                || code.len() < 5 && code.parse::<u32>().is_ok_and(|code| [11, 26].contains(&(code & 0xff)))
        });
        if is_damage { Self::Corrupt(error.to_string()) } else { Self::Database(error) }
    }
}

impl From<MigrateError> for Error {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) => error.into(),
            error => Self::Migration(error),
        }
    }
}

impl Error {
    /// Whether the same call may succeed a little later: the connection was lost, the server is stopping, a lock took
    /// too long, the disk is full.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Database(error) => is_transient(error),
            Self::Replaced(_) => true,
            _ => false,
        }
    }

    /// Whether a failed write says something about the store, and not only about what was to be written.
    pub(super) fn is_about_the_store(&self) -> bool {
        match self {
            // A unique or another constraint; both databases name the class.
            Self::Database(sqlx::Error::Database(error)) => error.kind() == sqlx::error::ErrorKind::Other,
            Self::Database(_) | Self::Replaced(_) | Self::Corrupt(_) => true,
            _ => false,
        }
    }
}

fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => {
            // PostgreSQL: connection (08), resources (53), operator intervention (57), lock timeout and deadlock;
            // SQLite: busy (5), locked (6), full (13), I/O error (10).
            error.code().is_some_and(|code| {
                ["08", "53", "57", "55P03", "40"].iter().any(|class| code.len() == 5 && code.starts_with(class))
                    || code.parse::<u32>().is_ok_and(|code| [5, 6, 10, 13].contains(&(code & 0xff)) && code < 10_000)
            })
        }
        _ => false,
    }
}

//! Backups of a SQLite database, and putting one back.

use super::check::Depth;
use super::database::Store;
use super::error::{Error, Result};
use super::head::Head;
use super::keys::By;
use super::record::KeyRecord;
use super::sql::Database;
use super::sqlite_file::{Lock, beside, create_private, sqlite_path};
use super::tokens::TokenRecord;
use keyward_policy::digest::Digest;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions as _, Connection as _};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// How many keys are read at once.
const PAGE: u32 = 2_000;

/// What a restore did.
#[derive(Debug)]
pub struct Restored {
    /// The state of the store now.
    pub head: Head,
    /// Where the database that was there is kept. `None` means that there was none.
    pub replaced: Option<PathBuf>,
    /// What works again and did not before. `None` means that the database that was there could not be read.
    pub revived: Option<Revived>,
}

/// What works again because an older state came back.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Revived {
    /// Keys that had been deleted.
    pub deleted_keys: Vec<Named>,
    /// Keys whose earlier plaintext is accepted again, since they had been regenerated.
    pub regenerated_keys: Vec<Named>,
    /// Keys that had been disabled.
    pub disabled_keys: Vec<Named>,
    /// Keys that have permissions again which had been taken from them.
    pub permissions: Vec<Named>,
    /// Tokens that had been revoked.
    pub revoked_tokens: Vec<Named>,
    /// Keys that are gone because they were created after the backup.
    pub lost_keys: Vec<Named>,
    /// Tokens that are gone because they were created after the backup.
    pub lost_tokens: Vec<Named>,
}

/// A key or a token.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// What is compared of a key.
struct Known {
    name: String,
    digest: Digest,
    is_disabled: bool,
    permissions: Vec<String>,
}

/// The keys and tokens of one state of a store.
struct Contents {
    keys: HashMap<String, Known>,
    tokens: HashMap<String, TokenRecord>,
}

impl Revived {
    fn between(old: &Contents, new: &Contents) -> Self {
        let mut revived = Self::default();
        for (id, key) in &new.keys {
            let named = Named { id: id.clone(), name: key.name.clone() };
            let Some(before) = old.keys.get(id) else {
                revived.deleted_keys.push(named);
                continue;
            };
            if before.digest != key.digest {
                revived.regenerated_keys.push(named.clone());
            }
            if before.is_disabled && !key.is_disabled {
                revived.disabled_keys.push(named.clone());
            }
            if key.permissions.iter().any(|permission| !before.permissions.contains(permission)) {
                revived.permissions.push(named);
            }
        }
        let of_token = |token: &TokenRecord| Named { id: token.id.clone(), name: token.name.clone() };
        let of_key = |(id, key): (&String, &Known)| Named { id: id.clone(), name: key.name.clone() };
        revived.revoked_tokens =
            new.tokens.values().filter(|token| !old.tokens.contains_key(&token.id)).map(of_token).collect();
        revived.lost_tokens =
            old.tokens.values().filter(|token| !new.tokens.contains_key(&token.id)).map(of_token).collect();
        revived.lost_keys = old.keys.iter().filter(|(id, _)| !new.keys.contains_key(*id)).map(of_key).collect();
        for list in [
            &mut revived.deleted_keys,
            &mut revived.regenerated_keys,
            &mut revived.disabled_keys,
            &mut revived.permissions,
            &mut revived.revoked_tokens,
            &mut revived.lost_keys,
            &mut revived.lost_tokens,
        ] {
            list.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        }
        revived
    }
}

impl Store {
    async fn contents(&self) -> Result<Contents> {
        let mut keys = HashMap::new();
        let mut before = None;
        loop {
            let page = self.list_keys("", before, PAGE).await?;
            before = page.last().map(|key| key.seq);
            let is_last = page.len() < PAGE as usize;
            for key in page {
                let KeyRecord { id, name, digest, permissions, disabled, .. } = key;
                keys.insert(id, Known { name, digest, is_disabled: disabled, permissions });
            }
            if is_last {
                break;
            }
        }
        let tokens = self.tokens().await?.into_iter().map(|token| (token.id.clone(), token)).collect();
        Ok(Contents { keys, tokens })
    }

    /// Writes the whole database, as it is at this moment, to a new file. The service may go on working. The file is
    /// complete and checked, or it is not there.
    ///
    /// # Errors
    /// Returns [`Error::Url`] on PostgreSQL, or where the file exists or cannot be written.
    pub async fn back_up(&self, file: &Path) -> Result<Head> {
        let Database::Sqlite { read, .. } = self.pool.database() else {
            return Err(Error::Url("use `pg_dump` for a PostgreSQL database: see Backups in docs/admin.md".into()));
        };
        let failed = |error: io::Error| Error::Url(format!("the backup `{}`: {error}", file.display()));
        if file.exists() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        let partial = beside(file, ".partial");
        remove(&partial).map_err(failed)?;
        create_private(&partial).map_err(failed)?;
        let text = partial.to_str().ok_or_else(|| failed(io::Error::other("the name is not UTF-8")))?;
        let copied = async {
            sqlx::query("VACUUM INTO $1").bind(text).execute(read).await?;
            let head = check_file(&partial).await?;
            sync(&partial).map_err(failed)?;
            // Not `rename`, which would replace a file that somebody made meanwhile.
            std::fs::hard_link(&partial, file).map_err(failed)?;
            Ok(head)
        };
        let copied: Result<Head> = copied.await;
        let removed = remove(&partial).map_err(failed);
        let head = copied?;
        removed?;
        Ok(head)
    }

    /// Puts a backup in the place of the SQLite database that `url` names, with a new identity. The database that was
    /// there is kept beside it. Nothing is changed unless everything succeeds.
    ///
    /// # Errors
    /// Returns [`Error::InUse`] while a service or another program works on the database; [`Error::Corrupt`] where the backup is
    /// damaged; [`Error::Url`] on PostgreSQL, or where a file cannot be read or written.
    pub async fn restore(url: &str, backup: &Path, by: By<'_>) -> Result<Restored> {
        let Some(path) = sqlite_path(url)? else {
            return Err(Error::Url("use `pg_restore` for a PostgreSQL database: see Backups in docs/admin.md".into()));
        };
        let failed = |error: io::Error| Error::Url(format!("`{}` cannot be restored: {error}", backup.display()));
        let _lock = Lock::try_new(&path)?.ok_or_else(|| Error::InUse(path.display().to_string()))?;
        // The backup itself is only read: everything is done to a copy, which takes the place of the database at the end.
        let fresh = beside(&path, ".restoring");
        remove_database(&fresh).map_err(failed)?;
        let mut source = File::open(backup).map_err(failed)?;
        let mut target = create_private(&fresh).map_err(failed)?;
        io::copy(&mut source, &mut target).map_err(failed)?;
        drop((source, target));
        let restored = Self::restore_copy(&path, &fresh, by).await;
        let _ = remove_database(&fresh);
        restored
    }

    async fn restore_copy(path: &Path, fresh: &Path, by: By<'_>) -> Result<Restored> {
        let failed = |error: io::Error| Error::Url(format!("the database `{}`: {error}", path.display()));
        check_file(fresh).await?;
        let store = Self::open_existing(&url_of(fresh)).await?;
        let new = store.contents().await;
        let head = store.new_identity(by.actor, by.at.unix_ms()).await;
        store.close().await;
        let (new, head) = (new?, head?);
        let old = if path.exists() { Some(read_old(path).await?) } else { None };
        let revived = match &old {
            None => Some(Revived::default()),
            Some(old) => old.as_ref().map(|old| Revived::between(old, &new)),
        };
        sync(fresh).map_err(failed)?;
        let replaced = if old.is_some() { Some(set_aside(path, by).map_err(failed)?) } else { None };
        remove(&beside(path, "-wal")).and_then(|()| remove(&beside(path, "-shm"))).map_err(failed)?;
        std::fs::rename(fresh, path).map_err(failed)?;
        sync_folder(path).map_err(failed)?;
        Ok(Restored { head, replaced, revived })
    }
}

/// Opens a database that is to be replaced, makes sure that nobody else has it open, copies its write-ahead log into it,
/// and reads what it holds. `None` means that it is damaged.
///
/// # Errors
/// Returns [`Error::InUse`].
async fn read_old(path: &Path) -> Result<Option<Contents>> {
    // Leaving WAL mode needs the file for oneself, and folds the log into it.
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Delete)
        .busy_timeout(std::time::Duration::from_millis(500))
        .disable_statement_logging();
    match options.connect().await {
        Ok(connection) => connection.close().await?,
        Err(sqlx::Error::Database(error)) if error.message().contains("locked") => {
            return Err(Error::InUse(path.display().to_string()));
        }
        Err(_) => return Ok(None),
    }
    let Ok(store) = Store::open_existing(&url_of(path)).await else { return Ok(None) };
    let contents = store.contents().await;
    store.close().await;
    Ok(contents.ok())
}

/// Moves what is left of the old database aside; returns where it is now.
fn set_aside(path: &Path, by: By<'_>) -> io::Result<PathBuf> {
    let aside = beside(path, &format!(".replaced-{}", by.at.unix_ms()));
    let wal = beside(path, "-wal");
    // The log first: it must never meet another database. It is there only where the old database is damaged.
    match std::fs::rename(&wal, beside(&aside, "-wal")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::hard_link(path, &aside)?;
    Ok(aside)
}

/// Checks a database file that nobody works on.
async fn check_file(path: &Path) -> Result<Head> {
    let store = Store::open_existing(&url_of(path)).await?;
    let checked = store.check(Depth::Full).await;
    store.close().await;
    checked
}

/// Returns the URL of a file, with every character that means something in a URL escaped.
fn url_of(path: &Path) -> String {
    let mut url = "sqlite://".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => url.push(char::from(*byte)),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn remove_database(path: &Path) -> io::Result<()> {
    ["", "-wal", "-shm", "-journal"].iter().try_for_each(|suffix| remove(&beside(path, suffix)))
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

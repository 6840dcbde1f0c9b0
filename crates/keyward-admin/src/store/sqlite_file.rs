//! The file of a SQLite database: where it is, that it is still there, and who works on it.

use super::error::{Error, Result};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use tokio::sync::Mutex;

/// How many symbolic links in a row are followed.
const MAX_LINKS: usize = 40;

/// A database file that is open.
///
/// A file that was removed or replaced under a running service still takes writes, which nobody would ever find again.
#[derive(Debug)]
pub struct SqliteFile {
    path: PathBuf,
    /// The write-ahead log.
    wal: PathBuf,
    files: [Identity; 2],
    /// A connection that does nothing but stay open. The last one that is closed removes the write-ahead log, and the next
    /// one would make another: with this one, no other is ever the last.
    anchor: Mutex<Option<SqliteConnection>>,
}

/// What tells a file from another one of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|metadata: Metadata| Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

impl SqliteFile {
    /// Takes note of the files behind `path`, which `anchor` has open.
    ///
    /// # Errors
    /// Returns an error when one of them is missing.
    pub(super) fn note(path: PathBuf, anchor: Option<SqliteConnection>) -> Result<Self> {
        let wal = beside(&path, "-wal");
        let of = |path: &Path| {
            Identity::of(path).map_err(|error| Error::Url(format!("the file `{}`: {error}", path.display())))
        };
        Ok(Self { files: [of(&path)?, of(&wal)?], path, wal, anchor: Mutex::new(anchor) })
    }

    /// Lets the connection go that keeps the write-ahead log.
    pub(super) async fn release(&self) {
        if let Some(anchor) = self.anchor.lock().await.take() {
            let _ = anchor.close().await;
        }
    }

    /// Checks that the files are still the ones that were opened.
    ///
    /// # Errors
    /// Returns [`Error::Replaced`].
    pub(super) fn check(&self) -> Result<()> {
        for (path, known) in [&self.path, &self.wal].into_iter().zip(self.files) {
            let what = match Identity::of(path) {
                Ok(found) if found == known => continue,
                Ok(_) => "was replaced by another file",
                Err(error) if error.kind() == io::ErrorKind::NotFound => "was removed",
                // Whether it is the same file cannot be told, so nothing is said of it.
                Err(_) => continue,
            };
            return Err(Error::Replaced(format!("`{}` {what} while the service runs", path.display())));
        }
        Ok(())
    }
}

/// Returns the path with `suffix` added to the file's name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Returns the database file that a URL names, with escapes decoded and symbolic links followed. The file need not
/// exist. `None` means that the database is in memory, or is no SQLite database.
///
/// # Errors
/// Returns [`Error::Url`].
pub fn sqlite_path(url: &str) -> Result<Option<PathBuf>> {
    if !url.starts_with("sqlite:") || url.contains(":memory:") {
        return Ok(None);
    }
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|error| Error::Url(format!("the database URL cannot be read: {error}")))?;
    let path = options.get_filename();
    real_path(path, MAX_LINKS)
        .map(Some)
        .map_err(|error| Error::Url(format!("the database file `{}`: {error}", path.display())))
}

fn real_path(path: &Path, links: usize) -> io::Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match std::fs::read_link(path) {
        // The link is there, and what it names is not yet.
        Ok(target) if links > 0 => real_path(&folder.join(target), links - 1),
        Ok(_) => Err(io::Error::other("too many symbolic links")),
        Err(_) => {
            let name = path.file_name().ok_or_else(|| io::Error::other("there is no file name"))?;
            Ok(std::fs::canonicalize(folder)?.join(name))
        }
    }
}

/// Creates a file that only its owner can read.
///
/// # Errors
/// Returns an error when it exists, or the folder cannot be written.
pub fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)
}

/// The right to work on a SQLite database alone, held as long as the value.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "unlocked when dropped")] File);

impl Lock {
    /// Takes the lock of a database file. `None` means that another process holds it.
    ///
    /// # Errors
    /// Returns an error when the lock file beside the database cannot be made.
    pub fn try_new(database: &Path) -> Result<Option<Self>> {
        let path = beside(database, ".lock");
        let failed = |error: io::Error| Error::Url(format!("the lock file `{}`: {error}", path.display()));
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_file_leads_to_the_same_path() {
        let folder = tempfile::tempdir().unwrap();
        let folder = std::fs::canonicalize(folder.path()).unwrap();
        let real = folder.join("my keys.db");
        std::os::unix::fs::symlink("my keys.db", folder.join("link.db")).unwrap();
        std::os::unix::fs::symlink(&folder, folder.join("folder")).unwrap();
        let urls = ["my keys.db", "my%20keys.db", "link.db", "folder/my%20keys.db", "folder/link.db?mode=rwc"];
        for exists in [false, true] {
            if exists {
                std::fs::write(&real, "").unwrap();
            }
            for url in urls {
                let url = format!("sqlite://{}/{url}", folder.display());
                assert_eq!(sqlite_path(&url).unwrap().as_ref(), Some(&real), "{url}, exists: {exists}");
            }
        }
        assert_eq!(sqlite_path("sqlite::memory:").unwrap(), None);
        assert_eq!(sqlite_path("postgres://localhost/keyward").unwrap(), None);
    }

    #[test]
    fn a_file_that_is_removed_or_replaced_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyward.db");
        let wal = beside(&path, "-wal");
        for name in [&path, &wal] {
            std::fs::write(&path, "").unwrap();
            std::fs::write(&wal, "").unwrap();
            let file = SqliteFile::note(path.clone(), None).unwrap();
            file.check().unwrap();
            let aside = folder.path().join("aside");
            std::fs::rename(name, &aside).unwrap();
            assert!(matches!(file.check(), Err(Error::Replaced(_))));
            std::fs::write(name, "").unwrap();
            assert!(matches!(file.check(), Err(Error::Replaced(_))));
            std::fs::rename(&aside, name).unwrap();
            file.check().unwrap();
        }
    }
}

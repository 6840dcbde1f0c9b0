//! `keyward store`: backups, checks and the identity of the database as a whole.

use super::error::{CommandError, block_on, end};
use super::exit::Exit;
use super::output::{self, Format};
use super::token::{database_url, open_store, operator, store_failed};
use crate::clock::Clock;
use crate::secret::Secret;
use crate::store::backup::{Named, Restored, Revived};
use crate::store::check::Depth;
use crate::store::keys::By;
use crate::store::{Head, Store};
use clap::Subcommand;
use keyward_policy::count::counted;
use serde_json::json;
use std::io::Write as _;
use std::path::PathBuf;

/// Back up, restore and check the database of the admin service
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Write a backup of the SQLite database to a new file; the service may go on running
    Backup {
        /// File to write; it must not exist
        file: PathBuf,
        /// JSON instead of words
        #[arg(long)]
        json: bool,
    },
    /// Put a backup in the place of the SQLite database, with a new identity; the service must be stopped
    ///
    /// The backup is checked first, and the database that was there is kept beside the new one. The command lists what
    /// works again although it had been taken away after the backup was made: deleted keys, keys from before they were
    /// regenerated, disabled keys, permissions and revoked tokens. Take them away again before the service is started.
    Restore {
        /// File to restore, made by `keyward store backup`
        file: PathBuf,
        /// JSON instead of words
        #[arg(long)]
        json: bool,
    },
    /// Check that the database is not damaged
    Check {
        /// JSON instead of words
        #[arg(long)]
        json: bool,
    },
    /// Give the store a new identity after a backup was restored: every filter then loads all keys again
    ///
    /// A restored backup lacks the last changes. Filters that saw them would wait for later ones and keep what the
    /// backup no longer has; a new identity makes them start over. `keyward store restore` does this by itself; after
    /// `pg_restore` or a failover to a server that lacks changes, run this command. Set the new identity where a
    /// filter's configuration pins `admin.store`.
    NewIdentity {
        /// JSON instead of words
        #[arg(long)]
        json: bool,
    },
    /// Fill the store with keys, for benchmarks
    #[command(hide = true)]
    Seed {
        /// How many
        #[arg(long)]
        keys: u32,
        /// Where to write their plaintexts, one a line
        #[arg(long)]
        write_keys: Option<PathBuf>,
    },
}

/// Runs the command.
pub fn run(command: StoreCommand) -> Exit {
    end(block_on(async {
        let actor = operator();
        let by = By { actor: &actor, at: Clock::system().now() };
        match command {
            StoreCommand::Backup { file, json } => {
                let store = open_store().await?;
                let head = store.back_up(&file).await;
                store.close().await;
                let head = head.map_err(store_failed)?;
                match Format::choose(json) {
                    Format::Json => output::json(&json!({
                        "file": file.display().to_string(), "store": head.identity, "revision": head.revision,
                        "keys": head.live_count,
                    }))?,
                    Format::Human => output::line(&format!("Wrote {} to `{}`.", contents(&head), file.display()))?,
                }
            }
            StoreCommand::Restore { file, json } => {
                let restored = Store::restore(&database_url()?, &file, by).await.map_err(store_failed)?;
                match Format::choose(json) {
                    Format::Json => output::json(&json_of(&restored))?,
                    Format::Human => tell(&restored)?,
                }
            }
            StoreCommand::Check { json } => {
                let store = open_store().await?;
                let head = store.check(Depth::Full).await;
                store.close().await;
                let head = head.map_err(store_failed)?;
                match Format::choose(json) {
                    Format::Json => output::json(&json!({
                        "ok": true, "store": head.identity, "revision": head.revision, "keys": head.live_count,
                    }))?,
                    Format::Human => output::line(&format!("The database is sound: {}.", contents(&head)))?,
                }
            }
            StoreCommand::NewIdentity { json } => {
                let store = open_store().await?;
                // A damaged database must not be spread to every filter.
                let head = match store.check(Depth::Quick).await {
                    Ok(_) => store.new_identity(&actor, by.at.unix_ms()).await,
                    Err(error) => Err(error),
                };
                store.close().await;
                let head = head.map_err(store_failed)?;
                match Format::choose(json) {
                    Format::Json => output::json(&json!({ "store": head.identity, "revision": head.revision }))?,
                    Format::Human => output::line(&format!("The store is now {}.", head.identity))?,
                }
            }
            StoreCommand::Seed { keys, write_keys } => seed(keys, write_keys, by).await?,
        }
        Ok(())
    }))
}

fn contents(head: &Head) -> String {
    format!("{} at revision {} of the store {}", counted(head.live_count, "key"), head.revision, head.identity)
}

/// The lists of what a restore changed, with a heading for each.
fn lists(revived: &Revived) -> [(&'static str, &'static str, &[Named]); 7] {
    [
        ("deleted_keys", "Deleted after the backup, and accepted again", &revived.deleted_keys),
        ("regenerated_keys", "Regenerated after the backup: the old key is accepted again", &revived.regenerated_keys),
        ("disabled_keys", "Disabled after the backup, and enabled again", &revived.disabled_keys),
        ("permissions", "Permissions taken away after the backup, and granted again", &revived.permissions),
        ("revoked_tokens", "Tokens revoked after the backup, and valid again", &revived.revoked_tokens),
        ("lost_keys", "Keys created after the backup, and refused from now on", &revived.lost_keys),
        ("lost_tokens", "Tokens created after the backup, and no longer valid", &revived.lost_tokens),
    ]
}

fn json_of(restored: &Restored) -> serde_json::Value {
    let mut changes = serde_json::Map::new();
    for (name, _, list) in restored.revived.iter().flat_map(lists) {
        changes.insert(name.to_owned(), json!(list));
    }
    json!({
        "store": restored.head.identity,
        "revision": restored.head.revision,
        "keys": restored.head.live_count,
        "replaced": restored.replaced.as_ref().map(|path| path.display().to_string()),
        // Null where the database that was there could not be read.
        "came_back": restored.revived.as_ref().map(|_| changes),
    })
}

fn tell(restored: &Restored) -> Result<(), CommandError> {
    output::line(&format!("Restored {}.", contents(&restored.head)))?;
    if let Some(replaced) = &restored.replaced {
        output::line(&format!("The database that was there is now `{}`.", replaced.display()))?;
    }
    let Some(revived) = &restored.revived else {
        output::line(
            "It is damaged, so what came back cannot be listed: take away again whatever was deleted, regenerated, \
             disabled or revoked after the backup was made.",
        )?;
        return Ok(());
    };
    let mut is_empty = true;
    for (_, heading, list) in lists(revived) {
        if list.is_empty() {
            continue;
        }
        is_empty = false;
        output::line(&format!("{heading}:"))?;
        for named in list {
            output::line(&format!("  {}  {}", named.id, named.name))?;
        }
    }
    if is_empty {
        output::line("Nothing that was taken away came back.")?;
    }
    output::line("Set the new identity where a filter's configuration pins `admin.store`.")?;
    Ok(())
}

async fn seed(keys: u32, write_keys: Option<PathBuf>, by: By<'_>) -> Result<(), CommandError> {
    let store = Store::open(&database_url()?).await.map_err(store_failed)?;
    let mut file = write_keys
        .map(|path| std::fs::File::create(path).map(std::io::BufWriter::new))
        .transpose()
        .map_err(CommandError::failed)?;
    let mut made = 0;
    while made < keys {
        let batch: Vec<Secret> = (made..keys.min(made + 5_000)).map(|_| Secret::new_key("kw")).collect();
        if let Some(file) = &mut file {
            for secret in &batch {
                writeln!(file, "{}", secret.reveal()).map_err(CommandError::failed)?;
            }
        }
        store.seed(made, &batch, by).await.map_err(CommandError::failed)?;
        made += u32::try_from(batch.len()).unwrap_or(u32::MAX);
    }
    if let Some(mut file) = file {
        file.flush().map_err(CommandError::failed)?;
    }
    store.close().await;
    output::json(&json!({ "keys": made }))?;
    Ok(())
}

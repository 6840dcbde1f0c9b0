//! `keyward store`: what is done to the database as a whole.

use super::error::{CommandError, block_on, end};
use super::exit::Exit;
use super::output::{self, Format};
use super::token::{open_store, operator};
use crate::clock::Clock;
use crate::secret::Secret;
use crate::store::keys::By;
use clap::Subcommand;
use serde_json::json;
use std::io::Write as _;
use std::path::PathBuf;

/// Care for the database of the admin service
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Give the store another identity after a backup was restored: every filter then loads all keys anew
    ///
    /// A restored backup lacks the last changes. Filters that saw them would wait for later ones and keep what the
    /// backup no longer has; another identity makes them start over. Stop the service before restoring, run this, start
    /// it again, and set the new identity where a filter's configuration pins `admin.store`.
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
        let store = open_store().await?;
        let actor = operator();
        let now = Clock::system().now();
        match command {
            StoreCommand::NewIdentity { json } => {
                let head = store.new_identity(&actor, now.unix_ms()).await.map_err(CommandError::failed)?;
                match Format::choose(json) {
                    Format::Json => output::json(&json!({ "store": head.identity, "revision": head.revision }))?,
                    Format::Human => output::line(&format!("The store is now {}.", head.identity))?,
                }
            }
            StoreCommand::Seed { keys, write_keys } => {
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
                    let by = By { actor: &actor, at: now };
                    store.seed(made, &batch, by).await.map_err(CommandError::failed)?;
                    made += u32::try_from(batch.len()).unwrap_or(u32::MAX);
                }
                if let Some(mut file) = file {
                    file.flush().map_err(CommandError::failed)?;
                }
                output::json(&json!({ "keys": made }))?;
            }
        }
        store.close().await;
        Ok(())
    }))
}

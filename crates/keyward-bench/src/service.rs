//! The real admin service with a store full of keys.

use anyhow::{Context as _, Result, bail};
use keyward_testbed::postgres::Postgres;
use keyward_testbed::service::{Service, Setup};
use keyward_testbed::{wait, workspace};
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

/// A database in which the service keeps its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Database {
    Sqlite,
    Postgres,
}

impl Database {
    /// Returns the database's name as its makers write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// A store and the settings of a service that uses it. Dropping the value removes the store.
#[derive(Debug)]
pub struct Home {
    setup: Setup,
    folder: tempfile::TempDir,
    // PostgreSQL stops after the service has ended.
    _postgres: Option<Postgres>,
}

impl Home {
    /// Creates an empty store.
    ///
    /// # Errors
    /// Returns an error when PostgreSQL is not installed.
    pub fn new(database: Database) -> Result<Self> {
        let folder = workspace::scratch("bench-service");
        let postgres = match database {
            Database::Sqlite => None,
            Database::Postgres => Some(Postgres::start().context("PostgreSQL is not installed")?),
        };
        let url = match &postgres {
            None => format!("sqlite://{}", folder.path().join("keyward.db").display()),
            Some(postgres) => postgres.database(),
        };
        let setup = Setup::new(folder.path()).at_a_fixed_port().with("KEYWARD_DATABASE_URL", &url);
        Ok(Self { setup, folder, _postgres: postgres })
    }

    /// Fills the empty store with keys named `seed-0000000` and so on, and returns their plaintexts in that order.
    ///
    /// # Errors
    /// Returns an error when the command fails.
    pub fn seed(&self, keys: u32) -> Result<Vec<String>> {
        let file = self.folder.path().join("keys");
        self.command(&["store", "seed", "--keys", &keys.to_string(), "--write-keys", &file.display().to_string()])?;
        let text = fs::read_to_string(&file)?;
        fs::remove_file(&file)?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Gives the store another identity, so that every filter loads all keys anew. No service may use the store meanwhile.
    ///
    /// # Errors
    /// Returns an error when the command fails.
    pub fn new_identity(&self) -> Result<()> {
        self.command(&["store", "new-identity"])
    }

    /// Starts the service and waits until it is ready.
    pub fn serve(&self) -> Service {
        self.setup.serve()
    }

    /// Returns the address on which the service listens whenever it runs.
    pub fn address(&self) -> SocketAddr {
        self.setup.address()
    }

    fn command(&self, arguments: &[&str]) -> Result<()> {
        let output = self.setup.run(arguments);
        if !output.status.success() {
            bail!("keyward {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

/// Waits until `vms` VMs have every key of the store.
///
/// # Panics
/// Panics when that takes minutes.
pub fn wait_for_vms(service: &Service, vms: usize) {
    wait::until(&format!("{vms} VMs that hold all keys"), Duration::from_secs(300), || {
        service.vms_up_to_date().is_ok_and(|have| have == vms).then_some(())
    });
}

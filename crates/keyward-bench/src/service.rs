//! The real admin service: its store, its process, and somebody who calls it.

use crate::port;
use anyhow::{Context as _, Result, bail};
use keyward_testbed::postgres::Postgres;
use keyward_testbed::{artifacts, http1, wait, workspace};
use serde_json::Value;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ADMIN_TOKEN: &str = "bench-admin-token-0123456789abcdef";
/// What proxies show.
pub const EDGE_TOKEN: &str = "bench-edge-token-0123456789abcdef";
const PATIENCE: Duration = Duration::from_secs(60);

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Database {
    Sqlite,
    Postgres,
}

impl Database {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// A store of its own, and the settings of a service on it; removed with the value.
#[derive(Debug)]
pub struct Home {
    folder: tempfile::TempDir,
    url: String,
    address: SocketAddr,
    /// Ends after whatever uses it.
    _postgres: Option<Postgres>,
}

impl Home {
    /// An empty store.
    ///
    /// # Errors
    /// When no port can be had, or PostgreSQL is not installed.
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
        Ok(Self { folder, url, address: port::free()?, _postgres: postgres })
    }

    /// Fills the empty store with keys named `seed-0000000` and so on; their plaintexts, in that order.
    ///
    /// # Errors
    /// When the command fails.
    pub fn seed(&self, keys: u32) -> Result<Vec<String>> {
        let file = self.folder.path().join("keys");
        let count = keys.to_string();
        self.command(&["store", "seed", "--keys", &count, "--write-keys"], |command| {
            command.arg(&file);
        })?;
        let text = fs::read_to_string(&file)?;
        fs::remove_file(&file)?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Gives the store another identity, so that every filter loads all keys anew. No service may run on it.
    ///
    /// # Errors
    /// When the command fails.
    pub fn new_identity(&self) -> Result<()> {
        self.command(&["store", "new-identity"], |_| {})
    }

    /// Starts the service and waits until it is ready.
    ///
    /// # Errors
    /// When it does not come up, with the end of its log.
    pub fn serve(&self) -> Result<Service> {
        let log = self.folder.path().join("log");
        let file = File::options().create(true).append(true).open(&log)?;
        let mut command = self.keyward(&["serve"]);
        let process = command.stdout(file.try_clone()?).stderr(file).spawn().context("cannot start the service")?;
        let mut service = Service { process, address: self.address };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if http1::get(self.address, "/readyz", &[]).is_ok_and(|answer| answer.status == 200) {
                return Ok(service);
            }
            if service.process.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("the service did not become ready:\n{}", fs::read_to_string(&log).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where the service listens each time it runs.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn command(&self, arguments: &[&str], more: impl FnOnce(&mut Command)) -> Result<()> {
        let mut command = self.keyward(arguments);
        more(&mut command);
        let output = command.output().context("cannot run keyward")?;
        if !output.status.success() {
            bail!("keyward {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn keyward(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(artifacts::keyward());
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("KEYWARD_")) {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("KEYWARD_LISTEN", self.address.to_string())
            .env("KEYWARD_DATABASE_URL", &self.url)
            .env("KEYWARD_ADMIN_TOKEN", ADMIN_TOKEN)
            .env("KEYWARD_EDGE_TOKEN", EDGE_TOKEN)
            .env("KEYWARD_LOG", "warn")
            .stdin(Stdio::null());
        command
    }
}

/// A running service; killed with the value.
#[derive(Debug)]
pub struct Service {
    process: Child,
    address: SocketAddr,
}

impl Service {
    /// The process, to be measured.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Somebody with the admin token, on a connection of their own.
    ///
    /// # Errors
    /// When there is no connection to be had.
    pub fn admin(&self) -> Result<Caller> {
        Ok(Caller { connection: http1::Client::connect(self.address)? })
    }

    /// How many VMs have applied the newest revision, of those in contact.
    ///
    /// # Errors
    /// When the service does not answer.
    pub fn vms_up_to_date(&self) -> Result<usize> {
        let proxies = self.admin()?.get("/v1/proxies")?;
        let nodes = proxies.get("nodes").and_then(Value::as_array).into_iter().flatten();
        let vms = nodes.filter_map(|node| node.get("vms")?.as_array()).flatten();
        let fresh = |vm: &&Value| vm.get("lag").and_then(Value::as_u64) == Some(0);
        let in_contact = |vm: &&Value| vm.get("state").and_then(Value::as_str) == Some("in_contact");
        Ok(vms.filter(fresh).filter(in_contact).count())
    }

    /// Waits until so many VMs hold all there is.
    ///
    /// # Panics
    /// When that takes minutes.
    pub fn wait_for_vms(&self, vms: usize) {
        wait::until(&format!("{vms} VMs that hold all keys"), Duration::from_secs(300), || {
            self.vms_up_to_date().is_ok_and(|have| have == vms).then_some(())
        });
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Calls with the admin token.
#[derive(Debug)]
pub struct Caller {
    connection: http1::Client,
}

impl Caller {
    /// Sends a request; status and body.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn send(&mut self, method: &str, target: &str, body: &str) -> Result<(u16, Value)> {
        let mut headers = vec![(b"authorization".to_vec(), format!("Bearer {ADMIN_TOKEN}").into_bytes())];
        if !body.is_empty() {
            headers.push((b"content-type".to_vec(), b"application/json".to_vec()));
        }
        self.connection.send(&http1::encode(method.as_bytes(), target.as_bytes(), &headers, body.as_bytes()))?;
        let answer = self.connection.receive(method)?;
        Ok((answer.status, answer.json()))
    }

    /// The body of a GET that is answered with 200.
    ///
    /// # Errors
    /// When it is not.
    pub fn get(&mut self, target: &str) -> Result<Value> {
        match self.send("GET", target, "")? {
            (200, body) => Ok(body),
            (status, body) => bail!("{target}: {status} {body}"),
        }
    }

    /// Makes a key that may read records; id and plaintext.
    ///
    /// # Errors
    /// When it is not made.
    pub fn create(&mut self, name: &str) -> Result<(String, String)> {
        let body = serde_json::json!({"name": name, "permissions": ["records:read"], "expires_in": "30d"});
        let (status, answer) = self.send("POST", "/v1/keys", &body.to_string())?;
        let text = |field: &str| answer.get(field).and_then(Value::as_str).map(str::to_owned);
        let made = text("id").zip(text("key")).filter(|_| status == 201);
        made.with_context(|| format!("no key was made: status {status}"))
    }

    /// Deletes a key and waits for the receipt, which is the `applied` of the answer.
    ///
    /// # Errors
    /// When it is not deleted.
    pub fn delete(&mut self, id: &str) -> Result<Value> {
        match self.send("DELETE", &format!("/v1/keys/{id}?wait=5s"), "")? {
            (200, mut body) => Ok(body.get_mut("applied").map(Value::take).unwrap_or_default()),
            (status, body) => bail!("the key was not deleted: {status} {body}"),
        }
    }
}

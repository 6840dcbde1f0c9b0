//! The admin service: `keyward serve` as a process, and a caller with the admin token.

use crate::{artifacts, http1, wait, workspace};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{Error, Result};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// The admin token of every service that is started here.
pub const ADMIN_TOKEN: &str = "testbed-admin-token-0123456789abcdef";
/// The edge token of every service that is started here.
pub const EDGE_TOKEN: &str = "testbed-edge-token-0123456789abcdef";

const START_PATIENCE: Duration = Duration::from_secs(60);

/// How `keyward` is started: the program, its working directory and its environment.
///
/// No `KEYWARD_…` variable of the test's own environment reaches the command.
#[derive(Debug, Clone)]
pub struct Setup {
    program: PathBuf,
    folder: PathBuf,
    variables: Vec<(String, String)>,
}

impl Setup {
    /// A service that keeps a SQLite store in `folder` and listens on a free port of loopback.
    ///
    /// # Panics
    /// Panics when the command cannot be built.
    pub fn new(folder: &Path) -> Self {
        Self::of(artifacts::keyward(), folder)
    }

    /// The same with a program that is built already.
    pub fn of(program: impl Into<PathBuf>, folder: &Path) -> Self {
        Self { program: program.into(), folder: folder.to_owned(), variables: Vec::new() }
            .with("KEYWARD_LISTEN", "127.0.0.1:0")
            .with("KEYWARD_ADMIN_TOKEN", ADMIN_TOKEN)
            .with("KEYWARD_EDGE_TOKEN", EDGE_TOKEN)
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Unsets an environment variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self
    }

    /// Listens at the same port each time the service is started, so that a proxy finds it again.
    ///
    /// # Panics
    /// Panics when no port can be had.
    #[must_use]
    pub fn at_a_fixed_port(self) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.unwrap_or_else(|error| panic!("no free port: {error}"));
        self.with("KEYWARD_LISTEN", &address.to_string())
    }

    /// Where the service is told to listen. Port 0 means that the service chooses one.
    ///
    /// # Panics
    /// Panics when a test set something that is no address.
    pub fn address(&self) -> SocketAddr {
        let listen = self.variables.iter().find(|(name, _)| name == "KEYWARD_LISTEN");
        let listen = listen.and_then(|(_, address)| address.parse().ok());
        listen.unwrap_or_else(|| panic!("KEYWARD_LISTEN is no address"))
    }

    /// A `keyward` command in this environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("KEYWARD_")) {
                command.env_remove(name);
            }
        }
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a `keyward` command to its end.
    ///
    /// # Panics
    /// Panics when it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap_or_else(|error| panic!("keyward cannot be started: {error}"))
    }

    /// Starts the service and waits until it is ready.
    ///
    /// # Panics
    /// Panics when it ends instead, with what it wrote.
    pub fn serve(&self) -> Service {
        let log = self.folder.join("log");
        let before = fs::metadata(&log).map_or(0, |file| file.len() as usize);
        let file = File::options().create(true).append(true).open(&log);
        let file = file.unwrap_or_else(|error| panic!("cannot write {}: {error}", log.display()));
        let copy = file.try_clone().unwrap_or_else(|error| panic!("cannot write {}: {error}", log.display()));
        let process = self.command(&["serve"]).stdout(copy).stderr(file).spawn();
        let process = process.unwrap_or_else(|error| panic!("keyward cannot be started: {error}"));
        let mut service = Service { process, url: String::new(), log };
        service.url = wait::until("the service is ready", START_PATIENCE, || {
            let log = service.log();
            let log = log.get(before..).unwrap_or_default();
            assert!(service.is_running(), "the service ended: {log}");
            let (_, rest) = log.split_once("ready on ")?;
            // The whole line, or half of an address could be read.
            let (line, _) = rest.split_once('\n')?;
            Some(line.split('"').next()?.trim().to_owned())
        });
        service
    }
}

/// A running service; killed with the value. Its log is printed where the test panics.
#[derive(Debug)]
pub struct Service {
    process: Child,
    url: String,
    log: PathBuf,
}

impl Service {
    /// The address that clients call, with its scheme.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where the service listens.
    ///
    /// # Panics
    /// Panics when it listens at a name instead of an address.
    pub fn address(&self) -> SocketAddr {
        let (_, authority) = self.url.split_once("://").unwrap_or_default();
        authority.parse().unwrap_or_else(|error| panic!("{}: {error}", self.url))
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// The process, for a test that waits for its end.
    pub fn process(&mut self) -> &mut Child {
        &mut self.process
    }

    /// Sends a signal, named as `kill` takes it: `-TERM`.
    ///
    /// # Panics
    /// Panics when it cannot be sent.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.pid().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "{signal} cannot be sent");
    }

    /// Ends the process without a chance to save anything.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Everything that services in this folder have written.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// A caller with the admin token, on a connection of its own.
    ///
    /// # Errors
    /// Returns an error when there is no connection to be had.
    pub fn admin(&self) -> Result<Caller> {
        Ok(Caller { connection: http1::Client::connect(self.address())? })
    }

    /// The VMs that the service knows, each as `/v1/proxies` shows it.
    ///
    /// # Errors
    /// Returns an error when the service does not answer.
    pub fn vms(&self) -> Result<Vec<Value>> {
        let proxies = self.admin()?.get("/v1/proxies")?;
        let nodes = proxies.get("nodes").and_then(Value::as_array).into_iter().flatten();
        Ok(nodes.filter_map(|node| node.get("vms")?.as_array()).flatten().cloned().collect())
    }

    /// How many VMs are in contact and have applied the newest revision.
    ///
    /// # Errors
    /// Returns an error when the service does not answer.
    pub fn vms_up_to_date(&self) -> Result<usize> {
        let fresh = |vm: &&Value| vm.get("lag").and_then(Value::as_u64) == Some(0);
        let in_contact = |vm: &&Value| vm.get("state").and_then(Value::as_str) == Some("in_contact");
        Ok(self.vms()?.iter().filter(fresh).filter(in_contact).count())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the service's log\n{}---", self.log());
        }
    }
}

/// A folder with a service that can be killed and started again at the same port.
#[derive(Debug)]
pub struct Restartable {
    setup: Setup,
    service: Option<Service>,
    // Removed after the service has ended.
    _folder: workspace::TempDir,
}

impl Restartable {
    /// An empty store. The service does not run yet.
    ///
    /// # Panics
    /// Panics when no folder or port can be had.
    pub fn new() -> Self {
        let folder = workspace::scratch("service");
        let setup = Setup::new(folder.path()).at_a_fixed_port();
        Self { setup, service: None, _folder: folder }
    }

    /// Where the service listens each time it runs.
    pub fn address(&self) -> SocketAddr {
        self.setup.address()
    }

    /// Starts the service and waits until it is ready.
    ///
    /// # Panics
    /// Panics when it ends instead, with what it wrote.
    pub fn start(&mut self) {
        self.service = Some(self.setup.serve());
    }

    /// Ends the process without a chance to save anything.
    pub fn kill(&mut self) {
        self.service = None;
    }

    /// The running service.
    ///
    /// # Panics
    /// Panics when it does not run.
    pub fn service(&self) -> &Service {
        self.service.as_ref().unwrap_or_else(|| panic!("the service does not run"))
    }
}

impl Default for Restartable {
    fn default() -> Self {
        Self::new()
    }
}

/// Calls the service with the admin token.
#[derive(Debug)]
pub struct Caller {
    connection: http1::Client,
}

impl Caller {
    /// Sends a request, and returns the status and the body of the answer.
    ///
    /// # Errors
    /// Returns an error when the connection fails.
    pub fn send(&mut self, method: &str, target: &str, body: &str) -> Result<(u16, Value)> {
        let mut headers = vec![(b"authorization".to_vec(), format!("Bearer {ADMIN_TOKEN}").into_bytes())];
        if !body.is_empty() {
            headers.push((b"content-type".to_vec(), b"application/json".to_vec()));
        }
        self.connection.send(&http1::encode(method.as_bytes(), target.as_bytes(), &headers, body.as_bytes()))?;
        let answer = self.connection.receive(method)?;
        Ok((answer.status, answer.json()))
    }

    /// Sends a request that must be answered with `status`, and returns the body of the answer.
    ///
    /// # Errors
    /// Returns an error when it is answered otherwise.
    fn expect(&mut self, status: u16, method: &str, target: &str, body: &str) -> Result<Value> {
        match self.send(method, target, body)? {
            (have, answer) if have == status => Ok(answer),
            (have, answer) => Err(Error::other(format!("{method} {target}: {have} {answer}"))),
        }
    }

    /// The body of a GET.
    ///
    /// # Errors
    /// Returns an error when it is not answered with 200.
    pub fn get(&mut self, target: &str) -> Result<Value> {
        self.expect(200, "GET", target, "")
    }

    /// Makes a key that may read records and does not expire soon. Returns its id and its plaintext.
    ///
    /// # Errors
    /// Returns an error when the key is not made.
    pub fn create(&mut self, name: &str) -> Result<(String, String)> {
        let body = json!({"name": name, "permissions": ["records:read"], "expires_in": "30d"});
        let answer = self.expect(201, "POST", "/v1/keys", &body.to_string())?;
        let text = |field: &str| answer.get(field).and_then(Value::as_str).map(str::to_owned);
        text("id").zip(text("key")).ok_or_else(|| Error::other("the answer holds no key"))
    }

    /// Deletes a key, waits for the receipt up to `wait`, and returns it.
    ///
    /// # Errors
    /// Returns an error when the key is not deleted.
    pub fn delete(&mut self, id: &str, wait: &str) -> Result<Value> {
        self.expect(200, "DELETE", &format!("/v1/keys/{id}?wait={wait}"), "").map(receipt)
    }

    /// Gives a key another secret, and returns its plaintext and the receipt.
    ///
    /// # Errors
    /// Returns an error when the key is not regenerated.
    pub fn regenerate(&mut self, id: &str, wait: &str) -> Result<(String, Value)> {
        let answer = self.expect(200, "POST", &format!("/v1/keys/{id}/regenerate?wait={wait}"), "")?;
        let key = answer.get("key").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok((key, receipt(answer)))
    }
}

fn receipt(mut answer: Value) -> Value {
    answer.get_mut("applied").map(Value::take).unwrap_or_default()
}

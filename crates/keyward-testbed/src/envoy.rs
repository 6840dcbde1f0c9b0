//! A real Envoy, one process per value.
//!
//! The binary is `ENVOY_BIN`, else `envoy` on the PATH, else what `cargo xtask` installed under `target/venv`.
//! Ports are chosen by Envoy itself (a listener with port 0) and read back from its admin interface.

use crate::http1::{self, Response};
use crate::{wait, workspace};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// How long a start may take on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// The Envoy binary.
///
/// # Panics
/// Panics when there is none: says how to get one.
pub fn binary() -> PathBuf {
    let named = std::env::var_os("ENVOY_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("envoy")).find(|file| file.is_file());
    named.or(on_path).or_else(in_venv).unwrap_or_else(|| {
        panic!("no Envoy: set ENVOY_BIN, put `envoy` on the PATH, or let `cargo xtask test` install one")
    })
}

fn in_venv() -> Option<PathBuf> {
    let libraries = std::fs::read_dir(workspace::root().join("target/venv/lib")).ok()?;
    let binaries = libraries.flatten().map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    binaries.into_iter().find(|file| file.is_file())
}

/// Returns the version of the binary, without the patch release.
///
/// # Panics
/// Panics when it does not say.
pub fn version() -> (u32, u32) {
    static VERSION: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    let read = || {
        let output = Command::new(binary()).arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        // <path> version: <commit>/<version>/…
        let mut numbers = text.split_once("version: ")?.1.split('/').nth(1)?.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    VERSION.get_or_init(read).unwrap_or_else(|| panic!("Envoy does not say its version"))
}

/// A running Envoy; killed with the value. Its log is printed where the test panics.
#[derive(Debug)]
pub struct Envoy {
    process: Child,
    folder: tempfile::TempDir,
    admin: SocketAddr,
}

/// Envoy did not come up.
#[derive(Debug)]
pub struct Refused {
    /// All it wrote.
    pub log: String,
}

impl Envoy {
    /// Starts Envoy with two workers and waits until it is live.
    ///
    /// # Panics
    /// Panics when it does not come up, with its log.
    pub fn start(config: &Value) -> Self {
        Self::try_start(config, 2).unwrap_or_else(|refused| panic!("Envoy did not start:\n{}", refused.log))
    }

    /// Starts Envoy with two workers and further arguments, for instance `--drain-time-s`, and waits until it is live.
    ///
    /// # Panics
    /// Panics when it does not come up, with its log.
    pub fn start_with(config: &Value, arguments: &[&str]) -> Self {
        Self::run(config, 2, arguments, &[]).unwrap_or_else(|refused| panic!("Envoy did not start:\n{}", refused.log))
    }

    /// Starts Envoy with `workers` workers and waits until it is live.
    ///
    /// # Errors
    /// Returns [`Refused`] where it ended instead, as it does on a configuration that it does not take.
    ///
    /// # Panics
    /// Panics when it neither comes up nor ends.
    pub fn try_start(config: &Value, workers: usize) -> Result<Self, Refused> {
        Self::run(config, workers, &[], &[])
    }

    /// Starts Envoy with two workers and further variables in its environment, and waits until it is live.
    ///
    /// # Errors
    /// Returns [`Refused`] where it ended instead.
    ///
    /// # Panics
    /// Panics when it neither comes up nor ends.
    pub fn try_start_in(config: &Value, environment: &[(&str, &Path)]) -> Result<Self, Refused> {
        Self::run(config, 2, &[], environment)
    }

    fn run(config: &Value, workers: usize, arguments: &[&str], environment: &[(&str, &Path)]) -> Result<Self, Refused> {
        let folder = workspace::scratch("envoy");
        let file = folder.path().join("envoy.json");
        write(&file, config.to_string().as_bytes());
        let create = |name: &str| {
            std::fs::File::create(folder.path().join(name))
                .unwrap_or_else(|error| panic!("cannot make {name}: {error}"))
        };
        // Without it there is no shared memory, so that any number can run side by side. A test of hot restarts names its own.
        let alone = (!arguments.contains(&"--restart-epoch")).then_some("--disable-hot-restart");
        let process = Command::new(binary())
            .arg("--config-path")
            .arg(&file)
            .args(["--concurrency", &workers.to_string()])
            .args(["--file-flush-interval-msec", "100"])
            .args(alone)
            .args(["--log-level", "warning", "--component-log-level", "wasm:info,dynamic_modules:info"])
            .arg("--admin-address-path")
            .arg(folder.path().join("admin"))
            .args(arguments)
            .envs(environment.iter().copied())
            .current_dir(workspace::root())
            .stdin(Stdio::null())
            .stdout(create("stdout"))
            .stderr(create("stderr"))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run Envoy: {error}"));
        let mut envoy = Self { process, folder, admin: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let live = wait::until("Envoy is live", START_PATIENCE, || {
            if envoy.process.try_wait().ok().flatten().is_some() {
                return Some(false);
            }
            let address = std::fs::read_to_string(envoy.folder.path().join("admin")).ok()?;
            envoy.admin = address.trim().parse().ok()?;
            let ready = http1::get(envoy.admin, "/ready", &[]).ok()?;
            (ready.status == 200).then_some(true)
        });
        if live { Ok(envoy) } else { Err(Refused { log: envoy.log() }) }
    }

    /// Where a listener of the configuration listens.
    ///
    /// # Panics
    /// Panics when there is no such listener.
    pub fn listener(&self, name: &str) -> SocketAddr {
        self.find_listener(name).unwrap_or_else(|| panic!("no listener {name}"))
    }

    /// Where a listener listens; none where there is none of that name.
    pub fn find_listener(&self, name: &str) -> Option<SocketAddr> {
        let listeners = self.admin("/listeners?format=json").json();
        let statuses = listeners.get("listener_statuses")?.as_array()?;
        let status = statuses.iter().find(|status| status.get("name").and_then(Value::as_str) == Some(name))?;
        let socket = status.pointer("/local_address/socket_address")?;
        let port = socket.get("port_value")?.as_u64()?;
        Some(SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).ok()?)))
    }

    /// Asks the admin interface.
    ///
    /// # Panics
    /// Panics when it does not answer.
    pub fn admin(&self, target: &str) -> Response {
        http1::get(self.admin, target, &[]).unwrap_or_else(|error| panic!("Envoy's admin interface: {error}"))
    }

    /// Where the admin interface listens.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// The value of a statistic; 0 where there is none yet.
    pub fn stat(&self, name: &str) -> u64 {
        let text = self.admin(&format!("/stats?filter=^{}$", name.replace('.', "\\."))).text();
        text.lines().find_map(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }

    /// The metrics as Prometheus reads them. Envoy 1.39 has no flag for the names of the native edition, so they are those that
    /// the relabeling of `docs/native.md` gives.
    pub fn prometheus(&self) -> String {
        let text = self.admin("/stats/prometheus").text();
        if version() < (1, 40) { text.replace("envoy_wasmcustom_keyward_", "keyward_") } else { text }
    }

    /// What it wrote to its log (standard error).
    pub fn log(&self) -> String {
        read(&self.folder.path().join("stderr"))
    }

    /// What it wrote to its access log (standard output).
    pub fn access_log(&self) -> String {
        read(&self.folder.path().join("stdout"))
    }

    /// The access log's entry whose `field` is `value`, once it is there.
    ///
    /// # Panics
    /// Panics when it does not come.
    pub fn access_log_entry(&self, field: &str, value: &str) -> Value {
        wait::until("an entry in the access log", Duration::from_secs(30), || {
            let log = self.access_log();
            let mut entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            entries.find(|entry| entry.get(field).and_then(Value::as_str) == Some(value))
        })
    }

    /// The process, for a test that stops or measures it.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- Envoy's log\n{}---", self.log());
        }
    }
}

fn write(file: &Path, bytes: &[u8]) {
    std::fs::write(file, bytes).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
}

fn read(file: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned()
}

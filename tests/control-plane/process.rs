//! A program that runs beside the test, with its log in a file.

use keyward_testbed::wait;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a start may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// How long a program may take to end by itself.
const GRACE: Duration = Duration::from_secs(30);

/// Ended with the value. The end of its log is printed where the test panics.
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program whose output goes to `<folder>/<name>.log`.
    pub fn start(name: &'static str, command: &mut Command, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Self { name, child, log }
    }

    /// Waits until `ready` gives something.
    ///
    /// # Panics
    /// Panics when the program ends before.
    pub fn wait_for<T>(&mut self, what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
        wait::until(what, PATIENCE, || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended: {status}", self.name);
            }
            ready()
        })
    }

    /// What it has written.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Asked first: the agents end the Envoy that they have started.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let deadline = Instant::now() + GRACE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(40);
            eprintln!("--- the end of {}'s log\n{}\n---", self.name, lines[from..].join("\n"));
        }
    }
}

/// A port of loopback that was free a moment ago.
pub fn free_port() -> u16 {
    free_address().port()
}

/// An address of loopback that was free a moment ago.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap()
}

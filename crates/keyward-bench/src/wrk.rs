//! The load generator.

use anyhow::{Context as _, Result, bail};
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The number of connections that wrk keeps busy.
pub const CONNECTIONS: usize = 16;

/// The Lua script for wrk, which sends the heads in turn and prints a summary at the end.
const SCRIPT: &str = r#"
function request()
  number = number % count + 1
  return heads[number]
end
function done(summary)
  local errors = summary.errors
  print(string.format("keyward %d %d %d %d", summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
"#;

/// The requests to send, one after another and then from the start again.
#[derive(Debug, Clone)]
pub struct Load {
    /// Path and extra header lines of each request.
    pub requests: Vec<(String, Vec<(&'static str, String)>)>,
    /// The status that every answer must have.
    pub status: u16,
}

/// The result of a load.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// The number of answered requests.
    pub requests: u64,
    /// Answers per second.
    pub rate: f64,
}

/// A wrk script that sends a load.
#[derive(Debug)]
pub struct Script {
    file: PathBuf,
    status: u16,
}

impl Script {
    /// Writes the script into `folder`.
    ///
    /// # Errors
    /// Returns an error when the file cannot be written.
    pub fn new(folder: &Path, name: &str, load: &Load) -> Result<Self> {
        let mut lua = String::from("local heads = {\n");
        for (path, headers) in &load.requests {
            write!(lua, "\"GET {path} HTTP/1.1\\r\\nHost: api.example.com\\r\\n")?;
            for (name, value) in headers {
                write!(lua, "{name}: {value}\\r\\n")?;
            }
            lua.push_str("\\r\\n\",\n");
        }
        write!(lua, "}}\nlocal number, count = 0, {}\n", load.requests.len())?;
        lua.push_str(SCRIPT);
        let file = folder.join(format!("{name}.lua"));
        fs::write(&file, lua).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self { file, status: load.status })
    }

    /// Sends the load for some seconds on [`CONNECTIONS`] connections, as fast as answers arrive.
    ///
    /// # Errors
    /// Returns an error when wrk fails, or an answer is not what was expected.
    pub fn run(&self, target: SocketAddr, seconds: u32) -> Result<Outcome> {
        let output = Command::new("wrk")
            .args(["--threads", "1", "--connections", &CONNECTIONS.to_string()])
            .args(["--duration", &format!("{seconds}s"), "--script"])
            .arg(&self.file)
            .arg(format!("http://{target}/"))
            .output()
            .context("cannot run wrk")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let figures: Vec<u64> = text
            .lines()
            .find_map(|line| line.strip_prefix("keyward "))
            .map(|line| line.split(' ').filter_map(|word| word.parse().ok()).collect())
            .unwrap_or_default();
        let [requests, micros, status_errors, other_errors] = *figures else {
            bail!("wrk said {text}{}", String::from_utf8_lossy(&output.stderr));
        };
        // wrk counts statuses of 400 and more as errors.
        let expected_errors = if self.status >= 400 { requests } else { 0 };
        if status_errors.abs_diff(expected_errors) > CONNECTIONS as u64 || other_errors > 0 || requests == 0 {
            bail!(
                "{}: {requests} answers, {status_errors} of them errors, {other_errors} broken; {} was expected",
                self.file.display(),
                self.status
            );
        }
        Ok(Outcome { requests, rate: requests as f64 / (micros as f64 / 1e6) })
    }
}

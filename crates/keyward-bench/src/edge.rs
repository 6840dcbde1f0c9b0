//! An Envoy with two workers and the shipped configuration, in front of a service.

use crate::server;
use anyhow::{Context as _, Result, bail};
use keyward_testbed::artifacts::Edition;
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::Shipped;
use keyward_testbed::service::{Caller, EDGE_TOKEN};
use keyward_testbed::{http1, workspace};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// A path that the shipped rules allow to every measured key.
pub const PATH: &str = "/api/collections/posts/records";
const WORKERS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(300);

/// A running Envoy with the shipped configuration.
#[derive(Debug)]
pub struct Edge {
    pub envoy: Envoy,
    pub address: SocketAddr,
    edition: Edition,
    _folder: tempfile::TempDir,
}

/// A connection and the worker that serves it.
#[derive(Debug)]
pub struct Connection {
    pub client: http1::Client,
    pub worker: usize,
}

impl Edge {
    /// Starts Envoy. It does not wait until the filter has keys.
    ///
    /// # Errors
    /// Returns an error when Envoy does not take the configuration.
    pub fn start(admin: SocketAddr, edition: Edition) -> Result<Self> {
        Self::with(admin, edition, None)
    }

    /// Starts Envoy with another module in place of the edition's own.
    ///
    /// # Errors
    /// Returns an error when Envoy does not take the configuration.
    pub fn with(admin: SocketAddr, edition: Edition, module: Option<&Path>) -> Result<Self> {
        let folder = workspace::scratch("bench-edge");
        let shipped = Shipped::of(edition, server::start(server::UPSTREAM)?);
        let mut shipped = shipped.with_admin(admin, EDGE_TOKEN, folder.path());
        if let Some(module) = module {
            shipped.set_module(module);
        }
        let envoy = Envoy::try_start(&shipped.build(), WORKERS)
            .map_err(|refused| anyhow::anyhow!("Envoy does not take the configuration:\n{}", refused.log))?;
        let address = envoy.listener("databases_api");
        Ok(Self { envoy, address, edition, _folder: folder })
    }

    /// Returns how many instances of the filter in this Envoy fetch keys.
    pub fn instances(&self) -> u64 {
        self.edition.instances()
    }

    /// Opens `count` connections to each worker. The kernel chooses a worker by the ports, so more connections are opened
    /// than are kept.
    ///
    /// # Errors
    /// Returns an error when the connections cannot be opened.
    pub fn connections(&self, count: usize) -> Result<Vec<Connection>> {
        let mut kept: Vec<Connection> = Vec::new();
        let mut before = self.accepted()?;
        let deadline = Instant::now() + PATIENCE;
        while kept.len() < count * WORKERS {
            let client = http1::Client::connect(self.address)?;
            // The worker counts the connection when it accepts it, which is not at once.
            let worker = loop {
                let now = self.accepted()?;
                if let Some(worker) = (0..WORKERS).find(|worker| now.get(*worker) > before.get(*worker)) {
                    before = now;
                    break worker;
                }
                if Instant::now() > deadline {
                    bail!("no worker accepts connections");
                }
            };
            if kept.iter().filter(|have| have.worker == worker).count() < count {
                kept.push(Connection { client, worker });
            }
        }
        kept.sort_by_key(|connection| connection.worker);
        Ok(kept)
    }

    /// Returns how many connections each worker has accepted so far.
    fn accepted(&self) -> Result<Vec<u64>> {
        let text = self.envoy.admin("/stats?filter=^listener\\.127.*worker_.*downstream_cx_total$").text();
        let counts: Vec<u64> = (0..WORKERS)
            .filter_map(|worker| {
                let line = text.lines().find(|line| line.contains(&format!("worker_{worker}.")))?;
                line.rsplit(' ').next()?.parse().ok()
            })
            .collect();
        if counts.len() == WORKERS { Ok(counts) } else { bail!("Envoy does not count by worker:\n{text}") }
    }

    /// Waits until each worker reports that it has keys.
    ///
    /// # Errors
    /// Returns an error when that takes minutes.
    pub fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for connection in &mut self.connections(1)? {
            while connection.status("/keyward/ready", None)? != 200 {
                if Instant::now() > deadline {
                    bail!("worker {} got no keys", connection.worker);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    }
}

impl Connection {
    /// Sends a GET and returns the status of its answer.
    ///
    /// # Errors
    /// Returns an error when the connection fails.
    pub fn status(&mut self, path: &str, key: Option<&str>) -> Result<u16> {
        let headers: Vec<_> = key.map(|key| (b"x-api-key".to_vec(), key.as_bytes().to_vec())).into_iter().collect();
        self.client.send(&http1::encode(b"GET", path.as_bytes(), &headers, b""))?;
        Ok(self.client.receive("GET").context("no answer from the proxy")?.status)
    }
}

/// Returns the ids of seeded keys, in the order of their plaintexts.
///
/// # Errors
/// Returns an error when the service does not list them.
pub fn seeded_ids(caller: &mut Caller, keys: usize) -> Result<Vec<String>> {
    let mut ids = vec![String::new(); keys];
    let mut cursor = String::new();
    loop {
        let page = caller.get(&format!("/v1/keys?limit=200{cursor}"))?;
        for key in page.get("keys").and_then(Value::as_array).into_iter().flatten() {
            let text = |field: &str| key.get(field).and_then(Value::as_str).unwrap_or_default();
            let number: Option<usize> = text("name").strip_prefix("seed-").and_then(|number| number.parse().ok());
            if let Some(place) = number.and_then(|number| ids.get_mut(number)) {
                text("id").clone_into(place);
            }
        }
        match page.get("next_cursor").and_then(Value::as_str) {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    Ok(ids)
}

//! A load generator that keeps its rate however long answers take, and records the latency of each.

use crate::wrk::Load;
use anyhow::{Context as _, Result, bail};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The number of connections. Each follows its own schedule, so that together they keep the rate.
const CONNECTIONS: u32 = 32;

/// One answer.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When the request was due. A late answer delays the next request on its connection, and that delay is part of the
    /// next request's latency.
    pub due: Instant,
    /// The time from `due` to the last byte of the answer.
    pub took: Duration,
}

impl Sample {
    /// Returns the latency in microseconds.
    pub fn us(&self) -> f64 {
        self.took.as_secs_f64() * 1e6
    }
}

/// A load that is being sent.
#[derive(Debug)]
pub struct Paced {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<Vec<Sample>>>>,
}

impl Paced {
    /// Starts to send `rate` requests a second.
    pub fn start(target: SocketAddr, load: &Load, rate: f64) -> Self {
        let period = Duration::from_secs_f64(f64::from(CONNECTIONS) / rate);
        let begin = Instant::now() + Duration::from_millis(50);
        let stop = Arc::new(AtomicBool::new(false));
        let load = Arc::new(load.clone());
        let clients = (0..CONNECTIONS).map(|client| {
            let first = begin + period * client / CONNECTIONS;
            let (stop, load) = (Arc::clone(&stop), Arc::clone(&load));
            std::thread::spawn(move || one_client(target, &load, client as usize, (first, period), &stop))
        });
        let clients = clients.collect();
        Self { stop, clients }
    }

    /// Stops the load and returns all answers.
    ///
    /// # Errors
    /// Returns an error when a connection failed, or an answer had another status than the load's.
    pub fn stop(self) -> Result<Vec<Sample>> {
        self.stop.store(true, Ordering::Relaxed);
        let samples = self.clients.into_iter().map(|client| match client.join() {
            Ok(samples) => samples,
            Err(_) => bail!("a client of the load failed"),
        });
        Ok(samples.collect::<Result<Vec<_>>>()?.concat())
    }
}

fn one_client(
    target: SocketAddr,
    load: &Load,
    client: usize,
    (first, period): (Instant, Duration),
    stop: &AtomicBool,
) -> Result<Vec<Sample>> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut samples = Vec::new();
    let mut buffer = [0; 16_384];
    let mut due = first;
    let requests = load.requests.iter().cycle().skip(client * load.requests.len() / CONNECTIONS as usize);
    for (path, headers) in requests {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: api.example.com\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        stream.write_all(head.as_bytes())?;
        let status = read_answer(&mut stream, &mut buffer)?;
        samples.push(Sample { due, took: due.elapsed() });
        if status != load.status {
            bail!("{path}: status {status} instead of {}", load.status);
        }
        due += period;
    }
    Ok(samples)
}

/// Reads one answer and returns its status.
fn read_answer(stream: &mut TcpStream, buffer: &mut [u8; 16_384]) -> Result<u16> {
    let mut filled = 0;
    loop {
        let read = stream.read(buffer.get_mut(filled..).unwrap_or_default())?;
        if read == 0 {
            bail!("the connection ended in the middle of an answer");
        }
        filled += read;
        let text = String::from_utf8_lossy(buffer.get(..filled).unwrap_or_default());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        if body.len() >= length {
            let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
            return status.context("an answer without a status");
        }
    }
}

//! How long an answer takes while the worker is half busy.

use crate::stats::quantile;
use crate::wrk::Load;
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Connections: each sends on a schedule of its own, so that together they keep the rate whatever the answers take.
const CONNECTIONS: u32 = 32;
const LASTS: Duration = Duration::from_secs(5);

/// From the last byte sent to the last byte read.
#[derive(Debug)]
pub struct Latency {
    pub rate: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
}

impl Latency {
    /// For the JSON file.
    pub fn json(&self) -> Value {
        json!({
            "requests_per_second": self.rate, "p50_us": self.p50_us, "p99_us": self.p99_us, "p999_us": self.p999_us,
        })
    }
}

/// Sends `rate` requests a second for some seconds.
///
/// # Errors
/// When a connection fails, or an answer has another status than the load's.
pub fn measure(target: SocketAddr, load: &Load, rate: f64) -> Result<Latency> {
    let period = Duration::from_secs_f64(f64::from(CONNECTIONS) / rate);
    let begin = Instant::now() + Duration::from_millis(50);
    let took: Vec<f64> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|client| {
                let first = begin + period * client / CONNECTIONS;
                scope.spawn(move || one_client(target, load, client as usize, first, period))
            })
            .collect();
        let results = clients.into_iter().map(|client| client.join());
        results
            .map(|result| result.map_err(|_| anyhow::anyhow!("a client of the latency measurement failed"))?)
            .collect::<Result<Vec<Vec<f64>>>>()
    })?
    .concat();
    Ok(Latency {
        rate: took.len() as f64 / LASTS.as_secs_f64(),
        p50_us: quantile(&took, 0.5),
        p99_us: quantile(&took, 0.99),
        p999_us: quantile(&took, 0.999),
    })
}

fn one_client(target: SocketAddr, load: &Load, client: usize, first: Instant, period: Duration) -> Result<Vec<f64>> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut took = Vec::new();
    let mut buffer = [0; 16_384];
    let mut due = first;
    let requests = load.requests.iter().cycle().skip(client * load.requests.len() / CONNECTIONS as usize);
    for (path, headers) in requests {
        if due >= first + LASTS {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: api.example.com\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        stream.write_all(head.as_bytes())?;
        let sent = Instant::now();
        let status = read_answer(&mut stream, &mut buffer)?;
        took.push(sent.elapsed().as_secs_f64() * 1e6);
        if status != load.status {
            bail!("{path}: status {status} instead of {}", load.status);
        }
        due += period;
    }
    Ok(took)
}

/// Reads one answer; its status.
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

//! The latency of requests while the worker is half busy.

use crate::paced::{Paced, Sample};
use crate::stats::quantile;
use crate::wrk::Load;
use anyhow::Result;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

const LASTS: Duration = Duration::from_secs(5);

/// Latencies from the moment a request is due to the last byte of its answer.
#[derive(Debug)]
pub struct Latency {
    pub rate: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
}

impl Latency {
    /// Returns the latencies as they are written to the JSON file.
    pub fn json(&self) -> Value {
        json!({
            "requests_per_second": self.rate, "p50_us": self.p50_us, "p99_us": self.p99_us, "p999_us": self.p999_us,
        })
    }
}

/// Sends `rate` requests a second for some seconds and returns their latencies.
///
/// # Errors
/// Returns an error when a connection fails, or an answer has another status than the load's.
pub fn measure(target: SocketAddr, load: &Load, rate: f64) -> Result<Latency> {
    let paced = Paced::start(target, load, rate);
    std::thread::sleep(LASTS);
    let took: Vec<f64> = paced.stop()?.iter().map(Sample::us).collect();
    Ok(Latency {
        rate: took.len() as f64 / LASTS.as_secs_f64(),
        p50_us: quantile(&took, 0.5),
        p99_us: quantile(&took, 0.99),
        p999_us: quantile(&took, 0.999),
    })
}

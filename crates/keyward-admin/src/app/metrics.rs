//! The numbers that `/metrics` shows.

use crate::service::Service;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// The upper bounds of the histogram of receipts, in seconds.
const RECEIPT_SECONDS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The times within which keys are counted that expire, with their names.
const WITHIN: [(&str, Duration); 3] = [
    ("1d", Duration::from_secs(86_400)),
    ("7d", Duration::from_secs(7 * 86_400)),
    ("30d", Duration::from_secs(30 * 86_400)),
];

/// How many of the keys are named whose requests are denied most: each is a series in Prometheus.
const MAX_NAMED_KEYS: u32 = 10;

/// How long counts of keys are shown: anybody may ask for metrics, and counting takes the store some time.
const COUNTED_FOR: Duration = Duration::from_secs(30);

/// How long changes waited for their receipts.
#[derive(Debug, Default)]
struct Receipts {
    /// For each of [`RECEIPT_SECONDS`], how many took no longer.
    at_most: [u64; RECEIPT_SECONDS.len()],
    count: u64,
    /// In seconds.
    sum: f64,
}

/// What the store has counted of keys.
#[derive(Debug, Clone)]
struct KeyCounts {
    at: Instant,
    /// How many expire within each of [`WITHIN`].
    expiring: [u64; WITHIN.len()],
    /// The ids of the keys of which the most requests were denied today, with the number of these requests.
    denied: Vec<(String, u64)>,
}

/// What is counted of requests, receipts and keys.
#[derive(Debug, Default)]
pub struct Metrics {
    receipts: Mutex<Receipts>,
    /// What was last counted of keys.
    keys: tokio::sync::Mutex<Option<KeyCounts>>,
    /// Requests answered, by method, route and status.
    requests: Mutex<BTreeMap<(&'static str, String, u16), u64>>,
    /// Requests that are being served, waiting polls included.
    in_flight: AtomicI64,
    /// Requests that filters have reported and no count by day has.
    usage_discarded: AtomicU64,
}

/// A request that is being served. It is counted until the value is dropped.
pub(super) struct InFlight<'a>(&'a AtomicI64);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Counts a request that begins.
    pub(super) fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(&self.in_flight)
    }

    /// Counts an answered request. `route` is one of the router's own: text that a client chose would grow the map
    /// without limit.
    pub(super) fn answered(&self, method: &axum::http::Method, route: &str, status: u16) {
        let method = match method.as_str() {
            "GET" => "GET",
            "POST" => "POST",
            "PATCH" => "PATCH",
            "DELETE" => "DELETE",
            "HEAD" => "HEAD",
            _ => "other",
        };
        *self.requests.lock().entry((method, route.to_owned(), status)).or_default() += 1;
    }

    /// Counts reported requests whose day or denial code is unknown, so that no count by day has them.
    pub fn usage_discarded(&self, requests: u64) {
        self.usage_discarded.fetch_add(requests, Ordering::Relaxed);
    }

    /// Notes how long a change waited for its receipt.
    pub fn receipt_took(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let mut receipts = self.receipts.lock();
        receipts.count += 1;
        receipts.sum += seconds;
        for (bound, count) in RECEIPT_SECONDS.into_iter().zip(&mut receipts.at_most) {
            *count += u64::from(seconds <= bound);
        }
    }

    /// Returns what was counted of keys less than [`COUNTED_FOR`] ago. `None` means that the store cannot be read.
    async fn keys(&self, service: &Service) -> Option<KeyCounts> {
        let mut counted = self.keys.lock().await;
        if let Some(counts) = counted.as_ref().filter(|counts| counts.at.elapsed() < COUNTED_FOR) {
            return Some(counts.clone());
        }
        let expiring = service.count_expiring(WITHIN.map(|(_, time)| time)).await.ok()?;
        let denied = service.most_denied_today(MAX_NAMED_KEYS).await.ok()?;
        let counts = KeyCounts { at: Instant::now(), expiring, denied };
        *counted = Some(counts.clone());
        Some(counts)
    }

    /// Renders all numbers in Prometheus' text format.
    pub async fn render(&self, service: &Service) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "# HELP keyward_build_info The version that runs. Always 1.\n# TYPE keyward_build_info gauge\n\
             keyward_build_info{{version=\"{}\"}} 1",
            env!("CARGO_PKG_VERSION")
        );
        if let Some(bytes) = resident_bytes() {
            let name = "process_resident_memory_bytes";
            let _ = writeln!(out, "# HELP {name} Resident memory of the process.\n# TYPE {name} gauge\n{name} {bytes}");
        }
        if let Some(counts) = self.keys(service).await {
            let name = "keyward_keys_expiring";
            let _ = writeln!(out, "# HELP {name} Accepted keys that expire within the time.\n# TYPE {name} gauge");
            for ((within, _), count) in WITHIN.into_iter().zip(counts.expiring) {
                let _ = writeln!(out, "{name}{{within=\"{within}\"}} {count}");
            }
            let name = "keyward_key_denials_today";
            let help = "Requests of a key that were denied on this day (UTC), for the keys with the most of them.";
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
            for (id, count) in counts.denied {
                let _ = writeln!(out, "{name}{{key=\"{id}\"}} {count}");
            }
        }
        self.render_receipts(&mut out);
        let state = service.feed.state();
        let (in_contact, unreachable) = service.proxies.counts();
        let gauges = [
            ("keyward_store_revision", "Newest revision of the store.", state.head.revision.cast_signed()),
            ("keyward_live_keys", "Live keys.", state.head.live_count.cast_signed()),
            ("keyward_store_reachable", "Whether the store answers.", i64::from(state.reachable)),
            (
                "keyward_store_writable",
                "Whether the last write to the store succeeded.",
                i64::from(service.store.write_failure().is_none()),
            ),
            (
                "keyward_store_went_back",
                "How often the store went back to an earlier state since this service started.",
                service.proxies.forks().cast_signed(),
            ),
            (
                "keyward_vms_may_be_missing",
                "Whether filter instances may be missing in the store's list, so that receipts name no time.",
                i64::from(service.proxies.may_miss_tables()),
            ),
            ("keyward_vms_in_contact", "Filter instances in contact.", i64::try_from(in_contact).unwrap_or(i64::MAX)),
            (
                "keyward_vms_unreachable",
                "Filter instances that were in contact lately and are not now.",
                i64::try_from(unreachable).unwrap_or(i64::MAX),
            ),
            (
                "keyward_http_requests_in_flight",
                "Requests being served, waiting polls included.",
                self.in_flight.load(Ordering::Relaxed),
            ),
        ];
        for (name, help, value) in gauges {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        }
        let (name, writes) = ("keyward_store_writes_total", service.store.write_counts());
        let _ = writeln!(
            out,
            "# HELP {name} Writes to the store: transactions that were committed, and writes that the store failed.\n\
             # TYPE {name} counter\n\
             {name}{{result=\"committed\"}} {}\n{name}{{result=\"failed\"}} {}",
            writes.committed, writes.failed
        );
        let (name, discarded) = ("keyward_usage_discarded_total", self.usage_discarded.load(Ordering::Relaxed));
        let _ = writeln!(
            out,
            "# HELP {name} Reported requests whose day or denial code is unknown, which no count by day has.\n\
             # TYPE {name} counter\n{name} {discarded}"
        );
        let _ = writeln!(
            out,
            "# HELP keyward_http_requests_total Requests answered.\n# TYPE keyward_http_requests_total counter"
        );
        for ((method, route, status), count) in &*self.requests.lock() {
            let _ = writeln!(
                out,
                "keyward_http_requests_total{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}} {count}"
            );
        }
        out
    }

    fn render_receipts(&self, out: &mut String) {
        let name = "keyward_receipt_seconds";
        let receipts = self.receipts.lock();
        let _ = writeln!(
            out,
            "# HELP {name} Time that changes waited until every instance in contact had applied them.\n# TYPE {name} histogram"
        );
        for (bound, count) in RECEIPT_SECONDS.into_iter().zip(receipts.at_most) {
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let (count, sum) = (receipts.count, receipts.sum);
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
    }
}

/// Returns the resident memory of the process. `None` means that this system does not say.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

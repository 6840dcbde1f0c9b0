//! The numbers that `/metrics` shows.

use crate::service::Service;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};

/// Counts of the requests to the API and to the page.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests answered, by method, route and status.
    requests: Mutex<BTreeMap<(&'static str, String, u16), u64>>,
    /// Requests that are being served, waiting polls included.
    in_flight: AtomicI64,
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

    /// Renders all numbers in Prometheus' text format.
    pub fn render(&self, service: &Service) -> String {
        let mut out = String::new();
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
            ("keyward_vms_in_contact", "Filter VMs in contact.", i64::try_from(in_contact).unwrap_or(i64::MAX)),
            (
                "keyward_vms_unreachable",
                "Filter VMs that were in contact lately and are not now.",
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
}

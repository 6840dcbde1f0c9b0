//! The metrics of this edition, as [`keyward_edge`] knows them.

use crate::host::Metric;
use keyward_edge::host::Meter;

/// The proxy. The proxy keeps the effective context itself, so that there is nothing in it.
#[derive(Debug, Clone, Copy)]
pub struct Proxy;

impl Meter for Proxy {
    type Metric = Metric;

    fn counter(self, name: &str) -> Metric {
        Metric::counter(name)
    }

    fn gauge(self, name: &str) -> Metric {
        Metric::gauge(name)
    }

    fn add(self, counter: Metric, count: u64) {
        counter.add(count);
    }

    fn set(self, gauge: Metric, value: u64) {
        gauge.set(value);
    }
}

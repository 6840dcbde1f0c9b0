//! What fetching keys shows: counters of the proxy, gauges of the VM, and log lines.

use crate::host::Meter;
use crate::metrics;
use keyward_policy::sync::{Event, FailureKind, Level, ManifestSync, Reason};
use std::cell::{Cell, OnceCell};
use std::time::Duration;

/// The counters and gauges of one admin service.
pub struct Telemetry<M: Meter> {
    meter: M,
    failures: Vec<(&'static str, M::Metric)>,
    started_over: Vec<(Reason, M::Metric)>,
    loads: M::Metric,
    usage_dropped: M::Metric,
    /// The name of this VM in its gauges.
    vm: Box<str>,
    /// Defined when there is a value to show. Envoy makes a canary VM for each configuration push, which never has one.
    gauges: OnceCell<Gauges<M::Metric>>,
    shown_age: Cell<u64>,
}

struct Gauges<M> {
    revision: M,
    keys: M,
    age: M,
}

impl<M: Meter> Telemetry<M> {
    /// Defines the counters. `number` tells several services of one VM apart.
    pub fn define(meter: M, vm: &str, number: usize) -> Self {
        let vm = if number == 0 { vm.to_owned() } else { format!("{vm}-{number}") };
        let failure = |name| (name, meter.counter(&metrics::sync_failure_counter(name)));
        let started_over = |reason: Reason| (reason, meter.counter(&metrics::started_over_counter(reason.name())));
        Self {
            meter,
            failures: FailureKind::ALL.into_iter().map(|kind| failure(kind.name())).collect(),
            started_over: Reason::ALL.into_iter().map(started_over).collect(),
            loads: meter.counter(metrics::LOADS),
            usage_dropped: meter.counter(metrics::USAGE_DROPPED),
            vm: vm.into(),
            gauges: OnceCell::new(),
            shown_age: Cell::new(u64::MAX),
        }
    }

    /// Counts and logs the events, and sets the gauges to the state of the table.
    pub fn take(&self, events: Vec<Event>, sync: &ManifestSync, now: Duration) {
        let position = sync.in_use();
        for event in events {
            match event {
                Event::Failed(failure) => {
                    let metric = self.failures.iter().find(|(name, _)| *name == failure.name());
                    metric.into_iter().for_each(|(_, metric)| self.meter.add(*metric, 1));
                }
                Event::StartedOver(reason) => {
                    let metric = self.started_over.iter().find(|(have, _)| *have == reason);
                    metric.into_iter().for_each(|(_, metric)| self.meter.add(*metric, 1));
                }
                Event::Loaded { keys, revision } => {
                    self.meter.add(self.loads, 1);
                    self.meter.set(self.gauges().revision, revision);
                    self.meter.set(self.gauges().keys, keys as u64);
                }
                Event::Applied { revision, .. } => {
                    self.meter.set(self.gauges().revision, revision);
                    self.meter.set(self.gauges().keys, position.map_or(0, |position| position.keys as u64));
                }
                Event::Log(Level::Info, line) => log::info!("keyward: {line}"),
                Event::Log(Level::Warn, line) => log::warn!("keyward: {line}"),
            }
        }
        if let Some(position) = position {
            let age = now.saturating_sub(position.contact).as_secs();
            if self.shown_age.replace(age) != age {
                self.meter.set(self.gauges().age, age);
            }
        }
    }

    /// Defines the gauges at once, where the host takes no metrics later.
    pub fn define_gauges(&self) {
        self.gauges();
    }

    fn gauges(&self) -> &Gauges<M::Metric> {
        self.gauges.get_or_init(|| {
            let gauge = |name| self.meter.gauge(&metrics::vm_gauge(name, &self.vm));
            Gauges {
                revision: gauge(metrics::MANIFEST_REVISION),
                keys: gauge(metrics::MANIFEST_KEYS),
                age: gauge(metrics::MANIFEST_AGE),
            }
        })
    }

    /// Counts uses of keys that are not reported.
    pub fn usage_dropped(&self, count: u64) {
        self.meter.add(self.usage_dropped, count);
    }
}

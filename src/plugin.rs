//! One plugin configuration at work: what every request of its root context shares.

use crate::host::Metric;
use crate::metrics::{self, Outcome};
use crate::reply::Replies;
use crate::source::{Fetched, Source};
use keyward_policy::config::Config;
use keyward_policy::decision::Code;
use keyward_policy::policy::Keys;
use std::cell::Cell;
use std::rc::Rc;

/// A valid configuration and what was made from it.
pub struct Plugin {
    pub config: Config,
    pub replies: Replies,
    pub counters: Rc<Counters>,
    /// The fetched keys, where the configuration names an admin service.
    pub source: Option<Source>,
    /// Route metadata is complained about once, not at every request.
    pub complained: Cell<bool>,
}

impl Plugin {
    /// The keys that are usable now.
    pub fn keys<'a>(&'a self, source: Option<&'a Fetched<'a>>) -> Keys<'a> {
        Keys::choose(&self.config, source.map(Fetched::table))
    }
}

/// The counters, defined once a VM.
pub struct Counters {
    decisions: Vec<(Outcome, Code, Metric)>,
    pub route_metadata_invalid: Metric,
    pub held: Metric,
}

impl Counters {
    pub fn define() -> Self {
        let fitting = |outcome: Outcome| {
            Code::ALL.into_iter().filter(move |code| outcome.fits(*code)).map(move |code| (outcome, code))
        };
        let define = |(outcome, code)| (outcome, code, Metric::counter(&metrics::decision_counter(outcome, code)));
        Self {
            decisions: Outcome::ALL.into_iter().flat_map(fitting).map(define).collect(),
            route_metadata_invalid: Metric::counter(metrics::ROUTE_METADATA_INVALID),
            held: Metric::counter(metrics::HELD),
        }
    }

    pub fn count(&self, outcome: Outcome, code: Code) {
        if let Some((_, _, metric)) = self.decisions.iter().find(|(have, which, _)| (*have, *which) == (outcome, code))
        {
            metric.add(1);
        }
    }
}

thread_local! {
    /// A VM runs on one thread, and its root contexts come and go with the plugin's configuration.
    static COUNTERS: Rc<Counters> = Rc::new(Counters::define());
}

/// The counters of this VM.
pub fn counters() -> Rc<Counters> {
    COUNTERS.with(Rc::clone)
}

//! A plugin configuration in use: what the requests of its root context share.

use crate::host::Metric;
use crate::metrics::{self, Effect};
use crate::reply::Replies;
use crate::source::{Fetched, Source};
use keyward_policy::config::Config;
use keyward_policy::decision::Code;
use keyward_policy::policy::Keys;
use std::cell::Cell;
use std::rc::Rc;

/// A valid configuration and what was made from it.
pub struct Plugin {
    /// The compiled configuration.
    pub config: Config,
    /// The local replies of this configuration.
    pub replies: Replies,
    /// The counters of the VM.
    pub counters: Rc<Counters>,
    /// The fetched keys. `None` means that the configuration names no admin service.
    pub source: Option<Source>,
    /// Whether an invalid route metadata was logged already: it is logged once, not at every request.
    pub complained: Cell<bool>,
}

impl Plugin {
    /// Returns the keys that are usable now.
    pub fn keys<'a>(&'a self, source: Option<&'a Fetched<'a>>) -> Keys<'a> {
        Keys::choose(&self.config, source.map(Fetched::table), source.and_then(Fetched::last_table))
    }
}

/// The counters of requests. They are defined once in a VM.
pub struct Counters {
    decisions: Vec<(Effect, Code, Metric)>,
    /// Counts [`metrics::ROUTE_METADATA_INVALID`].
    pub route_metadata_invalid: Metric,
    /// Counts [`metrics::HELD`].
    pub held: Metric,
}

impl Counters {
    fn define() -> Self {
        let fitting = |effect: Effect| {
            Code::ALL.into_iter().filter(move |code| effect.fits(*code)).map(move |code| (effect, code))
        };
        let define = |(effect, code)| (effect, code, Metric::counter(&metrics::decision_counter(effect, code)));
        Self {
            decisions: Effect::ALL.into_iter().flat_map(fitting).map(define).collect(),
            route_metadata_invalid: Metric::counter(metrics::ROUTE_METADATA_INVALID),
            held: Metric::counter(metrics::HELD),
        }
    }

    /// Counts a decision and what it does to the request.
    pub fn count(&self, effect: Effect, code: Code) {
        if let Some((_, _, metric)) = self.decisions.iter().find(|(have, which, _)| (*have, *which) == (effect, code)) {
            metric.add(1);
        }
    }
}

thread_local! {
    /// A VM runs on one thread, and its root contexts come and go with the plugin's configuration.
    static COUNTERS: Rc<Counters> = Rc::new(Counters::define());
}

/// Returns the counters of this VM.
pub fn counters() -> Rc<Counters> {
    COUNTERS.with(Rc::clone)
}

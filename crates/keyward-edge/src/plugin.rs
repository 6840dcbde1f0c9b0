//! A plugin configuration in use: what its requests share.

use crate::host::{Fetched, Host, Meter};
use crate::metrics::{self, Effect};
use crate::reply::Replies;
use keyward_policy::config::Config;
use keyward_policy::decision::Code;
use keyward_policy::policy::Keys;
use std::ops::Deref;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A valid configuration and what was made from it.
pub struct Compiled {
    /// The compiled configuration.
    pub config: Config,
    /// The local replies of this configuration.
    pub replies: Replies,
}

impl Compiled {
    /// Takes a configuration into use. Its rules and inline keys are shared with those of other configurations in use
    /// where they are equal: while Envoy drains an old listener, the configurations of each push exist side by side.
    pub fn new(mut config: Config) -> Arc<Self> {
        let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.retain(|compiled| compiled.strong_count() > 0);
        in_use.iter().filter_map(Weak::upgrade).for_each(|other| config.share_with(&other.config));
        let new = Arc::new(Self { replies: Replies::new(&config), config });
        in_use.push(Arc::downgrade(&new));
        new
    }
}

/// The configurations in use, of the VM or of the process.
static IN_USE: Mutex<Vec<Weak<Compiled>>> = Mutex::new(Vec::new());

/// What the requests of one configuration share.
pub struct Plugin<H: Host> {
    /// The configuration.
    pub compiled: Arc<Compiled>,
    /// The counters of requests.
    pub counters: Arc<Counters<H::Metric>>,
    /// The fetched keys. `None` means that the configuration names no admin service.
    pub source: Option<H::Source>,
    /// Whether an invalid route metadata was logged already: it is logged once, not at every request.
    pub complained: AtomicBool,
}

impl<H: Host> Deref for Plugin<H> {
    type Target = Compiled;

    fn deref(&self) -> &Compiled {
        &self.compiled
    }
}

impl<H: Host> Plugin<H> {
    /// Returns the keys that are usable now.
    pub fn keys<'a>(&'a self, source: Option<&'a impl Fetched>) -> Keys<'a> {
        Keys::choose(&self.config, source.map(Fetched::table), source.and_then(Fetched::last_table))
    }
}

/// The counters of requests.
pub struct Counters<M> {
    decisions: Vec<(Effect, Code, M)>,
    /// Counts [`metrics::ROUTE_METADATA_INVALID`].
    pub route_metadata_invalid: M,
    /// Counts [`metrics::HELD`].
    pub held: M,
}

impl<M: Copy> Counters<M> {
    /// Defines the counters.
    pub fn define(meter: impl Meter<Metric = M>) -> Self {
        let fitting = |effect: Effect| {
            Code::ALL.into_iter().filter(move |code| effect.fits(*code)).map(move |code| (effect, code))
        };
        let define = |(effect, code)| (effect, code, meter.counter(&metrics::decision_counter(effect, code)));
        Self {
            decisions: Effect::ALL.into_iter().flat_map(fitting).map(define).collect(),
            route_metadata_invalid: meter.counter(metrics::ROUTE_METADATA_INVALID),
            held: meter.counter(metrics::HELD),
        }
    }

    /// Counts a decision and what it does to the request.
    pub fn count(&self, host: impl Host<Metric = M>, effect: Effect, code: Code) {
        if let Some((_, _, metric)) = self.decisions.iter().find(|(have, which, _)| (*have, *which) == (effect, code)) {
            host.count(*metric, 1);
        }
    }
}

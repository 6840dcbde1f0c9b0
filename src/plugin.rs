//! A plugin configuration in use: what the requests of its root context share.

use crate::host::Metric;
use crate::metrics::{self, Effect};
use crate::reply::Replies;
use crate::source::{Fetched, Source};
use keyward_policy::config::Config;
use keyward_policy::decision::Code;
use keyward_policy::policy::Keys;
use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::{Rc, Weak};

/// A valid configuration and what was made from it.
pub struct Compiled {
    /// The compiled configuration.
    pub config: Config,
    /// The local replies of this configuration.
    pub replies: Replies,
}

impl Compiled {
    /// Takes a configuration into use. Its rules and inline keys are shared with those of other root contexts of the VM
    /// where they are equal: while Envoy drains an old listener, the root contexts of each push exist side by side.
    pub fn new(mut config: Config) -> Rc<Self> {
        IN_USE.with_borrow_mut(|in_use| {
            in_use.retain(|compiled| compiled.strong_count() > 0);
            in_use.iter().filter_map(Weak::upgrade).for_each(|other| config.share_with(&other.config));
            let new = Rc::new(Self { replies: Replies::new(&config), config });
            in_use.push(Rc::downgrade(&new));
            new
        })
    }
}

thread_local! {
    /// The configurations of the VM's root contexts.
    static IN_USE: RefCell<Vec<Weak<Compiled>>> = const { RefCell::new(Vec::new()) };
}

/// What the requests of one root context share.
pub struct Plugin {
    /// The configuration.
    pub compiled: Rc<Compiled>,
    /// The counters of the VM.
    pub counters: Rc<Counters>,
    /// The fetched keys. `None` means that the configuration names no admin service.
    pub source: Option<Source>,
    /// Whether an invalid route metadata was logged already: it is logged once, not at every request.
    pub complained: Cell<bool>,
}

impl Deref for Plugin {
    type Target = Compiled;

    fn deref(&self) -> &Compiled {
        &self.compiled
    }
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

//! The keys fetched from one admin service, shared by every root context of the VM that names it.
//!
//! Two owners of one table: [`Shared`] is the VM's, found by cluster and authority, so that a new plugin configuration
//! serves at once what the old one fetched. [`Source`] is one root context's hold on it, with its own token.

use crate::host;
use crate::meter::Proxy;
use keyward_edge::fetch::{self, Call, Names};
use keyward_edge::host as edge;
use keyward_edge::telemetry::Telemetry;
use keyward_edge::{node, token};
use keyward_policy::config::{AdminConfig, Config};
use keyward_policy::decision::Decision;
use keyward_policy::policy::Unavailable;
use keyward_policy::sync::{ManifestSync, RootId, Settings};
use keyward_policy::table::KeyTable;
use keyward_policy::timestamp::Timestamp;
use keyward_policy::usage::UsageLog;
use std::cell::{Cell, Ref, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

thread_local! {
    /// A VM runs on one thread. What no root context uses any more is gone.
    static SOURCES: RefCell<Vec<Weak<Shared>>> = RefCell::default();
    /// What the admin service knows this VM by.
    static VM: Box<str> = format!("vm_{:016x}", host::random_u64()).into();
}

/// What the VM holds of one admin service.
pub struct Shared {
    pub cluster: Box<str>,
    pub names: Names,
    pub sync: RefCell<ManifestSync>,
    pub usage: RefCell<UsageLog>,
    pub telemetry: Telemetry<Proxy>,
}

/// One root context's share of it.
pub struct Source {
    pub shared: Rc<Shared>,
    pub root: RootId,
    pub settings: Settings,
    /// Calls under way, by the proxy's number for them.
    pub calls: RefCell<Vec<(u32, Call)>>,
    /// How often this root context is called now.
    pub tick: Cell<Duration>,
}

impl Source {
    /// Takes part in fetching from this service. Depends on nothing outside of the VM, so that it cannot fail.
    pub fn attach(admin: &AdminConfig, config: &Config) -> Self {
        let shared = shared(admin);
        let settings = fetch::settings(admin, config, token(admin));
        let root = shared.sync.borrow_mut().attach(settings.clone(), now());
        Self { shared, root, settings, calls: RefCell::default(), tick: Cell::default() }
    }

    /// The root context is gone.
    pub fn detach(&self) {
        self.shared.sync.borrow_mut().detach(self.root, now());
    }
}

impl edge::Source for Source {
    type Fetched<'a> = Fetched<'a>;

    fn borrow(&self) -> Fetched<'_> {
        Fetched { sync: self.shared.sync.borrow(), root: self.root }
    }

    #[inline(never)]
    fn record_use(&self, decision: &Decision<'_>, at: Timestamp) {
        if let Some(key) = &decision.key {
            self.shared.usage.borrow_mut().record(&key.id, decision.required, at);
        }
    }

    fn record_denial(&self, decision: &Decision<'_>, at: Timestamp) {
        if let Some(key) = &decision.key {
            self.shared.usage.borrow_mut().record_denial(&key.id, decision.code, at);
        }
    }
}

/// The fetched keys while one request is decided.
pub struct Fetched<'a> {
    sync: Ref<'a, ManifestSync>,
    root: RootId,
}

impl edge::Fetched for Fetched<'_> {
    fn table(&self) -> Result<&KeyTable, Unavailable> {
        self.sync.keys(self.root, now())
    }

    fn last_table(&self) -> Option<&KeyTable> {
        self.sync.last_table()
    }
}

/// Returns the edge token, from the configuration or from the VM's environment.
fn token(admin: &AdminConfig) -> Option<Box<str>> {
    let mend = "set environment_variables in vm_config";
    token::of(admin, host::environment_variable, "the VM's environment", mend)
}

/// A clock that never goes back.
pub fn now() -> Duration {
    Duration::from_nanos(host::monotonic_ns())
}

fn shared(admin: &AdminConfig) -> Rc<Shared> {
    SOURCES.with_borrow_mut(|sources| {
        sources.retain(|source| source.strong_count() > 0);
        let same = |shared: &Rc<Shared>| shared.cluster == admin.cluster && shared.names.authority == admin.authority;
        if let Some(shared) = sources.iter().filter_map(Weak::upgrade).find(same) {
            return shared;
        }
        let vm = VM.with(Clone::clone);
        let node = host::property("xds\0node\0id").ok().flatten().unwrap_or_default();
        let shared = Rc::new(Shared {
            cluster: admin.cluster.clone(),
            sync: RefCell::new(ManifestSync::new(host::random_u64())),
            usage: RefCell::new(UsageLog::new(&vm)),
            telemetry: Telemetry::define(Proxy, &vm, sources.len()),
            names: Names {
                authority: admin.authority.clone(),
                node: node::name(&node),
                vm,
                table: format!("{:016x}{:016x}", host::random_u64(), host::random_u64()).into(),
            },
        });
        sources.push(Rc::downgrade(&shared));
        shared
    })
}

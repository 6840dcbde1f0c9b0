//! The keys fetched from one admin service, shared by every root context of the VM that names it.
//!
//! Two owners of one table: [`Shared`] is the VM's, found by cluster and authority, so that a new plugin configuration
//! serves at once what the old one fetched. [`Source`] is one root context's hold on it, with its own token.

use crate::host;
use crate::node;
use crate::telemetry::Telemetry;
use crate::token;
use keyward_policy::config::{AdminConfig, Config, Mode, Use};
use keyward_policy::decision::Decision;
use keyward_policy::policy::Unavailable;
use keyward_policy::sync::{ManifestSync, RequestId, RootId, Settings};
use keyward_policy::table::KeyTable;
use keyward_policy::timeline::{Enforcement, InlineKeys};
use keyward_policy::timestamp::Timestamp;
use keyward_policy::usage::UsageLog;
use std::cell::{Cell, Ref, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

/// A call under way.
#[derive(Debug, Clone, Copy)]
pub enum Call {
    /// For a page of the manifest.
    Manifest(RequestId),
    /// With a batch of usage.
    Usage,
}

thread_local! {
    /// A VM runs on one thread. What no root context uses any more is gone.
    static SOURCES: RefCell<Vec<Weak<Shared>>> = RefCell::default();
    /// What the admin service knows this VM by.
    static VM: Box<str> = format!("vm_{:016x}", host::random_u64()).into();
}

/// What the VM holds of one admin service.
pub struct Shared {
    pub cluster: Box<str>,
    pub authority: Box<str>,
    /// Names this table to the service. Nobody else knows it, so nobody else can acknowledge for it.
    pub table: Box<str>,
    /// The name of the proxy, as a header's value.
    pub node: Box<str>,
    pub sync: RefCell<ManifestSync>,
    pub usage: RefCell<UsageLog>,
    pub telemetry: Telemetry,
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
        let settings = Settings {
            realm: config.realm.clone(),
            token: token::of(admin),
            store: admin.store.clone(),
            max_staleness: admin.max_staleness,
            mode: match config.mode {
                Mode::Enforce => Enforcement::Enforce,
                Mode::Shadow => Enforcement::Shadow,
            },
            inline_keys: match config.manifest.as_ref().map(|manifest| manifest.when) {
                None => InlineKeys::None,
                Some(Use::Fallback) => InlineKeys::Fallback,
                Some(Use::Always) => InlineKeys::Always,
            },
        };
        let root = shared.sync.borrow_mut().attach(settings.clone(), now());
        Self { shared, root, settings, calls: RefCell::default(), tick: Cell::default() }
    }

    /// The root context is gone.
    pub fn detach(&self) {
        self.shared.sync.borrow_mut().detach(self.root, now());
    }

    /// The fetched keys, for one request.
    pub fn borrow(&self) -> Fetched<'_> {
        Fetched { sync: self.shared.sync.borrow(), root: self.root }
    }

    /// A key was let through.
    #[inline(never)]
    pub fn record_use(&self, decision: &Decision<'_>, at: Timestamp) {
        if let Some(key) = &decision.key {
            self.shared.usage.borrow_mut().record(&key.id, decision.required, at);
        }
    }

    /// A request was refused; it counts where its key is known.
    pub fn record_denial(&self, decision: &Decision<'_>, at: Timestamp) {
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

impl Fetched<'_> {
    /// The table in use.
    ///
    /// # Errors
    /// Why there is none that may be used.
    pub fn table(&self) -> Result<&KeyTable, Unavailable> {
        self.sync.keys(self.root, now())
    }

    /// The last complete table, however old it is.
    pub fn last_table(&self) -> Option<&KeyTable> {
        self.sync.last_table()
    }
}

/// A clock that never goes back.
pub fn now() -> Duration {
    Duration::from_nanos(host::monotonic_ns())
}

/// What the admin service knows this VM by.
pub fn vm() -> Box<str> {
    VM.with(Clone::clone)
}

fn shared(admin: &AdminConfig) -> Rc<Shared> {
    SOURCES.with_borrow_mut(|sources| {
        sources.retain(|source| source.strong_count() > 0);
        let same = |shared: &Rc<Shared>| shared.cluster == admin.cluster && shared.authority == admin.authority;
        if let Some(shared) = sources.iter().filter_map(Weak::upgrade).find(same) {
            return shared;
        }
        let vm = vm();
        let node = host::property("xds\0node\0id").ok().flatten().unwrap_or_default();
        let shared = Rc::new(Shared {
            cluster: admin.cluster.clone(),
            authority: admin.authority.clone(),
            table: format!("{:016x}{:016x}", host::random_u64(), host::random_u64()).into(),
            node: node::name(&node),
            sync: RefCell::new(ManifestSync::new(host::random_u64())),
            usage: RefCell::new(UsageLog::new(&vm)),
            telemetry: Telemetry::define(&vm, sources.len()),
        });
        sources.push(Rc::downgrade(&shared));
        shared
    })
}

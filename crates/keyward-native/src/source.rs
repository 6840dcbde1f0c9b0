//! The keys fetched from one admin service, shared by every configuration of the process that names it, and by all
//! workers.
//!
//! One state of synchronization serves the process ([`Keys`]). The main thread changes it, and workers read it.

use crate::guard;
use crate::hold;
use crate::host::{self, Configuration};
use crate::keys::{Keys, Reading};
use crate::node;
use crate::secret::Token;
use crate::ticks::Ticks;
use crate::usage::Usage;
use keyward_edge::fetch::{self, AnswerHead, Call, MAX_CALLS, Names, TICK_BUSY, USAGE_TIMEOUT};
use keyward_edge::host as edge;
use keyward_edge::telemetry::Telemetry;
use keyward_edge::token;
use keyward_policy::config::{AdminConfig, Config};
use keyward_policy::decision::Decision;
use keyward_policy::policy::Unavailable;
use keyward_policy::sync::{Event, Outcome, Request, RootId, Settings};
use keyward_policy::table::KeyTable;
use keyward_policy::timestamp::Timestamp;
use keyward_policy::usage::UsageLog;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

/// The process's admin services. A service that no configuration names any more is gone.
static SERVICES: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

/// What the process holds of one admin service.
struct Shared {
    cluster: Box<str>,
    names: Names,
    keys: Keys,
    usage: Usage,
    report: Mutex<UsageLog>,
}

/// One configuration's share of it.
pub struct Source {
    shared: Arc<Shared>,
    root: RootId,
    /// Whether there has been a token to fetch keys with, where it comes from a secret. Until then this configuration
    /// serves no keys, also not those that another one has fetched.
    has_token: AtomicBool,
    main: Mutex<Main>,
}

/// What only the main thread uses.
struct Main {
    configuration: Configuration,
    settings: Settings,
    /// The secret that holds the token of `settings`. `None` means that the token does not change.
    secret: Option<Token>,
    telemetry: Telemetry<Configuration>,
    /// Calls under way, by Envoy's number for them.
    calls: Vec<(u64, Call)>,
    ticks: Option<Ticks>,
}

impl Source {
    /// Takes part in fetching from this service.
    ///
    /// # Errors
    /// Why Envoy does not hand over the secret of `admin.token_secret`.
    pub fn attach(configuration: Configuration, admin: &AdminConfig, config: &Config) -> Result<Self, &'static str> {
        let secret = match &admin.token_secret {
            Some(wanted) => {
                let secret = configuration.secret(&wanted.name, &wanted.sds_config())?;
                Some(Token::new(&wanted.name, secret))
            }
            None => None,
        };
        let shared = shared(admin);
        let read = |name: &str| std::env::var_os(name).map(std::ffi::OsString::into_encoded_bytes);
        let settings = fetch::settings(
            admin,
            config,
            token::of(admin, read, "Envoy's environment", "set it where Envoy is started"),
        );
        let telemetry = Telemetry::define(configuration, &shared.names.vm, 0);
        // Envoy takes no new metrics after a configuration is made.
        telemetry.define_gauges();
        // Without a scheduler there are no ticks, and no keys: requests are denied.
        let starts = !host::only_validates(configuration.abi());
        let ticks = configuration.scheduler().filter(|_| starts).map(|scheduler| Ticks::start(scheduler, TICK_BUSY));
        let has_token = AtomicBool::new(secret.is_none());
        let root = shared.keys.change(|sync| sync.attach(settings.clone(), host::now()));
        let main = Mutex::new(Main { configuration, settings, secret, telemetry, calls: Vec::new(), ticks });
        Ok(Self { shared, root, has_token, main })
    }

    /// Ends the part of this configuration. Its ticks end before this returns.
    pub fn detach(&self) {
        let ticks = self.main().ticks.take();
        drop(ticks);
        self.shared.keys.change(|sync| sync.detach(self.root, host::now()));
    }

    fn main(&self) -> MutexGuard<'_, Main> {
        self.main.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a tick has begun: the next one may be asked for.
    pub fn tick_has_begun(&self) {
        if let Some(ticks) = &self.main().ticks {
            ticks.begun();
        }
    }

    /// Sends what is due. Called on the main thread.
    pub fn on_tick(&self) {
        let mut main = self.main();
        let Some(ticks) = &main.ticks else { return };
        ticks.begun();
        let now = host::now();
        let mut events = Vec::new();
        let busy = self.shared.keys.work();
        self.renew(&mut main, now);
        self.poll(&mut main, now, &mut events);
        self.report_usage(&mut main, now);
        self.finish(&main, busy, events, now);
    }

    /// Takes an answer, and sends what is due then. Called on the main thread.
    pub fn on_answer(&self, number: u64, head: &[u8], body: &[u8]) {
        let mut main = self.main();
        let Some(call) = main.call(number) else { return };
        let now = host::now();
        let head = AnswerHead::read(head);
        match call {
            Call::Usage => {
                self.report().on_outcome(head.status, now);
                main.end_call(number);
            }
            Call::Manifest(id) => {
                let mut events = Vec::new();
                let wall = Timestamp::from_unix_ns(host::wall_clock_ns());
                let outcome = head.outcome(body);
                guard::planted("answer");
                self.shared.keys.on_outcome(id, &outcome, now, wall, &mut events);
                main.end_call(number);
                self.poll(&mut main, now, &mut events);
                self.finish(&main, false, events, now);
            }
        }
    }

    /// Ends a call whose answer was not taken, because that panicked.
    pub fn lose_answer(&self, number: u64) {
        let mut main = self.main();
        let Some(call) = main.call(number) else { return };
        main.end_call(number);
        let now = host::now();
        match call {
            Call::Usage => self.report().on_outcome(None, now),
            Call::Manifest(id) => {
                let (mut events, wall) = (Vec::new(), Timestamp::from_unix_ns(host::wall_clock_ns()));
                self.shared.keys.on_outcome(id, &Outcome::NoAnswer, now, wall, &mut events);
                self.finish(&main, true, events, now);
            }
        }
    }

    fn finish(&self, main: &Main, busy: bool, events: Vec<Event>, now: Duration) {
        let Some(sync) = self.shared.keys.read() else { return };
        main.telemetry.take(events, &sync, now);
        if let Some(ticks) = &main.ticks {
            ticks.set_period(fetch::tick_period(busy, hold::any(), &sync, now));
        }
    }

    /// Takes the token that the secret holds now.
    fn renew(&self, main: &mut Main, now: Duration) {
        let Some(secret) = &mut main.secret else { return };
        let token = secret.read(now);
        if let Some(token) = token.as_ref().filter(|token| main.settings.token.as_ref() != Some(token)) {
            self.shared.keys.change(|sync| sync.renew(self.root, token.clone(), now));
            self.has_token.store(true, Ordering::Release);
        }
        main.settings.token = token;
    }

    fn poll(&self, main: &mut Main, now: Duration, events: &mut Vec<Event>) {
        if main.lacks_token() {
            return;
        }
        let Some(request) = self.shared.keys.change(|sync| sync.poll(self.root, now, events)) else { return };
        match self.call(main, Some(&request), None) {
            Some(number) => main.under_way(number, Call::Manifest(request.id)),
            None => {
                let wall = Timestamp::from_unix_ns(host::wall_clock_ns());
                self.shared.keys.on_outcome(request.id, &Outcome::NotSent, now, wall, events);
            }
        }
    }

    fn report(&self) -> MutexGuard<'_, UsageLog> {
        self.shared.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report_usage(&self, main: &mut Main, now: Duration) {
        if main.lacks_token() {
            return;
        }
        let mut report = self.report();
        self.shared.usage.collect(&mut report);
        main.telemetry.usage_dropped(report.take_dropped());
        match report.poll(now, USAGE_TIMEOUT).map(|body| self.call(main, None, Some(body.as_bytes()))) {
            Some(Some(number)) => main.under_way(number, Call::Usage),
            Some(None) => report.on_outcome(None, now),
            None => {}
        }
    }

    /// Returns Envoy's number for the call. `None` means that it does not begin.
    fn call(&self, main: &Main, poll: Option<&Request>, usage: Option<&[u8]>) -> Option<u64> {
        fetch::call(&self.shared.names, &main.settings, poll, usage, |headers, body, timeout| {
            main.configuration.http_call(&self.shared.cluster, &headers, body, timeout)
        })
    }
}

impl Main {
    /// Returns whether the secret holds no token now, so that the service would refuse every request.
    fn lacks_token(&self) -> bool {
        self.secret.is_some() && self.settings.token.is_none()
    }

    /// Returns the call with Envoy's number. It is under way until its answer was taken.
    fn call(&self, number: u64) -> Option<Call> {
        self.calls.iter().find(|(have, _)| *have == number).map(|(_, call)| *call)
    }

    fn end_call(&mut self, number: u64) {
        self.calls.retain(|(have, _)| *have != number);
    }

    fn under_way(&mut self, number: u64, call: Call) {
        if self.calls.len() == MAX_CALLS {
            self.calls.remove(0);
        }
        self.calls.push((number, call));
    }
}

impl edge::Source for Source {
    type Fetched<'a> = Fetched<'a>;

    fn borrow(&self) -> Fetched<'_> {
        let sync = if self.has_token.load(Ordering::Acquire) {
            self.shared.keys.read().ok_or(Unavailable::Stale)
        } else {
            Err(Unavailable::NotYetLoaded)
        };
        Fetched { sync, root: self.root }
    }

    fn record_use(&self, decision: &Decision<'_>, at: Timestamp) {
        if let (Some(key), Some(mut log)) = (&decision.key, self.shared.usage.own()) {
            log.record(&key.id, decision.required, at);
        }
    }

    fn record_denial(&self, decision: &Decision<'_>, at: Timestamp) {
        if let (Some(key), Some(mut log)) = (&decision.key, self.shared.usage.own()) {
            log.record_denial(&key.id, decision.code, at);
        }
    }
}

/// The fetched keys while one request is decided.
pub struct Fetched<'a> {
    /// [`Unavailable::Stale`] means that a change of the keys ended in a panic: what is there cannot be trusted.
    /// [`Unavailable::NotYetLoaded`] means that there has been no token to fetch keys with.
    sync: Result<Reading<'a>, Unavailable>,
    root: RootId,
}

impl edge::Fetched for Fetched<'_> {
    fn table(&self) -> Result<&KeyTable, Unavailable> {
        self.sync.as_ref().map_err(|why| *why)?.keys(self.root, host::now())
    }

    fn last_table(&self) -> Option<&KeyTable> {
        // Copies of fetched keys in a configuration must not answer where nobody knows which of them were revoked.
        static NOTHING: OnceLock<KeyTable> = OnceLock::new();
        match &self.sync {
            Ok(sync) => sync.last_table(),
            Err(Unavailable::Stale) => Some(NOTHING.get_or_init(KeyTable::new)),
            Err(Unavailable::NotYetLoaded) => None,
        }
    }
}

/// Returns the name by which the admin service knows this process.
fn instance() -> &'static str {
    static INSTANCE: OnceLock<String> = OnceLock::new();
    INSTANCE.get_or_init(|| format!("vm_{:016x}", node::random_u64()))
}

fn shared(admin: &AdminConfig) -> Arc<Shared> {
    let mut services = SERVICES.lock().unwrap_or_else(PoisonError::into_inner);
    services.retain(|service| service.strong_count() > 0);
    let same = |shared: &Arc<Shared>| shared.cluster == admin.cluster && shared.names.authority == admin.authority;
    if let Some(shared) = services.iter().filter_map(Weak::upgrade).find(same) {
        return shared;
    }
    // Several services of one process count as instances of their own, as they do in the gauges.
    let number = services.len();
    let vm: Box<str> = if number == 0 { instance().into() } else { format!("{}-{number}", instance()).into() };
    let shared = Arc::new(Shared {
        cluster: admin.cluster.clone(),
        keys: Keys::new(node::random_u64()),
        usage: Usage::new(),
        report: Mutex::new(UsageLog::new(&vm)),
        names: Names {
            authority: admin.authority.clone(),
            node: node::name(),
            vm,
            table: format!("{:016x}{:016x}", node::random_u64(), node::random_u64()).into(),
        },
    });
    services.push(Arc::downgrade(&shared));
    shared
}

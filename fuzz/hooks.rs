//! What must hold of the native edition's hooks in any order that Envoy may call them. The input is a row of steps of two
//! bytes: configurations come and go, the keys of two services change and their answers arrive, requests go through their
//! hooks, time passes, Envoy refuses what it may refuse, and hooks panic.

#[cfg(test)]
#[path = "cases.rs"]
mod cases;
#[path = "configurations.rs"]
mod configurations;
#[path = "service.rs"]
mod service;
#[path = "stand_in.rs"]
mod stand_in;
#[cfg(test)]
#[path = "threads.rs"]
mod threads;

use configurations::{Wanted, configuration, metadata};
use keyward_native::abi::{self, Buffer, ConfigPtr, FilterPtr, Header};
use keyward_native::failpoint;
use keyward_policy::digest::Digest;
use service::{KEYS, Service, State, secret};
use stand_in::{Config, PANICS, RECORDED, Request, SCHEDULERS, VALIDATES, WOKEN, lend, respond};
use std::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

unsafe extern "C" {
    fn envoy_dynamic_module_on_program_init() -> *const c_char;
    fn envoy_dynamic_module_on_http_filter_config_new(config: ConfigPtr, name: Buffer, bytes: Buffer) -> *const c_void;
    fn envoy_dynamic_module_on_http_filter_config_destroy(plugin: *const c_void);
    fn envoy_dynamic_module_on_http_filter_config_scheduled(config: ConfigPtr, plugin: *const c_void, event: u64);
    fn envoy_dynamic_module_on_http_filter_config_http_callout_done(
        config: ConfigPtr,
        plugin: *const c_void,
        call: u64,
        result: u32,
        headers: *const Header,
        header_count: usize,
        chunks: *const Buffer,
        chunk_count: usize,
    );
    fn envoy_dynamic_module_on_http_filter_new(plugin: *const c_void, filter: FilterPtr) -> *const c_void;
    fn envoy_dynamic_module_on_http_filter_request_headers(filter: FilterPtr, request: *const c_void, end: bool)
    -> u32;
    fn envoy_dynamic_module_on_http_filter_request_body(filter: FilterPtr, request: *const c_void, end: bool) -> u32;
    fn envoy_dynamic_module_on_http_filter_request_trailers(filter: FilterPtr, request: *const c_void) -> u32;
    fn envoy_dynamic_module_on_http_filter_scheduled(filter: FilterPtr, request: *const c_void, event: u64);
    fn envoy_dynamic_module_on_http_filter_destroy(request: *const c_void);
}

/// Where a panic is planted: in each hook that does something, and halfway through what they do.
const PLACES: &[&[&str]] = &[
    &["config_new"],
    &["config_destroy"],
    &["config_free"],
    &["config_scheduled"],
    &["config_http_callout_done"],
    &["answer"],
    &["collected"],
    &["applied"],
    &["new"],
    &["request_headers"],
    &["request_body"],
    &["request_trailers"],
    &["request_held"],
    &["scheduled"],
    &["waking"],
    &["destroy"],
    &["local_reply"],
    &["response_headers"],
    &["stream_complete"],
    // The second panic is in what is owed after the first.
    &["config_scheduled", "waking"],
    &["config_http_callout_done", "waking"],
    &["request_headers", "local_reply"],
    &["applied", "giving_up"],
    &["collected", "giving_up"],
];

/// The number of panics that were planted and have happened.
static HAPPENED: AtomicU64 = AtomicU64::new(0);

const SECOND: u64 = 1_000_000_000;

/// One configuration, whose address Envoy and the library hold.
struct Filter {
    host: Box<Config>,
    plugin: *const c_void,
    wanted: Wanted,
    requests: Vec<Asked>,
}

struct Asked {
    host: Box<Request>,
    module: *const c_void,
    wanted: Wanted,
    /// The number of the key that the request shows. `None` means that it shows none.
    key: Option<u8>,
    may_be_public: bool,
    began: bool,
    passed: bool,
    /// Whether a hook has panicked after the request had passed, so that it may have an answer too.
    lost: bool,
}

struct World {
    filters: Vec<Filter>,
    services: [Service; 2],
    ahead_ns: u64,
    /// What is wrong with the requests that come.
    mood: u8,
}

/// No request passes without a key that was ever good, or with one whose end a filter has acknowledged; none passes after it was
/// answered, none is left without an answer, and nothing that leaves the library holds a key.
pub fn hooks(data: &[u8]) {
    let _turn = load();
    let services = [Service::new(0), Service::new(1)];
    let mut world = World { filters: Vec::new(), services, ahead_ns: 0, mood: 0 };
    let mut panics = 0;
    for step in data.chunks_exact(2).take(200) {
        let planted = failpoint::to_come();
        world.step(step[0], step[1]);
        panics += planted.saturating_sub(failpoint::to_come()) as u64;
    }
    failpoint::plant(&[]);
    world.finish();
    let happened = HAPPENED.fetch_add(panics, Ordering::SeqCst) + panics;
    assert!(PANICS.load(Ordering::SeqCst) <= happened, "more panics are counted than were planted");
    check_what_is_left(panics);
}

/// Loads the library, once. Tests of one process take turns, because they share it.
pub fn load() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    static READY: Once = Once::new();
    READY.call_once(|| {
        keyward_native::install(stand_in::abi());
        assert!(!unsafe { envoy_dynamic_module_on_program_init() }.is_null());
        // The library's hook for panics is the one of the process, and says little of a check that fails.
        let of_library = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic.payload_as_str().is_some_and(|message| message.starts_with("kw_planted")) {
                eprintln!("{panic}");
            }
            of_library(panic);
        }));
    });
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    RECORDED.lock().unwrap().clear();
    failpoint::plant(&[]);
    failpoint::set_ahead_ns(0);
    turn
}

/// Notes that panics which were planted have happened, so that they may be counted.
#[cfg(test)]
pub fn note_panics(count: u64) {
    HAPPENED.fetch_add(count, Ordering::SeqCst);
}

/// Checks what has left the library, once all configurations are gone.
fn check_what_is_left(panics: u64) {
    assert_eq!(SCHEDULERS.load(Ordering::SeqCst), 0, "a scheduler is left");
    let recorded = String::from_utf8_lossy(&RECORDED.lock().unwrap()).into_owned();
    assert!(panics > 0 || !recorded.contains("keyward: a bug"), "a hook has panicked");
    for number in 0..=KEYS {
        let digest = Digest::of_key(secret(number).as_bytes()).to_hex();
        assert!(!recorded.contains(&secret(number)) && !recorded.contains(&digest[..]), "{recorded}");
    }
    assert!(!recorded.contains("kwt_") && !recorded.contains("kw_planted"), "{recorded}");
}

impl World {
    fn step(&mut self, what: u8, which: u8) {
        match what % 16 {
            0 if self.filters.len() < 4 => self.filters.extend(Filter::new(which)),
            1 if !self.filters.is_empty() => self.filters.remove(usize::from(which) % self.filters.len()).end(),
            2 => {
                let (key, state) = (1 + which % KEYS, State::of(which >> 4));
                self.services[usize::from(which >> 3 & 1)].change(key, state);
            }
            3 => self.pick(which, |filter, services, _| filter.tick(services)),
            4 | 5 => self.pick(which, |filter, services, rest| filter.answer_next(rest, services)),
            6 => {
                let mood = self.mood;
                self.pick(which, |filter, _, rest| filter.ask(rest, mood));
            }
            7 => self.pick(which, |filter, services, rest| filter.go_on(rest, services)),
            8 => self.pick(which, |filter, _, rest| {
                if !filter.requests.is_empty() {
                    let at = usize::from(rest) % filter.requests.len();
                    filter.requests.swap_remove(at).end();
                }
            }),
            10 => self.mood = which,
            11 => {
                self.ahead_ns +=
                    [1_000_000, SECOND / 10, SECOND, 6 * SECOND, 61 * SECOND, 4_000 * SECOND][usize::from(which % 6)];
                failpoint::set_ahead_ns(self.ahead_ns);
            }
            12 => failpoint::plant(PLACES[usize::from(which) % PLACES.len()]),
            13 => self.pick(which, |filter, _, rest| {
                if filter.host.secret.is_some() {
                    let value: &[u8] = [&b"kwt_edge"[..], b"", b" kwt_other\n", b"two words"][usize::from(rest % 4)];
                    filter.host.secret = Some(value.to_vec());
                }
            }),
            14 => self.pick(which, |filter, _, rest| filter.host.refuses_calls = rest & 1 != 0),
            15 => self.pick(which, |filter, services, rest| filter.disturb(rest, services)),
            _ => self.filters.iter_mut().for_each(|filter| filter.deliver(&self.services)),
        }
    }

    fn pick(&mut self, which: u8, act: impl FnOnce(&mut Filter, &mut [Service; 2], u8)) {
        let len = self.filters.len();
        if len > 0 {
            act(&mut self.filters[usize::from(which & 3) % len], &mut self.services, which >> 2);
        }
    }

    /// Every request is decided in the end: once there are keys, and once its time is over.
    fn finish(mut self) {
        for filter in &mut self.filters {
            filter.tick(&mut self.services);
            filter.deliver(&self.services);
            if !filter.holds_a_new_request(&self.services) {
                assert!(!filter.requests.iter().any(Asked::waits), "a request still waits, and a new one need not");
            }
        }
        failpoint::set_ahead_ns(self.ahead_ns + 61 * SECOND);
        for filter in &mut self.filters {
            filter.tick(&mut self.services);
            filter.deliver(&self.services);
            assert!(!filter.requests.iter().any(Asked::waits), "a request still waits, and its time is over");
        }
        self.filters.drain(..).for_each(Filter::end);
    }
}

fn since(path: &str) -> Option<u64> {
    path.split_once("since=").and_then(|(_, rest)| rest.split('&').next()?.parse().ok())
}

impl Filter {
    fn new(kind: u8) -> Option<Self> {
        let (text, wanted) = configuration(kind);
        let limits = kind / 10;
        let mut host = Box::new(Config {
            lacks_metrics: limits % 8 == 1,
            lacks_scheduler: limits % 8 == 2,
            refuses_calls: limits % 8 == 3,
            secret: (limits % 8 != 4).then(Vec::new),
            ..Config::default()
        });
        VALIDATES.store(limits % 8 == 5, Ordering::SeqCst);
        let planted = failpoint::to_come();
        let config: ConfigPtr = std::ptr::from_mut(&mut *host).cast();
        let (name, bytes) = (Buffer::lend(b"keyward"), Buffer::lend(text.as_bytes()));
        let plugin = unsafe { envoy_dynamic_module_on_http_filter_config_new(config, name, bytes) };
        let wanted = wanted.filter(|wanted| !wanted.lacks_token || host.secret.is_some());
        let has_panicked = failpoint::to_come() < planted;
        assert_eq!(plugin.is_null(), wanted.is_none() || has_panicked, "{text}");
        let wanted = wanted.filter(|_| !plugin.is_null())?;
        Some(Self { host, plugin, wanted, requests: Vec::new() })
    }

    /// Ends the configuration after its requests, as Envoy does.
    fn end(mut self) {
        self.requests.drain(..).for_each(Asked::end);
        unsafe { envoy_dynamic_module_on_http_filter_config_destroy(self.plugin) };
    }

    fn config(&mut self) -> ConfigPtr {
        std::ptr::from_mut(&mut *self.host).cast()
    }

    fn tick(&mut self, services: &mut [Service; 2]) {
        if self.host.secret.as_ref().is_some_and(|secret| !secret.trim_ascii().is_empty()) {
            self.wanted.lacks_token = false;
            self.requests.iter_mut().for_each(|asked| asked.wanted.lacks_token = false);
        }
        unsafe { envoy_dynamic_module_on_http_filter_config_scheduled(self.config(), self.plugin, 0) };
        self.note_polls(services);
    }

    /// A poll acknowledges the revision that it begins at.
    fn note_polls(&self, services: &mut [Service; 2]) {
        if let Some(service) = self.wanted.service {
            let newest = self.host.calls.iter().filter_map(|(_, path)| since(path)).max();
            services[service].acknowledged = services[service].acknowledged.max(newest.unwrap_or(0));
        }
    }

    /// Answers the oldest call.
    fn answer_next(&mut self, how: u8, services: &mut [Service; 2]) {
        let Some((number, path)) = self.host.calls.pop_front() else { return };
        let body = match (since(&path), self.wanted.service) {
            (Some(since), Some(service)) => services[service].page(since),
            _ => Vec::new(),
        };
        self.answer(number, how, &body);
        self.note_polls(services);
    }

    fn answer(&mut self, number: u64, how: u8, body: &[u8]) {
        let status: &[u8] = [&b"200"[..], b"200", b"200", b"503", b"410", b"401", b"20x", b""][usize::from(how % 8)];
        let mut headers = vec![(b":status".to_vec(), status.to_vec()), (b"date".to_vec(), b"never".to_vec())];
        headers.push((b"retry-after".to_vec(), b"1".to_vec()));
        let lent = lend(&headers);
        let half = if how & 8 == 0 { body.len() } else { body.len() / 2 };
        let (first, second) = body.split_at(half);
        // Half a page is damaged, unless the other half follows.
        let mut chunks = vec![Buffer::lend(first)];
        if how & 16 == 0 {
            chunks.push(Buffer::lend(second));
        }
        let (result, none) = (u32::from(how & 32 != 0), std::ptr::null());
        let headers = if result == 0 { lent.as_ptr() } else { none };
        unsafe {
            envoy_dynamic_module_on_http_filter_config_http_callout_done(
                self.config(),
                self.plugin,
                number,
                result,
                headers,
                lent.len(),
                chunks.as_ptr(),
                chunks.len(),
            );
        }
    }

    fn ask(&mut self, how: u8, mood: u8) {
        if self.requests.len() < 4 {
            self.requests.extend(Asked::begin(self.plugin, self.wanted, how, mood));
        }
    }

    /// Returns whether a request that comes now has to wait for the first keys.
    fn holds_a_new_request(&self, services: &[Service; 2]) -> bool {
        let Some(mut asked) = Asked::begin(self.plugin, self.wanted, 1, 0) else { return true };
        asked.go_on(0, services);
        let waits = asked.waits();
        asked.end();
        waits
    }

    fn go_on(&mut self, which: u8, services: &[Service; 2]) {
        let len = self.requests.len();
        if len > 0 {
            self.requests[usize::from(which) % len].go_on(which, services);
        }
    }

    /// Calls a hook of a request that need not be due.
    fn disturb(&mut self, which: u8, services: &[Service; 2]) {
        let len = self.requests.len();
        if len > 0 {
            self.requests[usize::from(which) % len].disturb(which >> 2, services);
        }
    }

    /// Delivers what was asked for by schedulers.
    fn deliver(&mut self, services: &[Service; 2]) {
        self.requests.iter_mut().for_each(|asked| asked.deliver(services));
    }
}

impl Asked {
    /// Begins a request. `how` says what it shows and asks for, and `mood` what is wrong with it.
    fn begin(plugin: *const c_void, wanted: Wanted, how: u8, mood: u8) -> Option<Self> {
        let key = (how % 8 <= KEYS).then_some(how % 8);
        let path: &[u8] = [&b"/a"[..], b"/public", b"/b", b"/ready"][usize::from(how >> 3 & 3)];
        let (metadata, is_public_route) = metadata(mood / 8);
        let mut host = Box::new(Request {
            metadata,
            lacks_scheduler: mood % 8 == 1,
            hides_headers: mood % 8 == 2,
            ..Request::default()
        });
        for (name, value) in
            [(&b":method"[..], &b"GET"[..]), (b":path", path), (b":authority", b"a"), (b"x-api-key-id", b"x")]
        {
            host.headers.push((name.to_vec(), value.to_vec()));
        }
        if mood % 8 == 3 {
            host.headers.push((b"content-type".to_vec(), b"application/grpc".to_vec()));
        }
        host.headers.extend(key.map(|number| (b"x-api-key".to_vec(), secret(number).into_bytes())));
        host.trailers = vec![(b"x-api-key".to_vec(), secret(1).into_bytes()), (b"t".to_vec(), b"1".to_vec())];
        let filter: FilterPtr = std::ptr::from_mut(&mut *host).cast();
        let planted = failpoint::to_come();
        let module = unsafe { envoy_dynamic_module_on_http_filter_new(plugin, filter) };
        // Envoy answers itself then.
        assert_eq!(module.is_null(), failpoint::to_come() < planted);
        if module.is_null() {
            return None;
        }
        host.module = Some(module);
        let may_be_public = path == b"/public" || (wanted.route_metadata && is_public_route);
        Some(Self { host, module, wanted, key, may_be_public, began: false, passed: false, lost: false })
    }

    fn filter(&mut self) -> FilterPtr {
        std::ptr::from_mut(&mut *self.host).cast()
    }

    /// Delivers what its schedulers were asked for.
    fn deliver(&mut self, services: &[Service; 2]) {
        let filter = self.filter();
        let woken = WOKEN.lock().unwrap().extract_if(.., |woken| *woken == filter.addr()).count();
        for _ in 0..woken {
            self.call(services, |filter, module| {
                unsafe { envoy_dynamic_module_on_http_filter_scheduled(filter, module, 0) };
            });
        }
    }

    fn has_passed(&self) -> bool {
        self.passed || self.host.continued > 0
    }

    fn waits(&self) -> bool {
        self.began && !self.has_passed() && self.host.answers == 0
    }

    /// Calls a hook, and checks what has become of the request.
    fn call<R>(&mut self, services: &[Service; 2], hook: impl FnOnce(FilterPtr, *const c_void) -> R) -> R {
        let (planted, had_passed, answers) = (failpoint::to_come(), self.has_passed(), self.host.answers);
        let result = hook(self.filter(), self.module);
        if failpoint::to_come() < planted {
            self.lost |= had_passed;
            // Envoy sends no second answer.
            self.host.answers = self.host.answers.min(answers.max(1));
        }
        if !had_passed && self.has_passed() {
            self.check_passing(services);
        }
        self.check();
        result
    }

    /// Calls the next hook of the request that Envoy would call.
    fn go_on(&mut self, which: u8, services: &[Service; 2]) {
        if !self.began {
            self.began = true;
            let flow = self.call(services, |filter, module| unsafe {
                envoy_dynamic_module_on_http_filter_request_headers(filter, module, which & 4 != 0)
            });
            self.passed = flow == abi::CONTINUE;
            assert!(self.passed || flow == abi::STOP_ALL);
            if self.passed {
                self.check_passing(services);
            }
            self.check();
        } else if self.host.answers == 0 && self.has_passed() {
            match which & 12 {
                0 | 8 => self.body(services),
                4 => self.trailers(services),
                _ => unsafe { respond(self.filter(), self.module) },
            }
        }
    }

    fn body(&mut self, services: &[Service; 2]) {
        let flow = self.call(services, |filter, module| unsafe {
            envoy_dynamic_module_on_http_filter_request_body(filter, module, false)
        });
        assert_eq!(flow == abi::CONTINUE, self.has_passed() && !self.lost);
    }

    fn trailers(&mut self, services: &[Service; 2]) {
        let flow = self.call(services, |filter, module| unsafe {
            envoy_dynamic_module_on_http_filter_request_trailers(filter, module)
        });
        assert_eq!(flow == abi::CONTINUE, self.has_passed() && !self.lost);
        let is_clean = self.host.trailers.iter().all(|(name, _)| name == b"t");
        assert!(flow != abi::CONTINUE || self.wanted.shadow || !self.wanted.hides_key || is_clean, "a key is left");
    }

    /// Calls a hook that Envoy does not call at this time. A request that has a state of its own stays as it was decided; the
    /// others have none, because Envoy does not call them then.
    fn disturb(&mut self, which: u8, services: &[Service; 2]) {
        let has_state = self.module.addr() & 1 != 0;
        if !self.began || !has_state || self.lost {
            return;
        }
        match which % 4 {
            0 => self.call(services, |filter, module| {
                unsafe { envoy_dynamic_module_on_http_filter_scheduled(filter, module, 0) };
            }),
            1 => self.body(services),
            2 => self.trailers(services),
            _ if !self.has_passed() && self.host.answers > 0 => {
                self.host.answers = 0;
                let flow = self.call(services, |filter, module| unsafe {
                    envoy_dynamic_module_on_http_filter_request_headers(filter, module, true)
                });
                assert_ne!(flow, abi::CONTINUE, "it was denied");
                self.host.answers = 1;
            }
            _ => {}
        }
    }

    /// Checks a request at the moment at which it goes on.
    fn check_passing(&self, services: &[Service; 2]) {
        let (host, wanted) = (&self.host, &self.wanted);
        if wanted.shadow {
            return;
        }
        let decision = host.states.get(&b"wasm.keyward.decision"[..]).expect("a decision");
        let by_key = decision == b"allowed"
            && self.key.is_some_and(|key| match (key, wanted.service) {
                (0, _) => wanted.has_inline_keys,
                (_, Some(service)) => !wanted.lacks_token && services[service].may_allow(key),
                (_, None) => false,
            });
        let by_route = decision == b"public" && self.may_be_public;
        assert!(by_key || by_route, "{} {:?}", String::from_utf8_lossy(decision), self.key);
        let has = |name: &[u8]| host.headers.iter().find(|(have, _)| have == name);
        assert!(by_route || !wanted.hides_key || has(b"x-api-key").is_none(), "a key goes on");
        assert!(has(b"x-api-key-id").is_none_or(|(_, value)| value != b"x"), "an identity that the client has chosen");
    }

    fn check(&self) {
        let host = &self.host;
        assert!(self.lost || host.answers <= 1);
        assert!(host.continued <= 1);
        assert!(self.lost || !(self.has_passed() && host.answers > 0), "it was answered and went on");
    }

    fn end(mut self) {
        let filter = self.filter();
        self.check();
        unsafe { envoy_dynamic_module_on_http_filter_destroy(self.module) };
        WOKEN.lock().unwrap().retain(|woken| *woken != filter.addr());
    }
}

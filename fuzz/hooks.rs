//! What must hold of the native edition's hooks in any order that Envoy may call them. The input is a row of steps of two
//! bytes: configurations come and go, the service's keys change and its answers arrive, and requests go through their hooks.

#[path = "stand_in.rs"]
mod stand_in;

use keyward_native::abi::{self, Buffer, ConfigPtr, FilterPtr, Header};
use keyward_policy::checksum::{Checksum, contribution};
use keyward_policy::digest::Digest;
use keyward_policy::manifest::{Change, FORMAT, Live, LiveKey, Page};
use stand_in::{Config, RECORDED, Request, SCHEDULERS, WOKEN, lend};
use std::collections::BTreeMap;
use std::ffi::{c_char, c_void};
use std::sync::Once;
use std::sync::atomic::Ordering;

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

const RULES: &str = r#""rules":[{"path":"/public","access":"public"},{"path":"/a","access":"authenticated"}]"#;
const KEYS: u8 = 4;

fn secret(number: u8) -> String {
    format!("kw_fuzzed_{number}_key")
}

fn configuration(kind: u8) -> String {
    let inline = Digest::of_key(secret(0).as_bytes()).to_hex();
    let manifest =
        format!(r#""manifest":{{"use":"always","keys":[{{"id":"own","sha256":"{inline}","permissions":[]}}]}}"#);
    let admin = r#""admin":{"cluster":"c","token":"kwt_edge","max_staleness":"1h"},"startup_wait":"30s""#;
    match kind % 4 {
        0 => format!("{{{admin},{RULES}}}"),
        1 => format!("{{{admin},{manifest},{RULES}}}"),
        2 => format!("{{{manifest},{RULES}}}"),
        _ => format!("{{{RULES}"),
    }
}

/// One configuration, whose address Envoy and the library hold.
struct Filter {
    host: Box<Config>,
    plugin: *const c_void,
    requests: Vec<Asked>,
}

struct Asked {
    host: Box<Request>,
    module: *const c_void,
    /// The number of the key that the request shows. `None` means that it shows none.
    key: Option<u8>,
    is_public: bool,
    began: bool,
    passed: bool,
}

#[derive(Default)]
struct World {
    filters: Vec<Filter>,
    revision: u64,
    /// The newest change of each key, by its revision.
    changes: BTreeMap<u64, (u8, bool)>,
}

/// No request passes without a key that was ever good, none passes after it was answered, none is left without an answer, and
/// nothing that leaves the library holds a key.
pub fn hooks(data: &[u8]) {
    static READY: Once = Once::new();
    READY.call_once(|| {
        keyward_native::install(stand_in::abi());
        assert!(!unsafe { envoy_dynamic_module_on_program_init() }.is_null());
    });
    RECORDED.lock().unwrap().clear();
    let mut world = World::default();
    for step in data.chunks_exact(2).take(200) {
        world.step(step[0], step[1]);
    }
    while let Some(filter) = world.filters.pop() {
        filter.end();
    }
    assert_eq!(SCHEDULERS.load(Ordering::SeqCst), 0, "a scheduler is left");
    let recorded = String::from_utf8_lossy(&RECORDED.lock().unwrap()).into_owned();
    assert!(!recorded.contains("keyward: a bug"), "a hook has panicked");
    for number in 0..=KEYS {
        let digest = Digest::of_key(secret(number).as_bytes()).to_hex();
        assert!(!recorded.contains(&secret(number)) && !recorded.contains(&digest[..]), "{recorded}");
    }
    assert!(!recorded.contains("kwt_edge"), "{recorded}");
}

impl World {
    fn step(&mut self, what: u8, which: u8) {
        match what % 10 {
            0 if self.filters.len() < 4 => self.filters.extend(Filter::new(which)),
            1 if !self.filters.is_empty() => self.filters.remove(usize::from(which) % self.filters.len()).end(),
            2 => {
                let (id, is_live) = (1 + which % KEYS, which & 16 == 0);
                self.changes.retain(|_, (have, _)| *have != id);
                self.revision += 1;
                self.changes.insert(self.revision, (id, is_live));
            }
            3 => self.pick(which, |filter, _| filter.tick()),
            4 | 5 => {
                let page = |since| self.page(since);
                let at = usize::from(which & 3);
                let len = self.filters.len();
                let Some((number, path)) =
                    (len > 0).then(|| self.filters[at % len].host.calls.front().cloned()).flatten()
                else {
                    return;
                };
                let since = path.split_once("since=").and_then(|(_, rest)| rest.split('&').next()?.parse().ok());
                let body = since.map_or(Vec::new(), page);
                self.filters[at % len].answer(number, which >> 2, &body);
            }
            6 => self.pick(which, |filter, rest| filter.ask(rest)),
            7 => self.pick(which, |filter, rest| filter.go_on(rest)),
            8 => self.pick(which, |filter, rest| {
                if !filter.requests.is_empty() {
                    let at = usize::from(rest) % filter.requests.len();
                    filter.requests.swap_remove(at).end();
                }
            }),
            _ => self.filters.iter_mut().for_each(Filter::deliver),
        }
    }

    fn pick(&mut self, which: u8, act: impl FnOnce(&mut Filter, u8)) {
        let len = self.filters.len();
        if len > 0 {
            act(&mut self.filters[usize::from(which & 3) % len], which >> 2);
        }
    }

    fn page(&self, since: u64) -> Vec<u8> {
        let live = |revision: u64, id: u8| LiveKey {
            revision,
            id: format!("key-{id}").into(),
            name: "name".into(),
            sha256: Digest::of_key(secret(id).as_bytes()).to_hex().into(),
            permissions: vec!["a:read".into()],
            expires_at: None,
            disabled: false,
            must: Vec::new(),
        };
        let mut sum = Checksum::default();
        let held: Vec<_> = self.changes.iter().filter(|(_, (_, is_live))| *is_live).collect();
        held.iter().for_each(|(revision, (id, _))| sum.add(contribution(&live(**revision, *id))));
        let change = |(revision, (id, is_live)): (&u64, &(u8, bool))| match is_live {
            true => Change::Live(live(*revision, *id)),
            false => Change::Deleted { revision: *revision, id: format!("key-{id}").into() },
        };
        let page = Page {
            format: FORMAT,
            store: "st_1".into(),
            since,
            revision: self.revision,
            mark: None,
            head: self.revision,
            more: false,
            keys: self.changes.range(since.saturating_add(1)..).map(change).collect(),
            live: Live { count: held.len() as u64, checksum: Some(sum.to_string().into()) },
        };
        serde_json::to_vec(&page).unwrap()
    }
}

impl Filter {
    fn new(kind: u8) -> Option<Self> {
        let (mut host, text) = (Box::<Config>::default(), configuration(kind));
        let config: ConfigPtr = std::ptr::from_mut(&mut *host).cast();
        let (name, bytes) = (Buffer::lend(b"keyward"), Buffer::lend(text.as_bytes()));
        let plugin = unsafe { envoy_dynamic_module_on_http_filter_config_new(config, name, bytes) };
        assert_eq!(plugin.is_null(), kind % 4 == 3, "{text}");
        (!plugin.is_null()).then_some(Self { host, plugin, requests: Vec::new() })
    }

    /// Ends the configuration after its requests, as Envoy does.
    fn end(mut self) {
        self.requests.drain(..).for_each(Asked::end);
        unsafe { envoy_dynamic_module_on_http_filter_config_destroy(self.plugin) };
    }

    fn config(&mut self) -> ConfigPtr {
        std::ptr::from_mut(&mut *self.host).cast()
    }

    fn tick(&mut self) {
        unsafe { envoy_dynamic_module_on_http_filter_config_scheduled(self.config(), self.plugin, 0) };
    }

    fn answer(&mut self, number: u64, how: u8, body: &[u8]) {
        self.host.calls.retain(|(have, _)| *have != number);
        let status: &[u8] = [&b"200"[..], b"200", b"200", b"503", b"410", b"401", b"20x", b""][usize::from(how % 8)];
        let headers = vec![(b":status".to_vec(), status.to_vec()), (b"date".to_vec(), b"never".to_vec())];
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

    fn ask(&mut self, how: u8) {
        if self.requests.len() == 4 {
            return;
        }
        let (key, is_public) = ((how % 8 <= KEYS).then_some(how % 8), how & 8 != 0);
        let mut host = Box::<Request>::default();
        let path: &[u8] = if is_public { b"/public" } else { b"/a" };
        for (name, value) in
            [(&b":method"[..], &b"GET"[..]), (b":path", path), (b":authority", b"a"), (b"x-api-key-id", b"x")]
        {
            host.headers.push((name.to_vec(), value.to_vec()));
        }
        host.headers.extend(key.map(|number| (b"x-api-key".to_vec(), secret(number).into_bytes())));
        host.trailers = vec![(b"x-api-key".to_vec(), secret(1).into_bytes()), (b"t".to_vec(), b"1".to_vec())];
        let filter: FilterPtr = std::ptr::from_mut(&mut *host).cast();
        let module = unsafe { envoy_dynamic_module_on_http_filter_new(self.plugin, filter) };
        assert!(!module.is_null());
        self.requests.push(Asked { host, module, key, is_public, began: false, passed: false });
    }

    fn go_on(&mut self, which: u8) {
        let len = self.requests.len();
        if len > 0 {
            self.requests[usize::from(which) % len].go_on(which);
        }
    }

    /// Delivers what was asked for by schedulers.
    fn deliver(&mut self) {
        for asked in &mut self.requests {
            let filter = asked.filter();
            let woken = WOKEN.lock().unwrap().extract_if(.., |woken| *woken == filter.addr()).count();
            for _ in 0..woken {
                unsafe { envoy_dynamic_module_on_http_filter_scheduled(filter, asked.module, 0) };
            }
            asked.check();
        }
    }
}

impl Asked {
    fn filter(&mut self) -> FilterPtr {
        std::ptr::from_mut(&mut *self.host).cast()
    }

    /// Calls the next hook of the request that Envoy would call.
    fn go_on(&mut self, which: u8) {
        let (filter, module) = (self.filter(), self.module);
        if !self.began {
            self.began = true;
            let flow = unsafe { envoy_dynamic_module_on_http_filter_request_headers(filter, module, which & 4 != 0) };
            self.passed = flow == abi::CONTINUE;
            assert!(self.passed || flow == abi::STOP_ALL);
            assert!(!self.passed || self.host.answers == 0);
        } else if self.host.answers == 0 && (self.passed || self.host.continued > 0) {
            let flow = match which & 4 {
                0 => unsafe { envoy_dynamic_module_on_http_filter_request_body(filter, module, false) },
                _ => {
                    let flow = unsafe { envoy_dynamic_module_on_http_filter_request_trailers(filter, module) };
                    assert!(self.host.trailers.iter().all(|(name, _)| name == b"t"), "a key is left in the trailers");
                    flow
                }
            };
            assert_eq!(flow, abi::CONTINUE);
        }
        self.check();
    }

    fn check(&self) {
        let host = &self.host;
        assert!(host.answers <= 1 && host.continued <= 1);
        let passed = self.passed || host.continued > 0;
        assert!(!(passed && host.answers > 0), "it was answered and went on");
        if passed {
            let decision = host.states.get(&b"wasm.keyward.decision"[..]).expect("a decision");
            let by_key = decision == b"allowed" && self.key.is_some();
            assert!(by_key || (self.is_public && decision == b"public"), "{}", String::from_utf8_lossy(decision));
            assert!(!host.headers.iter().any(|(name, _)| name == b"x-api-key") || self.is_public, "a key goes on");
        }
    }

    fn end(mut self) {
        let filter = self.filter();
        self.check();
        unsafe { envoy_dynamic_module_on_http_filter_destroy(self.module) };
        WOKEN.lock().unwrap().retain(|woken| *woken != filter.addr());
    }
}

//! A stand-in for the admin service that keeps the manifest's contract until it is told to break it.
//!
//! The faults are the reason for it: no real service can be made to answer like this. It writes down all it is asked.

use keyward_policy::checksum::{Checksum, contribution};
use keyward_policy::digest::Digest;
use keyward_policy::manifest::{Change, FORMAT, Live, LiveKey, Page};
use keyward_testbed::upstream::{Answer, Received, Upstream};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a page may hold, so that a handful of keys takes several.
const PAGE: usize = 3;

/// How the service fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status, and no page.
    Status(u16),
    /// Says that more comes than does.
    HalfAResponse,
    /// The same, and the rest is still to come.
    Stalls,
    /// Says nothing, and stays.
    Hangs,
    /// Hangs up without a word.
    HangsUp,
    /// A byte now and then.
    Drips,
    /// Text that is no JSON.
    NotJson,
    /// A number where text belongs.
    WrongType,
    /// A format of the future.
    Format,
    /// Another starting point than the one asked for.
    OtherSince,
    /// The page before the one asked for, once more.
    Repeats,
    /// A revision before the one asked for.
    GoesBack,
    /// A checksum that is none of these keys.
    Checksum,
    /// 40 MB.
    Huge,
    /// Just too much for a page.
    TooLarge,
    /// Another store, without keys.
    EmptyStore,
    /// Another store, with one key in ten.
    SmallStore,
    /// Another store with the same keys: a copy of the first one.
    OtherStore,
    /// Page after page of 4 MB, and always one more.
    Endless,
}

#[derive(Debug)]
struct State {
    store: String,
    revision: u64,
    live: BTreeMap<String, LiveKey<'static>>,
    tombstones: BTreeMap<u64, String>,
    fault: Option<Fault>,
    /// The newest tombstone that was thrown away.
    compacted: u64,
    /// So many loads are to find their tombstones thrown away in their middle.
    compactions: usize,
    /// What endless pages came to.
    bytes: usize,
}

/// The running stand-in.
pub struct AdminStandIn {
    shared: Arc<(Mutex<State>, Condvar)>,
    server: Upstream,
}

impl AdminStandIn {
    pub fn start() -> Self {
        let state = State {
            store: "st_1".to_owned(),
            revision: 0,
            live: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            fault: None,
            compacted: 0,
            compactions: 0,
            bytes: 0,
        };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let answering = shared.clone();
        Self { server: Upstream::answering(move |request| answer(&answering, request)), shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What was asked since the last call; a request that is being held is not among it.
    pub fn take(&self) -> Vec<Received> {
        self.server.take()
    }

    /// Puts a key in, with permission `a:read`.
    pub fn put(&self, id: &str, key: &str) {
        self.change(|state| {
            state.revision += 1;
            let key = LiveKey {
                revision: state.revision,
                id: id.to_owned().into(),
                name: format!("Key {id}").into(),
                sha256: Digest::of_key(key.as_bytes()).to_hex().into(),
                permissions: vec!["a:read".into()],
                expires_at: None,
                disabled: false,
                must: Vec::new(),
            };
            state.live.insert(id.to_owned(), key);
        });
    }

    pub fn delete(&self, id: &str) {
        self.change(|state| {
            state.revision += 1;
            state.live.remove(id);
            state.tombstones.insert(state.revision, id.to_owned());
        });
    }

    /// Puts a key in that expires.
    pub fn put_until(&self, id: &str, key: &str, expires_at: &str) {
        self.put(id, key);
        self.change(|state| {
            if let Some(key) = state.live.get_mut(id) {
                key.expires_at = Some(expires_at.to_owned().into());
            }
        });
    }

    /// Throws all tombstones away, and does so again in the middle of the next `loads` loads.
    pub fn compact(&self, loads: usize) {
        self.change(|state| {
            state.compactions = loads;
            compact(state);
        });
    }

    /// How many loads are still to be disturbed.
    pub fn compactions_left(&self) -> usize {
        lock(&self.shared.0).compactions
    }

    /// The bytes of all endless pages so far.
    pub fn endless_bytes(&self) -> usize {
        lock(&self.shared.0).bytes
    }

    /// Fails from now on, or no more. Whoever is being held is let go.
    pub fn fail(&self, fault: Option<Fault>) {
        self.change(|state| state.fault = fault);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.shared.0));
        self.shared.1.notify_all();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A key is deleted, and nobody will be told of it.
fn compact(state: &mut State) {
    state.revision += 1;
    state.tombstones.clear();
    state.compacted = state.revision;
}

fn answer((state, changed): &(Mutex<State>, Condvar), request: &Received) -> Answer {
    let target = request.target();
    let Some((_, query)) = target.split_once("/v1/manifest?") else { return http(204, "").into() };
    let query: BTreeMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let number = |name: &str| query[name].parse::<u64>().unwrap();
    let (since, base) = (number("since"), number("base"));
    let deadline = Instant::now() + keyward_policy::duration::parse(query["wait"]).unwrap();
    let mut state = lock(state);
    while since == state.revision && state.fault.is_none() && Instant::now() < deadline {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        state = changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    match state.fault {
        Some(Fault::Hangs) => {
            while state.fault == Some(Fault::Hangs) {
                state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            return Answer::None;
        }
        Some(Fault::HangsUp) => return Answer::None,
        Some(Fault::Endless) => {
            let page = endless(&state.store, since);
            state.bytes += page.len();
            return http(200, &page).into();
        }
        _ => {}
    }
    if since > 0 && since < state.revision && since != base && state.compactions > 0 {
        state.compactions -= 1;
        compact(&mut state);
    }
    if since > state.revision {
        return http(410, r#"{"code":"revision_ahead"}"#).into();
    }
    if since > 0 && state.compacted > base {
        return http(410, r#"{"code":"revision_compacted"}"#).into();
    }
    let page = page(&state, since, base);
    match state.fault {
        None => http(200, &page.to_string()).into(),
        Some(Fault::Repeats) => http(200, &self::page(&state, since.saturating_sub(1), base).to_string()).into(),
        Some(fault) => broken(fault, page, since),
    }
}

fn page(state: &State, since: u64, base: u64) -> serde_json::Value {
    let live = state.live.values().filter(|key| key.revision > since).map(|key| Change::Live(key.clone()));
    let dead = state.tombstones.range(since.max(base) + 1..).filter(|_| since > 0);
    let dead = dead.map(|(revision, id)| Change::Deleted { revision: *revision, id: id.clone().into() });
    let mut keys: Vec<Change<'_>> = live.chain(dead).collect();
    keys.sort_by_key(Change::revision);
    let more = keys.len() > PAGE;
    keys.truncate(PAGE);
    let mut sum = Checksum::default();
    state.live.values().for_each(|key| sum.add(contribution(key)));
    serde_json::to_value(Page {
        format: FORMAT,
        store: state.store.clone().into(),
        since,
        revision: keys.last().filter(|_| more).map_or(state.revision, Change::revision),
        head: state.revision,
        more,
        keys,
        live: Live { count: state.live.len() as u64, checksum: (!more).then(|| sum.to_string().into()) },
    })
    .unwrap()
}

/// 250 keys with names of 15,000 bytes.
fn endless(store: &str, since: u64) -> String {
    let name = "n".repeat(15_000);
    let key = |revision: u64| {
        let sha256 = Digest::of_key(&revision.to_le_bytes()).to_hex();
        format!(
            r#"{{"revision":{revision},"id":"endless-{revision}","name":"{name}","sha256":"{sha256}","permissions":[]}}"#
        )
    };
    let (first, last) = (since + 1, since + 250);
    let keys: Vec<String> = (first..=last).map(key).collect();
    let (head, keys) = (last + 1_000_000, keys.join(","));
    format!(
        r#"{{"format":1,"store":"{store}","since":{since},"revision":{last},"head":{head},"more":true,"keys":[{keys}],"live":{{"count":{head}}}}}"#
    )
}

fn broken(fault: Fault, mut page: serde_json::Value, since: u64) -> Answer {
    match fault {
        Fault::Status(status) => return http(status, "{}").into(),
        Fault::HalfAResponse | Fault::Stalls => {
            let whole = String::from_utf8(http(200, &page.to_string())).unwrap();
            let part = whole[..whole.len() - 20].to_owned();
            let closes = if fault == Fault::Stalls { "" } else { "connection: close\r\n" };
            return part.replacen("content-type", &format!("{closes}content-type"), 1).into_bytes().into();
        }
        Fault::Drips => {
            let whole = http(200, &format!("{page}{}", " ".repeat(10_000)));
            let body = whole.len() - 10_000;
            return Answer::Drip(whole, body - 30);
        }
        Fault::NotJson => return http(200, "<html>Welcome</html>").into(),
        Fault::WrongType => page["keys"] = "none".into(),
        Fault::Format => page["format"] = 2.into(),
        Fault::OtherSince => page["since"] = (since + 1).into(),
        Fault::GoesBack => page["revision"] = since.saturating_sub(1).into(),
        Fault::Checksum => page["live"]["checksum"] = "0123456789abcdef".into(),
        Fault::Huge => return http(200, &"x".repeat(40 << 20)).into(),
        Fault::TooLarge => return http(200, &" ".repeat((4 << 20) + 1)).into(),
        Fault::EmptyStore => {
            page["store"] = "st_2".into();
            page["keys"] = serde_json::json!([]);
            page["live"] = serde_json::json!({"count": 0, "checksum": "0000000000000000"});
        }
        Fault::SmallStore => {
            page["store"] = "st_3".into();
            page["live"]["count"] = 1.into();
        }
        Fault::OtherStore => page["store"] = "st_4".into(),
        Fault::Hangs | Fault::HangsUp | Fault::Repeats | Fault::Endless => unreachable!("answered already"),
    }
    http(200, &page.to_string()).into()
}

fn http(status: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into()
}

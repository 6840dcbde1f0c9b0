//! A stand-in for the admin service that keeps the manifest's contract until it is told to break it.
//!
//! Tests use it for faults that no real service can be made to show. Measurements use it for keys whose plaintexts are
//! chosen, which the real service does not take. It writes down every request that it gets.

use crate::upstream::{Answer, Received, Upstream};
use keyward_policy::checksum::{Checksum, contribution};
use keyward_policy::digest::Digest;
use keyward_policy::manifest::{Change, FORMAT, Live, LiveKey, Page};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most changes in a page that the stand-in of a test serves, so that a handful of keys takes several pages.
const SMALL_PAGE: usize = 3;

/// How the service fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answers with this status and without a page.
    Status(u16),
    /// Announces more bytes than it sends, and closes the connection.
    HalfAResponse,
    /// Announces more bytes than it sends, and leaves the connection open.
    Stalls,
    /// Never answers, and leaves the connection open.
    Hangs,
    /// Closes the connection without an answer.
    HangsUp,
    /// Sends ten bytes a second.
    Drips,
    /// Sends text that is no JSON.
    NotJson,
    /// Sends text where a list belongs.
    WrongType,
    /// Sends a format of the future.
    Format,
    /// Answers from another revision than the one asked for.
    OtherSince,
    /// Sends the page before the one asked for once more.
    Repeats,
    /// Sends a revision before the one asked for.
    GoesBack,
    /// Sends the checksum of other keys.
    Checksum,
    /// Sends 40 MB.
    Huge,
    /// Sends one byte more than a page may have.
    TooLarge,
    /// Becomes another store without keys.
    EmptyStore,
    /// Becomes another store with one key in ten.
    SmallStore,
    /// Becomes another store with the same keys, as a copy is.
    OtherStore,
    /// Sends pages of keys that are as large as they may be, each of which says that there is another one.
    Endless,
}

/// A change as pages carry it.
#[derive(Debug)]
struct Entry {
    /// The change as JSON, written once: a load of a million keys is measured without the time for it.
    text: Box<str>,
    /// What the key adds to the checksum. `None` means that the entry is a tombstone.
    contribution: Option<u64>,
}

#[derive(Debug)]
struct State {
    store: u32,
    revision: u64,
    /// Every live key and every tombstone, by the revision of its last change.
    changes: BTreeMap<u64, Entry>,
    /// The revision of each live key, by id.
    live: HashMap<String, u64>,
    checksum: Checksum,
    max_page: usize,
    fault: Option<Fault>,
    /// The newest revision whose tombstones were thrown away.
    compacted: u64,
    /// How many loads still find their tombstones thrown away in their middle.
    compactions: usize,
    /// The bytes of all endless pages so far.
    endless_bytes: usize,
    /// How many answers completed a load.
    loads: u64,
}

/// The running stand-in.
#[derive(Debug)]
pub struct AdminStandIn {
    shared: Arc<(Mutex<State>, Condvar)>,
    server: Upstream,
}

impl AdminStandIn {
    /// Starts an empty store whose pages hold three changes at most.
    pub fn start() -> Self {
        Self::with_pages_of(SMALL_PAGE)
    }

    /// Starts an empty store whose pages hold as many changes as the filter asks for, up to `max_page`.
    pub fn with_pages_of(max_page: usize) -> Self {
        let state = State {
            store: 1,
            revision: 0,
            changes: BTreeMap::new(),
            live: HashMap::new(),
            checksum: Checksum::default(),
            max_page,
            fault: None,
            compacted: 0,
            compactions: 0,
            endless_bytes: 0,
            loads: 0,
        };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let answering = Arc::clone(&shared);
        Self { server: Upstream::answering(move |request| answer(&answering, request)), shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The requests since the last call. A request that is being held is not among them.
    pub fn take(&self) -> Vec<Received> {
        self.server.take()
    }

    /// Adds a key with the permission `a:read`, or replaces the one with this id.
    pub fn put(&self, id: &str, key: &str) {
        self.change(|state| state.put(&record(id, key, None)));
    }

    /// Adds a key with the permission `a:read` that expires.
    pub fn put_until(&self, id: &str, key: &str, expires_at: &str) {
        self.change(|state| state.put(&record(id, key, Some(expires_at))));
    }

    /// Adds keys. Each gets the next revision, whatever its record says.
    pub fn put_all(&self, keys: impl IntoIterator<Item = LiveKey<'static>>) {
        self.change(|state| keys.into_iter().for_each(|key| state.put(&key)));
    }

    /// Deletes a key.
    pub fn delete(&self, id: &str) {
        self.change(|state| state.delete(id));
    }

    /// Throws all tombstones away, and does so again in the middle of the next `loads` loads.
    pub fn compact(&self, loads: usize) {
        self.change(|state| {
            state.compactions = loads;
            state.compact();
        });
    }

    /// How many loads are still to be disturbed.
    pub fn compactions_left(&self) -> usize {
        lock(&self.shared.0).compactions
    }

    /// The bytes of all endless pages so far.
    pub fn endless_bytes(&self) -> usize {
        lock(&self.shared.0).endless_bytes
    }

    /// How many answers completed a load. A VM that follows has got one, and asks again when it has applied it.
    pub fn loads(&self) -> u64 {
        lock(&self.shared.0).loads
    }

    /// Becomes another store with the same keys, and answers those that wait.
    pub fn start_over(&self) {
        self.change(|state| state.store += 1);
    }

    /// Fails from now on, or with `None` no more. Requests that are being held are answered.
    pub fn fail(&self, fault: Option<Fault>) {
        self.change(|state| state.fault = fault);
    }

    /// The body of one answer, for a filter that is fed without a network.
    pub fn page(&self, since: u64, base: u64, limit: usize) -> Vec<u8> {
        lock(&self.shared.0).page(since, base, limit).into_bytes()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.shared.0));
        self.shared.1.notify_all();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn record(id: &str, key: &str, expires_at: Option<&str>) -> LiveKey<'static> {
    LiveKey {
        revision: 0,
        id: id.to_owned().into(),
        name: format!("Key {id}").into(),
        sha256: Digest::of_key(key.as_bytes()).to_hex().into(),
        permissions: vec!["a:read".into()],
        expires_at: expires_at.map(|time| time.to_owned().into()),
        disabled: false,
        must: Vec::new(),
    }
}

fn to_text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| panic!("a record cannot be written: {error}"))
}

impl State {
    fn forget(&mut self, id: &str) {
        let entry = self.live.remove(id).and_then(|revision| self.changes.remove(&revision));
        if let Some(contribution) = entry.and_then(|entry| entry.contribution) {
            self.checksum.remove(contribution);
        }
    }

    fn put(&mut self, key: &LiveKey<'_>) {
        self.forget(&key.id);
        self.revision += 1;
        let key = LiveKey { revision: self.revision, ..key.clone() };
        let contribution = contribution(&key);
        self.checksum.add(contribution);
        self.live.insert(key.id.to_string(), self.revision);
        let entry = Entry { text: to_text(&Change::Live(key)).into(), contribution: Some(contribution) };
        self.changes.insert(self.revision, entry);
    }

    fn delete(&mut self, id: &str) {
        self.forget(id);
        self.revision += 1;
        let change = Change::Deleted { revision: self.revision, id: id.into() };
        self.changes.insert(self.revision, Entry { text: to_text(&change).into(), contribution: None });
    }

    /// Takes a revision for a key that is deleted without a tombstone.
    fn compact(&mut self) {
        self.revision += 1;
        self.changes.retain(|_, entry| entry.contribution.is_some());
        self.compacted = self.revision;
    }

    fn page(&mut self, since: u64, base: u64, limit: usize) -> String {
        let wanted = |revision: u64, entry: &Entry| entry.contribution.is_some() || (since > 0 && revision > base);
        let mut changes = self.changes.range(since + 1..).filter(|(revision, entry)| wanted(**revision, entry));
        let keys: Vec<_> = changes.by_ref().take(limit.min(self.max_page)).collect();
        let more = changes.next().is_some();
        let revision = keys.last().filter(|_| more).map_or(self.revision, |(revision, _)| **revision);
        let page = Page {
            format: FORMAT,
            store: format!("st_{}", self.store).into(),
            since,
            revision,
            mark: None,
            head: self.revision,
            more,
            keys: Vec::new(),
            live: Live { count: self.live.len() as u64, checksum: (!more).then(|| self.checksum.to_string().into()) },
        };
        let keys: Vec<&str> = keys.iter().map(|(_, entry)| &*entry.text).collect();
        let text = to_text(&page).replacen("\"keys\":[]", &format!("\"keys\":[{}]", keys.join(",")), 1);
        if !more && since < self.revision {
            self.loads += 1;
        }
        text
    }
}

fn answer((state, changed): &(Mutex<State>, Condvar), request: &Received) -> Answer {
    let target = request.target();
    let Some((_, query)) = target.split_once("/v1/manifest?") else { return http(204, "").into() };
    let query: HashMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<u64>().ok());
    let (Some(since), Some(base)) = (number("since"), number("base")) else { return http(400, "{}").into() };
    let limit = number("limit").map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let wait = query.get("wait").and_then(|text| keyward_policy::duration::parse(text).ok()).unwrap_or_default();
    let deadline = Instant::now() + wait;
    let mut state = lock(state);
    let store = state.store;
    while since == state.revision && state.store == store && state.fault.is_none() && Instant::now() < deadline {
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
            let page = endless(state.store, since, number("limit").unwrap_or(100));
            state.endless_bytes += page.len();
            return http(200, &page).into();
        }
        _ => {}
    }
    if since > 0 && since < state.revision && since != base && state.compactions > 0 {
        state.compactions -= 1;
        state.compact();
    }
    if since > state.revision {
        return http(410, r#"{"code":"revision_ahead"}"#).into();
    }
    if since > 0 && state.compacted > base {
        return http(410, r#"{"code":"revision_compacted"}"#).into();
    }
    match state.fault {
        None => http(200, &state.page(since, base, limit)).into(),
        Some(Fault::Repeats) => http(200, &state.page(since.saturating_sub(1), base, limit)).into(),
        Some(fault) => {
            let page = state.page(since, base, limit);
            broken(fault, serde_json::from_str(&page).unwrap_or_default(), since)
        }
    }
}

/// A page with as many keys as may be asked for, each as large as a record may be.
fn endless(store: u32, since: u64, limit: u64) -> String {
    let (name, id) = ("n".repeat(1_000), "i".repeat(480));
    let (first, last) = (since + 1, since + limit);
    let keys: Vec<String> = (first..=last)
        .map(|revision| {
            let sha256 = Digest::of_key(&revision.to_le_bytes()).to_hex();
            format!(
                r#"{{"revision":{revision},"id":"{id}-{revision}","name":"{name}","sha256":"{sha256}","permissions":[]}}"#
            )
        })
        .collect();
    let (head, keys) = (last + 100_000_000, keys.join(","));
    format!(
        r#"{{"format":{FORMAT},"store":"st_{store}","since":{since},"revision":{last},"head":{head},"more":true,"keys":[{keys}],"live":{{"count":{head}}}}}"#
    )
}

fn broken(fault: Fault, mut page: serde_json::Value, since: u64) -> Answer {
    match fault {
        Fault::Status(status) => return http(status, "{}").into(),
        Fault::HalfAResponse | Fault::Stalls => {
            let whole = http(200, &page.to_string());
            let part = String::from_utf8_lossy(whole.get(..whole.len() - 20).unwrap_or_default()).into_owned();
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
            page["store"] = "st_empty".into();
            page["keys"] = json!([]);
            page["live"] = json!({"count": 0, "checksum": "0000000000000000"});
        }
        Fault::SmallStore => {
            page["store"] = "st_small".into();
            page["live"]["count"] = 1.into();
        }
        Fault::OtherStore => page["store"] = "st_copy".into(),
        Fault::Hangs | Fault::HangsUp | Fault::Repeats | Fault::Endless => unreachable!("answered already"),
    }
    http(200, &page.to_string()).into()
}

fn http(status: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_policy::table::KeyTable;

    fn thousand_and_one() -> AdminStandIn {
        let stand_in = AdminStandIn::with_pages_of(usize::MAX);
        stand_in.put_all((0..1_001).map(|number| record(&format!("key_{number}"), &number.to_string(), None)));
        stand_in
    }

    #[test]
    fn the_pages_make_the_table_that_they_promise() {
        let stand_in = thousand_and_one();
        stand_in.delete("key_7");
        let (mut table, mut since, mut base, mut pages) = (KeyTable::new(), 0, 0, 0);
        loop {
            let body = stand_in.page(since, base, 400);
            let page: Page<'_> = serde_json::from_slice(&body).unwrap();
            for change in &page.keys {
                table.upsert(change.live().expect("no tombstone on a first load")).unwrap();
            }
            (since, base, pages) = (page.revision, page.head, pages + 1);
            if !page.more {
                assert_eq!(page.live.checksum.as_deref(), Some(&*table.checksum().to_string()));
                break;
            }
        }
        assert_eq!((table.len(), pages, stand_in.loads()), (1_000, 3, 1));
    }

    #[test]
    fn a_page_holds_no_more_than_was_asked_for() {
        let stand_in = thousand_and_one();
        let target = |limit: u32| format!("/v1/manifest?since=0&base=0&limit={limit}&wait=0s");
        for (limit, expected) in [(1, 1), (40, 40), (100, 100), (5_000, 1_001)] {
            let body = crate::http1::get(stand_in.address(), &target(limit), &[]).unwrap().body;
            let page: Page<'_> = serde_json::from_slice(&body).unwrap();
            assert_eq!(page.keys.len(), expected, "limit={limit}");
            assert_eq!((page.more, page.revision), (expected < 1_001, expected as u64));
        }
        let small = AdminStandIn::start();
        (0..5).for_each(|number| small.put(&format!("key_{number}"), &number.to_string()));
        let body = small.page(0, 0, 400);
        assert_eq!(serde_json::from_slice::<Page<'_>>(&body).unwrap().keys.len(), SMALL_PAGE);
    }
}

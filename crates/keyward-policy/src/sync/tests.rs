//! Single behaviours that a simulation passes by without asserting.

use super::*;
use crate::checksum::contribution;
use crate::digest::Digest;
use crate::manifest::{Change, Live, LiveKey, Page};
use crate::timeline::{Enforcement, InlineKeys};
use std::borrow::Cow;

/// One VM with one root context, and the time.
struct Vm {
    sync: ManifestSync,
    root: RootId,
    now: Duration,
    events: Vec<Event>,
}

impl Vm {
    fn new(store: Option<&str>, max_staleness: Option<u64>) -> Self {
        let mut sync = ManifestSync::new(7);
        let settings = Settings {
            realm: "default".into(),
            token: None,
            store: store.map(Into::into),
            max_staleness: max_staleness.map(Duration::from_secs),
            mode: Enforcement::Enforce,
            inline_keys: InlineKeys::None,
        };
        let root = sync.attach(settings, Duration::ZERO);
        Self { sync, root, now: Duration::ZERO, events: Vec::new() }
    }

    /// The next request, and how long it took until it came.
    fn ask(&mut self) -> (Request, Duration) {
        let before = self.now;
        loop {
            self.sync.work();
            if let Some(request) = self.sync.poll(self.root, self.now, &mut self.events) {
                return (request, self.now - before);
            }
            self.now += Duration::from_millis(10);
            assert!(self.now - before < Duration::from_secs(120), "it asks no more");
        }
    }

    fn answer(&mut self, request: &Request, status: u16, body: &str) -> Option<Failure> {
        let outcome = Outcome::Answer(Answer { status, body: body.as_bytes(), ..Answer::default() });
        self.outcome(request, &outcome)
    }

    fn outcome(&mut self, request: &Request, outcome: &Outcome<'_>) -> Option<Failure> {
        self.events.clear();
        let wall = Timestamp::from_unix_ms(1_800_000_000_000);
        self.sync.on_outcome(request.id, outcome, self.now, wall, &mut self.events);
        self.events.iter().find_map(|event| match event {
            Event::Failed(failure) => Some(failure.clone()),
            _ => None,
        })
    }

    /// Loads keys 1 to `count` of a store.
    fn load(&mut self, store: &str, count: u64) {
        let (request, _) = self.ask();
        assert_eq!(self.answer(&request, 200, &page(store, 0, count, 1..=count)), None);
    }

    fn holds(&self, n: u64) -> bool {
        let digest = Digest::of_key(&n.to_le_bytes());
        self.sync.keys(self.root, self.now).is_ok_and(|keys| keys.get(&digest).is_some())
    }

    fn warnings(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Log(Level::Warn, _))).count()
    }
}

fn key(n: u64) -> LiveKey<'static> {
    LiveKey {
        revision: n,
        id: format!("key-{n}").into(),
        name: "n".into(),
        sha256: Digest::of_key(&n.to_le_bytes()).to_hex().into(),
        permissions: Vec::new(),
        expires_at: None,
        disabled: false,
        must: Vec::new(),
    }
}

/// The last page of a store that holds keys 1 to `count`, with these among its changes.
fn page(store: &str, since: u64, count: u64, changes: impl IntoIterator<Item = u64>) -> String {
    let mut sum = crate::checksum::Checksum::default();
    (1..=count).for_each(|n| sum.add(contribution(&key(n))));
    serde_json::to_string(&Page {
        format: 1,
        store: store.into(),
        since,
        revision: count,
        head: count,
        mark: Some(mark(count)),
        more: false,
        keys: changes.into_iter().map(key).map(Change::Live).collect(),
        live: Live { count, checksum: Some(Cow::Owned(sum.to_string())) },
    })
    .unwrap()
}

/// The mark of a revision of the stores in here.
fn mark(revision: u64) -> Mark {
    Mark::from_bits(!revision)
}

#[test]
fn asks_first_at_once_and_then_waits_for_news() {
    for (max_staleness, wait, header) in [(None, "25s", "never"), (Some(3), "1s", "3s"), (Some(4), "1333ms", "4s")] {
        let mut vm = Vm::new(None, max_staleness);
        let (request, _) = vm.ask();
        assert_eq!(request.path(), "/v1/manifest?since=0&base=0&limit=100&wait=0s");
        assert_eq!(vm.answer(&request, 200, &page("st_1", 0, 3, 1..=3)), None);
        let (request, after) = vm.ask();
        assert_eq!(request.path(), format!("/v1/manifest?since=3&base=3&limit=100&wait={wait}&mark=fffffffffffffffc"));
        assert_eq!((request.max_staleness_header().as_str(), after), (header, Duration::ZERO));
        assert!(request.timeout > request.wait);
    }
}

#[test]
fn a_load_keeps_its_base_and_acknowledges_nothing() {
    let mut vm = Vm::new(None, None);
    let (request, _) = vm.ask();
    let mut first: serde_json::Value = serde_json::from_str(&page("st_1", 0, 9, 1..=4)).unwrap();
    first["more"] = true.into();
    first["revision"] = 4.into();
    assert_eq!(vm.answer(&request, 200, &first.to_string()), None);
    let (request, after) = vm.ask();
    assert_eq!((request.since, request.base, request.wait, after), (4, 9, Duration::ZERO, Duration::ZERO));
    assert!(vm.sync.keys(vm.root, vm.now).is_err());
    // Exactly at its base and not complete, the store having grown: asking with both equal would acknowledge it.
    let mut second: serde_json::Value = serde_json::from_str(&page("st_1", 4, 9, 5..=9)).unwrap();
    second["more"] = true.into();
    second["head"] = 12.into();
    assert_eq!(vm.answer(&request, 200, &second.to_string()), None);
    let (request, _) = vm.ask();
    assert_eq!((request.since, request.base), (9, 8));
}

#[test]
fn what_is_deleted_while_a_load_is_under_way_leaves_it_again() {
    let mut vm = Vm::new(None, None);
    let (request, _) = vm.ask();
    let mut first: serde_json::Value = serde_json::from_str(&page("st_1", 0, 4, 1..=3)).unwrap();
    first["more"] = true.into();
    first["revision"] = 3.into();
    assert_eq!(vm.answer(&request, 200, &first.to_string()), None);
    let (request, _) = vm.ask();
    // Key 2 went at revision 5.
    let mut sum = crate::checksum::Checksum::default();
    [1, 3, 4].iter().for_each(|n| sum.add(contribution(&key(*n))));
    let mut second: serde_json::Value = serde_json::from_str(&page("st_1", 3, 4, [4])).unwrap();
    second["keys"].as_array_mut().unwrap().push(serde_json::json!({"revision": 5, "id": "key-2", "deleted": true}));
    second["revision"] = 5.into();
    second["head"] = 5.into();
    second["live"] = serde_json::json!({"count": 3, "checksum": sum.to_string()});
    assert_eq!(vm.answer(&request, 200, &second.to_string()), None);
    assert!(vm.holds(1) && !vm.holds(2) && vm.holds(3) && vm.holds(4));
}

#[test]
fn a_revision_never_falls_without_a_load() {
    let mut vm = Vm::new(None, None);
    vm.load("st_1", 3);
    for (revision, head) in [(2, 3), (2, 2), (0, 0), (4, 3)] {
        let (request, _) = vm.ask();
        let mut fallen: serde_json::Value = serde_json::from_str(&page("st_1", 3, 3, [])).unwrap();
        fallen["revision"] = revision.into();
        fallen["head"] = head.into();
        let failure = vm.answer(&request, 200, &fallen.to_string());
        assert!(matches!(failure, Some(Failure::OutOfOrder(_))), "{revision} {head}: {failure:?}");
        assert_eq!(vm.sync.in_use().map(|position| position.revision), Some(3));
    }
}

#[test]
fn a_load_beside_a_table_that_serves_takes_smaller_pages_and_no_other_does() {
    let part = |store: &str, count: u64| {
        let mut page: serde_json::Value = serde_json::from_str(&page(store, 0, count, 1..=4)).unwrap();
        page["more"] = true.into();
        page["revision"] = 4.into();
        page.to_string()
    };
    for (serves, stale, smaller) in [(false, false, false), (true, false, true), (true, true, false)] {
        let mut vm = Vm::new(None, Some(60));
        if serves {
            vm.load("st_1", 9);
        }
        let (request, _) = vm.ask();
        vm.now += Duration::from_secs(if stale { 61 } else { 0 });
        // Another store: what is held is kept until all of it is there.
        let answer = if serves { vm.answer(&request, 200, &page("st_2", 9, 20, 10..=20)) } else { None };
        assert_eq!(answer, None);
        let request = if serves { vm.ask().0 } else { request };
        assert_eq!((request.since, vm.answer(&request, 200, &part("st_2", 20))), (0, None));
        let (request, after) = vm.ask();
        assert_eq!((request.since, after), (4, Duration::ZERO), "{serves} {stale}");
        let limit = if smaller { PAGE_CHANGES_BESIDE } else { PAGE_CHANGES };
        assert_eq!(request.limit, limit, "{serves} {stale}");
    }
}

#[test]
fn a_page_that_answers_another_question_is_refused() {
    let mut vm = Vm::new(None, None);
    vm.load("st_1", 3);
    let (request, _) = vm.ask();
    let failure = vm.answer(&request, 200, &page("st_1", 0, 3, 1..=3));
    assert!(matches!(failure, Some(Failure::OutOfOrder(_))), "{failure:?}");
    assert_eq!((vm.holds(1), vm.warnings()), (true, 1));
    // Told once, and its end too.
    let (request, after) = vm.ask();
    assert!(after >= Duration::from_millis(120), "{after:?}");
    vm.answer(&request, 200, &page("st_1", 0, 3, 1..=3));
    assert_eq!(vm.warnings(), 0);
    let (request, _) = vm.ask();
    assert_eq!(vm.answer(&request, 200, &page("st_1", 3, 4, 4..=4)), None);
    assert!(vm.events.iter().any(|event| matches!(event, Event::Log(Level::Info, _))));
    assert!(vm.holds(4));
}

#[test]
fn another_store_with_too_few_keys_stays_out_until_keys_are_stale() {
    for (count, stays_out) in [(0, true), (4, true), (5, false), (30, false)] {
        let mut vm = Vm::new(None, Some(30));
        vm.load("st_1", 10);
        let (request, _) = vm.ask();
        let failure = vm.answer(&request, 410, "{}");
        assert_eq!(failure, None);
        let (request, after) = vm.ask();
        assert_eq!((request.since, after), (0, Duration::ZERO));
        let failure = vm.answer(&request, 200, &page("st_2", 0, count, 1..=count));
        assert_eq!(matches!(failure, Some(Failure::SuspiciousStore { .. })), stays_out, "{count}: {failure:?}");
        assert_eq!(vm.sync.in_use().unwrap().store, if stays_out { "st_1" } else { "st_2" });
        if stays_out {
            assert!(vm.holds(10));
            vm.now += Duration::from_secs(30);
            assert!(vm.sync.keys(vm.root, vm.now).is_err());
            while vm.sync.in_use().unwrap().store == "st_1" {
                let (request, _) = vm.ask();
                let gone = request.since > 0;
                let body = if gone { "{}".to_owned() } else { page("st_2", 0, count, 1..=count) };
                vm.answer(&request, if gone { 410 } else { 200 }, &body);
            }
            assert_eq!(vm.sync.keys(vm.root, vm.now).unwrap().len() as u64, count);
        }
    }
}

#[test]
fn a_pinned_store_is_the_only_one() {
    let mut vm = Vm::new(Some("st_1"), Some(30));
    let (request, _) = vm.ask();
    let failure = vm.answer(&request, 200, &page("st_2", 0, 3, 1..=3));
    assert!(matches!(failure, Some(Failure::OtherThanPinned { .. })));
    vm.load("st_1", 3);
    assert!(vm.holds(3));
}

#[test]
fn loads_that_fail_again_and_again_pause_longer_and_longer() {
    let mut vm = Vm::new(None, None);
    vm.load("st_1", 3);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let (request, after) = vm.ask();
        pauses.push(after);
        let body =
            page("st_1", request.since, 3, request.since + 1..=3).replace("\"checksum\":\"", "\"checksum\":\"f0");
        assert!(matches!(vm.answer(&request, 200, &body.replace("f0", "00")), Some(Failure::Checksum { .. })));
    }
    assert!(vm.holds(3));
    assert!(pauses.last().is_some_and(|pause| *pause >= Duration::from_secs(10)), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(31)), "{pauses:?}");
}

#[test]
fn many_changes_become_visible_together_and_settle_behind() {
    let mut vm = Vm::new(None, None);
    vm.load("st_1", 3);
    let (request, _) = vm.ask();
    let count = 3 * SETTLE_STEP as u64;
    let mut part: serde_json::Value = serde_json::from_str(&page("st_1", 3, count, 4..=1_000)).unwrap();
    part["more"] = true.into();
    part["revision"] = 1_000.into();
    vm.answer(&request, 200, &part.to_string());
    assert!(!vm.holds(4));
    let (request, _) = vm.ask();
    assert_eq!((request.since, request.base), (1_000, 3), "a part is not acknowledged");
    assert_eq!(vm.answer(&request, 200, &page("st_1", 1_000, count, 1_001..=count)), None);
    assert!(vm.holds(4) && vm.holds(count));
    // It asks again once the table stands still.
    let mut calls = 0;
    while vm.sync.poll(vm.root, vm.now, &mut vm.events).is_none() {
        calls += 1;
        assert!(vm.holds(4) && vm.holds(count) && calls < 20);
    }
    assert!(calls >= 2, "{calls}");
    assert_eq!(vm.sync.in_use().unwrap().keys as u64, count);
}

#[test]
fn a_service_can_ask_for_a_pause_and_clocks_are_compared_once() {
    let mut vm = Vm::new(None, None);
    let (request, _) = vm.ask();
    let busy = Answer { status: 429, retry_after: Some(Duration::from_secs(8)), ..Answer::default() };
    assert_eq!(vm.outcome(&request, &Outcome::Answer(busy)), Some(Failure::Busy));
    let (request, after) = vm.ask();
    assert!(after >= Duration::from_secs(8));
    let body = page("st_1", 0, 1, 1..=1);
    let date = Some("Fri, 15 Jan 2027 08:00:10 GMT");
    let late = Answer { status: 200, body: body.as_bytes(), date, ..Answer::default() };
    vm.outcome(&request, &Outcome::Answer(late));
    assert_eq!(vm.warnings(), 1, "{:?}", vm.events);
    let (request, _) = vm.ask();
    let body = page("st_1", 1, 1, []);
    vm.outcome(&request, &Outcome::Answer(Answer { body: body.as_bytes(), ..late }));
    assert_eq!(vm.warnings(), 0);
}

#[test]
fn a_new_token_keeps_the_keys_in_use_and_is_shown_at_once() {
    let mut vm = Vm::new(None, None);
    vm.load("st_1", 2);
    let (request, _) = vm.ask();
    vm.answer(&request, 401, "");
    assert!(vm.sync.next_at() > vm.now, "a refused token is tried again after a pause");
    vm.sync.renew(vm.root, "new".into(), vm.now);
    assert!(vm.holds(1));
    let (_, pause) = vm.ask();
    assert_eq!(pause, Duration::ZERO);
    // The service has not accepted the new token yet, so another configuration with it does not serve.
    let settings = Settings {
        realm: "default".into(),
        token: Some("new".into()),
        store: None,
        max_staleness: None,
        mode: Enforcement::Enforce,
        inline_keys: InlineKeys::None,
    };
    let other = vm.sync.attach(settings, vm.now);
    assert_eq!(vm.sync.keys(other, vm.now).err(), Some(Unavailable::NotYetLoaded));
}

#[test]
fn a_failure_never_quotes_what_was_received() {
    let mut vm = Vm::new(None, None);
    let (request, _) = vm.ask();
    let sha256 = Digest::of_key(&1_u64.to_le_bytes()).to_hex();
    let body = page("st_1", 0, 3, 1..=3).replace("\"revision\":1,", &format!("\"revision\":\"{sha256}\","));
    let failure = vm.answer(&request, 200, &body).unwrap();
    assert!(matches!(failure, Failure::Malformed(_)));
    assert!(!format!("{failure} {failure:?} {:?} {:?}", vm.events, vm.sync).contains(&sha256));
    let (request, _) = vm.ask();
    let later = r#"{"format":2,"everything":"else"}"#;
    assert_eq!(vm.answer(&request, 200, later), Some(Failure::Format(2)));
}

#[test]
fn a_page_that_is_not_utf_8_is_refused_and_says_where() {
    let mut vm = Vm::new(None, None);
    let (request, _) = vm.ask();
    let mut body = page("st_1", 0, 3, 1..=3).into_bytes();
    let at = body.windows(6).position(|window| window == b"\"name\"").unwrap() + 8;
    body[at] = 0xff;
    vm.outcome(&request, &Outcome::Answer(Answer { status: 200, body: &body, ..Answer::default() }));
    let said = Event::Failed(Failure::Malformed(format!("not UTF-8, at byte {at}")));
    assert!(vm.events.contains(&said), "{:?}", vm.events);
}

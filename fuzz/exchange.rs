//! What must hold of `ManifestSync` whatever the service answers, and in whatever order things happen. The input is a
//! row of steps: time passes, root contexts come, ask and go, keys change, and requests get good, damaged, foreign, late
//! or no answers.

use keyward_policy::checksum::{Checksum, contribution};
use keyward_policy::digest::Digest;
use keyward_policy::manifest::{Change, FORMAT, Live, LiveKey, Page};
use keyward_policy::sync::{Answer, ManifestSync, Outcome, Request, RootId, Settings};
use keyward_policy::timeline::{Enforcement, InlineKeys};
use keyward_policy::timestamp::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

const MAX_STALENESS: Duration = Duration::from_secs(60);
/// The ids of keys. Few, so that keys change and come back.
const IDS: u8 = 6;
const PAUSES_MS: [u64; 8] = [1, 20, 300, 1_000, 5_000, 20_000, 40_000, 70_000];
const STATUSES: [u16; 8] = [200, 401, 404, 409, 410, 429, 500, 503];

/// The number of keys in use and their checksum.
type Served = (usize, Checksum);

/// What is served equals what a complete answer states and never anything else; it changes only by such an answer; and
/// nothing is served for longer than `max_staleness` after the last one.
pub fn manifest_sync(data: &[u8]) {
    let mut exchange = Exchange::new();
    let mut rest = data;
    while let Some((step, after)) = rest.split_first() {
        rest = exchange.step(*step, after);
        exchange.check_staleness();
    }
}

/// A store of keys, as the service keeps it.
#[derive(Default)]
struct Store {
    generation: u8,
    revision: u64,
    /// The newest change of each id, by its revision.
    changes: BTreeMap<u64, (u8, bool)>,
}

impl Store {
    fn change(&mut self, id: u8, is_live: bool) {
        self.changes.retain(|_, (have, _)| *have != id);
        self.revision += 1;
        self.changes.insert(self.revision, (id, is_live));
    }

    fn page(&self, since: u64, limit: usize) -> Vec<u8> {
        let newer: Vec<_> = self.changes.range(since.saturating_add(1)..).collect();
        let more = newer.len() > limit;
        let shown = newer.get(..limit).unwrap_or(&newer);
        let revision = if more { shown.last().map_or(since, |(revision, _)| **revision) } else { self.revision };
        let (mut sum, mut count) = (Checksum::default(), 0);
        for (revision, (id, _)) in self.changes.iter().filter(|(_, (_, is_live))| *is_live) {
            sum.add(contribution(&key(*revision, *id)));
            count += 1;
        }
        let page = Page {
            format: FORMAT,
            store: format!("st_{}", self.generation).into(),
            since,
            revision,
            mark: None,
            head: self.revision,
            more,
            keys: shown
                .iter()
                .map(|(revision, (id, is_live))| match is_live {
                    true => Change::Live(key(**revision, *id)),
                    false => Change::Deleted { revision: **revision, id: format!("key-{id}").into() },
                })
                .collect(),
            live: Live { count, checksum: (!more).then(|| sum.to_string().into()) },
        };
        serde_json::to_vec(&page).expect("a page can be written")
    }
}

fn key(revision: u64, id: u8) -> LiveKey<'static> {
    LiveKey {
        revision,
        id: format!("key-{id}").into(),
        name: "name".into(),
        sha256: Digest::of_key(&[id]).to_hex().into(),
        permissions: vec!["a:read".into()],
        expires_at: None,
        disabled: id == 1,
        must: Vec::new(),
    }
}

/// What an answer states, if it is complete: how many keys there are, and their checksum.
fn stated(body: &[u8]) -> Option<Served> {
    let page: Page<'_> = serde_json::from_slice(body).ok()?;
    Some((usize::try_from(page.live.count).ok()?, Checksum::parse(page.live.checksum.as_deref()?)?))
}

struct Exchange {
    sync: ManifestSync,
    store: Store,
    now: Duration,
    roots: Vec<RootId>,
    /// The requests so far whose outcome may still come, the newest last.
    asked: Vec<Request>,
    /// What was served last. A root context that is not accepted (yet) shows nothing.
    seen: Option<Served>,
}

impl Exchange {
    fn new() -> Self {
        let mut sync = ManifestSync::new(1);
        let roots = vec![sync.attach(settings(0), Duration::ZERO)];
        Self { sync, store: Store::default(), now: Duration::ZERO, roots, asked: Vec::new(), seen: None }
    }

    /// Does one step, and returns the input behind it.
    fn step<'d>(&mut self, step: u8, rest: &'d [u8]) -> &'d [u8] {
        let argument = step >> 3;
        match step & 7 {
            0 => {
                self.now += Duration::from_millis(PAUSES_MS.get(usize::from(argument & 7)).copied().unwrap_or_default())
            }
            1 => self.ask(),
            2 if argument & 1 == 0 => self.answer(&Outcome::NoAnswer),
            2 => self.answer(&Outcome::NotSent),
            3 => {
                let page = self.good_page(usize::from(argument & 3) + 1);
                self.answer_with(200, &page);
            }
            4 => self.store.change(argument % IDS, argument < 24),
            5 => {
                let mut page = self.good_page(usize::from(argument & 3) + 1);
                let [at, by, rest @ ..] = rest else { return &[] };
                damage(&mut page, *at, *by);
                self.answer_with(200, &page);
                return rest;
            }
            6 => {
                let Some((length, rest)) = rest.split_first() else { return &[] };
                let (body, rest) = rest.split_at(usize::from(*length).min(rest.len()));
                self.answer_with(STATUSES.get(usize::from(argument & 7)).copied().unwrap_or_default(), body);
                return rest;
            }
            _ => self.rarely(argument),
        }
        rest
    }

    fn ask(&mut self) {
        let mut events = Vec::new();
        for root in self.roots.clone() {
            self.asked.extend(self.sync.poll(root, self.now, &mut events));
        }
        self.sync.work();
    }

    fn good_page(&self, limit: usize) -> Vec<u8> {
        self.store.page(self.asked.last().map_or(0, |request| request.since), limit)
    }

    fn rarely(&mut self, what: u8) {
        match what & 7 {
            0 if self.roots.len() < 3 => self.roots.push(self.sync.attach(settings(what), self.now)),
            1 if self.roots.len() > 1 => {
                let root = self.roots.remove(0);
                self.sync.detach(root, self.now);
            }
            // A restored backup, or another store.
            2 => {
                let generation = self.store.generation.wrapping_add(1);
                self.store = Store { generation, ..Store::default() };
            }
            // The newest request is answered last.
            3 => {
                let newest = self.asked.pop();
                self.asked.splice(0..0, newest);
            }
            _ => while self.sync.work() {},
        }
    }

    fn answer_with(&mut self, status: u16, body: &[u8]) {
        self.answer(&Outcome::Answer(Answer { status, body, ..Answer::default() }));
    }

    /// Gives an outcome to the newest request, and checks what it changed.
    fn answer(&mut self, outcome: &Outcome<'_>) {
        let Some(request) = self.asked.pop() else { return };
        let before = self.served().or(self.seen);
        self.sync.on_outcome(request.id, outcome, self.now, Timestamp::from_unix_ms(0), &mut Vec::new());
        let after = self.served();
        let stated = match outcome {
            Outcome::Answer(answer) if answer.status == 200 => stated(answer.body),
            _ => None,
        };
        let is_right = after.is_none() || after == before || after == stated;
        assert!(is_right, "{before:?} became {after:?} by an answer that states {stated:?}");
        self.seen = after.or(before);
    }

    /// The keys in use, whether they may be served now or not.
    fn served(&self) -> Option<Served> {
        let contact = self.sync.in_use()?.contact;
        let served = self.roots.iter().find_map(|root| self.sync.keys(*root, contact).ok());
        served.map(|table| (table.len(), table.checksum()))
    }

    fn check_staleness(&self) {
        let contact = self.sync.in_use().map(|position| position.contact);
        for root in &self.roots {
            let may_serve = contact.is_some_and(|contact| self.now.saturating_sub(contact) < MAX_STALENESS);
            assert!(
                may_serve || self.sync.keys(*root, self.now).is_err(),
                "keys are served {contact:?} at {:?}",
                self.now
            );
        }
    }
}

fn settings(number: u8) -> Settings {
    let token = (number & 8 != 0).then(|| "token".into());
    Settings {
        realm: "r".into(),
        token,
        store: None,
        max_staleness: Some(MAX_STALENESS),
        mode: Enforcement::Enforce,
        inline_keys: InlineKeys::None,
    }
}

/// Changes one byte, or cuts the page off.
fn damage(page: &mut Vec<u8>, at: u8, by: u8) {
    let place = usize::from(at) * page.len() / 256;
    match by {
        0 => page.truncate(place),
        by => page.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= by),
    }
}

//! One VM: its sync state, its root contexts, and what is checked about it at every step.

use crate::store::{Keys, Store};
use crate::world::Totals;
use keyward_policy::digest::Digest;
use keyward_policy::sync::{Event, Failure, Level, ManifestSync, RootId, Settings};
use keyward_policy::table::KeyTable;
use keyward_policy::timestamp::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Duration;

/// What each revision ever held; a restored backup gives a revision a second meaning.
pub type History = HashMap<u64, Vec<Rc<Keys>>>;

pub struct Vm {
    pub sync: ManifestSync,
    pub roots: Vec<(RootId, Settings)>,
    pub wall_offset_ms: i64,
    pub stalled_until: u64,
    pub events: Vec<Event>,
    /// Tokens that the service gave a page for.
    answered: BTreeSet<Option<Box<str>>>,
    last: Option<(String, u64)>,
    told: HashMap<String, Duration>,
}

impl Vm {
    pub fn new(seed: u64) -> Self {
        Self {
            sync: ManifestSync::new(seed),
            roots: Vec::new(),
            wall_offset_ms: 0,
            stalled_until: 0,
            events: Vec::new(),
            answered: BTreeSet::new(),
            last: None,
            told: HashMap::new(),
        }
    }

    pub fn wall(&self, now: Duration) -> Timestamp {
        Timestamp::from_unix_ms(now.as_millis() as i64 + self.wall_offset_ms)
    }

    pub fn answered(&mut self, root: RootId) {
        let token = self.roots.iter().find(|(known, _)| *known == root).map(|(_, settings)| settings.token.clone());
        self.answered.extend(token);
    }

    /// Takes the events of a step and checks what the step made of the table.
    pub fn check(&mut self, now: Duration, history: &History, ever: &BTreeMap<Digest, ()>, totals: &mut Totals) {
        let mut loaded = false;
        for event in std::mem::take(&mut self.events) {
            match event {
                Event::Loaded { .. } => {
                    loaded = true;
                    totals.loads += 1;
                }
                Event::Applied { .. } => totals.deltas += 1,
                Event::StartedOver(reason) => *totals.started_over.entry(reason.name()).or_default() += 1,
                Event::Failed(failure) => {
                    *totals.failures.entry(failure.name()).or_default() += 1;
                    if let Failure::Malformed(text) = &failure {
                        assert!(!text.contains('"'), "{text}");
                    }
                }
                Event::Log(Level::Info, _) => {}
                Event::Log(Level::Warn, line) => self.once(now, &line),
            }
        }
        for (root, settings) in &self.roots {
            let served = self.sync.keys(*root, now).is_ok();
            assert!(!served || self.answered.contains(&settings.token), "serves before its own token got a page");
        }
        let Some(position) = self.sync.in_use() else { return };
        let here = (position.store.to_owned(), position.revision);
        if self.last.as_ref() == Some(&here) && !loaded {
            return;
        }
        let risen = self.last.as_ref().is_none_or(|(store, revision)| *store == here.0 && *revision <= here.1);
        assert!(risen || loaded, "{:?} → {here:?} without a load", self.last);
        if let Some((before, _)) = self.last.as_ref().filter(|(before, _)| *before != here.0) {
            // What is stalled is as good as gone, and its pin with it.
            let awake = now.as_millis() as u64 > self.stalled_until + 6_000;
            assert!(
                !awake || !self.pins(before) || self.pins(&here.0),
                "a pinned store, {before}, gave way to {here:?}"
            );
        }
        let (revision, root) = (here.1, self.roots.iter().find(|(root, _)| self.sync.keys(*root, now).is_ok()));
        self.last = Some(here);
        if let Some((root, _)) = root
            && let Ok(table) = self.sync.keys(*root, now)
        {
            let snapshots = history.get(&revision).map(Vec::as_slice).unwrap_or_default();
            assert!(snapshots.iter().any(|keys| equal(table, keys, ever)), "no store was ever like this at {revision}");
            totals.tables_compared += 1;
        }
    }

    /// The same trouble is not told again within a minute. Numbers aside, for they change.
    fn once(&mut self, now: Duration, line: &str) {
        let kind: String = line.chars().filter(|c| !c.is_ascii_hexdigit()).take(60).collect();
        if let Some(before) = self.told.insert(kind, now) {
            assert!(now - before >= Duration::from_secs(60), "told again: {line}");
        }
    }

    fn pins(&self, store: &str) -> bool {
        self.roots.iter().any(|(_, settings)| settings.store.as_deref() == Some(store))
    }

    /// A key that has not been live for longer than a limit of staleness is served by nobody who has that limit, however
    /// long answers are under way.
    pub fn check_revoked(&self, now: Duration, dead: &BTreeMap<Digest, u64>) {
        for (root, settings) in &self.roots {
            let (Some(max), Ok(table)) = (settings.max_staleness, self.sync.keys(*root, now)) else { continue };
            let bound = max.as_millis() as u64;
            for (digest, since) in dead {
                if now.as_millis() as u64 > since + bound {
                    assert!(
                        table.get(digest).is_none(),
                        "a key dead since {since} ms is served at {now:?} ({bound} ms)"
                    );
                }
            }
        }
    }

    /// In good weather every root serves exactly the store, unless it has a reason not to.
    pub fn check_well(&self, now: Duration, store: &Store, accepts: impl Fn(&Settings) -> bool) {
        let position = self.sync.in_use();
        let pinned_elsewhere =
            |settings: &Settings| settings.store.as_ref().is_some_and(|pinned| **pinned != *store.id);
        // One table serves all. Another store gets in where some configuration names it or has outlived its keys, and
        // where none names the one in use.
        let other = position.is_some_and(|position| *position.store != *store.id);
        let named = |id: &str| self.roots.iter().any(|(_, settings)| settings.store.as_deref() == Some(id));
        let lets_in = |settings: &Settings| match &settings.store {
            Some(pinned) => **pinned == *store.id,
            None => settings.max_staleness.is_some() && position.is_none_or(|position| !named(position.store)),
        };
        // A store that seems to have lost most of its keys is kept out like another one, until the table in use has outlived
        // its limit. It seems so only to a VM that has to load it from the start: because the store went back, or because
        // the tombstones that the VM needs are gone.
        let behind = position.filter(|position| {
            position.mark != store.marks.get(&position.revision).copied() || store.compacted > position.revision
        });
        let few = |held: usize| store.live.is_empty() || store.live.len() < held.div_ceil(2);
        let shrunk = !other && behind.is_some_and(|position| position.keys > 0 && few(position.keys));
        let limited = |settings: &Settings| accepts(settings) && settings.max_staleness.is_some();
        let shrunk = shrunk && !self.roots.iter().any(|(_, settings)| limited(settings));
        let kept_out =
            shrunk || other && !self.roots.iter().any(|(_, settings)| accepts(settings) && lets_in(settings));
        for (root, settings) in &self.roots {
            let keys = self.sync.keys(*root, now);
            assert!(!pinned_elsewhere(settings) || other || keys.is_err(), "a store that is not the pinned one");
            if !accepts(settings) || pinned_elsewhere(settings) || kept_out {
                continue;
            }
            let keys = keys.unwrap_or_else(|why| panic!("{settings:?} serves nothing: {why:?} {position:?}"));
            assert_eq!((keys.len(), keys.checksum()), (store.live.len(), store.checksum()), "{position:?}");
        }
    }
}

fn equal(table: &KeyTable, keys: &Keys, ever: &BTreeMap<Digest, ()>) -> bool {
    let found = keys.values().all(|key| {
        let view = Digest::from_hex(&key.sha256).ok().and_then(|digest| table.get(&digest));
        view.is_some_and(|view| {
            view.id.to_string() == key.id
                && view.name == key.name
                && view.disabled == key.disabled
                && view.expires_at == key.expires_at.as_deref().and_then(|text| Timestamp::parse(text).ok())
                && *view.permissions == key.permissions.iter().collect()
        })
    });
    let known = ever.keys().filter(|digest| table.get(digest).is_some()).count();
    found && table.len() == keys.len() && table.iter().count() == keys.len() && known == keys.len()
}

//! An admin service for the fuzz target `hooks`: its keys, what it answers, and what it was told.

use keyward_policy::checksum::{Checksum, contribution};
use keyward_policy::digest::Digest;
use keyward_policy::manifest::{Change, FORMAT, Live, LiveKey, Page};
use std::collections::{BTreeMap, BTreeSet};

/// The number of keys. Number 0 is in configurations alone.
pub const KEYS: u8 = 4;

pub fn secret(number: u8) -> String {
    format!("kw_fuzzed_{number}_key")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Live,
    Disabled,
    Expired,
    Deleted,
}

impl State {
    pub fn of(number: u8) -> Self {
        [Self::Live, Self::Deleted, Self::Disabled, Self::Expired][usize::from(number % 4)]
    }
}

pub struct Service {
    store: String,
    revision: u64,
    /// The newest change of each key, by its revision.
    changes: BTreeMap<u64, (u8, State)>,
    /// The keys that were ever good.
    were_good: BTreeSet<u8>,
    /// The newest revision from which a filter has polled.
    pub acknowledged: u64,
}

impl Service {
    pub fn new(number: usize) -> Self {
        let (changes, were_good) = (BTreeMap::new(), BTreeSet::new());
        Self { store: format!("st_{number}"), revision: 0, changes, were_good, acknowledged: 0 }
    }

    pub fn change(&mut self, key: u8, state: State) {
        self.changes.retain(|_, (have, _)| *have != key);
        self.revision += 1;
        self.changes.insert(self.revision, (key, state));
        if state == State::Live {
            self.were_good.insert(key);
        }
    }

    /// Returns whether a request with this key may be allowed now: the key was good at some time, and a filter that has
    /// acknowledged its end must refuse it.
    pub fn may_allow(&self, key: u8) -> bool {
        let newest = self.changes.iter().find(|(_, (have, _))| *have == key);
        let has_ended =
            |(revision, (_, state)): (&u64, &(u8, State))| *state != State::Live && *revision <= self.acknowledged;
        self.were_good.contains(&key) && !newest.is_some_and(has_ended)
    }

    pub fn page(&self, since: u64) -> Vec<u8> {
        let live = |revision: u64, id: u8, state: State| LiveKey {
            revision,
            id: format!("key-{id}").into(),
            name: "name".into(),
            sha256: Digest::of_key(secret(id).as_bytes()).to_hex().into(),
            permissions: vec!["a:read".into()],
            expires_at: (state == State::Expired).then(|| "2020-01-01T00:00:00Z".into()),
            disabled: state == State::Disabled,
            must: Vec::new(),
        };
        let mut sum = Checksum::default();
        let held: Vec<_> = self.changes.iter().filter(|(_, (_, state))| *state != State::Deleted).collect();
        held.iter().for_each(|(revision, (id, state))| sum.add(contribution(&live(**revision, *id, *state))));
        let change = |(revision, (id, state)): (&u64, &(u8, State))| match state {
            State::Deleted => Change::Deleted { revision: *revision, id: format!("key-{id}").into() },
            _ => Change::Live(live(*revision, *id, *state)),
        };
        let page = Page {
            format: FORMAT,
            store: self.store.as_str().into(),
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

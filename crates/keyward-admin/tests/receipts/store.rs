//! The store as it should be: live keys, tombstones, a mark for every revision, and the tables that instances may serve
//! from.

use crate::dice::Dice;
use keyward_admin::store::proxies::ProxyRecord;
use keyward_policy::checksum::{Checksum, contribution};
use keyward_policy::digest::Digest;
use keyward_policy::manifest::{Change, FORMAT, Live, LiveKey, Page};
use keyward_policy::timeline::{Mark, Point};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default)]
pub struct Store {
    pub revision: u64,
    pub marks: BTreeMap<u64, Mark>,
    pub live: BTreeMap<String, LiveKey<'static>>,
    pub tombstones: BTreeMap<u64, String>,
    /// By node, instance, table and token.
    pub rows: BTreeMap<[String; 4], ProxyRecord>,
}

impl Store {
    pub fn point(&self) -> Point {
        Point { revision: self.revision, mark: self.marks.get(&self.revision).copied().unwrap_or_default() }
    }

    /// Whether a state led to the newest one.
    pub fn passed(&self, point: Point) -> bool {
        point == Point::default() || self.marks.get(&point.revision) == Some(&point.mark)
    }

    fn advance(&mut self, dice: &mut Dice) -> u64 {
        self.revision += 1;
        self.marks.insert(self.revision, Mark::from_bits(dice.next()));
        self.revision
    }

    pub fn create(&mut self, dice: &mut Dice) {
        let revision = self.advance(dice);
        let id = format!("key-{}", dice.next());
        let key = LiveKey {
            revision,
            id: id.clone().into(),
            name: "n".into(),
            sha256: Digest::of_key(&dice.next().to_le_bytes()).to_hex().into(),
            permissions: Vec::new(),
            expires_at: None,
            disabled: false,
            must: Vec::new(),
        };
        self.live.insert(id, key);
    }

    /// Deletes a key and returns its digest.
    pub fn delete(&mut self, dice: &mut Dice) -> Option<Digest> {
        let at = dice.below(self.live.len() as u64) as usize;
        let id = self.live.keys().nth(at)?.clone();
        let revision = self.advance(dice);
        let key = self.live.remove(&id)?;
        self.tombstones.insert(revision, id);
        Digest::from_hex(&key.sha256).ok()
    }

    pub fn is_live(&self, digest: &Digest) -> bool {
        let hex = digest.to_hex();
        self.live.values().any(|key| key.sha256 == hex)
    }

    /// What the service answers.
    pub fn page(&self, since: u64, base: u64, mark: Option<Mark>, limit: usize) -> Result<(String, bool, u64), u16> {
        let is_elsewhere = mark.is_some_and(|mark| !self.passed(Point { revision: since, mark }));
        if since.max(base) > self.revision || is_elsewhere {
            return Err(410);
        }
        let live = self.live.values().filter(|key| key.revision > since).map(|key| Change::Live(key.clone()));
        let dead = self.tombstones.iter().filter(|(revision, _)| since > 0 && **revision > since.max(base));
        let dead = dead.map(|(revision, id)| Change::Deleted { revision: *revision, id: id.clone().into() });
        let mut keys: Vec<Change<'_>> = live.chain(dead).collect();
        keys.sort_by_key(Change::revision);
        let more = keys.len() > limit;
        keys.truncate(limit);
        let revision = if more { keys.last().map_or(since, Change::revision) } else { self.revision };
        let mut sum = Checksum::default();
        self.live.values().for_each(|key| sum.add(contribution(key)));
        let live = Live { count: self.live.len() as u64, checksum: (!more).then(|| sum.to_string().into()) };
        let mark = (!more).then(|| self.point().mark);
        let page =
            Page { format: FORMAT, store: "st_1".into(), since, revision, mark, head: self.revision, more, keys, live };
        Ok((serde_json::to_string(&page).unwrap_or_default(), more, revision))
    }
}

//! The store as it should be: live keys, tombstones, one revision for every change.

use crate::dice::Dice;
use keyward_policy::checksum::{Checksum, contribution};
use keyward_policy::digest::Digest;
use keyward_policy::key::KeyId;
use keyward_policy::manifest::LiveKey;
use keyward_policy::timeline::Mark;
use std::collections::BTreeMap;
use std::rc::Rc;

pub type Keys = BTreeMap<String, Rc<LiveKey<'static>>>;

#[derive(Debug, Clone)]
pub struct Store {
    pub id: String,
    pub revision: u64,
    /// The mark of every revision; a copy that goes on by itself draws others.
    pub marks: BTreeMap<u64, Mark>,
    pub live: Keys,
    pub tombstones: BTreeMap<u64, String>,
    /// The newest tombstone that was thrown away.
    pub compacted: u64,
}

impl Store {
    pub fn new(id: String) -> Self {
        let marks = BTreeMap::from([(0, Mark::default())]);
        Self { id, revision: 0, marks, live: Keys::new(), tombstones: BTreeMap::new(), compacted: 0 }
    }

    /// The mark of the newest revision.
    pub fn mark(&self) -> Mark {
        self.marks.get(&self.revision).copied().unwrap_or_default()
    }

    fn advance(&mut self, dice: &mut Dice) {
        self.revision += 1;
        self.marks.insert(self.revision, Mark::from_bits(dice.next()));
    }

    pub fn checksum(&self) -> Checksum {
        let mut sum = Checksum::default();
        self.live.values().for_each(|key| sum.add(contribution(key)));
        sum
    }

    pub fn create(&mut self, dice: &mut Dice) {
        let packed: [u8; 10] = std::array::from_fn(|_| dice.next() as u8);
        let id =
            if dice.chance(90) { KeyId::Packed(packed).to_string() } else { format!("ci/{}", dice.below(1 << 40)) };
        let names = ["CI Bot", "Backend Production", "é", "a name that is longer than others"];
        let key = LiveKey {
            revision: 0,
            id: id.clone().into(),
            name: dice.pick(&names).copied().unwrap_or_default().into(),
            sha256: Digest::of_key(&dice.next().to_le_bytes()).to_hex().into(),
            permissions: ["a", "b", "c"].into_iter().filter(|_| dice.chance(50)).map(Into::into).collect(),
            expires_at: dice.chance(50).then(|| "2027-01-01T00:00:00Z".into()),
            disabled: dice.chance(10),
            must: Vec::new(),
        };
        self.put(id, key, dice);
    }

    pub fn regenerate(&mut self, dice: &mut Dice) {
        if let Some((id, mut key)) = self.any(dice) {
            key.sha256 = Digest::of_key(&dice.next().to_le_bytes()).to_hex().into();
            self.put(id, key, dice);
        }
    }

    pub fn edit(&mut self, dice: &mut Dice) {
        if let Some((id, mut key)) = self.any(dice) {
            key.disabled = !key.disabled;
            self.put(id, key, dice);
        }
    }

    pub fn delete(&mut self, dice: &mut Dice) {
        if let Some((id, _)) = self.any(dice) {
            self.delete_key(id, dice);
        }
    }

    pub fn delete_key(&mut self, id: String, dice: &mut Dice) {
        self.advance(dice);
        self.live.remove(&id);
        self.tombstones.insert(self.revision, id);
    }

    pub fn compact(&mut self, up_to: u64) {
        let newer = self.tombstones.split_off(&(up_to + 1));
        let gone = std::mem::replace(&mut self.tombstones, newer);
        self.compacted = self.compacted.max(gone.keys().next_back().copied().unwrap_or(0));
    }

    pub fn any(&self, dice: &mut Dice) -> Option<(String, LiveKey<'static>)> {
        let (id, key) = self.live.iter().nth(dice.below(self.live.len() as u64) as usize)?;
        Some((id.clone(), LiveKey::clone(key)))
    }

    fn put(&mut self, id: String, mut key: LiveKey<'static>, dice: &mut Dice) {
        self.advance(dice);
        key.revision = self.revision;
        self.live.insert(id, Rc::new(key));
    }
}

//! The keys that are in force, found by digest on every request and by id on every change.
//!
//! A VM may hold a million of them in a linear memory that never shrinks, and no callback may take long. So a key is an
//! [entry](entry) of 52 bytes in chunks that are never moved, found through two [indexes](index) of four bytes a slot
//! that grow a part at a time. Permission sets are kept once. What does not fit into an entry stands [aside](side).
//!
//! # Why 16 bytes of a digest are enough
//!
//! Of the 32 bytes of SHA-256 the table keeps and compares the first 16. To be let in without a key one has to find
//! input whose digest starts with the same 128 bits as one of the n digests held: a second preimage, 2¹²⁸ / n tries on
//! average, which is 2¹⁰⁸ at a million keys, each try a request to the proxy, or an offline hash by somebody who has the
//! digests. Collisions, which come at 2⁶⁴, are of no use here: the keys are not chosen by those who would attack, and
//! two keys of one's own with the same 16 bytes only make the second one be refused. By accident two of a million
//! random keys share 128 bits with a probability of 10⁻²⁷.

mod entry;
mod index;
mod invalid;
mod permissions;
mod record;
mod side;
mod slab;

pub use invalid::{InvalidRecord, RecordProblem};
pub use record::Record;

use crate::checksum::{Checksum, splitmix64};
use crate::digest::Digest;
use crate::key::{KeyId, KeyView};
use crate::manifest::LiveKey;
use crate::timestamp::Timestamp;
use entry::{Entry, Flags, INLINE_NAME, Rest};
use index::{Index, MAX_NUMBERS};
use permissions::PermissionSets;
use side::Side;
use slab::Slab;

/// What a table may take, by its own estimate: two of them, one in use and one being built, leave room to spare in the
/// 1 GiB that Envoy allows a VM.
pub const MAX_BYTES: usize = 384 << 20;

/// The live keys of a store, or of a plugin config: at most 16,777,215, within [`MAX_BYTES`].
#[derive(Debug, Default)]
pub struct KeyTable {
    entries: Slab<Entry>,
    sides: Slab<Side>,
    permissions: PermissionSets,
    by_digest: Index,
    by_id: Index,
    len: usize,
    bytes_aside: usize,
    checksum: Checksum,
}

impl KeyTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Room for `keys` keys altogether, made in steps, so that growth never shows.
    pub fn reserve(&mut self, keys: usize) {
        self.by_digest.reserve(keys);
        self.by_id.reserve(keys);
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The checksum over all keys, as `live.checksum` states it.
    pub fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// The key with this digest. Allocates nothing.
    pub fn get(&self, digest: &Digest) -> Option<KeyView<'_>> {
        self.number_of_digest(digest).and_then(|number| self.view(self.entries.get(number)?))
    }

    /// Whether a key has this id.
    pub fn contains_id(&self, id: &str) -> bool {
        self.number_of_id(id).is_some()
    }

    /// What the key with this id adds to the checksum.
    pub fn contribution_of(&self, id: &str) -> Option<u64> {
        self.number_of_id(id).and_then(|number| self.entries.get(number)).map(Entry::contribution)
    }

    /// Takes a key in, in place of whatever had its id; the digest that one had stops working.
    ///
    /// # Errors
    /// [`InvalidRecord`] where `sha256` or `expires_at` cannot be read, where another id holds the digest, or where
    /// there is no room. The table is unchanged then.
    pub fn upsert(&mut self, key: &LiveKey<'_>) -> Result<(), InvalidRecord> {
        self.upsert_record(&Record::read(key)?)
    }

    /// As [`upsert`](Self::upsert), with the fields read before.
    ///
    /// # Errors
    /// [`InvalidRecord`] where another id holds the digest, or where there is no room. The table is unchanged then.
    pub fn upsert_record(&mut self, record: &Record<'_>) -> Result<(), InvalidRecord> {
        let key = record.key;
        let old = self.number_of_id(&key.id);
        if self.number_of_digest(&record.digest).is_some_and(|holder| Some(holder) != old) {
            return Err(record.invalid(RecordProblem::DigestTaken));
        }
        let mut names: Vec<&str> = key.permissions.iter().map(AsRef::as_ref).collect();
        names.sort_unstable();
        names.dedup();
        let full = || record.invalid(RecordProblem::Full);
        if self.bytes() + aside_bytes(key) > MAX_BYTES {
            return Err(full());
        }
        let set = self.permissions.hold(&names).ok_or_else(full)?;
        let Some(entry) = self.make_entry(record, set) else {
            self.permissions.release(set);
            return Err(full());
        };
        match self.entries.insert(entry, MAX_NUMBERS) {
            Err(entry) => {
                self.drop_parts(&entry);
                Err(full())
            }
            Ok(number) => {
                if let Some(old) = old {
                    self.remove_number(old);
                }
                let entries = &self.entries;
                self.by_digest.insert(digest_hash(&record.digest), number, |n| entry_digest_hash(entries, n));
                let (entries, sides) = (&self.entries, &self.sides);
                self.by_id.insert(id_hash(&KeyId::parse(&key.id)), number, |n| entry_id_hash(entries, sides, n));
                self.len += 1;
                self.checksum.add(record.contribution);
                Ok(())
            }
        }
    }

    /// Takes the key with this id out; false where there is none.
    pub fn remove(&mut self, id: &str) -> bool {
        let number = self.number_of_id(id);
        number.is_some_and(|number| self.remove_number(number))
    }

    /// Every key, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = KeyView<'_>> {
        self.entries.iter().filter(|entry| entry.is_live()).filter_map(|entry| self.view(entry))
    }

    /// About what the table takes, for the limit.
    fn bytes(&self) -> usize {
        self.len * 64 + self.bytes_aside + self.permissions.bytes()
    }

    fn number_of_digest(&self, digest: &Digest) -> Option<u32> {
        let tail = digest_tail(digest);
        let same = |number| self.entries.get(number).is_some_and(|entry| entry.digest == tail);
        self.by_digest.find(digest_hash(digest), same)
    }

    fn number_of_id(&self, id: &str) -> Option<u32> {
        let id = KeyId::parse(id);
        let same = |number| self.entries.get(number).and_then(|entry| entry_id(&self.sides, entry)) == Some(id);
        self.by_id.find(id_hash(&id), same)
    }

    /// The entry for a record, with its side record made where it needs one. None: no room.
    fn make_entry(&mut self, record: &Record<'_>, set: u32) -> Option<Entry> {
        let key = record.key;
        let flags = Flags { disabled: key.disabled, unsupported: !key.must.is_empty() };
        let (packed, text) = match KeyId::parse(&key.id) {
            KeyId::Packed(bytes) => (bytes, None),
            KeyId::Text(text) => ([0; 10], Some(text)),
        };
        let seconds = match record.expires_at.map(Timestamp::unix_ms) {
            None => Some(None),
            Some(ms) if ms > 0 && ms % 1_000 == 0 => u32::try_from(ms / 1_000).ok().map(Some),
            Some(_) => None,
        };
        let rest = match (text, seconds) {
            (None, Some(expires_s)) if key.name.len() <= INLINE_NAME => Rest::Here { name: &key.name, expires_s },
            _ => {
                let side =
                    Side::Used { name: (&*key.name).into(), id: text.map(Into::into), expires_at: record.expires_at };
                let bytes = side_bytes(&side);
                let number = self.sides.insert(side, MAX_NUMBERS).ok()?;
                self.bytes_aside += bytes;
                Rest::Aside(number)
            }
        };
        Some(Entry::new(digest_tail(&record.digest), record.contribution, set, flags, packed, rest))
    }

    fn remove_number(&mut self, number: u32) -> bool {
        let Some(entry) = self.entries.get(number).copied() else { return false };
        let entries = &self.entries;
        self.by_digest.remove(entry_digest_hash(entries, number), number, |n| entry_digest_hash(entries, n));
        let (entries, sides) = (&self.entries, &self.sides);
        self.by_id.remove(entry_id_hash(entries, sides, number), number, |n| entry_id_hash(entries, sides, n));
        self.drop_parts(&entry);
        self.entries.remove(number);
        self.len -= 1;
        self.checksum.remove(entry.contribution());
        true
    }

    fn drop_parts(&mut self, entry: &Entry) {
        self.permissions.release(entry.set());
        if let Some(number) = entry.aside() {
            self.bytes_aside -= self.sides.get(number).map_or(0, side_bytes);
            self.sides.remove(number);
        }
    }

    fn view<'a>(&'a self, entry: &'a Entry) -> Option<KeyView<'a>> {
        let (name, expires_at) = match entry.rest() {
            Rest::Here { name, expires_s } => (name, expires_s.map(|s| Timestamp::from_unix_ms(i64::from(s) * 1_000))),
            Rest::Aside(number) => match self.sides.get(number)? {
                Side::Used { name, expires_at, .. } => (&**name, *expires_at),
                Side::Free { .. } => return None,
            },
        };
        let Flags { disabled, unsupported } = entry.flags();
        let permissions = self.permissions.get(entry.set())?;
        Some(KeyView { id: entry_id(&self.sides, entry)?, name, permissions, expires_at, disabled, unsupported })
    }
}

fn aside_bytes(key: &LiveKey<'_>) -> usize {
    key.name.len() + key.id.len()
}

fn side_bytes(side: &Side) -> usize {
    match side {
        Side::Used { name, id, .. } => 64 + name.len() + id.as_ref().map_or(0, |id| id.len()),
        Side::Free { .. } => 0,
    }
}

fn entry_id<'a>(sides: &'a Slab<Side>, entry: &Entry) -> Option<KeyId<'a>> {
    if let Some(number) = entry.aside()
        && let Side::Used { id: Some(id), .. } = sides.get(number)?
    {
        return Some(KeyId::Text(id));
    }
    Some(KeyId::Packed(entry.id))
}

/// Digests are random already: their first 8 bytes are the hash.
fn digest_hash(digest: &Digest) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Bytes 1 to 15.
fn digest_tail(digest: &Digest) -> [u8; 15] {
    let [_, tail @ ..] = *digest.as_bytes();
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, ..] = tail;
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o]
}

/// As [`digest_hash`] but for byte 0, which only the index knows.
fn entry_digest_hash(entries: &Slab<Entry>, number: u32) -> u64 {
    entries.get(number).map_or(0, |entry| {
        let [b, c, d, e, f, g, h, ..] = entry.digest;
        u64::from_be_bytes([0, b, c, d, e, f, g, h])
    })
}

fn id_hash(id: &KeyId<'_>) -> u64 {
    match id {
        KeyId::Packed([a, b, c, d, e, f, g, h, i, j]) => {
            let last = u64::from(u16::from_be_bytes([*i, *j]));
            splitmix64(u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) ^ splitmix64(last))
        }
        KeyId::Text(text) => hash_text(1, text),
    }
}

fn entry_id_hash(entries: &Slab<Entry>, sides: &Slab<Side>, number: u32) -> u64 {
    entries.get(number).and_then(|entry| entry_id(sides, entry)).map_or(0, |id| id_hash(&id))
}

/// Ids and permission names come from the admin service or from the plugin config, never from a client.
fn hash_text(seed: u64, text: &str) -> u64 {
    let mut hash = splitmix64(seed ^ text.len() as u64);
    for word in text.as_bytes().chunks(8) {
        let word = word.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        hash = splitmix64(hash ^ word);
    }
    hash
}

#[cfg(test)]
mod tests;

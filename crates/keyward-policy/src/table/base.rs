//! Where the keys stand: entries, indexes, sets and side records, kept in agreement.

use super::entry::{Entry, Flags, INLINE_NAME, Rest};
use super::hash::hash_text;
use super::index::{Index, MAX_NUMBERS};
use super::invalid::{InvalidRecord, RecordProblem, TableFull};
use super::permissions::PermissionSets;
use super::record::Record;
use super::side::Side;
use super::slab::Slab;
use crate::checksum::{Checksum, splitmix64};
use crate::digest::Digest;
use crate::key::{KeyId, KeyRef};
use crate::timestamp::Timestamp;

/// What one table may take, by its own estimate: two of them, one in use and one being built, leave room to spare in the
/// 1 GiB that Envoy allows a VM.
pub const MAX_TABLE_BYTES: usize = 384 << 20;

#[derive(Default)]
pub(super) struct Base {
    entries: Slab<Entry>,
    sides: Slab<Side>,
    permissions: PermissionSets,
    by_digest: Index,
    by_id: Index,
    len: usize,
    bytes_aside: usize,
    checksum: Checksum,
}

impl Base {
    /// Room for `keys` keys altogether, made in steps, so that growth never shows.
    pub(super) fn reserve(&mut self, keys: usize) {
        self.by_digest.reserve(keys);
        self.by_id.reserve(keys);
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The checksum over all keys, as `live.checksum` states it.
    pub(super) fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// The key with this digest. Allocates nothing.
    pub(super) fn get(&self, digest: &Digest) -> Option<KeyRef<'_>> {
        self.number_of_digest(digest).and_then(|number| self.view(self.entries.get(number)?))
    }

    /// Whether a key has this id.
    pub(super) fn contains_id(&self, id: &str) -> bool {
        self.number_of_id(id).is_some()
    }

    /// What the key with this id adds to the checksum.
    pub(super) fn contribution_of(&self, id: &str) -> Option<u64> {
        self.number_of_id(id).and_then(|number| self.entries.get(number)).map(Entry::contribution)
    }

    /// Takes a key in, in place of whatever had its id. Where that cannot be, nothing changes.
    pub(super) fn upsert(&mut self, record: &Record<'_>) -> Result<(), InvalidRecord> {
        let id = KeyId::parse(record.id);
        let old = self.number_of(&id);
        if self.number_of_digest(&record.digest).is_some_and(|holder| Some(holder) != old) {
            return Err(record.invalid(RecordProblem::DigestTaken));
        }
        let full = || record.invalid(RecordProblem::Full);
        if self.bytes() + record.name.len() + record.id.len() > MAX_TABLE_BYTES {
            return Err(full());
        }
        let set = self.permissions.hold(&record.permissions).ok_or_else(full)?;
        let Some(entry) = self.make_entry(record, &id, set) else {
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
                self.by_id.insert(id_hash(&id), number, |n| entry_id_hash(entries, sides, n));
                self.len += 1;
                self.checksum.add(record.contribution);
                Ok(())
            }
        }
    }

    /// Takes the key with this id out; false where there is none.
    pub(super) fn remove(&mut self, id: &str) -> bool {
        let number = self.number_of_id(id);
        number.is_some_and(|number| self.remove_number(number))
    }

    /// Every key, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = KeyRef<'_>> {
        self.entries.iter().filter(|entry| entry.is_live()).filter_map(|entry| self.view(entry))
    }

    /// The id of the key with this digest, if it has one.
    pub(super) fn holder(&self, digest: &Digest) -> Option<KeyId<'_>> {
        self.number_of_digest(digest).and_then(|number| entry_id(&self.sides, self.entries.get(number)?))
    }

    /// What stands at this place, as a record that another base takes; None for a free place, and past the last.
    pub(super) fn at(&self, number: u32) -> Option<At<'_>> {
        let entry = self.entries.get(number)?;
        if entry.is_gone() {
            return Some(At::Gone(entry_id(&self.sides, entry)?));
        }
        let Some(view) = entry.is_live().then(|| self.view(entry)).flatten() else { return Some(At::Free) };
        let tag = self.by_digest.tag_of(entry_digest_hash(&self.entries, number), number)?;
        let mut digest = [0; 32];
        let bytes = std::iter::once(tag).chain(entry.digest);
        digest.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Some(At::Key { view, digest: Digest::from_bytes(digest), contribution: entry.contribution() })
    }

    /// Notes that an id is gone; what had it here is.
    pub(super) fn put_gone(&mut self, id: &str) -> Result<(), TableFull> {
        self.remove(id);
        let parsed = KeyId::parse(id);
        let (packed, aside) = match parsed {
            KeyId::Packed(bytes) => (bytes, None),
            KeyId::Text(text) => {
                let side = Side::Used { name: "".into(), id: Some(text.into()), expires_at: None };
                let bytes = side_bytes(&side);
                let number = self.sides.insert(side, MAX_NUMBERS).map_err(|_| TableFull)?;
                self.bytes_aside += bytes;
                ([0; 10], Some(number))
            }
        };
        let number = self.entries.insert(Entry::gone(packed, aside), MAX_NUMBERS).map_err(|_| TableFull)?;
        let (entries, sides) = (&self.entries, &self.sides);
        self.by_id.insert(id_hash(&parsed), number, |n| entry_id_hash(entries, sides, n));
        self.len += 1;
        Ok(())
    }

    /// Whether an id is gone, or here; None: neither.
    pub(super) fn says_of(&self, id: &str) -> Option<bool> {
        let number = self.number_of_id(id)?;
        self.entries.get(number).map(Entry::is_live)
    }

    /// Frees a part of what takes time to free; false once nothing of that is left. The keys are of no use any more.
    pub(super) fn dismantle(&mut self) -> bool {
        /// As many as take about as long to free as one chunk of names.
        const CHUNKS: usize = 64;
        self.sides.drop_chunk()
            || self.permissions.drop_chunk()
            || (0..CHUNKS).filter(|_| self.entries.drop_chunk()).count() > 0
            || self.by_digest.dismantle()
            || self.by_id.dismantle()
    }

    /// About what the table takes, for the limit.
    pub(super) fn bytes(&self) -> usize {
        self.len * 64 + self.bytes_aside + self.permissions.bytes()
    }

    /// How many places there are for keys, free ones too.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.entries.iter().count()
    }

    fn number_of_digest(&self, digest: &Digest) -> Option<u32> {
        let tail = digest_tail(digest);
        let same = |number| self.entries.get(number).is_some_and(|entry| entry.digest == tail);
        self.by_digest.find(digest_hash(digest), same)
    }

    fn number_of_id(&self, id: &str) -> Option<u32> {
        self.number_of(&KeyId::parse(id))
    }

    fn number_of(&self, id: &KeyId<'_>) -> Option<u32> {
        let same = |number| self.entries.get(number).and_then(|entry| entry_id(&self.sides, entry)) == Some(*id);
        self.by_id.find(id_hash(id), same)
    }

    /// The entry for a record, with its side record made where it needs one. None: no room.
    fn make_entry(&mut self, record: &Record<'_>, id: &KeyId<'_>, set: u32) -> Option<Entry> {
        let flags = Flags { disabled: record.disabled, unsupported: record.unsupported };
        let (packed, text) = match id {
            KeyId::Packed(bytes) => (*bytes, None),
            KeyId::Text(text) => ([0; 10], Some(*text)),
        };
        let seconds = match record.expires_at.map(Timestamp::unix_ms) {
            None => Some(None),
            Some(ms) if ms > 0 && ms % 1_000 == 0 => u32::try_from(ms / 1_000).ok().map(Some),
            Some(_) => None,
        };
        let rest = match (text, seconds) {
            (None, Some(expires_s)) if record.name.len() <= INLINE_NAME => Rest::Here { name: record.name, expires_s },
            _ => {
                let side =
                    Side::Used { name: record.name.into(), id: text.map(Into::into), expires_at: record.expires_at };
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
        if entry.is_live() {
            self.by_digest.remove(entry_digest_hash(entries, number), number, |n| entry_digest_hash(entries, n));
        }
        let (entries, sides) = (&self.entries, &self.sides);
        self.by_id.remove(entry_id_hash(entries, sides, number), number, |n| entry_id_hash(entries, sides, n));
        self.drop_parts(&entry);
        self.entries.remove(number);
        self.len -= 1;
        self.checksum.remove(entry.contribution());
        true
    }

    fn drop_parts(&mut self, entry: &Entry) {
        if entry.is_live() {
            self.permissions.release(entry.set());
        }
        if let Some(number) = entry.aside() {
            self.bytes_aside -= self.sides.get(number).map_or(0, side_bytes);
            self.sides.remove(number);
        }
    }

    fn view<'a>(&'a self, entry: &'a Entry) -> Option<KeyRef<'a>> {
        let (name, expires_at) = match entry.rest() {
            Rest::Here { name, expires_s } => (name, expires_s.map(|s| Timestamp::from_unix_ms(i64::from(s) * 1_000))),
            Rest::Aside(number) => match self.sides.get(number)? {
                Side::Used { name, expires_at, .. } => (&**name, *expires_at),
                Side::Free { .. } => return None,
            },
        };
        let Flags { disabled, unsupported } = entry.flags();
        let permissions = self.permissions.get(entry.set())?;
        Some(KeyRef { id: entry_id(&self.sides, entry)?, name, permissions, expires_at, disabled, unsupported })
    }
}

/// What stands at a place.
pub(super) enum At<'a> {
    Free,
    Gone(KeyId<'a>),
    Key { view: KeyRef<'a>, digest: Digest, contribution: u64 },
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

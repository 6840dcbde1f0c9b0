//! The base of a table: entries, indexes, permission sets and side records, kept in agreement.

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
use std::sync::atomic::{AtomicUsize, Ordering};

/// The limit of memory for one table, by its own estimate.
pub const MAX_TABLE_BYTES: usize = 384 * MEBIBYTE;

/// The unit of the limits. Unit tests fill tables up to the limits, so it is smaller there.
const MEBIBYTE: usize = if cfg!(test) { 1 << 16 } else { 1 << 20 };

/// The limit of memory for all tables of a VM together, by their own estimate: those in use, those that are being built
/// and those that are on their way out, of every admin service. Envoy allows a VM 1 GiB.
pub const MAX_ALL_TABLES_BYTES: usize = 768 * MEBIBYTE;

/// What all tables take. A VM runs on one thread and shares this with no other VM.
static ALL_TABLES_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The keys themselves: entries, indexes, permission sets and side records.
#[derive(Default)]
pub(super) struct Base {
    entries: Slab<Entry>,
    sides: Slab<Side>,
    permissions: PermissionSets,
    by_digest: Index,
    by_id: Index,
    len: usize,
    bytes_aside: usize,
    /// What this table has added to [`ALL_TABLES_BYTES`].
    bytes_counted: usize,
    checksum: Checksum,
}

impl Drop for Base {
    fn drop(&mut self) {
        ALL_TABLES_BYTES.fetch_sub(self.bytes_counted, Ordering::Relaxed);
    }
}

impl Base {
    /// Makes room for `keys` keys altogether, in steps that take little time each.
    pub(super) fn reserve(&mut self, keys: usize) {
        self.by_digest.reserve(keys);
        self.by_id.reserve(keys);
    }

    /// Returns the number of keys.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the checksum over all keys, as `live.checksum` states it.
    pub(super) fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// Returns the key with this digest. Allocates nothing.
    #[inline]
    pub(super) fn get(&self, digest: &Digest) -> Option<KeyRef<'_>> {
        self.number_of_digest(digest).and_then(|number| self.view(self.entries.get(number)?))
    }

    /// Whether a key has this id.
    pub(super) fn contains_id(&self, id: &str) -> bool {
        self.number_of_id(id).is_some()
    }

    /// Returns what the key with this id adds to the checksum.
    pub(super) fn contribution_of(&self, id: &str) -> Option<u64> {
        self.number_of_id(id).and_then(|number| self.entries.get(number)).map(Entry::contribution)
    }

    /// Takes a key in, in place of the key with its id. Changes nothing if that cannot be done.
    pub(super) fn upsert(&mut self, record: &Record<'_>) -> Result<(), InvalidRecord> {
        let id = KeyId::parse(record.id);
        let old = self.number_of(&id);
        if self.number_of_digest(&record.digest).is_some_and(|holder| Some(holder) != old) {
            return Err(record.invalid(RecordProblem::DigestTaken));
        }
        let full = || record.invalid(RecordProblem::Full);
        let permissions: usize = record.permissions.iter().map(|name| name.len() + 24).sum();
        let more = 168 + record.name.len() + record.id.len() + permissions;
        let all = ALL_TABLES_BYTES.load(Ordering::Relaxed);
        if self.bytes() + more > MAX_TABLE_BYTES || all + more > MAX_ALL_TABLES_BYTES {
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
                self.count_bytes();
                Ok(())
            }
        }
    }

    /// Takes the key with this id out. Returns whether there was one.
    pub(super) fn remove(&mut self, id: &str) -> bool {
        let number = self.number_of_id(id);
        number.is_some_and(|number| self.remove_number(number))
    }

    /// Returns every key, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = KeyRef<'_>> {
        self.entries.iter().filter(|entry| entry.is_live()).filter_map(|entry| self.view(entry))
    }

    /// Returns the id of the key with this digest.
    pub(super) fn holder(&self, digest: &Digest) -> Option<KeyId<'_>> {
        self.number_of_digest(digest).and_then(|number| entry_id(&self.sides, self.entries.get(number)?))
    }

    /// Returns what is at this place. `None` means that it is past the last one.
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

    /// Notes that the key with this id is deleted, and takes it out here.
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
        self.count_bytes();
        Ok(())
    }

    /// Whether a key with this id is here. `None` means that it is neither here nor noted as deleted.
    pub(super) fn says_of(&self, id: &str) -> Option<bool> {
        let number = self.number_of_id(id)?;
        self.entries.get(number).map(Entry::is_live)
    }

    /// Frees a part of what takes time to free. Returns false once nothing of that is left. The keys cannot be used any more.
    pub(super) fn dismantle(&mut self) -> bool {
        /// The number that takes about as long to free as one chunk of names.
        const CHUNKS: usize = 64;
        self.sides.drop_chunk()
            || self.permissions.drop_chunk()
            || (0..CHUNKS).filter(|_| self.entries.drop_chunk()).count() > 0
            || self.by_digest.dismantle()
            || self.by_id.dismantle()
    }

    /// Returns about what the table takes, for the limits.
    pub(super) fn bytes(&self) -> usize {
        self.len * 64 + self.bytes_aside + self.permissions.bytes()
    }

    /// Brings what this table takes up to date in the sum over all tables.
    fn count_bytes(&mut self) {
        let bytes = self.bytes();
        if bytes >= self.bytes_counted {
            ALL_TABLES_BYTES.fetch_add(bytes - self.bytes_counted, Ordering::Relaxed);
        } else {
            ALL_TABLES_BYTES.fetch_sub(self.bytes_counted - bytes, Ordering::Relaxed);
        }
        self.bytes_counted = bytes;
    }

    /// Returns the number of places for keys, free ones included.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.entries.iter().count()
    }

    #[inline]
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

    /// Makes the entry for a record, and its side record if it needs one. `None` means that there is no room.
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
        self.count_bytes();
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

    #[inline]
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

/// What is at a place.
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

#[inline]
fn entry_id<'a>(sides: &'a Slab<Side>, entry: &Entry) -> Option<KeyId<'a>> {
    if let Some(number) = entry.aside()
        && let Side::Used { id: Some(id), .. } = sides.get(number)?
    {
        return Some(KeyId::Text(id));
    }
    Some(KeyId::Packed(entry.id))
}

/// Returns the hash of a digest: its first 8 bytes, because digests are random already.
#[inline]
fn digest_hash(digest: &Digest) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Returns bytes 1 to 15 of a digest.
#[inline]
fn digest_tail(digest: &Digest) -> [u8; 15] {
    let [_, tail @ ..] = *digest.as_bytes();
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, ..] = tail;
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o]
}

/// Returns the hash of an entry's digest without byte 0, which only the index knows.
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

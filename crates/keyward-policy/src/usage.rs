//! Which keys were used, for what and how often, and how often they were refused: counted per request, reported in batches.
//!
//! Uses and denials of a key are counted for each UTC day apart, so that a service that was away for days can still tell
//! on which day they were. Denials have entries of their own: a service that does not know them passes over these only.
//!
//! A batch carries a number and is sent again under the same one until the service has acknowledged it, which counts a
//! number once. So an answer that is lost counts nothing twice, and a service that is away loses nothing that fits.

use crate::checksum::splitmix64;
use crate::decision::Code;
use crate::key::KeyId;
use crate::timestamp::Timestamp;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

/// The most entries that wait to be reported. Requests that would need a further one are only counted as dropped.
pub const MAX_WAITING: usize = 10_000;

/// The most entries in one batch: making it is one callback's work.
pub const MAX_BATCH: usize = 500;

/// The pause between a report and the next, where no batch is full.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// The pause before a batch is sent again.
const RETRY: Duration = Duration::from_secs(5);

/// How many uses are noted before they are counted.
const MAX_NOTES: usize = 256;

/// How many lists of permissions notes can tell apart; routes ask for a handful of different ones.
const MAX_LISTS: usize = 32;

/// What was used and is not reported yet.
#[derive(Debug)]
pub struct UsageLog {
    vm: Box<str>,
    /// What was used and is not counted yet. A request only writes one of these, behind the last one; looking up its key
    /// among thousands, each with counts of its own, would touch memory that no cache holds.
    notes: Vec<Note>,
    /// The lists of permissions that notes refer to.
    lists: Vec<Box<[Box<str>]>>,
    waiting: Waiting,
    dropped: u64,
    seq: u64,
    batch: Option<Batch>,
    next_at: Duration,
}

/// One use of a key whose id has the service's shape.
#[derive(Debug, Clone, Copy)]
struct Note {
    id: [u8; 10],
    list: u16,
    at: Timestamp,
}

/// Hashing an id of the service's shape is a multiplication or two, and no text is made of it.
type Waiting = HashMap<Bucket, Usage, BuildHasherDefault<IdHasher>>;

/// What is counted together: the requests of one key on one day that were allowed, or those that were denied.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bucket {
    id: UsedId,
    /// The day, doubled, and one more where the requests were denied.
    day_and_kind: i64,
}

impl Bucket {
    fn new(id: UsedId, at: Timestamp, denied: bool) -> Self {
        Self { id, day_and_kind: at.day() * 2 + i64::from(denied) }
    }

    fn is_denied(&self) -> bool {
        self.day_and_kind & 1 == 1
    }
}

/// The id of a key, owned.
#[derive(Debug, PartialEq, Eq, Hash)]
enum UsedId {
    Packed([u8; 10]),
    Text(Box<str>),
}

impl UsedId {
    fn new(id: &KeyId<'_>) -> Self {
        match id {
            KeyId::Packed(bytes) => Self::Packed(*bytes),
            KeyId::Text(text) => Self::Text((*text).into()),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Packed(bytes) => KeyId::Packed(*bytes).to_string(),
            Self::Text(text) => text.to_string(),
        }
    }
}

/// Ids are chosen by the service, never by a client.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let word = word.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.0 = splitmix64(self.0 ^ word);
        }
    }

    fn write_usize(&mut self, _: usize) {
        // A length, which the bytes that follow give as well.
    }

    fn write_isize(&mut self, _: isize) {
        // Which kind of id.
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
struct Usage {
    count: u64,
    last_at: Timestamp,
    /// The permissions that were needed, or the codes of the denials, and how often.
    names: Vec<(Box<str>, u64)>,
}

#[derive(Debug)]
struct Batch {
    body: String,
    /// The number of uses in it.
    uses: u64,
    /// When it may be sent (again); while it is outstanding, when it counts as lost.
    next_at: Duration,
    outstanding: bool,
}

impl UsageLog {
    /// Begins with nothing; `vm` is what the service knows this VM by.
    pub fn new(vm: &str) -> Self {
        Self {
            vm: vm.into(),
            notes: Vec::new(),
            lists: Vec::new(),
            waiting: Waiting::default(),
            dropped: 0,
            seq: 0,
            batch: None,
            next_at: Duration::ZERO,
        }
    }

    /// A key was let through by these permissions. Every 256th use takes as long as counting as many takes.
    pub fn record(&mut self, id: &KeyId<'_>, permissions: &[Box<str>], at: Timestamp) {
        let list = self.lists.iter().position(|list| **list == *permissions);
        match (id, list) {
            (KeyId::Packed(id), Some(list)) if self.notes.len() < MAX_NOTES => {
                self.notes.push(Note { id: *id, list: list as u16, at });
            }
            _ => self.record_now(id, permissions, at),
        }
    }

    /// Counts that a key was found and refused.
    #[cold]
    #[inline(never)]
    pub fn record_denial(&mut self, id: &KeyId<'_>, code: Code, at: Timestamp) {
        if let Some(usage) = self.usage(Bucket::new(UsedId::new(id), at, true), 1, at) {
            usage.add(code.as_str(), 1);
        }
    }

    /// For the first use by a list, for ids of another shape, and where it is time to count.
    #[cold]
    #[inline(never)]
    fn record_now(&mut self, id: &KeyId<'_>, permissions: &[Box<str>], at: Timestamp) {
        self.count_notes();
        if self.lists.len() == MAX_LISTS {
            self.lists.clear();
        }
        if !self.lists.iter().any(|list| **list == *permissions) {
            self.lists.push(permissions.into());
        }
        self.notes.reserve_exact(MAX_NOTES);
        self.count(UsedId::new(id), permissions, at);
    }

    fn count_notes(&mut self) {
        let mut notes = std::mem::take(&mut self.notes);
        let lists = std::mem::take(&mut self.lists);
        for Note { id, list, at } in notes.drain(..) {
            let permissions = lists.get(usize::from(list)).map_or(&[][..], |list| list);
            self.count(UsedId::Packed(id), permissions, at);
        }
        (self.notes, self.lists) = (notes, lists);
    }

    fn count(&mut self, id: UsedId, permissions: &[Box<str>], at: Timestamp) {
        if let Some(usage) = self.usage(Bucket::new(id, at, false), 1, at) {
            permissions.iter().for_each(|permission| usage.add(permission, 1));
        }
    }

    /// Counts requests in a bucket, if there is room for it. `at` is the moment of the last of them.
    fn usage(&mut self, bucket: Bucket, count: u64, at: Timestamp) -> Option<&mut Usage> {
        if self.waiting.len() >= MAX_WAITING && !self.waiting.contains_key(&bucket) {
            self.dropped = self.dropped.saturating_add(count);
            return None;
        }
        let usage = self.waiting.entry(bucket).or_default();
        usage.count = usage.count.saturating_add(count);
        // The clock may go back; what was seen last does not.
        usage.last_at = usage.last_at.max(at);
        Some(usage)
    }

    /// Returns whether nothing was noted since the log was made or [`absorb`](Self::absorb)ed.
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty() && self.waiting.is_empty() && self.dropped == 0
    }

    /// Counts all that another log has noted. Each worker of the native edition has a log of its own, and the main thread
    /// reports.
    pub fn absorb(&mut self, mut other: Self) {
        other.count_notes();
        self.dropped = self.dropped.saturating_add(other.dropped);
        for (bucket, usage) in other.waiting {
            if let Some(into) = self.usage(bucket, usage.count, usage.last_at) {
                usage.names.iter().for_each(|(name, count)| into.add(name, *count));
            }
        }
    }

    /// Returns the number of requests that will not be reported, because the log was full or the service refused them,
    /// since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        self.count_notes();
        std::mem::take(&mut self.dropped)
    }

    /// How many entries wait to be reported, without those in a batch that is under way.
    pub fn waiting(&mut self) -> usize {
        self.count_notes();
        self.waiting.len()
    }

    /// The body of the `POST /v1/usage` that is to be sent now, within `timeout`.
    pub fn poll(&mut self, now: Duration, timeout: Duration) -> Option<&str> {
        if self.batch.is_none() && self.waiting() > 0 && now >= self.next_at {
            self.seq += 1;
            let (body, uses) = self.take_batch();
            self.batch = Some(Batch { body, uses, next_at: now, outstanding: false });
        }
        let batch = self.batch.as_mut().filter(|batch| now >= batch.next_at)?;
        batch.outstanding = true;
        // Without an outcome it is as good as lost, and sent again.
        batch.next_at = now + timeout + RETRY;
        Some(&batch.body)
    }

    /// What came of the batch that was sent: its status, if there was one.
    pub fn on_outcome(&mut self, status: Option<u16>, now: Duration) {
        let Some(batch) = self.batch.as_mut().filter(|batch| batch.outstanding) else { return };
        batch.outstanding = false;
        batch.next_at = now + RETRY;
        match status {
            Some(200..=299) => {
                self.batch = None;
                self.next_at = if self.waiting() >= MAX_BATCH { now } else { now + INTERVAL };
            }
            // What the service can never take must not stand in the way of all that follows.
            Some(400 | 413 | 422) => {
                self.dropped = self.dropped.saturating_add(batch.uses);
                self.batch = None;
            }
            _ => {}
        }
    }

    /// Returns the body of a batch, and the number of uses in it.
    fn take_batch(&mut self) -> (String, u64) {
        let mut keys = Vec::new();
        // Taken out while looking: whatever is over the limit stays.
        let used = self.waiting.extract_if(|_, _| true).take(MAX_BATCH);
        keys.extend(used.map(|(bucket, usage)| Reported { bucket, usage }));
        let uses = keys.iter().fold(0, |uses: u64, key: &Reported| uses.saturating_add(key.usage.count));
        (serde_json::to_string(&Report { vm: &self.vm, seq: self.seq, keys }).unwrap_or_default(), uses)
    }
}

/// The body of `POST /v1/usage`.
#[derive(serde::Serialize)]
struct Report<'a> {
    vm: &'a str,
    seq: u64,
    keys: Vec<Reported>,
}

/// What one key was used for on one day, or why it was refused.
struct Reported {
    bucket: Bucket,
    usage: Usage,
}

impl Serialize for Reported {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { bucket, usage } = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &bucket.id.text())?;
        let (last_at, names) = if bucket.is_denied() {
            ("last_denied_at", "denials")
        } else {
            map.serialize_entry("count", &usage.count)?;
            ("last_used_at", "permissions")
        };
        map.serialize_entry(last_at, &usage.last_at.to_string())?;
        map.serialize_entry(names, &Counts(&usage.names))?;
        map.end()
    }
}

/// Names and how often each was counted, as a JSON object.
struct Counts<'a>(&'a [(Box<str>, u64)]);

impl Serialize for Counts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, count) in self.0 {
            map.serialize_entry(name, count)?;
        }
        map.end()
    }
}

impl Default for Usage {
    fn default() -> Self {
        Self { count: 0, last_at: Timestamp::from_unix_ms(i64::MIN), names: Vec::new() }
    }
}

impl Usage {
    fn add(&mut self, name: &str, count: u64) {
        match self.names.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, sum)) => *sum = sum.saturating_add(count),
            None => self.names.push((name.into(), count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const TIMEOUT: Duration = Duration::from_secs(2);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn use_key(log: &mut UsageLog, id: &str, permissions: &[&str], ms: i64) {
        let permissions: Vec<Box<str>> = permissions.iter().map(|name| (*name).into()).collect();
        log.record(&KeyId::parse(id), &permissions, Timestamp::from_unix_ms(ms));
    }

    /// What was counted: requests, the last of them, and names.
    type Sums = HashMap<(String, i64, bool), (u64, i64, HashMap<String, u64>)>;

    proptest! {
        /// However often counting is put off, and whatever is told apart until then.
        #[test]
        fn every_request_is_counted_once_on_its_day(
            uses in proptest::collection::vec((0..40_u8, 0..90_u8, any::<i32>(), 0..30_u8, 0..4_u8), 0..900),
        ) {
            const CODES: [Code; 2] = [Code::KeyDisabled, Code::RouteDenied];
            let id = |number: u8| match number {
                0 => "ci".to_owned(),
                _ => format!("key_abcdefghijklmn{}{}", char::from(b'a' + number / 26), char::from(b'a' + number % 26)),
            };
            let list = |number: u8| (0..number % 3).map(|n| format!("p{}", number + n)).collect::<Vec<_>>();
            let day = |ms: i64| ms.div_euclid(86_400_000);
            let mut log = UsageLog::new("vm_1");
            let mut expected = Sums::new();
            let mut reported = Sums::new();
            let mut report = |log: &mut UsageLog| {
                let Some(body) = log.poll(at(0), TIMEOUT).map(str::to_owned) else { return };
                log.on_outcome(Some(200), at(0));
                log.next_at = Duration::ZERO;
                for key in serde_json::from_str::<Value>(&body).unwrap()["keys"].as_array().unwrap() {
                    let denied = key.get("denials").is_some();
                    let (last, names) = if denied { ("last_denied_at", "denials") } else { ("last_used_at", "permissions") };
                    let last = Timestamp::parse(key[last].as_str().unwrap()).unwrap().unix_ms();
                    let bucket = (key["id"].as_str().unwrap().to_owned(), day(last), denied);
                    let names = key[names].as_object().unwrap();
                    let all: u64 = names.values().map(|count| count.as_u64().unwrap()).sum();
                    let sum = reported.entry(bucket).or_insert((0, i64::MIN, HashMap::new()));
                    sum.0 += key["count"].as_u64().unwrap_or(all);
                    sum.1 = sum.1.max(last);
                    for (name, count) in names {
                        *sum.2.entry(name.clone()).or_default() += count.as_u64().unwrap();
                    }
                }
            };
            for (number, permissions, ms, then, denied) in uses {
                let (id, permissions) = (id(number), list(permissions));
                let ms = i64::from(ms).abs();
                let code = CODES.into_iter().nth(usize::from(denied));
                let sum = expected.entry((id.clone(), day(ms), code.is_some())).or_insert((0, i64::MIN, HashMap::new()));
                sum.0 += 1;
                sum.1 = sum.1.max(ms);
                let names = match code {
                    Some(code) => {
                        log.record_denial(&KeyId::parse(&id), code, Timestamp::from_unix_ms(ms));
                        vec![code.to_string()]
                    }
                    None => {
                        use_key(&mut log, &id, &permissions.iter().map(String::as_str).collect::<Vec<_>>(), ms);
                        permissions
                    }
                };
                names.into_iter().for_each(|name| *sum.2.entry(name).or_default() += 1);
                if then == 0 {
                    report(&mut log);
                }
            }
            while log.waiting() > 0 {
                report(&mut log);
            }
            prop_assert_eq!(reported, expected);
            prop_assert_eq!(log.take_dropped(), 0);
        }
    }

    #[test]
    fn denials_and_other_days_have_entries_of_their_own() {
        const DAY: i64 = 86_400_000;
        let mut log = UsageLog::new("vm_1");
        use_key(&mut log, "ci", &["a"], DAY - 1);
        use_key(&mut log, "ci", &["a"], DAY);
        for code in [Code::KeyDisabled, Code::PermissionMissing, Code::KeyDisabled] {
            log.record_denial(&KeyId::parse("ci"), code, Timestamp::from_unix_ms(DAY));
        }
        let body: Value = serde_json::from_str(log.poll(at(0), TIMEOUT).unwrap()).unwrap();
        let mut entries = body["keys"].as_array().unwrap().clone();
        entries.sort_by_key(ToString::to_string);
        assert_eq!(
            entries,
            [
                json!({"id": "ci", "count": 1, "last_used_at": "1970-01-01T23:59:59.999Z", "permissions": {"a": 1}}),
                json!({"id": "ci", "count": 1, "last_used_at": "1970-01-02T00:00:00Z", "permissions": {"a": 1}}),
                json!({"id": "ci", "last_denied_at": "1970-01-02T00:00:00Z", "denials": {"key_disabled": 2, "permission_missing": 1}}),
            ]
        );
        // A batch that the service can never take is dropped with the number of its requests.
        log.on_outcome(Some(422), at(0));
        assert_eq!(log.take_dropped(), 5);
    }

    #[test]
    fn a_batch_says_what_was_used_and_is_sent_until_acknowledged() {
        let mut log = UsageLog::new("vm_1");
        assert_eq!(log.poll(at(0), TIMEOUT), None);
        use_key(&mut log, "key_abcdefghijklm234", &["a:read", "a:write"], 2_000);
        use_key(&mut log, "key_abcdefghijklm234", &["a:read"], 1_000);
        use_key(&mut log, "ci", &[], 3_000);
        let mut expected: Value = serde_json::from_str(log.poll(at(0), TIMEOUT).unwrap()).unwrap();
        let first = expected.clone();
        expected["keys"].as_array_mut().unwrap().sort_by_key(|key| key["id"].as_str().map(str::len));
        assert_eq!(
            expected,
            json!({"vm": "vm_1", "seq": 1, "keys": [
            {"id": "ci", "count": 1, "last_used_at": "1970-01-01T00:00:03Z", "permissions": {}},
            {"id": "key_abcdefghijklm234", "count": 2, "last_used_at": "1970-01-01T00:00:02Z",
             "permissions": {"a:read": 2, "a:write": 1}}]})
        );
        // Under way: nothing else is sent; what is used meanwhile waits for the next batch.
        use_key(&mut log, "ci", &[], 4_000);
        assert_eq!(log.poll(at(1), TIMEOUT), None);
        for (status, now) in [(Some(503), 2), (None, 10), (Some(401), 20)] {
            log.on_outcome(status, at(now));
            assert_eq!(log.poll(at(now + 1), TIMEOUT), None);
            assert_eq!(serde_json::from_str::<Value>(log.poll(at(now + 5), TIMEOUT).unwrap()).unwrap(), first);
        }
        // No outcome at all.
        assert!(log.poll(at(31), TIMEOUT).is_none());
        assert_eq!(serde_json::from_str::<Value>(log.poll(at(32), TIMEOUT).unwrap()).unwrap(), first);
        log.on_outcome(Some(204), at(33));
        assert_eq!(log.poll(at(34), TIMEOUT), None);
        let second: Value = serde_json::from_str(log.poll(at(38), TIMEOUT).unwrap()).unwrap();
        assert_eq!((second["seq"].as_u64(), second["keys"][0]["count"].as_u64()), (Some(2), Some(1)));
    }

    #[test]
    fn what_several_logs_have_noted_is_reported_as_one_would() {
        let (mut one, mut main) = (UsageLog::new("vm_1"), UsageLog::new("vm_1"));
        let mut workers = [UsageLog::new(""), UsageLog::new("")];
        for n in 0..700_usize {
            let (id, ms) = (["key_abcdefghijklm234", "ci"][n % 2], i64::try_from(n).unwrap());
            for log in [&mut one, &mut workers[n % 3 % 2]] {
                use_key(log, id, &["a:read"][..n % 5 % 2], ms);
            }
        }
        for worker in workers {
            assert!(!worker.is_empty());
            main.absorb(worker);
        }
        let report = |log: &mut UsageLog| {
            let mut body: Value = serde_json::from_str(log.poll(at(0), TIMEOUT).unwrap()).unwrap();
            body["keys"].as_array_mut().unwrap().sort_by_key(|key| key["id"].as_str().map(str::to_owned));
            body
        };
        assert_eq!(report(&mut main), report(&mut one));
        // There is no room for more than one log may hold, and what is dropped is counted.
        let (mut full, mut more) = (UsageLog::new("vm_1"), UsageLog::new(""));
        (0..MAX_WAITING).for_each(|n| use_key(&mut full, &format!("ci-{n}"), &[], 0));
        ["ci-0", "new", "new"].iter().for_each(|id| use_key(&mut more, id, &[], 0));
        full.absorb(more);
        assert_eq!((full.waiting(), full.take_dropped()), (MAX_WAITING, 2));
        assert!(UsageLog::new("").is_empty());
    }

    #[test]
    fn holds_so_many_keys_and_counts_what_it_drops() {
        let mut log = UsageLog::new("vm_1");
        for n in 0..MAX_WAITING + 7 {
            use_key(&mut log, &format!("ci-{n}"), &["a"], 0);
        }
        use_key(&mut log, "ci-0", &["a"], 0);
        assert_eq!((log.waiting(), log.take_dropped(), log.take_dropped()), (MAX_WAITING, 7, 0));
        let mut reported = 0;
        while let Some(body) = log.poll(at(0), TIMEOUT) {
            reported += serde_json::from_str::<Value>(body).unwrap()["keys"].as_array().unwrap().len();
            log.on_outcome(Some(200), at(0));
        }
        assert_eq!(reported, MAX_WAITING);
    }

    #[test]
    fn a_batch_that_is_never_taken_does_not_stand_in_the_way() {
        let mut log = UsageLog::new("vm_1");
        for _ in 0..3 {
            use_key(&mut log, "ci", &[], 0);
        }
        use_key(&mut log, "key_abcdefghijklm234", &[], 0);
        assert!(log.poll(at(0), TIMEOUT).is_some());
        log.on_outcome(Some(422), at(0));
        assert_eq!(log.take_dropped(), 4, "uses, not batches");
        use_key(&mut log, "ci", &[], 0);
        assert!(log.poll(at(0), TIMEOUT).unwrap().contains(r#""seq":2"#));
    }
}

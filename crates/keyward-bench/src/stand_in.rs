//! A stand-in for the admin service that serves a store which nobody changes: keys that anybody can make again from
//! their number. The real one cannot be given keys whose plaintexts are chosen, and stores of a million are slow to make.

use crate::keys;
use crate::server::{self, Asked};
use anyhow::Result;
use keyward_policy::checksum::{Checksum, contribution};
use keyward_policy::manifest::{Change, FORMAT, Live, LiveKey, Page};
use serde_json::Value;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// A running stand-in; it serves until the process ends.
#[derive(Debug, Clone)]
pub struct StandIn {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    keys: u32,
    /// Which store this is; another one makes every filter start over.
    store: AtomicU32,
    changed: (Mutex<()>, Condvar),
    /// The records of each page as JSON, and what they add to the checksum; made when first asked for.
    pages: Vec<OnceLock<(Box<str>, u64)>>,
    /// Answers with the last page of a load.
    loads: AtomicU64,
}

/// Records in a page: what the filter asks for.
const PAGE: u32 = 400;

impl StandIn {
    /// Serves keys `0..keys` of [`crate::keys`].
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(keys: u32) -> Result<Self> {
        let shared = Arc::new(Shared {
            keys,
            store: AtomicU32::new(0),
            changed: Default::default(),
            pages: (0..keys.div_ceil(PAGE)).map(|_| OnceLock::new()).collect(),
            loads: AtomicU64::new(0),
        });
        let serving = Arc::clone(&shared);
        let address = server::serve(move |asked| serving.answer(asked))?;
        Ok(Self { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Becomes another store with the same keys, and tells who waits.
    pub fn start_over(&self) {
        self.shared.store.fetch_add(1, Ordering::SeqCst);
        let _guard = self.shared.changed.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.changed.1.notify_all();
    }

    /// How often a last page was served: a VM that follows has got one, and asks again when it has applied it.
    pub fn loads(&self) -> u64 {
        self.shared.loads.load(Ordering::SeqCst)
    }

    /// The body of one answer, for whoever feeds a filter without a network.
    pub fn page(&self, since: u32) -> Vec<u8> {
        self.shared.page(since)
    }
}

impl Shared {
    fn answer(&self, asked: &Asked<'_>) -> Vec<u8> {
        if asked.target.starts_with("/v1/usage") {
            return b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
        }
        let since = query(asked.target, "since").and_then(|text| text.parse().ok()).unwrap_or(0);
        if since >= self.keys && self.keys > 0 {
            self.wait(query(asked.target, "wait"));
        }
        let body = self.page(since.min(self.keys));
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        [head.into_bytes(), body].concat()
    }

    /// Until there is another store, or the time is over.
    fn wait(&self, text: Option<&str>) {
        let wait = text.and_then(|text| keyward_policy::duration::parse(text).ok()).unwrap_or(Duration::ZERO);
        let store = self.store.load(Ordering::SeqCst);
        let guard = self.changed.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |_: &mut ()| self.store.load(Ordering::SeqCst) == store;
        drop(self.changed.1.wait_timeout_while(guard, wait, same).unwrap_or_else(PoisonError::into_inner));
    }

    fn page(&self, since: u32) -> Vec<u8> {
        let end = (since / PAGE + 1).saturating_mul(PAGE).min(self.keys);
        let more = end < self.keys;
        let empty = Page {
            format: FORMAT,
            store: format!("st_bench{}", self.store.load(Ordering::SeqCst)).into(),
            since: u64::from(since),
            revision: u64::from(end),
            head: u64::from(self.keys),
            more,
            keys: Vec::new(),
            live: Live { count: u64::from(self.keys), checksum: (!more).then(|| self.checksum().to_string().into()) },
        };
        let text = serde_json::to_string(&empty).unwrap_or_default();
        if since >= self.keys {
            return text.into_bytes();
        }
        if !more {
            self.loads.fetch_add(1, Ordering::SeqCst);
        }
        let records = self.records(since / PAGE).map_or("", |(records, _)| records);
        text.replacen("\"keys\":[]", &format!("\"keys\":[{records}]"), 1).into_bytes()
    }

    fn checksum(&self) -> Checksum {
        let mut sum = Checksum::default();
        for page in 0..self.keys.div_ceil(PAGE) {
            sum.add(self.records(page).map_or(0, |(_, sum)| *sum));
        }
        sum
    }

    fn records(&self, page: u32) -> Option<&(Box<str>, u64)> {
        let make = || {
            let mut sum = 0_u64;
            let records = (page * PAGE..((page + 1) * PAGE).min(self.keys)).map(|number| {
                let key = live(number);
                sum = sum.wrapping_add(contribution(&key));
                serde_json::to_string(&Change::Live(key)).unwrap_or_default()
            });
            let records = records.collect::<Vec<_>>().join(",");
            (records.into(), sum)
        };
        self.pages.get(page as usize).map(|page| page.get_or_init(make))
    }
}

/// Key `number` as the wire has it; its revision is one above.
fn live(number: u32) -> LiveKey<'static> {
    let record = keys::record(number);
    let text = |field: &str| -> Cow<'static, str> {
        record.get(field).and_then(Value::as_str).unwrap_or_default().to_owned().into()
    };
    LiveKey {
        revision: u64::from(number) + 1,
        id: text("id"),
        name: text("name"),
        sha256: text("sha256"),
        permissions: keys::permissions(number).iter().map(|name| (*name).into()).collect(),
        expires_at: Some(text("expires_at")),
        disabled: false,
        must: Vec::new(),
    }
}

fn query<'a>(target: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_policy::table::KeyTable;

    #[test]
    fn the_pages_make_the_table_that_they_promise() {
        let stand_in = StandIn::start(1_001).unwrap();
        let (mut table, mut since, mut pages) = (KeyTable::new(), 0, 0);
        loop {
            let body = stand_in.page(since);
            let page: Page<'_> = serde_json::from_slice(&body).unwrap();
            for change in &page.keys {
                let Change::Live(key) = change else { panic!("a tombstone") };
                table.upsert(key).unwrap();
            }
            (since, pages) = (page.revision as u32, pages + 1);
            if !page.more {
                assert_eq!(page.live.checksum.as_deref(), Some(&*table.checksum().to_string()));
                break;
            }
        }
        assert_eq!((table.len(), pages, stand_in.loads()), (1_001, 3, 1));
    }
}

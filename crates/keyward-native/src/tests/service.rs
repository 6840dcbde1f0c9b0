//! An admin service with keys that are made from numbers.

use crate::keys::Keys;
use keyward_policy::checksum::{Checksum, contribution};
use keyward_policy::digest::Digest;
use keyward_policy::manifest::LiveKey;
use keyward_policy::sync::{Request, RootId, Settings};
use keyward_policy::timeline::{Enforcement, InlineKeys};
use std::time::Duration;

pub fn digest(number: u64) -> Digest {
    Digest::of_key(&number.to_le_bytes())
}

fn key(number: u64) -> LiveKey<'static> {
    LiveKey {
        revision: number,
        id: format!("key_{number}").into(),
        name: format!("name {number}").into(),
        sha256: digest(number).to_hex().into(),
        permissions: vec!["records:read".into(), "records:write".into()],
        expires_at: None,
        disabled: false,
        must: Vec::new(),
    }
}

/// A service with the keys 1 to `head`, each from the revision of its number.
pub struct Service {
    pub head: u64,
    checksum: Checksum,
    /// The revisions of tombstones, with the number of the key that was deleted.
    deleted: Vec<(u64, u64)>,
}

impl Service {
    /// Makes a service with these keys.
    pub fn new(head: u64) -> Self {
        let mut checksum = Checksum::default();
        (1..=head).for_each(|number| checksum.add(contribution(&key(number))));
        Self { head, checksum, deleted: Vec::new() }
    }

    /// Adds keys up to this revision.
    pub fn grow(&mut self, head: u64) {
        (self.head + 1..=head).for_each(|number| self.checksum.add(contribution(&key(number))));
        self.head = head;
    }

    /// Deletes a key, in a revision of its own.
    pub fn delete(&mut self, number: u64) {
        self.head += 1;
        self.checksum.remove(contribution(&key(number)));
        self.deleted.push((self.head, number));
    }

    /// Returns the answer to a request.
    pub fn page(&self, request: &Request) -> String {
        let (since, head) = (request.since, self.head);
        let last = head.min(since + u64::from(request.limit));
        let records: Vec<String> = (since + 1..=last)
            .filter(|revision| !self.deleted.iter().any(|(_, number)| number == revision))
            .map(|revision| {
                if let Some((_, number)) = self.deleted.iter().find(|(at, _)| *at == revision) {
                    return format!(r#"{{"revision":{revision},"id":"key_{number}","deleted":true}}"#);
                }
                let key = key(revision);
                format!(
                    r#"{{"revision":{revision},"id":"{}","name":"{}","sha256":"{}","permissions":["records:read","records:write"],"expires_at":null}}"#,
                    key.id, key.name, key.sha256
                )
            })
            .collect();
        format!(
            r#"{{"format":1,"store":"st_1","since":{since},"revision":{last},"head":{head},"more":{},"keys":[{}],"live":{{"count":{},"checksum":"{}"}}}}"#,
            last < head,
            records.join(","),
            head - 2 * self.deleted.len() as u64,
            self.checksum
        )
    }
}

/// Adds a configuration that fetches keys.
pub fn attach(keys: &Keys) -> RootId {
    let settings = Settings {
        realm: "default".into(),
        token: None,
        store: None,
        max_staleness: None,
        mode: Enforcement::Enforce,
        inline_keys: InlineKeys::None,
    };
    keys.change(|sync| sync.attach(settings, Duration::ZERO))
}

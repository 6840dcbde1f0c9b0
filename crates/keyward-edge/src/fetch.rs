//! The requests to the admin service, and its answers.

use crate::head::Headers;
use crate::hold;
use keyward_policy::config::{AdminConfig, Config, Mode, Use};
use keyward_policy::sync::{Answer, ManifestSync, Outcome, Request, RequestId, Settings};
use keyward_policy::timeline::{Enforcement, InlineKeys};
use std::time::Duration;

/// How long the service may take to acknowledge a batch of usage.
pub const USAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// The number of calls that are under way at most; older ones have lost their answer.
pub const MAX_CALLS: usize = 32;

/// The period of ticks while there is work that was put off.
pub const TICK_BUSY: Duration = Duration::from_millis(5);
/// The period of ticks before the first load and around a retry.
const TICK_SOON: Duration = hold::TICK;
/// The period of ticks otherwise.
const TICK_IDLE: Duration = Duration::from_millis(250);

/// A call under way.
#[derive(Debug, Clone, Copy)]
pub enum Call {
    /// For a page of the manifest.
    Manifest(RequestId),
    /// With a batch of usage.
    Usage,
}

/// The names that the filter shows to one admin service.
#[derive(Debug)]
pub struct Names {
    /// The `:authority` of the requests.
    pub authority: Box<str>,
    /// The name of the proxy, as a header's value.
    pub node: Box<str>,
    /// The name of the VM or of the process.
    pub vm: Box<str>,
    /// Names this table to the service. Nobody else knows it, so nobody else can acknowledge for it.
    pub table: Box<str>,
}

/// Returns what one configuration asks of the fetched keys.
pub fn settings(admin: &AdminConfig, config: &Config, token: Option<Box<str>>) -> Settings {
    Settings {
        realm: config.realm.clone(),
        token,
        store: admin.store.clone(),
        max_staleness: admin.max_staleness,
        mode: match config.mode {
            Mode::Enforce => Enforcement::Enforce,
            Mode::Shadow => Enforcement::Shadow,
        },
        inline_keys: match config.manifest.as_ref().map(|manifest| manifest.when) {
            None => InlineKeys::None,
            Some(Use::Fallback) => InlineKeys::Fallback,
            Some(Use::Always) => InlineKeys::Always,
        },
    }
}

/// Makes one request and sends it with `send`, which gets the headers, the body and the timeout: a poll, or without one a
/// batch of usage.
pub fn call<R>(
    names: &Names,
    settings: &Settings,
    poll: Option<&Request>,
    usage: Option<&[u8]>,
    send: impl FnOnce(Vec<(&str, &str)>, Option<&[u8]>, Duration) -> R,
) -> R {
    let authorization = settings.token.as_ref().map(|token| format!("Bearer {token}"));
    let max_staleness = poll.map(Request::max_staleness_header);
    let path = poll.map(Request::path);
    let mut headers = vec![
        (":method", if poll.is_some() { "GET" } else { "POST" }),
        (":path", path.as_deref().unwrap_or("/v1/usage")),
        (":authority", &*names.authority),
        ("accept", "application/json"),
        ("x-keyward-node", &*names.node),
        ("x-keyward-vm", &*names.vm),
        ("x-keyward-realm", &*settings.realm),
        ("x-keyward-filter", env!("CARGO_PKG_VERSION")),
    ];
    headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
    let number = poll.map(|request| request.id.number().to_string());
    if let (Some(request), Some(number), Some(max_staleness)) = (poll, &number, &max_staleness) {
        headers.extend([
            ("x-keyward-table", &*names.table),
            ("x-keyward-poll", number),
            ("x-keyward-mode", request.mode.as_str()),
            ("x-keyward-inline-keys", request.inline_keys.as_str()),
            ("x-keyward-max-staleness", max_staleness),
        ]);
    }
    headers.extend(usage.map(|_| ("content-type", "application/json")));
    send(headers, usage, poll.map_or(USAGE_TIMEOUT, |request| request.timeout))
}

/// Returns the period of ticks that suits the state of the fetched keys. `busy` says whether work was put off, and
/// `holds` whether requests wait.
pub fn tick_period(busy: bool, holds: bool, sync: &ManifestSync, now: Duration) -> Duration {
    if busy {
        TICK_BUSY
    } else if holds || sync.in_use().is_none() || sync.next_at() <= now + TICK_IDLE {
        TICK_SOON
    } else {
        TICK_IDLE
    }
}

/// The part of an answer's headers that counts.
#[derive(Debug, Default)]
pub struct AnswerHead<'a> {
    /// The status. `None` means that there are no headers, so that no answer came.
    pub status: Option<u16>,
    date: Option<&'a str>,
    retry_after: Option<u64>,
    as_of: Option<i64>,
}

impl<'a> AnswerHead<'a> {
    /// Reads serialized headers.
    pub fn read(map: &'a [u8]) -> Self {
        let mut head = Self::default();
        for (name, value) in Headers::parse(map).as_slice() {
            let Ok(value) = std::str::from_utf8(value) else { continue };
            match *name {
                b":status" => head.status = value.parse().ok(),
                b"date" => head.date = Some(value),
                b"retry-after" => head.retry_after = value.parse().ok(),
                b"x-keyward-as-of" => head.as_of = value.parse().ok(),
                _ => {}
            }
        }
        head
    }

    /// Returns the outcome of a poll that was answered with this head and this body.
    pub fn outcome<'b>(&'b self, body: &'b [u8]) -> Outcome<'b> {
        let Some(status) = self.status else { return Outcome::NoAnswer };
        Outcome::Answer(Answer {
            status,
            body,
            date: self.date,
            retry_after: self.retry_after.map(Duration::from_secs),
            as_of: self.as_of,
        })
    }
}

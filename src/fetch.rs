//! Carrying out what [`ManifestSync`](keyward_policy::sync::ManifestSync) asks for: calls to the admin service.

use crate::head::Headers;
use crate::hold;
use crate::host;
use crate::source::{self, Call, Source};
use keyward_policy::sync::{Answer, Event, MAX_PAGE_BYTES, Outcome, Request};
use keyward_policy::timestamp::Timestamp;
use std::time::Duration;

/// How long the service may take to acknowledge a batch of usage.
const USAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// More calls than that are not under way at once; older ones have lost their answer.
const MAX_CALLS: usize = 32;

/// Ticks: while there is put-off work, before the first load and around a retry, and otherwise.
const TICK_BUSY: Duration = Duration::from_millis(5);
const TICK_SOON: Duration = hold::TICK;
const TICK_IDLE: Duration = Duration::from_millis(250);

impl Source {
    /// Asks for ticks; the first one begins to fetch. Not done while configuring: the proxy tries each configuration in
    /// a VM that it throws away.
    pub fn start(&self) {
        self.set_tick(TICK_BUSY);
    }

    /// Sends what is due.
    pub fn on_tick(&self) {
        let now = source::now();
        let mut events = Vec::new();
        let busy = self.shared.sync.borrow_mut().work();
        self.poll(now, &mut events);
        self.report_usage(now);
        self.shared.telemetry.take(events, &self.shared.sync.borrow(), now);
        self.adjust_tick(busy, now);
    }

    /// Takes an answer, and sends what is due then.
    pub fn on_answer(&self, token: u32, headers: usize) {
        let call = {
            let mut calls = self.calls.borrow_mut();
            let at = calls.iter().position(|(have, _)| *have == token);
            at.map(|at| calls.swap_remove(at).1)
        };
        let Some(call) = call else { return };
        let now = source::now();
        let map = if headers == 0 { Vec::new() } else { host::call_response_headers() };
        let head = Head::read(&map);
        match call {
            Call::Usage => self.shared.usage.borrow_mut().on_outcome(head.status, now),
            Call::Manifest(id) => {
                let mut events = Vec::new();
                let body =
                    if head.status == Some(200) { host::call_response_body(MAX_PAGE_BYTES + 1) } else { Vec::new() };
                let outcome = match head.status {
                    Some(status) => Outcome::Answer(Answer {
                        status,
                        body: &body,
                        date: head.date,
                        retry_after: head.retry_after.map(Duration::from_secs),
                        as_of: head.as_of,
                    }),
                    None => Outcome::NoAnswer,
                };
                let wall = Timestamp::from_unix_ns(host::wall_clock_ns());
                self.shared.sync.borrow_mut().on_outcome(id, &outcome, now, wall, &mut events);
                self.poll(now, &mut events);
                self.shared.telemetry.take(events, &self.shared.sync.borrow(), now);
                self.adjust_tick(false, now);
            }
        }
    }

    fn poll(&self, now: Duration, events: &mut Vec<Event>) {
        let request = self.shared.sync.borrow_mut().poll(self.root, now, events);
        let Some(request) = request else { return };
        let token = self.call("GET", &request.path(), Some(&request), None, request.timeout);
        match token {
            Some(token) => self.under_way(token, Call::Manifest(request.id)),
            None => {
                let wall = Timestamp::from_unix_ns(host::wall_clock_ns());
                self.shared.sync.borrow_mut().on_outcome(request.id, &Outcome::NotSent, now, wall, events);
            }
        }
    }

    fn report_usage(&self, now: Duration) {
        let mut usage = self.shared.usage.borrow_mut();
        self.shared.telemetry.usage_dropped(usage.take_dropped());
        let sent = usage
            .poll(now, USAGE_TIMEOUT)
            .map(|body| self.call("POST", "/v1/usage", None, Some(body.as_bytes()), USAGE_TIMEOUT));
        match sent {
            Some(Some(token)) => self.under_way(token, Call::Usage),
            Some(None) => usage.on_outcome(None, now),
            None => {}
        }
    }

    /// None: the proxy does not take the call.
    fn call(
        &self,
        method: &str,
        path: &str,
        poll: Option<&Request>,
        body: Option<&[u8]>,
        timeout: Duration,
    ) -> Option<u32> {
        let authorization = self.settings.token.as_ref().map(|token| format!("Bearer {token}"));
        let max_staleness = poll.map(Request::max_staleness_header);
        let vm = source::vm();
        let mut headers = vec![
            (":method", method),
            (":path", path),
            (":authority", &*self.shared.authority),
            ("accept", "application/json"),
            ("x-keyward-node", &*self.shared.node),
            ("x-keyward-vm", &*vm),
            ("x-keyward-realm", &*self.settings.realm),
            ("x-keyward-filter", env!("CARGO_PKG_VERSION")),
        ];
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        let number = poll.map(|request| request.id.number().to_string());
        if let (Some(request), Some(number), Some(max_staleness)) = (poll, &number, &max_staleness) {
            headers.extend([
                ("x-keyward-table", &*self.shared.table),
                ("x-keyward-poll", number),
                ("x-keyward-mode", request.mode.as_str()),
                ("x-keyward-inline-keys", request.inline_keys.as_str()),
                ("x-keyward-max-staleness", max_staleness),
            ]);
        }
        headers.extend(body.map(|_| ("content-type", "application/json")));
        host::http_call(&self.shared.cluster, headers, body, timeout).ok()
    }

    fn under_way(&self, token: u32, call: Call) {
        let mut calls = self.calls.borrow_mut();
        if calls.len() == MAX_CALLS {
            calls.remove(0);
        }
        calls.push((token, call));
    }

    fn adjust_tick(&self, busy: bool, now: Duration) {
        let sync = self.shared.sync.borrow();
        let soon = !hold::is_empty() || sync.in_use().is_none() || sync.next_at() <= now + TICK_IDLE;
        self.set_tick(if busy {
            TICK_BUSY
        } else if soon {
            TICK_SOON
        } else {
            TICK_IDLE
        });
    }

    fn set_tick(&self, period: Duration) {
        if self.tick.replace(period) != period {
            host::set_tick_period(period);
        }
    }
}

/// What counts of an answer's headers.
#[derive(Debug, Default)]
struct Head<'a> {
    /// None: there are no headers, so the answer did not come.
    status: Option<u16>,
    date: Option<&'a str>,
    retry_after: Option<u64>,
    as_of: Option<i64>,
}

impl<'a> Head<'a> {
    fn read(map: &'a [u8]) -> Self {
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
}

//! Carrying out what [`ManifestSync`](keyward_policy::sync::ManifestSync) asks for: calls to the admin service.

use crate::hold;
use crate::host;
use crate::source::{self, Source};
use keyward_edge::fetch::{self, AnswerHead, Call, MAX_CALLS, TICK_BUSY, USAGE_TIMEOUT};
use keyward_policy::sync::{Event, MAX_PAGE_BYTES, Outcome, Request};
use keyward_policy::timestamp::Timestamp;
use std::time::Duration;

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
        let head = AnswerHead::read(&map);
        match call {
            Call::Usage => self.shared.usage.borrow_mut().on_outcome(head.status, now),
            Call::Manifest(id) => {
                let mut events = Vec::new();
                let body =
                    if head.status == Some(200) { host::call_response_body(MAX_PAGE_BYTES + 1) } else { Vec::new() };
                let wall = Timestamp::from_unix_ns(host::wall_clock_ns());
                self.shared.sync.borrow_mut().on_outcome(id, &head.outcome(&body), now, wall, &mut events);
                self.poll(now, &mut events);
                self.shared.telemetry.take(events, &self.shared.sync.borrow(), now);
                self.adjust_tick(false, now);
            }
        }
    }

    fn poll(&self, now: Duration, events: &mut Vec<Event>) {
        let request = self.shared.sync.borrow_mut().poll(self.root, now, events);
        let Some(request) = request else { return };
        match self.call(Some(&request), None) {
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
        match usage.poll(now, USAGE_TIMEOUT).map(|body| self.call(None, Some(body.as_bytes()))) {
            Some(Some(token)) => self.under_way(token, Call::Usage),
            Some(None) => usage.on_outcome(None, now),
            None => {}
        }
    }

    /// Returns the proxy's number for the call. `None` means that the proxy does not take it.
    fn call(&self, poll: Option<&Request>, usage: Option<&[u8]>) -> Option<u32> {
        fetch::call(&self.shared.names, &self.settings, poll, usage, |headers, body, timeout| {
            host::http_call(&self.shared.cluster, headers, body, timeout).ok()
        })
    }

    fn under_way(&self, token: u32, call: Call) {
        let mut calls = self.calls.borrow_mut();
        if calls.len() == MAX_CALLS {
            calls.remove(0);
        }
        calls.push((token, call));
    }

    fn adjust_tick(&self, busy: bool, now: Duration) {
        self.set_tick(fetch::tick_period(busy, !hold::is_empty(), &self.shared.sync.borrow(), now));
    }

    fn set_tick(&self, period: Duration) {
        if self.tick.replace(period) != period {
            host::set_tick_period(period);
        }
    }
}

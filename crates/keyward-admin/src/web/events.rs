//! Server-sent events: they tell the script that something changed, so that it loads the view again.

use super::failure::Failure;
use super::form::FormFields;
use super::session::Session;
use super::state::Web;
use super::user::User;
use crate::service::feed::FeedState;
use crate::service::proxies::Applied;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

/// How long further changes are waited for, to send one event for all.
const GATHER: Duration = Duration::from_millis(30);
/// How often the session and the proxies are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The number of looks after which views with usage are updated: usage changes without a revision.
const USAGE_LOOKS: u32 = 15;
/// The number of looks after which a stream says that it is alive. The script takes a stream that says nothing for three
/// times as long for one that hangs.
const ALIVE_LOOKS: u32 = 15;
/// How long a receipt is followed.
const MAX_FOLLOW_TIME: Duration = Duration::from_secs(20 * 60);

/// One event stream.
struct Follower {
    web: Arc<Web>,
    session: Arc<Session>,
    topic: String,
    news: watch::Receiver<FeedState>,
    ticks: Interval,
    ticked: u32,
    /// Whether something changed after the view was made and before the stream began.
    missed: bool,
    proxies: Option<u64>,
    receipt: Option<(u64, Option<Applied>)>,
    until: Instant,
    ended: bool,
    _places: [OwnedSemaphorePermit; 2],
}

pub(super) async fn events(user: User, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let fields = FormFields::of_query(query.as_deref());
    // One session must not take all places from the others.
    let (Ok(own), Ok(place)) =
        (Arc::clone(&user.session.streams).try_acquire_owned(), Arc::clone(&user.web.streams).try_acquire_owned())
    else {
        return Ok(StatusCode::SERVICE_UNAVAILABLE.into_response());
    };
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut news = user.web.service().feed.subscribe();
    let head = news.borrow_and_update().head.revision;
    let follower = Follower {
        missed: fields.text("since").parse().is_ok_and(|since: u64| since != head),
        // The first look sends an event, because proxies have no revision that would say whether something was missed.
        proxies: None,
        receipt: fields.text("receipt").parse().ok().map(|revision| (revision, None)),
        topic: fields.text("topic").to_owned(),
        session: user.session,
        news,
        ticks,
        ticked: 0,
        until: Instant::now() + MAX_FOLLOW_TIME,
        ended: false,
        _places: [own, place],
        web: user.web,
    };
    let events = stream::unfold(follower, async |mut follower: Follower| {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    Ok(Sse::new(events).into_response())
}

/// Returns an event of a kind. Its name says all, but browsers do not dispatch events without data (HTML standard, 9.2.6).
fn event(kind: &'static str) -> Event {
    Event::default().event(kind).data(kind)
}

impl Follower {
    async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        if std::mem::take(&mut self.missed) {
            return Some(event("changed"));
        }
        loop {
            tokio::select! {
                changed = self.news.changed() => {
                    changed.ok()?;
                    if self.news.borrow_and_update().closing {
                        return None;
                    }
                    tokio::time::sleep(GATHER).await;
                    self.news.mark_unchanged();
                    return Some(event("changed"));
                }
                () = follow(&self.web, &mut self.receipt, self.until) => {
                    return Some(event("receipt"));
                }
                _ = self.ticks.tick() => if let Some(event) = self.look() {
                    return Some(event);
                }
            }
        }
    }

    /// Looks at what changes without a revision.
    fn look(&mut self) -> Option<Event> {
        let web = &self.web;
        if !web.sessions.is_open(&self.session) || !web.service().tokens.is_valid(&self.session.principal) {
            self.ended = true;
            return Some(event("ended"));
        }
        self.ticked += 1;
        let figures =
            matches!(self.topic.as_str(), "keys" | "key" | "usage") && self.ticked.is_multiple_of(USAGE_LOOKS);
        let mut filters = false;
        if matches!(self.topic.as_str(), "proxies" | "key") {
            let state = Some(state_of_proxies(web));
            filters = std::mem::replace(&mut self.proxies, state) != state;
        }
        if figures || filters {
            return Some(event("changed"));
        }
        self.ticked.is_multiple_of(ALIVE_LOOKS).then(|| event("alive"))
    }
}

/// Returns when the receipt differs from the last one sent.
async fn follow(web: &Web, receipt: &mut Option<(u64, Option<Applied>)>, until: Instant) {
    let Some((revision, sent)) = receipt else { return std::future::pending().await };
    loop {
        if Instant::now() >= until {
            return std::future::pending().await;
        }
        let applied = web.service().proxies.receipt(*revision, LOOK).await;
        if *sent != Some(applied) && sent.is_none_or(|sent| differs(&sent, &applied)) {
            *sent = Some(applied);
            return;
        }
        // A complete receipt is returned at once, and then changes only as time passes.
        tokio::time::sleep(LOOK / 4).await;
    }
}

/// Returns whether two receipts differ in more than the moment by which all instances refuse, which moves while
/// instances are in contact.
fn differs(a: &Applied, b: &Applied) -> bool {
    (a.vms, a.of, a.unreachable, a.doubts) != (b.vms, b.of, b.unreachable, b.doubts)
}

/// Returns a number that differs whenever the list of proxies would be shown differently.
fn state_of_proxies(web: &Web) -> u64 {
    let mut seen = web.proxies_seen.lock();
    // All streams share what one has found, because a list may be long.
    match &*seen {
        Some((at, state)) if at.elapsed() < LOOK / 2 => *state,
        _ => {
            let mut hasher = DefaultHasher::new();
            web.service().proxies.may_miss_tables().hash(&mut hasher);
            for vm in web.service().proxies.list() {
                (vm.node, vm.vm, vm.applied, vm.state.as_str()).hash(&mut hasher);
            }
            let state = hasher.finish();
            *seen = Some((Instant::now(), state));
            state
        }
    }
}

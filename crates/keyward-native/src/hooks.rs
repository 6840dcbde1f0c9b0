//! What happens in each hook.

use crate::guard;
use crate::hold::{self, Place};
use crate::host::{self, Configuration, Metric, Scheduler};
use crate::source::Source;
use crate::stream::Stream;
use keyward_edge::host::{Host as _, Meter as _, Source as _};
use keyward_edge::http::{self, Outcome};
use keyward_edge::plugin::{self, Compiled, Counters};
use keyward_edge::{forward, hold as limits, metrics};
use keyward_policy::config::Config;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A filter configuration of this edition.
pub struct Plugin {
    shared: plugin::Plugin<Stream>,
    /// Counts [`metrics::PANICS`].
    panics: Metric,
}

impl Deref for Plugin {
    type Target = plugin::Plugin<Stream>;

    fn deref(&self) -> &Self::Target {
        &self.shared
    }
}

/// A request that began before the first keys were there. It may have to wait.
pub struct Early {
    /// Its configuration.
    pub plugin: Arc<Plugin>,
    state: State,
}

/// Each hook takes the state, which leaves [`Denied`](Self::Denied), and gives it back when it is through. A hook that panics
/// does not come so far.
#[derive(Default)]
enum State {
    /// The headers are still to come.
    New,
    /// The request waits.
    Held { place: Place, deadline_ns: u64, head: Option<Vec<u8>> },
    /// The request may go on.
    Passed,
    /// The request was denied, and stays so.
    #[default]
    Denied,
}

impl Early {
    /// Returns whether the request may go on.
    pub fn has_passed(&self) -> bool {
        matches!(self.state, State::Passed)
    }

    /// Denies the request, whatever it was before. Returns its configuration.
    pub fn deny(&mut self) -> &Plugin {
        self.state = State::Denied;
        &self.plugin
    }

    /// Returns whether the request waits.
    pub fn waits(&self) -> bool {
        matches!(self.state, State::Held { .. })
    }
}

/// Whether a request goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The next filter gets it.
    Continue,
    /// It was answered.
    Answered,
    /// It waits.
    Wait,
}

/// Makes a configuration. The result depends on its bytes alone.
pub fn configure(configuration: Configuration, bytes: &[u8]) -> Option<Plugin> {
    let config = match Config::parse(bytes) {
        Ok(config) => config,
        Err(errors) => {
            for problem in errors.problems() {
                log::error!("keyward: invalid configuration: {problem}");
            }
            return None;
        }
    };
    let compiled = Compiled::new(config);
    let config = &compiled.config;
    let counters = Arc::new(Counters::define(configuration));
    let panics = configuration.counter(metrics::PANICS);
    // Last, because it takes part in fetching from then on, and only a configuration that was made is ended: nothing that
    // could fail or panic may follow.
    let source = match config.admin.as_ref().map(|admin| Source::attach(configuration, admin, config)).transpose() {
        Ok(source) => source,
        Err(problem) => {
            log::error!("keyward: invalid configuration: admin.token_secret: {problem}");
            return None;
        }
    };
    Some(Plugin { shared: plugin::Plugin { counters, source, complained: AtomicBool::new(false), compiled }, panics })
}

/// Ends a configuration.
pub fn destroy(plugin: &Plugin) {
    if let Some(source) = &plugin.source {
        source.detach();
    }
}

/// Returns whether a request that begins now may have to wait for the first keys.
pub fn may_wait(plugin: &Plugin) -> bool {
    plugin.source.as_ref().is_some_and(|source| http::is_loading(&source.borrow()))
}

/// Makes the state of a request that may have to wait.
pub fn early(plugin: Arc<Plugin>) -> Early {
    Early { plugin, state: State::New }
}

/// Decides a request that does not wait.
pub fn on_headers(stream: Stream, plugin: &Plugin) -> Flow {
    decide_now(stream, plugin, None)
}

/// Decides a request that may have to wait.
pub fn on_early_headers(stream: Stream, early: &mut Early) -> Flow {
    let State::New = std::mem::take(&mut early.state) else {
        refuse(stream);
        return Flow::Answered;
    };
    let plugin = &early.plugin;
    let (flow, state) = match http::run(stream, plugin, &|| limits::has_room(plugin, hold::waiting()), None) {
        Outcome::Passed => (Flow::Continue, State::Passed),
        Outcome::Answered => (Flow::Answered, State::Denied),
        Outcome::Held { head } => match stream.scheduler() {
            Some(scheduler) => (Flow::Wait, hold(stream, plugin, scheduler, head)),
            None => match decide_now(stream, plugin, head) {
                Flow::Continue => (Flow::Continue, State::Passed),
                Flow::Answered | Flow::Wait => (Flow::Answered, State::Denied),
            },
        },
    };
    early.state = state;
    flow
}

fn hold(stream: Stream, plugin: &Plugin, scheduler: Scheduler, head: Option<Vec<u8>>) -> State {
    let deadline_ns = limits::deadline_ns(plugin, host::monotonic_ns());
    stream.count(plugin.counters.held, 1);
    let place = Place::take(scheduler, deadline_ns);
    guard::planted("request_held");
    // Keys that have arrived since the decision did not find it waiting.
    if !may_wait(plugin) {
        hold::wake(host::monotonic_ns(), true);
    }
    State::Held { place, deadline_ns, head }
}

fn decide_now(stream: Stream, plugin: &Plugin, head: Option<Vec<u8>>) -> Flow {
    match http::run(stream, plugin, &|| false, head) {
        Outcome::Passed => Flow::Continue,
        // It cannot be held, because `run` was told that there is no room.
        Outcome::Answered | Outcome::Held { .. } => Flow::Answered,
    }
}

/// Decides a waiting request again. Returns whether it may go on now.
pub fn on_scheduled(stream: Stream, early: &mut Early) -> bool {
    let State::Held { place, deadline_ns, head } = std::mem::take(&mut early.state) else { return false };
    match http::run(stream, &early.plugin, &|| host::monotonic_ns() < deadline_ns, head) {
        Outcome::Held { head } => {
            place.wait_on();
            early.state = State::Held { place, deadline_ns, head };
        }
        Outcome::Answered => {}
        Outcome::Passed => early.state = State::Passed,
    }
    early.has_passed()
}

/// Removes from the trailers whatever would speak for a key.
pub fn on_trailers(stream: Stream, plugin: &Plugin) {
    forward::clean_trailers(stream, &plugin.config);
}

/// A configuration's tick.
pub fn on_tick(configuration: Configuration, plugin: &Plugin) {
    count_panics(plugin, |metric, count| configuration.add(metric, count));
    if let Some(source) = &plugin.source {
        source.on_tick();
        wake(plugin);
    }
}

/// An answer to a configuration's call.
pub fn on_answer(plugin: &Plugin, number: u64, head: &[u8], body: &[u8]) {
    if let Some(source) = &plugin.source {
        source.on_answer(number, head, body);
        wake(plugin);
    }
}

/// Does what is owed after a tick that panicked: there is a next one, and requests whose time is over are decided.
pub fn after_lost_tick(plugin: &Plugin) {
    if let Some(source) = &plugin.source {
        source.tick_has_begun();
    }
    wake(plugin);
}

/// Does what is owed after an answer whose hook panicked: the call counts as one without an answer, so that the next one need
/// not wait for its time limit.
pub fn after_lost_answer(plugin: &Plugin, number: u64) {
    if let Some(source) = &plugin.source {
        source.lose_answer(number);
    }
    wake(plugin);
}

/// Asks waiting requests to be decided again.
pub fn wake(plugin: &Plugin) {
    if hold::any() {
        hold::wake(host::monotonic_ns(), !may_wait(plugin));
    }
}

/// Refuses a request.
pub fn refuse(stream: Stream) {
    let detail = b"manifest_unavailable";
    stream.set_filter_state(&keyward_edge::host::DECISION, detail);
    stream.send_local_response(503, "keyward_panic", &[0; 4], detail, 14);
}

/// Does what is owed after a hook of a request that panicked: the request is refused, and the panic counted.
pub fn after_panic(stream: Stream, plugin: Option<&Plugin>) {
    refuse(stream);
    if let Some(plugin) = plugin {
        count_panics(plugin, |metric, count| stream.count(metric, count));
    }
}

/// Counts the panics that were not counted yet. Those beside requests are counted at the next tick.
fn count_panics(plugin: &Plugin, add: impl FnOnce(Metric, u64)) {
    match guard::take_uncounted() {
        0 => {}
        count => add(plugin.panics, count),
    }
}

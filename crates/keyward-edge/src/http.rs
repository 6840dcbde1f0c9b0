//! One request: its head is read and decided, and the decision is carried out.

use crate::forward;
use crate::head::Headers;
use crate::host::{self, Host, Source as _};
use crate::metrics::Effect;
use crate::plugin::Plugin;
use crate::reply;
use keyward_policy::config::{Config, Mode};
use keyward_policy::decision::{Code, Decision};
use keyward_policy::header::encode_value;
use keyward_policy::media_type::ContentType;
use keyward_policy::path::without_query;
use keyward_policy::policy::{Keys, Policy, RouteMetadata, Unavailable};
use keyward_policy::rule::Access;
use keyward_policy::timestamp::Timestamp;
use keyward_request::decide;
use std::sync::atomic::Ordering;

/// The fetched keys of a host.
type Fetched<'a, H> = <<H as Host>::Source as host::Source>::Fetched<'a>;

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It may go on.
    Passed,
    /// The filter has answered it.
    Answered,
    /// It waits for the first complete manifest.
    Held {
        /// The head as the client sent it. `None` means that the proxy still has it.
        head: Option<Vec<u8>>,
    },
}

/// Decides the request of the effective context, and acts on the decision. `kept` is the head that an earlier
/// [`Outcome::Held`] gave back.
///
/// Code for ordinary requests is here and code for rare ones is apart (`cold`): V8 compiles each function as one piece of
/// machine code, and a request pays for the pages of it that are touched.
pub fn run<H: Host>(host: H, plugin: &Plugin<H>, may_hold: &dyn Fn() -> bool, kept: Option<Vec<u8>>) -> Outcome {
    let map = kept.unwrap_or_else(|| host.request_headers());
    let mut outcome = run_with(host, plugin, may_hold, &Headers::parse(&map));
    match &mut outcome {
        Outcome::Held { head: Some(head) } => *head = map,
        _ => host.recycle(map),
    }
    outcome
}

/// Like [`run`]. A head that has to be kept is empty here: the caller owns it.
fn run_with<H: Host>(host: H, plugin: &Plugin<H>, may_hold: &dyn Fn() -> bool, headers: &Headers<'_>) -> Outcome {
    let config = &plugin.config;
    let head = headers.head();
    let source = plugin.source.as_ref().map(|source| source.borrow());
    let keys = plugin.keys(source.as_ref());

    if config.readiness_path.as_ref().is_some_and(|path| path.as_bytes() == without_query(head.path)) {
        return answer_readiness(host, config, &keys);
    }

    let enforce = config.mode == Mode::Enforce;
    let changed = forward::remove_client_identity(host, config, headers);
    let route = if config.route_metadata { read_route(host, plugin, headers, enforce, changed) } else { Route::Absent };
    let policy = Policy { config, keys, route: route.as_metadata() };
    let now = Timestamp::from_unix_ns(host.wall_clock_ns());
    let decision = decide(&policy, &head, now);

    let knows_no_key = matches!(decision.code, Code::ManifestUnavailable | Code::KeyUnknown);
    if knows_no_key && enforce && may_come(plugin, source.as_ref(), decision.code) && may_hold() {
        return Outcome::Held { head: (config.route_metadata && config.hide_key).then(Vec::new) };
    }

    record(host, &decision);
    let effect = match (enforce, decision.allows()) {
        (false, _) => Effect::Shadow,
        (true, true) => Effect::Allow,
        (true, false) => Effect::Deny,
    };
    plugin.counters.count(host, effect, decision.code);
    if decision.code == Code::Allowed
        && let Some(source) = &plugin.source
    {
        source.record_use(&decision, now);
    }
    if effect == Effect::Deny {
        return refuse(host, plugin, headers, &decision, now);
    }
    if enforce && config.hide_key && !config.route_metadata {
        forward::remove_credential(host, config, headers);
    }
    if decision.code == Code::Allowed
        && let Some(key) = &decision.key
    {
        forward::set_identity(host, config, key);
    }
    Outcome::Passed
}

#[cold]
#[inline(never)]
fn answer_readiness<H: Host>(host: H, config: &Config, keys: &Keys<'_>) -> Outcome {
    let ready =
        !matches!(keys, Keys::Unavailable(_) | Keys::InlineOnly { .. } | Keys::InlineAfterFetched { why: Some(_), .. })
            || !config.needs_keys();
    send(host, &reply::readiness(ready));
    Outcome::Answered
}

/// Returns whether the key that was not found may be among the keys that are still to be loaded.
#[cold]
#[inline(never)]
fn may_come<H: Host>(plugin: &Plugin<H>, source: Option<&Fetched<'_, H>>, code: Code) -> bool {
    // Without inline keys, an unknown key was looked up among the fetched keys.
    (code != Code::KeyUnknown || plugin.config.manifest.is_some()) && source.is_some_and(is_loading)
}

/// Returns whether the first keys are still to be loaded.
pub fn is_loading(source: &impl host::Fetched) -> bool {
    source.table().err() == Some(Unavailable::NotYetLoaded)
}

#[inline(never)]
fn refuse<H: Host>(
    host: H,
    plugin: &Plugin<H>,
    headers: &Headers<'_>,
    decision: &Decision<'_>,
    now: Timestamp,
) -> Outcome {
    if let Some(source) = &plugin.source {
        source.record_denial(decision, now);
    }
    send(host, &plugin.replies.denial(decision, content_type(headers).is_grpc(), headers.request_id()));
    Outcome::Answered
}

/// Writes the decision to filter state, where the access log, the backstop and the route's headers read it.
///
/// `key_id` and `key_name` are a record: they name the key that was found, also a refused one. `identity_id` and
/// `identity_name` are an identity: they exist only where the key was allowed, so that routes can stamp them onto
/// requests in shadow mode too, where refused requests go on.
fn record<H: Host>(host: H, decision: &Decision<'_>) {
    host.set_filter_state(&host::DECISION, decision.code.as_str().as_bytes());
    let Some(key) = &decision.key else { return };
    let mut buffer = [0; 20];
    let (id, name) = (encode_value(key.id.as_str(&mut buffer)), encode_value(key.name));
    host.set_filter_state(&host::KEY_ID, id.as_bytes());
    host.set_filter_state(&host::KEY_NAME, name.as_bytes());
    if decision.code == Code::Allowed {
        host.set_filter_state(&host::IDENTITY_ID, id.as_bytes());
        host.set_filter_state(&host::IDENTITY_NAME, name.as_bytes());
    }
}

/// What the metadata of the route says.
enum Route {
    Absent,
    Access(Access),
    Invalid,
}

impl Route {
    fn as_metadata(&self) -> RouteMetadata<'_> {
        match self {
            Self::Absent => RouteMetadata::Absent,
            Self::Access(access) => RouteMetadata::Access(access),
            Self::Invalid => RouteMetadata::Invalid,
        }
    }
}

/// Reads the metadata of the route. Headers that the filter removes are removed first, since a route may match on them.
///
/// Envoy chooses the route again when headers have changed, but a filter sees the new route only after its own callback
/// (measured on 1.40): until then the property is that of the route before. So where routes match on headers that are
/// removed here, the configuration has to leave header changes to the routes; then nothing is changed, and the route stays
/// the one that is read here.
#[inline(never)]
fn read_route<H: Host>(host: H, plugin: &Plugin<H>, headers: &Headers<'_>, enforce: bool, mut changed: bool) -> Route {
    if enforce {
        if plugin.config.hide_key {
            changed |= forward::remove_credential(host, &plugin.config, headers);
        }
        if changed {
            host.clear_route_cache();
        }
    }
    match host.route_metadata() {
        Ok(None) => Route::Absent,
        Ok(Some(access)) => Route::Access(access),
        Err(why) => {
            host.count(plugin.counters.route_metadata_invalid, 1);
            if !plugin.complained.swap(true, Ordering::Relaxed) {
                log::error!("keyward: {why}; requests on such routes are denied");
            }
            Route::Invalid
        }
    }
}

fn content_type<'a>(headers: &Headers<'a>) -> ContentType<'a> {
    let mut content_type = ContentType::Absent;
    for (name, value) in headers.as_slice() {
        if *name == b"content-type" {
            content_type.add(value);
        }
    }
    content_type
}

fn send<H: Host>(host: H, reply: &reply::Reply) {
    host.send_local_response(reply.status, &reply.details, &reply.headers, &reply.body, reply.grpc_status);
}

/// Denies a request whose root context has no configuration. Envoy makes no such request.
pub fn deny_unconfigured<H: Host>(host: H) {
    let code = Code::ManifestUnavailable;
    host.set_filter_state(&host::DECISION, code.as_str().as_bytes());
    host.send_local_response(code.status(), "keyward_unconfigured", &[0; 4], code.detail().as_bytes(), -1);
}

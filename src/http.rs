//! One request: head, decide, act.

use crate::forward;
use crate::head::Headers;
use crate::host;
use crate::metrics::Outcome;
use crate::plugin::Plugin;
use crate::reply;
use crate::source::Fetched;
use keyward_policy::config::route_metadata;
use keyward_policy::config::{Config, Mode};
use keyward_policy::decide::decide;
use keyward_policy::decision::{Code, Decision};
use keyward_policy::header::encode_value;
use keyward_policy::media_type::ContentType;
use keyward_policy::path::without_query;
use keyward_policy::policy::{Keys, Policy, RouteMetadata, Unavailable};
use keyward_policy::rule::Access;
use keyward_policy::timestamp::Timestamp;

/// What became of a request.
pub enum Progress {
    /// It may go on.
    Passed,
    /// It was answered.
    Refused,
    /// It waits for the first manifest; with its head as the client sent it, where the proxy no longer has it so.
    Held(Option<Vec<u8>>),
}

/// Decides the request of the effective context, and acts on the decision. `kept` is what an earlier try gave back.
///
/// What ordinary requests need is here and what others need is apart (`cold`): V8 compiles each function as one piece of
/// machine code, and it is the pages of it that are touched which a request pays for.
pub fn run(plugin: &Plugin, may_hold: &dyn Fn() -> bool, kept: Option<Vec<u8>>) -> Progress {
    let map = kept.unwrap_or_else(host::request_headers);
    let next = run_with(plugin, may_hold, &Headers::parse(&map));
    match next {
        Next::Pass => {
            host::recycle(map);
            Progress::Passed
        }
        Next::Refuse => {
            host::recycle(map);
            Progress::Refused
        }
        Next::Hold { stripped } => Progress::Held(stripped.then_some(map)),
    }
}

enum Next {
    Pass,
    Refuse,
    /// Whether the proxy no longer has the head as the client sent it.
    Hold {
        stripped: bool,
    },
}

fn run_with(plugin: &Plugin, may_hold: &dyn Fn() -> bool, headers: &Headers<'_>) -> Next {
    let config = &plugin.config;
    let head = headers.head();
    let source = plugin.source.as_ref().map(|source| source.borrow());
    let keys = plugin.keys(source.as_ref());

    if config.readiness_path.as_ref().is_some_and(|path| path.as_bytes() == without_query(head.path)) {
        return tell_readiness(config, &keys);
    }

    let enforce = config.mode == Mode::Enforce;
    let changed = forward::remove_client_identity(config, headers);
    let route = if config.route_metadata { read_route(plugin, headers, enforce, changed) } else { Route::Absent };
    let policy = Policy { config, keys, route: route.as_metadata() };
    let now = Timestamp::from_unix_ns(host::wall_clock_ns());
    let decision = decide(&policy, &head, now);

    let knows_no_key = matches!(decision.code, Code::ManifestUnavailable | Code::KeyUnknown);
    if knows_no_key && enforce && may_come(plugin, source.as_ref(), decision.code) && may_hold() {
        return Next::Hold { stripped: config.route_metadata && config.hide_key };
    }

    record(&decision);
    let outcome = match (enforce, decision.allows()) {
        (false, _) => Outcome::Shadow,
        (true, true) => Outcome::Allow,
        (true, false) => Outcome::Deny,
    };
    plugin.counters.count(outcome, decision.code);
    if decision.code == Code::Allowed
        && let Some(source) = &plugin.source
    {
        source.record_use(&decision, now);
    }
    if outcome == Outcome::Deny {
        return refuse(plugin, headers, &decision);
    }
    if enforce && config.hide_key && !config.route_metadata {
        forward::remove_credential(config, headers);
    }
    if decision.code == Code::Allowed
        && let Some(key) = &decision.key
    {
        forward::set_identity(config, key);
    }
    Next::Pass
}

#[cold]
#[inline(never)]
fn tell_readiness(config: &Config, keys: &Keys<'_>) -> Next {
    let ready = !matches!(keys, Keys::Unavailable(_) | Keys::InlineOnly { .. }) || !config.needs_keys();
    send(&reply::readiness(ready));
    Next::Refuse
}

/// Whether the key that was not found may be among those that are still to come.
#[cold]
#[inline(never)]
fn may_come(plugin: &Plugin, source: Option<&Fetched<'_>>, code: Code) -> bool {
    // Without a fallback, an unknown key is one that fetched keys were there to look among.
    (code != Code::KeyUnknown || plugin.config.manifest.is_some())
        && source.is_some_and(|source| source.table().err() == Some(Unavailable::NotYetLoaded))
}

#[inline(never)]
fn refuse(plugin: &Plugin, headers: &Headers<'_>, decision: &Decision<'_>) -> Next {
    plugin.replies.with(decision, content_type(headers).is_grpc(), send);
    Next::Refuse
}

/// Leaves the decision where the access log, the backstop and the route's headers can read it.
fn record(decision: &Decision<'_>) {
    host::set_filter_state("keyward.decision", decision.code.as_str().as_bytes());
    if let Some(key) = &decision.key {
        host::set_filter_state("keyward.key_id", encode_value(key.id.as_str(&mut [0; 20])).as_bytes());
        host::set_filter_state("keyward.key_name", encode_value(key.name).as_bytes());
    }
}

/// What the route's metadata says.
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

/// Reads the metadata of the route. Whatever the filter removes is removed first, since a route may match on it.
///
/// Envoy chooses the route anew when headers have changed, but shows it to a filter only after that filter (measured on
/// 1.40): until then the property is that of the route before. So where routes match on what is removed here, the
/// configuration has to leave header changes to the routes; then nothing is changed, and the route stays the one that is
/// read here.
#[inline(never)]
fn read_route(plugin: &Plugin, headers: &Headers<'_>, enforce: bool, mut changed: bool) -> Route {
    if enforce {
        if plugin.config.hide_key {
            changed |= forward::remove_credential(&plugin.config, headers);
        }
        if changed {
            host::clear_route_cache();
        }
    }
    let read = match host::property("xds\0route_metadata") {
        Ok(None) => return Route::Absent,
        Ok(Some(bytes)) => route_metadata::parse(&bytes).map_err(|why| why.to_string()),
        Err(status) => Err(format!("the route's metadata cannot be read: status {status}")),
    };
    match read {
        Ok(None) => Route::Absent,
        Ok(Some(access)) => Route::Access(access),
        Err(why) => {
            plugin.counters.route_metadata_invalid.add(1);
            if !plugin.complained.replace(true) {
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

fn send(reply: &reply::Reply) {
    host::send_local_response(reply.status, &reply.details, &reply.headers, &reply.body, reply.grpc_status);
}

/// For a context whose root has no configuration. Envoy makes none, but if it did, it should not pass.
pub fn deny_unconfigured() {
    let code = Code::ManifestUnavailable;
    host::set_filter_state("keyward.decision", code.as_str().as_bytes());
    host::send_local_response(code.status(), "keyward_unconfigured", &[0; 4], code.detail().as_bytes(), -1);
}

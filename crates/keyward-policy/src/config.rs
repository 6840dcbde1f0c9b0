//! The filter's configuration: read strictly, reported completely, compiled once.
//!
//! [`Config::parse`] is a function of its bytes and of nothing else, so that every thread of a proxy comes to the same
//! result.

mod admin;
mod inline;
pub(crate) mod json;
mod key_sources;
mod object;
mod problem;
pub(crate) mod protobuf;
pub mod route_metadata;
pub(crate) mod rules;
#[cfg(test)]
mod tests;

pub use admin::{AdminConfig, TokenSecret, is_token};
pub use inline::{Inline, MAX_INLINE_BYTES, Use};
pub use object::MAX_FIELDS;
pub use problem::{ConfigErrors, MAX_PROBLEMS, Problem};
pub use rules::{MAX_RULES, MAX_RULES_BYTES};

use crate::credential::KeySource;
use crate::header;
use crate::path::{CanonicalPath, PathSettings};
use crate::route::Routes;
use crate::rule::Access;
use json::Json;
use object::ObjectReader;
use problem::Problems;
use std::sync::Arc;
use std::time::Duration;

/// The limit of bytes in a configuration. Every thread of the proxy holds a copy; more keys than fit here belong into the
/// admin service.
pub const MAX_CONFIG_BYTES: usize = 8 << 20;

/// The limit of `startup_wait`.
pub const MAX_STARTUP_WAIT: Duration = Duration::from_secs(60);

/// A plugin configuration, valid as a whole.
#[derive(Debug)]
pub struct Config {
    /// The realm, for `WWW-Authenticate` and for every poll.
    pub realm: Box<str>,
    /// The places where requests may carry a key. There is at least one.
    pub key_sources: Vec<KeySource>,
    /// The keys that come with the configuration.
    pub manifest: Option<Inline>,
    /// The admin service that keys are fetched from.
    pub admin: Option<AdminConfig>,
    /// How the upstream reads paths that are refused by default.
    pub paths: PathSettings,
    /// The rules, compiled.
    pub routes: Arc<Routes>,
    /// What a request needs that no rule matches.
    pub unmatched: Unmatched,
    /// Whether the route's metadata may take the place of the rules.
    pub route_metadata: bool,
    /// The headers that tell the upstream which key was used.
    pub identity_headers: IdentityHeaders,
    /// Whether the credential is removed before the request goes to the upstream.
    pub hide_key: bool,
    /// How CORS preflights are treated.
    pub cors_preflight: CorsPreflight,
    /// How long a request with a well-formed key waits for the first complete manifest.
    pub startup_wait: Duration,
    /// The canonical path that the filter answers itself, with whether it is ready.
    pub readiness_path: Option<Box<str>>,
    /// Whether decisions are enforced.
    pub mode: Mode,
}

/// What a request needs that no rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unmatched {
    /// It is denied.
    #[default]
    Deny,
    /// It needs a valid key.
    Authenticated,
    /// It needs nothing.
    Public,
}

/// The headers that tell the upstream which key was used, in lower case. `None` means that the header is switched off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityHeaders {
    /// The header with the key's id.
    pub id: Option<Box<str>>,
    /// The header with the key's name, percent-encoded outside visible ASCII.
    pub name: Option<Box<str>>,
}

/// How CORS preflights are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CorsPreflight {
    /// They are requests like any other.
    #[default]
    Deny,
    /// They pass where the request that they announce could pass.
    Pass,
}

/// Whether decisions are enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Denied requests are refused.
    #[default]
    Enforce,
    /// Decisions are only counted and recorded; every request passes.
    Shadow,
}

impl Config {
    /// Reads a configuration: JSON text, or a serialized `google.protobuf.Struct`.
    ///
    /// # Errors
    /// Returns [`ConfigErrors`] with every problem, its place and how to mend it.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigErrors> {
        if bytes.len() > MAX_CONFIG_BYTES {
            return Err(ConfigErrors::one(Problem {
                path: String::new(),
                message: format!("{} bytes, and at most {MAX_CONFIG_BYTES} are read", bytes.len()),
                help: "every thread of the proxy holds a copy: let the admin service keep the keys (`admin`)".into(),
            }));
        }
        let json = decode(bytes).map_err(ConfigErrors::one)?;
        let mut problems = Problems::default();
        let config = read(&mut problems, &json);
        problems.finish(config)
    }

    /// Takes over the compiled rules and inline keys of another configuration where they are equal to this one's.
    /// Root contexts of a VM that differ in something else then hold them once.
    pub fn share_with(&mut self, other: &Self) {
        if self.routes == other.routes {
            self.routes = Arc::clone(&other.routes);
        }
        if let (Some(ours), Some(theirs)) = (&mut self.manifest, &other.manifest)
            && ours.digest == theirs.digest
        {
            ours.keys = Arc::clone(&theirs.keys);
        }
    }

    /// Whether any request could need a key.
    pub fn needs_keys(&self) -> bool {
        self.route_metadata
            || self.unmatched == Unmatched::Authenticated
            || self.routes.rules().iter().any(|rule| rule.access != Access::Public)
    }
}

/// Tells the two encodings apart. A serialized Struct begins with 0x0a, which JSON allows as white space, so JSON is
/// tried first: its grammar cannot accept what follows in a Struct.
fn decode(bytes: &[u8]) -> Result<Json, Problem> {
    let problem = |message: String, help: &str| Problem { path: String::new(), message, help: help.into() };
    if bytes.is_empty() {
        return Err(problem(
            "there is no configuration".into(),
            "give the plugin a `configuration` with `rules` and `manifest` or `admin`",
        ));
    }
    match json::parse(bytes) {
        Ok(json) => Ok(json),
        Err(error) => protobuf::parse(bytes).filter(|_| bytes.first() == Some(&0x0a)).ok_or_else(|| {
            problem(
                format!("neither JSON nor a google.protobuf.Struct: {error}"),
                "use the type google.protobuf.StringValue with JSON text, or google.protobuf.Struct",
            )
        }),
    }
}

fn read(problems: &mut Problems, json: &Json) -> Option<Config> {
    let mut fields = ObjectReader::of(problems, "", json)?;
    let realm = fields.string("realm").filter(|realm| check_realm(&mut fields, realm)).unwrap_or("default").into();
    let key_sources = key_sources::read(&mut fields);
    let has_admin = fields.has("admin");
    let manifest = fields.object("manifest", |inner| inline::read(inner, has_admin));
    let admin = fields.object("admin", admin::read);
    let paths = fields.object("paths", path_settings).unwrap_or_default();
    let routes = Arc::new(rules::read(&mut fields, paths));
    let unmatched = fields.choice(
        "unmatched",
        &[("deny", Unmatched::Deny), ("authenticated", Unmatched::Authenticated), ("public", Unmatched::Public)],
    );
    let route_metadata = fields.bool("route_metadata").unwrap_or(false);
    let identity_headers = identity_headers(&mut fields, &key_sources);
    let hide_key = fields.bool("hide_key").unwrap_or(true);
    let cors_preflight =
        fields.choice("cors_preflight", &[("deny", CorsPreflight::Deny), ("pass", CorsPreflight::Pass)]);
    let startup_wait = startup_wait(&mut fields);
    let readiness_path = readiness_path(&mut fields);
    let mode = fields.choice("mode", &[("enforce", Mode::Enforce), ("shadow", Mode::Shadow)]);
    let (has_manifest, has_admin) = (fields.has("manifest"), fields.has("admin"));
    let config = Config {
        realm,
        key_sources,
        manifest: manifest.flatten(),
        admin: admin.flatten(),
        paths,
        routes,
        unmatched: unmatched.unwrap_or_default(),
        route_metadata,
        identity_headers,
        hide_key,
        cors_preflight: cors_preflight.unwrap_or_default(),
        startup_wait,
        readiness_path,
        mode: mode.unwrap_or_default(),
    };
    if !has_manifest && !has_admin && config.needs_keys() {
        fields.problem(
            "",
            "there are no keys: neither `manifest` nor `admin`",
            "name the admin service in `admin`, or list keys in `manifest`",
        );
    }
    fields.finish();
    Some(config)
}

fn path_settings(fields: &mut ObjectReader<'_, '_>) -> PathSettings {
    let mut choice = |name, accepted| fields.choice(name, &[("refuse", false), (accepted, true)]).unwrap_or(false);
    PathSettings {
        encoded_slash_in_segment: choice("encoded_slash", "segment"),
        literal_semicolon: choice("semicolon", "literal"),
        literal_encoded_delimiters: choice("encoded_delimiters", "literal"),
    }
}

fn check_realm(fields: &mut ObjectReader<'_, '_>, realm: &str) -> bool {
    let quotable = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    let well_formed = (1..=100).contains(&realm.len()) && realm.bytes().all(quotable);
    if !well_formed {
        fields.problem("realm", "not a realm", "use 1 to 100 printable ASCII characters without `\"` and `\\`");
    }
    well_formed
}

fn identity_headers(fields: &mut ObjectReader<'_, '_>, sources: &[KeySource]) -> IdentityHeaders {
    let default = IdentityHeaders { id: Some("x-api-key-id".into()), name: Some("x-api-key-name".into()) };
    if fields.is_null("identity_headers") {
        return IdentityHeaders { id: None, name: None };
    }
    let read = fields.object("identity_headers", |inner| {
        let id = identity_header(inner, "id", default.id.clone(), sources);
        let name = identity_header(inner, "name", default.name.clone(), sources);
        if id.is_some() && id == name {
            inner.problem("name", "the same header as `id`", "give the name another header, or null");
        }
        IdentityHeaders { id, name }
    });
    read.unwrap_or(default)
}

/// Headers that carry the message itself, or that other parts of the proxy trust.
const RESERVED_HEADERS: [&str; 12] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "cookie",
    "authorization",
    "x-forwarded-for",
    "x-request-id",
];

fn identity_header(
    fields: &mut ObjectReader<'_, '_>,
    field: &'static str,
    default: Option<Box<str>>,
    sources: &[KeySource],
) -> Option<Box<str>> {
    if fields.is_null(field) {
        return None;
    }
    let Some(name) = fields.string(field) else { return default };
    let lower = name.to_ascii_lowercase();
    let is_source = |source: &KeySource| matches!(source, KeySource::Header { name, .. } if **name == *lower);
    if !header::is_name(name) {
        fields.problem(
            field,
            format!("`{name}` is not a header name"),
            "use letters, digits and `-`, like `x-api-key-id`",
        );
    } else if RESERVED_HEADERS.contains(&&*lower) {
        fields.problem(
            field,
            format!("`{lower}` already has a meaning"),
            "use a header that nothing else sets, like `x-api-key-id`",
        );
    } else if sources.iter().any(is_source) {
        fields.problem(field, format!("`{lower}` is also a key source"), "use another header for the identity");
    }
    Some(lower.into())
}

fn startup_wait(fields: &mut ObjectReader<'_, '_>) -> Duration {
    let wait = fields.duration("startup_wait");
    if wait.is_some_and(|wait| wait > MAX_STARTUP_WAIT) {
        fields.problem(
            "startup_wait",
            "longer than 1m",
            "held requests take memory: wait shorter, and let clients try again",
        );
    }
    wait.unwrap_or(Duration::from_secs(2))
}

fn readiness_path(fields: &mut ObjectReader<'_, '_>) -> Option<Box<str>> {
    let text = fields.optional_string("readiness_path")?;
    match CanonicalPath::parse(text.as_bytes()) {
        Ok(path) if path.as_str() == text && !text.contains(['*', '{', '}']) => Some(text.into()),
        _ => {
            fields.problem(
                "readiness_path",
                format!("`{text}` is not a plain path"),
                "write one path, decoded and without a query, like `/keyward/ready`",
            );
            None
        }
    }
}

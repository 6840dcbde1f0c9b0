//! `admin`: the admin service that keys are fetched from.

use super::json::Json;
use super::object::ObjectReader;
use super::problem::Problem;
use crate::header;
use std::fmt;
use std::time::Duration;

/// The lower limit of `max_staleness`. A poll, its retry and a slow answer have to fit in.
pub const MIN_MAX_STALENESS: Duration = Duration::from_secs(3);

/// How the filter reaches the admin service.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// The Envoy cluster of the service.
    pub cluster: Box<str>,
    /// The `:authority` of the requests.
    pub authority: Box<str>,
    /// The edge token. `None` means that the cluster's `credential_injector` adds it.
    pub token: Option<Box<str>>,
    /// The name of the VM's environment variable that holds the edge token. Never beside `token`.
    pub token_env: Option<Box<str>>,
    /// The secret of Envoy that holds the edge token. Never beside `token` or `token_env`. The native edition alone can
    /// read secrets.
    pub token_secret: Option<TokenSecret>,
    /// The only store whose keys are accepted. `None` means the first store that answers.
    pub store: Option<Box<str>>,
    /// How long the filter may be without contact before it accepts no key. `None` means no limit.
    pub max_staleness: Option<Duration>,
}

/// A generic secret of Envoy, as its secret discovery service names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSecret {
    /// The name of the secret.
    pub name: Box<str>,
    sds_config: Option<Json>,
}

impl TokenSecret {
    /// Returns the reason for which the WebAssembly edition refuses a token's secret.
    pub fn native_only() -> Problem {
        Problem {
            path: "admin.token_secret".to_owned(),
            message: "only the native edition can read secrets of Envoy".to_owned(),
            help: "name a variable in `admin.token_env`, or let the cluster's credential_injector add the token"
                .to_owned(),
        }
    }

    /// Returns the `ConfigSource` that Envoy gets the secret from, as JSON. It is empty where the secret is one of
    /// Envoy's static secrets.
    pub fn sds_config(&self) -> String {
        self.sds_config.as_ref().map(Json::to_string).unwrap_or_default()
    }
}

/// Writes everything but the token.
impl fmt::Debug for AdminConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminConfig")
            .field("cluster", &self.cluster)
            .field("authority", &self.authority)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("token_env", &self.token_env)
            .field("token_secret", &self.token_secret)
            .field("store", &self.store)
            .field("max_staleness", &self.max_staleness)
            .finish()
    }
}

/// Reads `admin`.
pub(super) fn read(fields: &mut ObjectReader<'_, '_>) -> Option<AdminConfig> {
    fields.missing("cluster", "name the Envoy cluster that reaches the admin service");
    let cluster =
        word(fields, "cluster", "name an Envoy cluster, in Istio like `outbound|8081||keyward.ns.svc.cluster.local`");
    let authority = word(fields, "authority", "write a host, like `keyward.internal`");
    let store = word(fields, "store", "write the store's identity as `keyward` shows it, like `st_9f…`");
    let token = fields.optional_string("token");
    if token.is_some_and(|token| !is_token(token)) {
        fields.problem(
            "token",
            "not a token",
            "use 1 to 512 visible ASCII characters, or leave it to the cluster's credential_injector",
        );
    }
    let token_env = fields.optional_string("token_env");
    if token_env.is_some_and(|name| !is_variable(name)) {
        fields.problem(
            "token_env",
            "not the name of an environment variable",
            "use 1 to 128 letters, digits and `_`, like `KEYWARD_EDGE_TOKEN`",
        );
    }
    if token.is_some() && token_env.is_some() {
        fields.problem("token_env", "is given beside `token`", "keep one of the two");
    }
    let token_secret = fields.object("token_secret", token_secret).flatten();
    if token_secret.is_some() && (token.is_some() || token_env.is_some()) {
        let other = if token.is_some() { "token" } else { "token_env" };
        fields.problem("token_secret", format!("is given beside `{other}`"), "keep one of the two");
    }
    let max_staleness = if fields.get("max_staleness").is_some() && fields.string("max_staleness") == Some("never") {
        None
    } else {
        let limit = fields.duration("max_staleness").unwrap_or(Duration::from_secs(3600));
        if limit < MIN_MAX_STALENESS {
            fields.problem("max_staleness", "shorter than 3s", "use at least `3s`; `never` for no limit");
        }
        Some(limit)
    };
    let cluster: Box<str> = cluster?.into();
    Some(AdminConfig {
        authority: authority.map_or_else(|| cluster.clone(), Into::into),
        cluster,
        token: token.map(Into::into),
        token_env: token_env.map(Into::into),
        token_secret,
        store: store.map(Into::into),
        max_staleness,
    })
}

fn token_secret(fields: &mut ObjectReader<'_, '_>) -> Option<TokenSecret> {
    fields.missing("name", "name the secret, like `keyward_edge_token`");
    let name = word(fields, "name", "name the secret, like `keyward_edge_token`");
    let sds_config = fields.get("sds_config").filter(|json| **json != Json::Null);
    match sds_config {
        None => {}
        Some(json @ Json::Object(_)) if has_number(json) => fields.problem(
            "sds_config",
            "a number, which is not kept",
            "write numbers as text, like `\"5\"`: Envoy reads both the same",
        ),
        Some(Json::Object(_)) => {}
        Some(other) => fields.wrong_type(
            "sds_config",
            "an object",
            other,
            "write the ConfigSource of the secret, like `path_config_source: {path: /etc/envoy/edge-token.yaml}`",
        ),
    }
    Some(TokenSecret { name: name?.into(), sds_config: sds_config.cloned() })
}

fn has_number(json: &Json) -> bool {
    match json {
        Json::Number => true,
        Json::Array(items) => items.iter().any(has_number),
        Json::Object(fields) => fields.iter().any(|(_, value)| has_number(value)),
        Json::Null | Json::Bool(_) | Json::String(_) => false,
    }
}

/// Returns whether a text can be sent as an edge token: 1 to 512 visible ASCII characters.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= 512 && header::is_visible_ascii(text.as_bytes())
}

fn is_variable(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// Reads a text that goes into a header or names a resource of Envoy.
fn word<'j>(fields: &mut ObjectReader<'_, 'j>, name: &'static str, help: &str) -> Option<&'j str> {
    let text = fields.optional_string(name)?;
    if text.is_empty() || text.len() > 512 || !header::is_visible_ascii(text.as_bytes()) {
        fields.problem(name, "not 1 to 512 visible ASCII characters", help);
    }
    Some(text)
}

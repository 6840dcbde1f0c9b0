//! `admin`: the admin service that keys are fetched from.

use super::object::ObjectReader;
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
    /// The only store whose keys are accepted. `None` means the first store that answers.
    pub store: Option<Box<str>>,
    /// How long the filter may be without contact before it accepts no key. `None` means no limit.
    pub max_staleness: Option<Duration>,
}

/// Writes everything but the token.
impl fmt::Debug for AdminConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminConfig")
            .field("cluster", &self.cluster)
            .field("authority", &self.authority)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("token_env", &self.token_env)
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
        store: store.map(Into::into),
        max_staleness,
    })
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

//! The settings of `keyward serve`, read from the environment.

use crate::address::{ApiUrl, PublicUrl};
use crate::catalogue::Catalogue;
use crate::plugin_config::document::read_one;
use crate::secret::Secret;
use crate::service::Settings;
use crate::service::tokens::{ENVIRONMENT, EnvironmentToken};
use crate::store::tokens::Role;
use crate::token_scope::TokenScope;
use keyward_policy::duration;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Every variable that means something to some `keyward` command.
pub const VARIABLES: &[(&str, &str)] = &[
    ("KEYWARD_LISTEN", "address and port to listen on; default 127.0.0.1:8081"),
    ("KEYWARD_DATABASE_URL", "sqlite://FILE or postgres://…; default sqlite://keyward.db"),
    ("KEYWARD_DATABASE_URL_FILE", "a file that holds it"),
    ("KEYWARD_ADMIN_TOKEN", "a token of the role admin"),
    ("KEYWARD_ADMIN_TOKEN_FILE", "a file that holds it"),
    ("KEYWARD_EDGE_TOKEN", "a token of the role edge"),
    ("KEYWARD_EDGE_TOKEN_FILE", "a file that holds it"),
    ("KEYWARD_EDGE_TOKEN_REALM", "the only realm whose filters may use that token; default: every realm"),
    ("KEYWARD_EDGE_TOKEN_NODES", "the nodes whose filters may use that token, such as gateway-*; default: all nodes"),
    ("KEYWARD_FIRST_TOKENS", "a folder for the tokens of the first start: admin-token and edge-token"),
    ("KEYWARD_PUBLIC_URL", "where browsers find the page, behind a proxy that ends TLS or below a path"),
    ("KEYWARD_API_URL", "where clients call the protected API, for the command that is shown with a new key"),
    ("KEYWARD_EXPLAIN_CONFIG", "a filter configuration: what Explain starts from, and what a key's page explains"),
    ("KEYWARD_REALM", "only filters of this realm get the manifest"),
    ("KEYWARD_KEY_PREFIX", "what new keys begin with; default kw"),
    ("KEYWARD_PERMISSIONS", "the permission catalogue: a TOML or JSON file"),
    ("KEYWARD_TLS_CERT", "certificate chain, PEM; read again when it changes"),
    ("KEYWARD_TLS_KEY", "its private key, PEM"),
    ("KEYWARD_TLS_CLIENT_CA", "only clients with a certificate of this authority are served"),
    ("KEYWARD_PURGE_AFTER", "expired keys are deleted after this long; default 30d"),
    ("KEYWARD_TOMBSTONES_FOR", "deletes are remembered for this long; default 7d"),
    ("KEYWARD_LONGEST_STALENESS", "no filter serves for longer than this without contact; default: no promise"),
    ("KEYWARD_MAX_WAITERS", "polls that may wait with one token; default 20000"),
    ("KEYWARD_MAX_CONNECTIONS", "connections served at once; default 50000"),
    ("KEYWARD_LOG", "error, warn, info, debug or trace; default info"),
    ("KEYWARD_LOG_FORMAT", "text or json; default text on a terminal, json elsewhere"),
    ("KEYWARD_URL", "where the command finds the service; default http://127.0.0.1:8081"),
    ("KEYWARD_CA", "an authority that the command trusts for that address, PEM"),
    ("KEYWARD_CLIENT_CERT", "certificate chain that the command shows there, PEM"),
    ("KEYWARD_CLIENT_KEY", "its private key, PEM"),
];

/// Certificate and key files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// The authority of client certificates. `None` means that clients need no certificate.
    pub client_ca: Option<PathBuf>,
}

/// The settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address and port to listen on.
    pub listen: SocketAddr,
    /// The URL of the database.
    pub database_url: String,
    /// The TLS files. `None` means no TLS.
    pub tls: Option<TlsFiles>,
    /// How many connections may be open.
    pub max_connections: usize,
    /// The folder for the tokens of the first start. `None` means that they are shown, or written beside the database.
    pub first_tokens: Option<PathBuf>,
    /// The settings of the service.
    pub settings: Settings,
}

/// All mistakes in the environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct InvalidConfig(pub Vec<String>);

/// Reads variables and collects mistakes.
pub struct Environment<F> {
    get: F,
    errors: Vec<String>,
}

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    /// Reads variables with `get`.
    pub fn new(get: F) -> Self {
        Self { get, errors: Vec::new() }
    }

    /// Returns a variable. An empty variable counts as absent.
    fn text(&self, name: &str) -> Option<String> {
        (self.get)(name).filter(|text| !text.is_empty())
    }

    fn wrong(&mut self, name: &str, message: impl fmt::Display) {
        self.errors.push(format!("{name}: {message}"));
    }

    fn parse<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        match parse(&self.text(name)?) {
            Ok(value) => Some(value),
            Err(message) => {
                self.wrong(name, message);
                None
            }
        }
    }

    /// Returns a variable, or the content of the file that `…_FILE` names without white space at its ends.
    pub fn secret(&mut self, name: &str) -> Option<String> {
        let file = format!("{name}_FILE");
        match (self.text(name), self.text(&file)) {
            (Some(_), Some(_)) => {
                self.wrong(name, format!("is set, and {file} too; set one of them"));
                None
            }
            (Some(text), None) => Some(text),
            (None, Some(path)) => match std::fs::read_to_string(&path) {
                Ok(text) if text.trim().is_empty() => {
                    self.wrong(&file, format!("`{path}` is empty"));
                    None
                }
                Ok(text) => Some(text.trim().to_owned()),
                Err(error) => {
                    self.wrong(&file, format!("`{path}` cannot be read: {error}"));
                    None
                }
            },
            (None, None) => None,
        }
    }

    /// Returns what was read, unless there were mistakes.
    ///
    /// # Errors
    /// Returns every mistake.
    pub fn finish<T>(self, value: T) -> Result<T, InvalidConfig> {
        if self.errors.is_empty() { Ok(value) } else { Err(InvalidConfig(self.errors)) }
    }
}

/// The shortest token that is taken from the environment.
const MIN_TOKEN_CHARACTERS: usize = 8;

/// The default of `KEYWARD_DATABASE_URL`.
pub const DATABASE_URL: &str = "sqlite://keyward.db";

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// Returns every mistake.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidConfig> {
        let mut env = Environment::new(get);
        let listen = env.parse("KEYWARD_LISTEN", |text| {
            text.parse().map_err(|_| format!("`{text}` is no address and port like 127.0.0.1:8081"))
        });
        let database_url = env.secret("KEYWARD_DATABASE_URL").unwrap_or_else(|| DATABASE_URL.to_owned());
        let mut settings = Settings { realm: env.text("KEYWARD_REALM"), ..Settings::default() };
        for (variable, role) in [("KEYWARD_ADMIN_TOKEN", Role::Admin), ("KEYWARD_EDGE_TOKEN", Role::Edge)] {
            let Some(token) = env.secret(variable) else { continue };
            if let Some(odd) = token.chars().find(|c| !c.is_ascii_graphic()) {
                env.wrong(variable, format!("a token is visible ASCII without spaces, and this one has {odd:?} in it"));
            } else if token.len() < MIN_TOKEN_CHARACTERS {
                env.wrong(
                    variable,
                    format!(
                        "a token needs at least {MIN_TOKEN_CHARACTERS} characters, or it can be guessed; \
                         `openssl rand -base64 32` makes one"
                    ),
                );
            }
            let name = format!("{role} {ENVIRONMENT}");
            let scope = TokenScope::default();
            settings.tokens.push(EnvironmentToken { name, role, scope, secret: Secret::new(token) });
        }
        let scope = TokenScope {
            realm: env.parse("KEYWARD_EDGE_TOKEN_REALM", scoped),
            nodes: env.parse("KEYWARD_EDGE_TOKEN_NODES", scoped),
        };
        match settings.tokens.iter_mut().find(|token| token.role == Role::Edge) {
            Some(token) => token.scope = scope,
            None if scope.is_everything() => {}
            None => env.wrong(
                "KEYWARD_EDGE_TOKEN",
                "is not set, and KEYWARD_EDGE_TOKEN_REALM or KEYWARD_EDGE_TOKEN_NODES binds it; \
                 `keyward token create --realm --nodes` binds other tokens",
            ),
        }
        if let [admin, edge] = &settings.tokens[..]
            && admin.secret == edge.secret
        {
            env.wrong(
                "KEYWARD_EDGE_TOKEN",
                "is the same as KEYWARD_ADMIN_TOKEN: whoever holds a proxy could make keys",
            );
        }
        if let Some(prefix) = env.text("KEYWARD_KEY_PREFIX") {
            match crate::service::keys::check_prefix(&prefix) {
                Ok(()) => settings.key_prefix = prefix,
                Err(error) => env.wrong("KEYWARD_KEY_PREFIX", error.message),
            }
        }
        let catalogue = env.parse("KEYWARD_PERMISSIONS", |path| {
            let text = std::fs::read_to_string(path).map_err(|error| format!("`{path}` cannot be read: {error}"))?;
            Catalogue::parse(&text).map_err(|error| format!("`{path}`: {error}"))
        });
        if let Some(catalogue) = catalogue {
            settings.catalogue = catalogue;
        }
        settings.public_url = env.parse("KEYWARD_PUBLIC_URL", str::parse::<PublicUrl>);
        settings.api_url = env.parse("KEYWARD_API_URL", str::parse::<ApiUrl>);
        settings.explain_config = env.parse("KEYWARD_EXPLAIN_CONFIG", |path| {
            let text = std::fs::read_to_string(path).map_err(|error| format!("`{path}` cannot be read: {error}"))?;
            read_one(&text).map_err(|error| format!("`{path}`: {error}"))?;
            Ok(text)
        });
        let mut period = |name: &str, default: Duration| {
            let parse = |text: &str| duration::parse(text).map_err(|error| format!("`{text}` is {error}"));
            env.parse(name, parse).unwrap_or(default)
        };
        settings.purge_after = period("KEYWARD_PURGE_AFTER", settings.purge_after);
        settings.tombstones_for = period("KEYWARD_TOMBSTONES_FOR", settings.tombstones_for);
        let longest = |text: &str| duration::parse(text).map_err(|error| format!("`{text}` is {error}"));
        settings.tables.longest_staleness = env.parse("KEYWARD_LONGEST_STALENESS", longest);
        let mut count = |name: &str, default: usize| {
            let parse = |text: &str| match text.parse() {
                Ok(0) | Err(_) => Err(format!("`{text}` is no whole number above 0")),
                Ok(number) => Ok(number),
            };
            env.parse(name, parse).unwrap_or(default)
        };
        settings.max_waiters = count("KEYWARD_MAX_WAITERS", settings.max_waiters);
        let max_connections = count("KEYWARD_MAX_CONNECTIONS", 50_000);
        let path = |name: &str| env.text(name).map(PathBuf::from);
        let client_ca = path("KEYWARD_TLS_CLIENT_CA");
        let first_tokens = path("KEYWARD_FIRST_TOKENS");
        let tls = match (path("KEYWARD_TLS_CERT"), path("KEYWARD_TLS_KEY")) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key, client_ca }),
            (None, None) => {
                if client_ca.is_some() {
                    env.wrong("KEYWARD_TLS_CLIENT_CA", "needs KEYWARD_TLS_CERT and KEYWARD_TLS_KEY");
                }
                None
            }
            (Some(_), None) => {
                env.wrong("KEYWARD_TLS_CERT", "needs KEYWARD_TLS_KEY");
                None
            }
            (None, Some(_)) => {
                env.wrong("KEYWARD_TLS_KEY", "needs KEYWARD_TLS_CERT");
                None
            }
        };
        let listen = listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8081)));
        env.finish(Self { listen, database_url, tls, max_connections, first_tokens, settings })
    }

    /// Returns whether requests, and with them keys and tokens, could be read on the network.
    pub fn is_in_clear(&self) -> bool {
        self.tls.is_none() && !self.listen.ip().is_loopback()
    }
}

/// The settings as the log shows them at start, without secrets.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = match &self.tls {
            None => "off",
            Some(files) if files.client_ca.is_some() => "on, with client certificates",
            Some(_) => "on",
        };
        let tokens: Vec<String> = self.settings.tokens.iter().map(|token| token.name.clone()).collect();
        write!(
            f,
            "listen={} database={} tls={tls} realm={} key_prefix={} permissions={} tokens_from_environment={} purge_after={} \
             tombstones_for={} max_waiters={} max_connections={}",
            self.listen,
            redacted(&self.database_url),
            self.settings.realm.as_deref().unwrap_or("any"),
            self.settings.key_prefix,
            self.settings.catalogue.permissions().count(),
            if tokens.is_empty() { "none".to_owned() } else { tokens.join(", ") },
            duration::format(self.settings.purge_after),
            duration::format(self.settings.tombstones_for),
            self.settings.max_waiters,
            self.max_connections,
        )
    }
}

/// Reads a realm or a pattern of nodes.
fn scoped<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{error}"))
}

/// Returns a database URL without password and parameters.
pub fn redacted(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((user, host)) => format!("{scheme}://{}@{host}", user.split(':').next().unwrap_or_default()),
            None => url.to_owned(),
        },
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn read(variables: &[(&str, &str)]) -> Result<Config, InvalidConfig> {
        let map: HashMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::read(|name| map.get(name).cloned())
    }

    #[test]
    fn nothing_set_is_a_service_on_this_machine() {
        let config = read(&[]).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8081");
        assert_eq!(config.database_url, "sqlite://keyward.db");
        assert!(!config.is_in_clear());
        assert!(read(&[("KEYWARD_LISTEN", "0.0.0.0:80"), ("KEYWARD_REALM", "")]).unwrap().is_in_clear());
    }

    #[test]
    fn all_that_is_wrong_is_told() {
        let InvalidConfig(errors) = read(&[
            ("KEYWARD_LISTEN", "8081"),
            ("KEYWARD_ADMIN_TOKEN", "a"),
            ("KEYWARD_ADMIN_TOKEN_FILE", "b"),
            ("KEYWARD_EDGE_TOKEN_FILE", "/does/not/exist"),
            ("KEYWARD_KEY_PREFIX", "k w"),
            ("KEYWARD_PERMISSIONS", "/does/not/exist"),
            ("KEYWARD_PURGE_AFTER", "soon"),
            ("KEYWARD_LONGEST_STALENESS", "never"),
            ("KEYWARD_MAX_WAITERS", "0"),
            ("KEYWARD_TLS_CERT", "cert.pem"),
        ])
        .unwrap_err();
        assert_eq!(errors.len(), 9, "{errors:#?}");
        assert!(read(&[("KEYWARD_ADMIN_TOKEN", "same-for-both"), ("KEYWARD_EDGE_TOKEN", "same-for-both")]).is_err());
        for (token, why) in [("a", "at least 8"), ("two\nlines-of-it", "'\\n'"), ("with space", "' '")] {
            let InvalidConfig(errors) = read(&[("KEYWARD_ADMIN_TOKEN", token)]).unwrap_err();
            assert!(errors.len() == 1 && errors[0].contains(why), "{errors:?}");
            assert!(token == "a" || !errors[0].contains(token), "{errors:?}");
        }
    }

    #[test]
    fn what_the_page_shows_of_other_places_is_checked_at_start() {
        let config = read(&[
            ("KEYWARD_PUBLIC_URL", "https://ops.example/keyward/"),
            ("KEYWARD_API_URL", "https://api.example"),
            ("KEYWARD_EXPLAIN_CONFIG", concat!(env!("CARGO_MANIFEST_DIR"), "/../../envoy.yaml")),
        ]);
        let settings = config.unwrap().settings;
        assert_eq!(settings.public_url.unwrap().base, "/keyward");
        assert!(settings.explain_config.unwrap().contains("rules:"));
        let InvalidConfig(errors) = read(&[
            ("KEYWARD_PUBLIC_URL", "ops.example"),
            ("KEYWARD_API_URL", "api"),
            ("KEYWARD_EXPLAIN_CONFIG", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")),
        ])
        .unwrap_err();
        assert_eq!(errors.len(), 3, "{errors:#?}");
    }

    #[test]
    fn no_secret_is_printed() {
        let config = read(&[
            ("KEYWARD_ADMIN_TOKEN", "hush-admin"),
            ("KEYWARD_EDGE_TOKEN", "hush-edge"),
            ("KEYWARD_DATABASE_URL", "postgres://user:hush-p@ss@db.example/keyward?password=hush-too"),
        ])
        .unwrap();
        assert!(!config.to_string().contains("hush") && !format!("{config:?}").contains("hush-admin"), "{config}");
        assert!(config.to_string().contains("postgres://user@db.example/keyward"), "{config}");
    }
}

//! The command as a client of the admin service.

use super::error::CommandError;
use crate::config::Environment;
use serde_json::Value;
use std::time::Duration;
use ureq::http::{Method, Request};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

const URL: &str = "http://127.0.0.1:8081";
/// Receipts may be waited for half a minute.
const PATIENCE: Duration = Duration::from_secs(60);
const MOST: u64 = 64 << 20;

/// A way to the service, with a token of one role.
pub(super) struct Client {
    agent: ureq::Agent,
    base: String,
    token: String,
    /// Whether the token is the edge one.
    pub edge: bool,
}

impl Client {
    /// With the admin token.
    pub(super) fn admin() -> Result<Self, CommandError> {
        Self::new(&["KEYWARD_ADMIN_TOKEN"])
    }

    /// With the edge token, or the admin token where there is no edge token.
    pub(super) fn edge_or_admin() -> Result<Self, CommandError> {
        Self::new(&["KEYWARD_EDGE_TOKEN", "KEYWARD_ADMIN_TOKEN"])
    }

    fn new(variables: &[&str]) -> Result<Self, CommandError> {
        let mut env = Environment::new(|name| std::env::var(name).ok());
        let url = env.secret("KEYWARD_URL").unwrap_or_else(|| URL.to_owned());
        let authority = env.secret("KEYWARD_CA");
        let client = (env.secret("KEYWARD_CLIENT_CERT"), env.secret("KEYWARD_CLIENT_KEY"));
        let token = variables.iter().find_map(|name| Some((*name, env.secret(name)?)));
        let (url, authority, token) = env.finish((url, authority, token)).map_err(CommandError::invalid)?;
        let Some((variable, token)) = token else {
            let choices: Vec<String> = variables.iter().map(|name| format!("{name} (or {name}_FILE)")).collect();
            return Err(CommandError::invalid(format!("a token is needed: set {}", choices.join(" or "))));
        };
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(CommandError::invalid(format!(
                "KEYWARD_URL: `{url}` begins with neither http:// nor https://"
            )));
        }
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .user_agent(concat!("keyward/", env!("CARGO_PKG_VERSION")));
        let mut tls = TlsConfig::builder();
        if let Some(path) = authority {
            let roots = certificates("KEYWARD_CA", &path)?;
            tls = tls.root_certs(RootCerts::from(roots));
        }
        match client {
            (None, None) => {}
            (Some(cert), Some(key)) => {
                let chain = certificates("KEYWARD_CLIENT_CERT", &cert)?;
                let key = PrivateKey::from_pem(&read("KEYWARD_CLIENT_KEY", &key)?)
                    .map_err(|error| CommandError::invalid(format!("KEYWARD_CLIENT_KEY: `{key}`: {error}")))?;
                tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
            }
            _ => return Err(CommandError::invalid("KEYWARD_CLIENT_CERT and KEYWARD_CLIENT_KEY go together: set both")),
        }
        config = config.tls_config(tls.build());
        Ok(Self {
            agent: config.build().new_agent(),
            base: url.trim_end_matches('/').to_owned(),
            token,
            edge: variable == "KEYWARD_EDGE_TOKEN",
        })
    }

    /// Asks for something.
    pub(super) fn get(&self, path: &str) -> Result<Value, CommandError> {
        self.call(Method::GET, path, None)
    }

    /// Asks for something, as it comes.
    pub(super) fn get_bytes(&self, path: &str) -> Result<Vec<u8>, CommandError> {
        self.send(Method::GET, path, None)
    }

    /// Calls the service; what it answers.
    pub(super) fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, CommandError> {
        let bytes = self.send(method, path, body)?;
        serde_json::from_slice(&bytes)
            .map_err(|_| CommandError::failed(format!("{} answers something else than JSON", self.base)))
    }

    fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Vec<u8>, CommandError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.token));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let sent = match body {
            Some(body) => request.body(body.to_string()).map(|request| self.agent.run(request)),
            None => request.body(()).map(|request| self.agent.run(request)),
        };
        let unreachable = |error: ureq::Error| {
            CommandError::failed(format!(
                "{} cannot be reached: {error}\n  KEYWARD_URL says where the service is",
                self.base
            ))
        };
        let mut response = sent.map_err(CommandError::invalid)?.map_err(unreachable)?;
        let bytes = response.body_mut().with_config().limit(MOST).read_to_vec().map_err(unreachable)?;
        if response.status().is_success() {
            return Ok(bytes);
        }
        Err(explain(response.status().as_u16(), &serde_json::from_slice(&bytes).unwrap_or_default()))
    }
}

fn read(variable: &str, path: &str) -> Result<Vec<u8>, CommandError> {
    std::fs::read(path).map_err(|error| CommandError::invalid(format!("{variable}: `{path}`: {error}")))
}

/// The certificates in a file: one, or a chain.
fn certificates(variable: &str, path: &str) -> Result<Vec<Certificate<'static>>, CommandError> {
    let wrong = |what: &dyn std::fmt::Display| CommandError::invalid(format!("{variable}: `{path}`: {what}"));
    let mut found = Vec::new();
    for item in parse_pem(&read(variable, path)?) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(&error))? {
            found.push(certificate);
        }
    }
    if found.is_empty() { Err(wrong(&"there is no certificate in it")) } else { Ok(found) }
}

/// A refusal of the service, in words and with the exit code that fits.
fn explain(status: u16, problem: &Value) -> CommandError {
    let text = |name: &str| problem[name].as_str().unwrap_or_default();
    let mut message = match (text("title"), text("detail")) {
        ("", _) => format!("the service answers {status}"),
        (title, detail) => format!("{title} ({status} {}): {detail}", text("code")),
    };
    if let Some(errors) = problem["errors"].as_array() {
        message = text("title").to_owned();
        for error in errors {
            let part = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
            message.push_str(&format!("\n  {}: {}", part("field"), part("message")));
        }
    }
    match status {
        401 | 403 => CommandError::denied(message),
        400 | 413 | 422 => CommandError::invalid(message),
        _ => CommandError::failed(message),
    }
}

/// A text as a part of a query or path.
pub(super) fn encode(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

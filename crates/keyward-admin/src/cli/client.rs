//! Calls the admin service.

use super::error::CommandError;
use crate::config::Environment;
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;
use ureq::Proxy;
use ureq::http::{Method, Request, Uri};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

const DEFAULT_URL: &str = "http://127.0.0.1:8081";
/// How long an answer may take. The service waits for a receipt for up to half a minute.
const MAX_ANSWER_TIME: Duration = Duration::from_secs(60);
/// How long it may take until the service accepts a connection.
const MAX_CONNECT_TIME: Duration = Duration::from_secs(15);
/// Largest answer that is read.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

/// A connection to the service with a token.
pub(super) struct Client {
    agent: ureq::Agent,
    base: String,
    token: String,
    /// Whether the token is an edge token.
    pub edge: bool,
}

impl Client {
    /// Returns a client with the admin token.
    pub(super) fn admin() -> Result<Self, CommandError> {
        Self::new(&["KEYWARD_ADMIN_TOKEN"])
    }

    /// Returns a client with the edge token, or with the admin token if there is no edge token.
    pub(super) fn edge_or_admin() -> Result<Self, CommandError> {
        Self::new(&["KEYWARD_EDGE_TOKEN", "KEYWARD_ADMIN_TOKEN"])
    }

    fn new(variables: &[&str]) -> Result<Self, CommandError> {
        let mut env = Environment::new(|name| std::env::var(name).ok());
        let url = env.secret("KEYWARD_URL").unwrap_or_else(|| DEFAULT_URL.to_owned());
        let authority = env.secret("KEYWARD_CA");
        let client = (env.secret("KEYWARD_CLIENT_CERT"), env.secret("KEYWARD_CLIENT_KEY"));
        let proxy = env.secret("KEYWARD_PROXY");
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
            .timeout_global(Some(MAX_ANSWER_TIME))
            .timeout_connect(Some(MAX_CONNECT_TIME))
            .max_redirects(0)
            // Not `HTTPS_PROXY` and the like: whatever they name would see the admin token.
            .proxy(proxy_for(&url, proxy.as_deref())?)
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

    /// Reads a resource as JSON.
    pub(super) fn get(&self, path: &str) -> Result<Value, CommandError> {
        self.call(Method::GET, path, None)
    }

    /// Reads a resource without parsing it.
    pub(super) fn get_bytes(&self, path: &str) -> Result<Vec<u8>, CommandError> {
        self.send(Method::GET, path, None)
    }

    /// Makes a call, and returns the answer as JSON.
    pub(super) fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, CommandError> {
        let bytes = self.send(method, path, body)?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|_| {
            CommandError::failed(format!("the answer of {} is not JSON: is it the admin service?", self.base))
        })
    }

    fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Vec<u8>, CommandError> {
        let only_reads = method == Method::GET;
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
            // A port without TLS answers the handshake with text.
            let plain = self.base.starts_with("https://") && error.to_string().contains("InvalidContentType");
            if plain {
                let url = self.base.replacen("https://", "http://", 1);
                return CommandError::failed(format!("{} speaks plain http: use `KEYWARD_URL={url}`", self.base));
            }
            // The request may have arrived: a connection was there, and only the answer is missing.
            if let ureq::Error::Timeout(ureq::Timeout::Global) = error {
                return CommandError::failed(no_answer(&self.base, only_reads));
            }
            CommandError::failed(format!(
                "{} cannot be reached: {error}\n  KEYWARD_URL says where the service is",
                self.base
            ))
        };
        let mut response = sent.map_err(CommandError::invalid)?.map_err(unreachable)?;
        let bytes = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec().map_err(unreachable)?;
        if response.status().is_success() {
            return Ok(bytes);
        }
        Err(explain(response.status().as_u16(), &serde_json::from_slice(&bytes).unwrap_or_default()))
    }
}

/// Says that the service has accepted a connection and has not answered in time.
fn no_answer(base: &str, only_reads: bool) -> String {
    let mut words = format!("{base} has not answered for {} seconds", MAX_ANSWER_TIME.as_secs());
    if !only_reads {
        words.push_str(
            ", so it is not known whether it has done what you asked for\n  `keyward audit` says what was done: look before \
             you try again",
        );
    }
    words
}

/// Returns the proxy to use. `None` means that the service is asked directly, as it always is on this machine.
fn proxy_for(url: &str, proxy: Option<&str>) -> Result<Option<Proxy>, CommandError> {
    let Some(proxy) = proxy else { return Ok(None) };
    let proxy = Proxy::new(proxy).map_err(|error| CommandError::invalid(format!("KEYWARD_PROXY: {error}")))?;
    let host = url.parse::<Uri>().ok().and_then(|url| url.host().map(str::to_owned)).unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    Ok((!is_loopback).then_some(proxy))
}

fn read(variable: &str, path: &str) -> Result<Vec<u8>, CommandError> {
    std::fs::read(path).map_err(|error| CommandError::invalid(format!("{variable}: `{path}`: {error}")))
}

/// Reads the certificates in a file: one, or a chain.
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

/// Turns an error of the service into words and the exit code that fits.
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

/// Encodes a text for use in a query or a path.
pub(super) fn encode(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_accepts_and_never_answers_may_have_done_the_change() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let limit = Some(Duration::from_millis(50));
        let agent = ureq::Agent::config_builder().timeout_global(limit).build().new_agent();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let client = Client { agent, base: base.clone(), token: "token".to_owned(), edge: false };
        let change = client.call(Method::POST, "/v1/keys", Some(&Value::Null)).unwrap_err();
        assert_eq!(change.exit, crate::cli::exit::Exit::Failure);
        assert!(change.message.starts_with(&format!("{base} has not answered for 60 seconds")), "{}", change.message);
        assert!(change.message.contains("`keyward audit` says what was done"), "{}", change.message);
        let look = client.get("/v1/keys").unwrap_err();
        assert_eq!(look.message, format!("{base} has not answered for 60 seconds"));
    }

    #[test]
    fn a_proxy_is_never_used_for_this_machine() {
        let proxy = |url: &str| proxy_for(url, Some("http://proxy.example:3128")).unwrap().is_some();
        for url in ["http://127.0.0.1:8081", "https://localhost", "http://[::1]:8081/x", "http://127.9.9.9"] {
            assert!(!proxy(url), "{url}");
        }
        for url in
            ["https://keys.example", "http://127.0.0.1.example:8081", "http://192.0.2.1", "https://[2001:db8::1]"]
        {
            assert!(proxy(url), "{url}");
        }
        assert!(proxy_for("https://keys.example", None).unwrap().is_none());
        assert!(proxy_for("https://keys.example", Some("nonsense://x y")).is_err());
    }
}

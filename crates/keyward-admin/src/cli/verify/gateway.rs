//! The gateway that is asked, and the request that needs a key.

use super::args::VerifyArgs;
use super::reach::unreachable;
use super::target::Target;
use crate::cli::error::CommandError;
use crate::cli::input::{in_file, read_text};
use keyward_policy::config::{Config, Mode};
use keyward_policy::credential::KeySource;
use keyward_policy::decision::Code;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use ureq::http::uri::Authority;
use ureq::http::{Method, Request, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// How long an answer may take.
const MAX_ANSWER_TIME: Duration = Duration::from_secs(20);
/// Largest answer that is read: a dump of a large gateway's configuration.
const MAX_ANSWER_BYTES: u64 = 256 << 20;

/// An answer of the gateway.
pub(super) struct Answer {
    pub status: u16,
    /// Where a redirect leads. `None` means that the answer has no such header.
    pub location: Option<String>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The code of a denial by the filter. `None` means that something else answered.
    pub(super) fn code(&self) -> Option<String> {
        let problem: Value = serde_json::from_slice(&self.body).ok()?;
        let code = problem["code"].as_str()?;
        // The admin service answers in the same shape, with other codes.
        let of_filter = Code::ALL.iter().any(|known| known.as_str() == code);
        (of_filter && problem["type"] == format!("urn:keyward:{code}")).then(|| code.to_owned())
    }

    /// The word of an answer on the readiness path. `None` means that something else than the filter answered.
    pub(super) fn readiness(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        let fields = body.as_object().filter(|fields| fields.len() == 1)?;
        fields.get("status")?.as_str().map(str::to_owned)
    }

    pub(super) fn is_backstop(&self) -> bool {
        self.status == 403 && self.body.starts_with(b"RBAC: access denied")
    }
}

/// Refuses what would ask another host, or for something else, than the arguments seem to say.
fn check_target(args: &VerifyArgs) -> Result<(), CommandError> {
    for url in [&args.url].into_iter().chain(&args.envoy_admin) {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(CommandError::invalid(format!("`{url}` begins with neither http:// nor https://")));
        }
    }
    if args.url.contains(['?', '#']) {
        let message =
            format!("`{}` has a query or a fragment: give only the address, and the rest with --path", args.url);
        return Err(CommandError::invalid(message));
    }
    // The path would come before each path that is asked for.
    if args.url.parse::<Uri>().is_ok_and(|url| url.path() != "/" && url.authority().is_some()) {
        let message = format!("`{}` has a path: give only the address, and the path with --path", args.url);
        return Err(CommandError::invalid(message));
    }
    if let Some(path) = args.path.as_ref().filter(|path| !path.starts_with('/')) {
        return Err(CommandError::invalid(format!("`{path}` is not a path: --path begins with a slash")));
    }
    let is_host = |host: &str| {
        host.parse::<Authority>().is_ok_and(|authority| !authority.host().is_empty() && !host.contains('@'))
    };
    if let Some(host) = args.host.as_ref().filter(|host| !is_host(host)) {
        return Err(CommandError::invalid(format!("`{host}` is not a host: --host is like api.example.com")));
    }
    Ok(())
}

/// The gateway, and the request that needs a key.
pub(super) struct Gateway<'a> {
    agent: ureq::Agent,
    pub base: &'a str,
    /// The request that needs a key.
    pub target: Target,
    /// Whether the configuration says that nothing is refused.
    pub is_shadow: bool,
    /// Whether there is a configuration.
    pub has_config: bool,
    source: KeySource,
    /// How long an answer may take.
    limit: Duration,
}

impl<'a> Gateway<'a> {
    pub(super) fn new(args: &'a VerifyArgs, config: Option<&Config>) -> Result<Self, CommandError> {
        check_target(args)?;
        let base = args.url.trim_end_matches('/');
        let target = Target::choose(args, config)?;
        let default = || KeySource::Header { name: "x-api-key".into(), scheme: None };
        let source = config.and_then(|config| config.key_sources.first().cloned()).unwrap_or_else(default);
        let mut tls = TlsConfig::builder();
        if let Some(file) = &args.ca {
            tls = tls.root_certs(RootCerts::from(certificates(file)?));
        }
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(MAX_ANSWER_TIME))
            .max_redirects(0)
            .proxy(None)
            .allow_non_standard_methods(true)
            .user_agent(concat!("keyward/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build())
            .build()
            .new_agent();
        let is_shadow = config.is_some_and(|config| config.mode == Mode::Shadow);
        Ok(Self { agent, base, target, is_shadow, has_config: config.is_some(), source, limit: MAX_ANSWER_TIME })
    }

    /// Sends the request that needs a key, with this key.
    pub(super) fn ask(&self, key: Option<&str>) -> Result<Answer, CommandError> {
        let mut path = self.target.path.clone();
        let header = match (key, &self.source) {
            (None, _) => None,
            (Some(key), KeySource::Header { name, scheme: None }) => Some((name.to_string(), key.to_owned())),
            (Some(key), KeySource::Header { name, scheme: Some(scheme) }) => {
                Some((name.to_string(), format!("{scheme} {key}")))
            }
            (Some(key), KeySource::Cookie { name }) => Some(("cookie".to_owned(), format!("{name}={key}"))),
            (Some(key), KeySource::Query { name }) => {
                let pair = form_urlencoded::Serializer::new(String::new()).append_pair(name, key).finish();
                path.push(if path.contains('?') { '&' } else { '?' });
                path.push_str(&pair);
                None
            }
        };
        self.send(&self.target.method, &format!("{}{path}", self.base), self.target.host.as_deref(), header)
    }

    pub(super) fn send(
        &self,
        method: &str,
        url: &str,
        host: Option<&str>,
        header: Option<(String, String)>,
    ) -> Result<Answer, CommandError> {
        let method: Method =
            method.parse().map_err(|_| CommandError::invalid(format!("`{method}` is not a method")))?;
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in host.map(|host| ("host".to_owned(), host.to_owned())).into_iter().chain(header) {
            request = request.header(name, value);
        }
        let request = request.body(()).map_err(CommandError::invalid)?;
        let unreachable = |error: ureq::Error| CommandError::failed(unreachable(url, &error, self.limit));
        let mut response = self.agent.run(request).map_err(unreachable)?;
        let status = response.status().as_u16();
        let location = response.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        let body = body.map_err(|error| match error {
            ureq::Error::Timeout(_) => {
                let limit = self.limit.as_secs();
                CommandError::failed(format!("{url} began to answer but did not end within {limit} s"))
            }
            error => unreachable(error),
        })?;
        Ok(Answer { status, location, body })
    }
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>, CommandError> {
    let text = read_text(file)?;
    let items = parse_pem(text.as_bytes());
    let found: Vec<_> = items
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        Err(CommandError::invalid(in_file(file, "there is no certificate in it")))
    } else {
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks what listens here, and returns the URL and what is said of the answer that is missing.
    fn missing(listener: &std::net::TcpListener, limit: Duration) -> (String, String) {
        let agent = ureq::Agent::config_builder().timeout_global(Some(limit)).build().new_agent();
        let target = Target { method: "GET".to_owned(), path: "/a".to_owned(), host: None, public_by: None };
        let base = format!("http://{}", listener.local_addr().unwrap());
        let source = KeySource::Header { name: "x-api-key".into(), scheme: None };
        let limit = MAX_ANSWER_TIME;
        let gateway = Gateway { agent, base: &base, target, is_shadow: false, has_config: false, source, limit };
        let error = gateway.ask(None).map(|answer| answer.status).unwrap_err();
        (format!("{base}/a"), error.message)
    }

    #[test]
    fn an_answer_that_does_not_come_is_said_in_words() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (url, said) = missing(&listener, Duration::from_millis(50));
        assert!(said.starts_with(&format!("{url} cannot be reached: no answer within 20 s\n  help: ")), "{said}");
    }

    #[test]
    fn an_answer_that_does_not_end_is_said_in_words() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.try_clone().unwrap();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{").unwrap();
            // The connection stays open until the answer was given up.
            let _ = wait.recv();
        });
        let (url, said) = missing(&listener, Duration::from_secs(2));
        drop(done);
        server.join().unwrap();
        assert_eq!(said, format!("{url} began to answer but did not end within 20 s"));
    }
}

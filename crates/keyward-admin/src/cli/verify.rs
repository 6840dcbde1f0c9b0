//! `keyward verify`: asks a running gateway from outside whether Keyward and its backstop are in place.

use super::error::{CommandError, end_with};
use super::exit::Exit;
use super::input::{in_file, read_text};
use super::output;
use crate::plugin_config::chain::{Chain, chains};
use crate::plugin_config::document::read_one;
use crate::random;
use clap::Args;
use keyward_policy::config::Config;
use keyward_policy::credential::KeySource;
use keyward_policy::decision::Code;
use keyward_policy::rule::{Access, Rule};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::uri::Authority;
use ureq::http::{Method, Request};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// How long an answer may take.
const MAX_ANSWER_TIME: Duration = Duration::from_secs(20);
/// Largest answer that is read: a dump of a large gateway's configuration.
const MAX_ANSWER_BYTES: u64 = 256 << 20;

/// Ask a running gateway whether Keyward and its backstop are in place
///
/// Sends a request without a key, one with a key that does not exist, and asks for readiness if the configuration has a path for it. The
/// backstop is looked at only with --envoy-admin. Nothing is changed.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The gateway, such as <https://api.example.com>
    #[arg(value_name = "URL")]
    url: String,
    /// The plugin configuration, alone or inside an Envoy, Istio or Envoy Gateway file: it says which request needs a key
    #[arg(long, short, value_name = "FILE", visible_alias = "gateway")]
    config: Option<PathBuf>,
    /// The method of a request that needs a key; by default that of the first rule with permissions
    #[arg(long, short = 'X')]
    method: Option<String>,
    /// The path of a request that needs a key; by default that of the first rule with permissions
    #[arg(long)]
    path: Option<String>,
    /// The host to ask for, if it is not that of the URL
    #[arg(long)]
    host: Option<String>,
    /// A file with nothing but a key that was deleted, regenerated or disabled, and must be refused; `-` is standard input
    #[arg(long, value_name = "FILE")]
    revoked_key_file: Option<PathBuf>,
    /// The admin address of the proxy, such as http://127.0.0.1:9901: the filters of each listener are checked too
    #[arg(long, value_name = "URL")]
    envoy_admin: Option<String>,
    /// A file with the certificates of the authorities to trust, PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
struct Check {
    name: &'static str,
    passed: bool,
    finding: String,
}

impl Check {
    fn new(name: &'static str, passed: bool, finding: impl Into<String>) -> Self {
        Self { name, passed, finding: finding.into() }
    }
}

/// An answer of the gateway.
struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Answer {
    /// The code of a denial by the filter. `None` means that something else answered.
    fn code(&self) -> Option<String> {
        let problem: Value = serde_json::from_slice(&self.body).ok()?;
        let code = problem["code"].as_str()?;
        // The admin service answers in the same shape, with other codes.
        let of_filter = Code::ALL.iter().any(|known| known.as_str() == code);
        (of_filter && problem["type"] == format!("urn:keyward:{code}")).then(|| code.to_owned())
    }

    fn is_backstop(&self) -> bool {
        self.status == 403 && self.body.starts_with(b"RBAC: access denied")
    }
}

/// Runs the command.
pub fn run(args: &VerifyArgs) -> Exit {
    end_with(verify(args).and_then(|(checks, not_asked)| {
        let passed = checks.iter().all(|check| check.passed);
        if args.json {
            let checks: Vec<Value> = checks
                .iter()
                .map(|check| json!({"name": check.name, "passed": check.passed, "finding": check.finding}))
                .collect();
            output::json_line(&json!({"ok": passed, "checks": checks, "not_looked_at": not_asked}))?;
        } else {
            for check in &checks {
                output::line(&format!(
                    "{} {:<10} {}",
                    if check.passed { "✓" } else { "✗" },
                    check.name,
                    check.finding
                ))?;
            }
            for text in &not_asked {
                output::line(&format!("- {text}"))?;
            }
            output::line(if passed && args.envoy_admin.is_some() {
                "ok: Keyward and its backstop are in place"
            } else if passed {
                "ok: Keyward answers requests without a valid key"
            } else {
                "failed: Keyward is not in place as it should be"
            })?;
        }
        Ok(if passed { Exit::Ok } else { Exit::Failure })
    }))
}

fn verify(args: &VerifyArgs) -> Result<(Vec<Check>, Vec<&'static str>), CommandError> {
    let config = match &args.config {
        None => None,
        Some(file) => {
            let (config, _) =
                read_one(&read_text(file)?).map_err(|error| CommandError::invalid(in_file(file, error)))?;
            Some(config)
        }
    };
    let gateway = Gateway::new(args, config.as_ref())?;
    let mut checks = vec![without_key(&gateway)?, unknown_key(&gateway)?];
    if let Some(file) = &args.revoked_key_file {
        let text = read_text(file)?;
        checks.push(revoked_key(&gateway, key_in(&text, file)?)?);
    }
    let mut not_asked = Vec::new();
    match config.as_ref().map(|config| config.readiness_path.as_deref()) {
        Some(Some(path)) => checks.push(readiness(&gateway, path)?),
        Some(None) => not_asked.push("readiness was not looked at: the configuration has no `readiness_path`"),
        None => {
            not_asked.push("readiness was not looked at: give --config with a configuration that has `readiness_path`")
        }
    }
    match &args.envoy_admin {
        Some(url) => checks.extend(listeners(&gateway, url)?),
        None => not_asked.push("the backstop was not looked at: --envoy-admin URL looks at it"),
    }
    Ok((checks, not_asked))
}

/// Returns the only key in the text of a file.
fn key_in<'t>(text: &'t str, file: &Path) -> Result<&'t str, CommandError> {
    let key = text.trim();
    let has_form = key.rsplit_once('_').is_some_and(|(prefix, random)| {
        !prefix.is_empty() && !random.is_empty() && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    if has_form && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
        return Ok(key);
    }
    let message = "it does not hold exactly one key, such as `kw_…`\n  help: put the key alone into the file, as it was shown \
                   when it was made";
    Err(CommandError::invalid(in_file(file, message)))
}

/// Refuses what would ask another host, or for something else, than the arguments seem to say.
fn check_target(args: &VerifyArgs) -> Result<(), CommandError> {
    if args.url.contains(['?', '#']) {
        let message =
            format!("`{}` has a query or a fragment: give only the address, and the rest with --path", args.url);
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
struct Gateway<'a> {
    agent: ureq::Agent,
    base: &'a str,
    host: Option<&'a str>,
    method: String,
    path: String,
    source: KeySource,
}

impl<'a> Gateway<'a> {
    fn new(args: &'a VerifyArgs, config: Option<&Config>) -> Result<Self, CommandError> {
        check_target(args)?;
        let base = args.url.trim_end_matches('/');
        for url in [base].into_iter().chain(args.envoy_admin.as_deref()) {
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return Err(CommandError::invalid(format!("`{url}` begins with neither http:// nor https://")));
            }
        }
        let by_rule = config.and_then(|config| {
            let rules = config.routes.rules().iter();
            rules
                .filter(|rule| matches!(rule.access, Access::Require(_)) && rule.hosts.is_none())
                .map(request_of)
                .next()
        });
        let (method, path) = match (&args.method, &args.path, by_rule) {
            (method, Some(path), _) => (method.clone().unwrap_or_else(|| "GET".to_owned()), path.clone()),
            (method, None, Some((by_rule, path))) => (method.clone().unwrap_or(by_rule), path),
            (_, None, None) => {
                return Err(CommandError::invalid(
                    "which request needs a key? give --path, or --config with a rule that requires a permission",
                ));
            }
        };
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
        Ok(Self { agent, base, host: args.host.as_deref(), method, path, source })
    }

    /// Sends the request that needs a key, with this key.
    fn ask(&self, key: Option<&str>) -> Result<Answer, CommandError> {
        let mut path = self.path.clone();
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
        self.send(&self.method, &format!("{}{path}", self.base), self.host, header)
    }

    fn send(
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
        let unreachable = |error: ureq::Error| {
            let plain = error.to_string().contains("InvalidContentType");
            let hint = if plain { "\n  this port speaks plain http: use http://" } else { "" };
            CommandError::failed(format!("{url} cannot be reached: {error}{hint}"))
        };
        let mut response = self.agent.run(request).map_err(unreachable)?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec().map_err(unreachable)?;
        Ok(Answer { status, body })
    }
}

/// A method and a path that a rule matches.
fn request_of(rule: &Rule) -> (String, String) {
    let method = rule.methods.as_ref().and_then(|methods| methods.first()).map_or("GET", |method| &**method);
    let mut path = String::new();
    for segment in rule.path_text.split('/').skip(1).filter(|segment| *segment != "**") {
        path.push('/');
        match (segment.find('{'), segment.find('}')) {
            (Some(from), Some(to)) if from < to => {
                path.push_str(&format!("{}keyward-verify{}", &segment[..from], &segment[to + 1..]));
            }
            _ => path.push_str(segment),
        }
    }
    (method.to_owned(), if path.is_empty() { "/".to_owned() } else { path })
}

/// Says who answered, if it was not Keyward's answer that was expected.
fn other(answer: &Answer, expected: &str) -> String {
    let status = answer.status;
    match answer.code() {
        Some(code) if code == "manifest_unavailable" => {
            format!(
                "{status} {code}: the filter has no usable keys; its log says why it cannot reach the admin service"
            )
        }
        Some(code) if code == "route_denied" => {
            format!("{status} {code}: no key may use this path; name one that needs a key with --path")
        }
        Some(code) => format!("{status} {code}, and not {expected}"),
        None if answer.is_backstop() => {
            format!("{status} by the backstop and not by Keyward: the filter is not in the chain, or could not start")
        }
        None if status < 400 => format!("{status}: the request passed, so nothing checks keys here"),
        None => format!("{status}, and not by Keyward: is this the gateway?"),
    }
}

fn without_key(gateway: &Gateway<'_>) -> Result<Check, CommandError> {
    let answer = gateway.ask(None)?;
    let passed = answer.status == 401 && answer.code().as_deref() == Some("key_missing");
    let request = format!("{} {}", gateway.method, gateway.path);
    let finding = if passed { "401 key_missing".to_owned() } else { other(&answer, "key_missing") };
    Ok(Check::new("no key", passed, format!("{request}: {finding}")))
}

fn unknown_key(gateway: &Gateway<'_>) -> Result<Check, CommandError> {
    let answer = gateway.ask(Some(&format!("kw_{}", random::base62(42))))?;
    let passed = answer.status == 401 && answer.code().as_deref() == Some("key_unknown");
    let finding = if passed { "401 key_unknown".to_owned() } else { other(&answer, "key_unknown") };
    Ok(Check::new("other key", passed, finding))
}

fn revoked_key(gateway: &Gateway<'_>, key: &str) -> Result<Check, CommandError> {
    let answer = gateway.ask(Some(key))?;
    let code = answer.code().unwrap_or_default();
    let passed = answer.status == 401 && ["key_unknown", "key_disabled", "key_expired"].contains(&code.as_str());
    let finding = match passed {
        true if code == "key_unknown" => {
            "401 key_unknown: this key is refused as one that the filter does not know".to_owned()
        }
        true => format!("401 {code}"),
        false if answer.status < 400 || code == "permission_missing" => "this key is still accepted".to_owned(),
        false => other(&answer, "key_unknown"),
    };
    Ok(Check::new("revoked", passed, finding))
}

fn readiness(gateway: &Gateway<'_>, path: &str) -> Result<Check, CommandError> {
    let answer = gateway.send("GET", &format!("{}{path}", gateway.base), gateway.host, None)?;
    let finding = match answer.status {
        200 => "200: the filter has keys".to_owned(),
        503 => "503: the filter has no usable keys yet".to_owned(),
        status => format!("{status}: something else than the filter answers {path}"),
    };
    Ok(Check::new("readiness", answer.status == 200, finding))
}

/// Looks at the filters of each listener, as the proxy itself shows them.
fn listeners(gateway: &Gateway<'_>, url: &str) -> Result<Vec<Check>, CommandError> {
    let url = format!("{}/config_dump?include_eds=off", url.trim_end_matches('/'));
    let answer = gateway.send("GET", &url, None, None)?;
    let dump: Value = serde_json::from_slice(&answer.body).map_err(|_| {
        CommandError::failed(format!("{url} answers {} without a dump of Envoy's configuration", answer.status))
    })?;
    let chains: Vec<Chain> = chains(&dump);
    if chains.is_empty() {
        return Ok(vec![Check::new("listeners", false, "the proxy has no listener for HTTP")]);
    }
    let check = |chain: Chain| {
        let (passed, finding) = match (chain.keyward, chain.backstop) {
            (true, true) if !chain.faults.is_empty() => {
                let faults = chain
                    .faults
                    .iter()
                    .map(|fault| format!("\n    {}: {}\n      help: {}", fault.path, fault.message, fault.help));
                (
                    false,
                    format!("Keyward and a backstop, but requests can get past them:{}", faults.collect::<String>()),
                )
            }
            (true, true) => (true, "Keyward, and a backstop behind it".to_owned()),
            (true, false) => (false, "Keyward without a sound backstop behind it".to_owned()),
            (false, true) => (false, "a backstop without Keyward: every request is refused".to_owned()),
            (false, false) => (false, "neither Keyward nor a backstop".to_owned()),
        };
        Check::new("listener", passed, format!("{}: {finding}", chain.listener))
    };
    Ok(chains.into_iter().map(check).collect())
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

//! The request that is sent: one that needs a key by the configuration.

use super::args::VerifyArgs;
use crate::cli::error::CommandError;
use crate::clock::Clock;
use crate::plugin_config::open::Pass;
use keyward_policy::config::Config;
use keyward_policy::decide::{RequestHead, decide};
use keyward_policy::decision::Code;
use keyward_policy::host::HostPattern;
use keyward_policy::policy::{Keys, Policy, RouteMetadata, Unavailable};
use keyward_policy::rule::{Access, Rule};
use ureq::http::Uri;

/// A request without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The method.
    pub method: String,
    /// The path, and the query if the user gave one.
    pub path: String,
    /// The host to ask for. `None` means that of the URL.
    pub host: Option<String>,
    /// By what the configuration lets the request pass without a key. `None` means that it does not, or is not known.
    pub public_by: Option<String>,
}

impl Target {
    /// Chooses the request: that of the arguments, and for the rest one for which the configuration asks for a key.
    pub(super) fn choose(args: &VerifyArgs, config: Option<&Config>) -> Result<Self, CommandError> {
        if args.method.as_deref() == Some("HEAD") {
            let message = "an answer to HEAD has no body, by which Keyward's answers are known: use --method GET";
            return Err(CommandError::invalid(message));
        }
        if let Some(path) = &args.path {
            let method = args.method.clone().unwrap_or_else(|| "GET".to_owned());
            let mut target = Self { method, path: path.clone(), host: args.host.clone(), public_by: None };
            target.public_by = config.and_then(|config| public_by(config, &target, &args.url));
            return Ok(target);
        }
        let found = config.and_then(|config| {
            let candidates = config.routes.rules().iter().flat_map(|rule| candidates(rule, args));
            let mut candidates: Vec<(bool, Self)> = candidates.collect();
            // A rule with permissions is the better example.
            candidates.sort_by_key(|(needs_permission, _)| !needs_permission);
            candidates.into_iter().map(|(_, target)| target).find(|target| needs_key(config, target, &args.url))
        });
        found.ok_or_else(|| {
            CommandError::invalid(match (config, &args.host, &args.method) {
                (None, ..) => "which request needs a key? give --config, or --path".to_owned(),
                (_, None, None) => "which request needs a key? no rule of the configuration asks for one: give --path".to_owned(),
                (_, host, method) => {
                    let host = host.as_ref().map(|host| format!(" for the host `{host}`")).unwrap_or_default();
                    let method = method.as_ref().map(|method| format!(" with the method `{method}`")).unwrap_or_default();
                    format!("which request needs a key? no rule of the configuration asks for one{host}{method}: give --path")
                }
            })
        })
    }
}

/// Returns requests that a rule may be for, and whether it asks for a permission.
fn candidates(rule: &Rule, args: &VerifyArgs) -> Vec<(bool, Target)> {
    if !matches!(rule.access, Access::Require(_) | Access::Authenticated) {
        return Vec::new();
    }
    let needs_permission = matches!(rule.access, Access::Require(_));
    let methods: Vec<String> = match (&args.method, &rule.methods) {
        (Some(method), _) => vec![method.clone()],
        (None, Some(methods)) => methods.iter().map(ToString::to_string).collect(),
        (None, None) => vec!["GET".to_owned()],
    };
    let hosts: Vec<Option<String>> = match (&args.host, &rule.hosts) {
        (Some(host), _) => vec![Some(host.clone())],
        (None, None) => vec![None],
        (None, Some(hosts)) => {
            let literal = |host: &HostPattern| match host {
                HostPattern::Exact(host) => (0, Some(host.to_string())),
                HostPattern::Suffix(suffix) => (1, Some(format!("keyward-verify.{suffix}"))),
            };
            let mut hosts: Vec<(u8, Option<String>)> = hosts.iter().map(literal).collect();
            hosts.sort_by_key(|(order, _)| *order);
            [None].into_iter().chain(hosts.into_iter().map(|(_, host)| host)).collect()
        }
    };
    let path = path_of(rule);
    let mut found = Vec::new();
    for host in &hosts {
        for method in methods.iter().filter(|method| !matches!(method.as_str(), "HEAD" | "CONNECT")) {
            let target = Target { method: method.clone(), path: path.clone(), host: host.clone(), public_by: None };
            found.push((needs_permission, target));
        }
    }
    found
}

/// A path that a rule matches.
fn path_of(rule: &Rule) -> String {
    let mut path = String::new();
    for segment in rule.path_text.split('/').skip(1).filter(|segment| *segment != "**") {
        path.push('/');
        match (segment.find('{'), segment.find('}')) {
            (Some(from), Some(to)) if from < to => {
                path.push_str(&format!("{}keyward-verify{}", &segment[..from], &segment[to + 1..]));
            }
            _ => path.push_str(&segment.replace('*', "keyward-verify")),
        }
    }
    if path.is_empty() { "/".to_owned() } else { path }
}

/// The host of a request, with its port if it names one.
pub(super) fn host_of(target: &Target, url: &str) -> String {
    let url: Uri = url.parse().unwrap_or_default();
    let of_url = url.authority().map(|authority| authority.as_str()).unwrap_or_default();
    target.host.as_deref().unwrap_or(of_url).to_owned()
}

fn decided(config: &Config, target: &Target, url: &str) -> (Code, Option<usize>) {
    let host = host_of(target, url);
    let head = RequestHead {
        method: target.method.as_bytes(),
        path: target.path.as_bytes(),
        host: host.as_bytes(),
        headers: &[],
    };
    let fetched = config.admin.is_some().then_some(Err(Unavailable::NotYetLoaded));
    let policy = Policy { config, keys: Keys::choose(config, fetched, None), route: RouteMetadata::Absent };
    let decision = decide(&policy, &head, Clock::system().now());
    (decision.code, decision.rule)
}

fn needs_key(config: &Config, target: &Target, url: &str) -> bool {
    // Without a key, a request that is always denied is answered just as one that needs a key.
    let (code, rule) = decided(config, target, url);
    let rule = rule.and_then(|number| config.routes.rules().get(number));
    code == Code::KeyMissing && rule.is_some_and(|rule| rule.access != Access::Deny)
}

/// Says by what the configuration lets a request pass without a key.
fn public_by(config: &Config, target: &Target, url: &str) -> Option<String> {
    match passes(config, target, url)? {
        Pass::Rules(why) => Some(why),
        // The metadata of the route may ask for a key.
        Pass::RulesWithoutMetadata(_) => None,
    }
}

/// Says by what a configuration lets a request pass without a key. `None` means that it does not.
pub(super) fn passes(config: &Config, target: &Target, url: &str) -> Option<Pass> {
    let why = match decided(config, target, url) {
        (Code::Public, Some(number)) => format!("rules[{number}] makes it public"),
        (Code::Public, None) => "no rule matches it, and `unmatched` is `public`".to_owned(),
        _ => return None,
    };
    Some(if config.route_metadata { Pass::RulesWithoutMetadata(why) } else { Pass::Rules(why) })
}

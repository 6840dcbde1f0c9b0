//! The request that needs a key, as the configuration of each listener's filter decides it.

use super::finding::text;
use keyward_policy::config::Config;
use serde_json::Value;

/// A chain in which Keyward lets the asked request pass without a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// By what the request passes.
    pub why: Pass,
    /// What the chain leads to, if a chain in which the request needs a key leads to it, too.
    pub target: Option<String>,
    /// Whether it is known where the chain leads.
    pub is_known: bool,
}

/// By what a configuration lets a request pass without a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pass {
    /// By its rules.
    Rules(String),
    /// By its rules, unless the metadata of the route, which is not read, asks for a key.
    RulesWithoutMetadata(String),
}

/// The request that needs a key.
pub struct Asked<'a> {
    /// The host that is asked, with or without a port.
    pub host: &'a str,
    /// Says by what a configuration lets the request pass without a key. `None` means that it does not.
    pub passes: &'a dyn Fn(&Config) -> Option<Pass>,
}

/// Returns a host, or a domain of a virtual host, without its port.
pub(super) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether a virtual host with these domains may be for this host.
pub(super) fn is_for_host(domains: &[Value], host: &str) -> bool {
    let host = without_port(host).to_ascii_lowercase();
    domains.is_empty()
        || domains.iter().any(|domain| {
            let domain = without_port(text(domain)).to_ascii_lowercase();
            match (domain.strip_prefix('*'), domain.strip_suffix('*')) {
                (Some(end), _) => host.ends_with(end),
                (None, Some(start)) => host.starts_with(start),
                (None, None) => host == domain,
            }
        })
}

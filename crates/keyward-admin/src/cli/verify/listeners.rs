//! Looks at the listeners of a proxy in its configuration dump.

use super::args::VerifyArgs;
use super::check::{Check, Outcome};
use super::gateway::Gateway;
use super::target::{Target, host_of, passes};
use crate::cli::error::CommandError;
use crate::plugin_config::chain::{Chain, Cover, chains};
use crate::plugin_config::open::{Asked, Open, Pass};
use serde_json::Value;
use std::fmt::Write as _;

/// What was found at the listeners.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// What has to be in place.
    pub checks: Vec<Check>,
    /// The listeners that need not be covered, and why.
    pub others: Vec<String>,
}

/// Looks at the filters of each listener, as the proxy itself shows them.
pub(super) fn listeners(args: &VerifyArgs, gateway: &Gateway<'_>, url: &str) -> Result<Listeners, CommandError> {
    let base = url.trim_end_matches('/');
    let url = format!("{base}/config_dump?include_eds");
    let answer = gateway.send("GET", &url, None, None)?;
    let dump: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let target = &gateway.target;
    let host = host_of(target, gateway.base);
    let asked = Asked { host: &host, passes: &|config| passes(config, target, gateway.base) };
    let Some(found) = chains(&dump, &asked).filter(|_| answer.status == 200) else {
        return Err(CommandError::failed(format!(
            "{url} answers {} without Envoy's configuration: this is not the admin address of an Envoy\n  help: it is in the \
             proxy's `admin` block, such as http://127.0.0.1:9901; Istio's is port 15000 and Envoy Gateway's 19000 of the \
             pod: `kubectl port-forward POD 15000`",
            answer.status
        )));
    };
    let mut listeners = Listeners::default();
    for name in &args.listener {
        if !found.chains.iter().any(|chain| chain.names.contains(name)) {
            let mut known: Vec<&str> = found.chains.iter().map(|chain| chain.name.as_str()).collect();
            known.dedup();
            let finding = format!("{name}: the proxy has no such listener; it has {}", known.join("; "));
            listeners.checks.push(Check::new("listener", Outcome::Failed, finding));
        }
    }
    for chain in &found.chains {
        listeners.others.extend(
            chain
                .beside
                .iter()
                .map(|beside| format!("listener {}: {beside}; what it does is not looked at", chain.name)),
        );
        let is_named = args.listener.is_empty() || args.listener.iter().any(|name| chain.names.contains(name));
        match judge(chain, is_named, target) {
            Ok(check) => listeners.checks.push(check),
            Err(text) => listeners.others.push(text),
        }
    }
    if listeners.checks.is_empty() {
        let finding = "no listener leads to an application, so there is nothing that Keyward protects";
        listeners.checks.push(Check::new("listener", Outcome::Failed, finding));
    }
    for name in found.waiting {
        listeners.others.push(format!("listener {name}: not looked at, since the proxy does not use it yet"));
    }
    Ok(listeners)
}

/// Judges a chain. An error is the text for one that need not be covered.
fn judge(chain: &Chain, is_named: bool, asked: &Target) -> Result<Check, String> {
    let name = &chain.name;
    // One that is not named, and leads to nothing that needs a key elsewhere, may have other rules.
    let is_elsewhere = |open: &Open| !is_named && open.target.is_none() && open.is_known;
    let open = chain.open.as_ref().filter(|open| !is_elsewhere(open));
    let kind = |is_http: bool| if is_http { "" } else { ", and takes no HTTP" };
    let finding = match &chain.cover {
        Cover::Both if chain.faults.is_empty() && open.is_some() => {
            "Keyward and a backstop, but with rules of its own:".to_owned()
        }
        Cover::Both if chain.faults.is_empty() => "Keyward, and a backstop behind it".to_owned(),
        Cover::Both => "Keyward and a backstop, but requests can get past them, or are refused by mistake:".to_owned(),
        Cover::KeywardAlone => "Keyward without a sound backstop behind it".to_owned(),
        Cover::BackstopAlone => "a backstop without Keyward: every request is refused".to_owned(),
        Cover::Around { target, is_http } => format!(
            "neither Keyward nor a backstop{}, and it leads to {target}, which Keyward protects elsewhere: requests \
             get around it here",
            kind(*is_http)
        ),
        Cover::Neither { is_http, .. } if is_named => {
            format!("neither Keyward nor a backstop{}{}", kind(*is_http), SHARED)
        }
        Cover::Neither { is_http, unknown: "" } => {
            return Err(format!(
                "listener {name}: neither Keyward nor a backstop{}; it leads to nothing that Keyward protects elsewhere",
                kind(*is_http)
            ));
        }
        Cover::Neither { is_http, unknown } => format!(
            "neither Keyward nor a backstop{}; {unknown}, so requests may get around Keyward here",
            kind(*is_http)
        ),
        Cover::OwnUse => return Err(format!("listener {name}: needs no key, since it leads to no application")),
        Cover::Outbound => {
            return Err(format!("listener {name}: needs no key, since it is for what the application itself asks"));
        }
    };
    let is_whole = chain.cover == Cover::Both && chain.faults.is_empty();
    if let Some(other) = chain.open.as_ref().filter(|_| open.is_none() && is_whole) {
        let (Pass::Rules(why) | Pass::RulesWithoutMetadata(why)) = &other.why;
        return Err(format!(
            "listener {name}: Keyward with other rules, by which {} {} needs no key: {why}; it leads to nothing that needs one \
             elsewhere",
            asked.method, asked.path
        ));
    }
    let mut finding = format!("{name}: {finding}");
    for fault in &chain.faults {
        let _ = write!(finding, "\n    {}: {}\n      help: {}", fault.path, fault.message, fault.help);
    }
    if let Some(open) = open {
        let _ = write!(finding, "\n    {}", passed(open, asked));
    }
    for unseen in &chain.unseen {
        let _ = write!(finding, "\n    not looked at, since the dump does not show it: {unseen}");
    }
    if !chain.refused.is_empty() {
        let _ = write!(finding, "\n    the proxy refused the last change of this listener: {}", chain.refused);
    }
    let may_be_open = open
        .is_some_and(|open| matches!(open.why, Pass::RulesWithoutMetadata(_)) || (!is_named && open.target.is_none()));
    let outcome = match &chain.cover {
        Cover::Both if chain.faults.is_empty() && may_be_open => Outcome::Unseen,
        Cover::Both if open.is_some() => Outcome::Failed,
        Cover::Both if chain.faults.is_empty() && chain.unseen.is_empty() => Outcome::Passed,
        Cover::Both if chain.faults.is_empty() => Outcome::Unseen,
        Cover::Neither { .. } if !is_named => Outcome::Unseen,
        _ => Outcome::Failed,
    };
    Ok(Check::new("listener", outcome, finding))
}

const SHARED: &str = "; where it serves other applications only, name the listeners that need keys with --listener";

/// Says that the request that needs a key passes without one.
fn passed(open: &Open, asked: &Target) -> String {
    let Target { method, path, .. } = asked;
    let to = open.target.as_ref().map(|to| format!(", and it leads to {to}, for which it needs a key elsewhere"));
    let to = to.unwrap_or_default();
    match &open.why {
        Pass::Rules(why) => format!(
            "{method} {path} passes here without a key: {why}{to}\n      help: use the same rules in every listener; where this \
             one serves another application, name only the others with --listener"
        ),
        Pass::RulesWithoutMetadata(why) => format!(
            "{method} {path} may pass here without a key: {why}{to}, and the metadata of routes, which may ask for a key, is not \
             looked at"
        ),
    }
}

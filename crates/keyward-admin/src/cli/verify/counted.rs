//! Whether the proxy whose listeners are looked at is the one that answered: the filter counts its decisions in Envoy's
//! statistics.

use super::check::{Check, Outcome};
use super::gateway::Gateway;
use crate::cli::error::CommandError;
use keyward_policy::decision::Code;

/// The codes of the requests that are sent: one without a key, and one with an unknown key.
const SENT: [Code; 2] = [Code::KeyMissing, Code::KeyUnknown];

/// How many requests of each kind in [`SENT`] the proxy has counted. `None` means that its statistics do not show it.
pub(super) type Counts = Option<[u64; 2]>;

/// Reads the counts of a proxy, given its admin address.
pub(super) fn counts(gateway: &Gateway<'_>, admin: &str) -> Result<Counts, CommandError> {
    let url = format!("{}/stats?filter=keyward_decisions", admin.trim_end_matches('/'));
    let answer = gateway.send("GET", &url, None, None)?;
    let text = String::from_utf8_lossy(&answer.body);
    let lines: Vec<(&str, u64)> = text
        .lines()
        .filter_map(|line| line.rsplit_once(": "))
        .filter(|(name, _)| name.contains("keyward_decisions."))
        .filter_map(|(name, count)| Some((name, count.trim().parse().ok()?)))
        .collect();
    if answer.status != 200 || lines.is_empty() {
        return Ok(None);
    }
    Ok(Some(SENT.map(|code| {
        let end = format!(".reason.{}", code.as_str());
        lines.iter().filter(|(name, _)| name.ends_with(&end)).map(|(_, count)| count).sum()
    })))
}

/// Says whether the proxy counted both requests, given its counts before and after them.
pub(super) fn counted(before: Counts, after: Counts) -> Check {
    let (outcome, finding) = match after {
        None => (
            Outcome::Unseen,
            "its statistics do not show Keyward's decisions, so it is not known whether this proxy answered\n      help: let \
             `stats_matcher` of the proxy take `keyward_decisions`",
        ),
        // A proxy that shows the counters only now has defined them meanwhile, at 0.
        Some(after) if after.iter().zip(before.unwrap_or_default()).all(|(after, before)| *after > before) => {
            (Outcome::Passed, "it counted the requests, so it is the one that answered")
        }
        Some(_) => (
            Outcome::Unseen,
            "this proxy did not count the requests: another pod, or another gateway, was asked\n      help: ask one pod at a \
             time: let the URL and --envoy-admin lead to the same one, such as by `kubectl port-forward`",
        ),
    };
    Check::new("proxy", outcome, finding)
}

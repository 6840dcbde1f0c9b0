//! `keyward verify`: asks a running gateway from outside whether Keyward and its backstop are in place.

mod args;
mod check;
mod counted;
mod gateway;
mod key;
mod listeners;
mod reach;
mod target;

use super::error::{CommandError, end_with};
use super::exit::Exit;
use super::input::{in_file, read_text};
use super::output;
use crate::plugin_config::document::read_one;
use crate::random;
pub use args::VerifyArgs;
use check::{Check, Outcome};
use counted::{counted, counts};
use gateway::{Answer, Gateway};
use key::Revoked;
use listeners::listeners;
use serde_json::{Value, json};
use target::Target;
use ureq::http::Uri;

/// Everything that was found.
#[derive(Debug, Default)]
struct Verification {
    checks: Vec<Check>,
    /// The listeners that need not be covered, and why.
    others: Vec<String>,
    /// What was not asked for.
    not_asked: Vec<&'static str>,
}

/// Runs the command.
pub fn run(args: &VerifyArgs) -> Exit {
    end_with(verify(args).and_then(|found| {
        let has = |outcome| found.checks.iter().any(|check| check.outcome == outcome);
        let passed = !has(Outcome::Failed) && !has(Outcome::Unseen);
        if args.json {
            let checks: Vec<Value> = found.checks.iter().map(Check::as_json).collect();
            output::json_line(&json!({
                "ok": passed, "checks": checks, "other_listeners": found.others, "not_looked_at": found.not_asked,
            }))?;
        } else {
            for check in &found.checks {
                output::line(&format!("{} {:<10} {}", check.outcome.mark(), check.name, check.finding))?;
            }
            for text in found.others.iter().map(String::as_str).chain(found.not_asked.iter().copied()) {
                output::line(&format!("- {text}"))?;
            }
            output::line(if has(Outcome::Failed) {
                "failed: Keyward is not in place as it should be"
            } else if has(Outcome::Unseen) {
                "failed: not everything could be looked at"
            } else if args.envoy_admin.is_some() {
                "ok: Keyward and its backstop are in place"
            } else {
                "ok: Keyward answers requests without a valid key"
            })?;
        }
        Ok(if passed { Exit::Ok } else { Exit::Failure })
    }))
}

fn verify(args: &VerifyArgs) -> Result<Verification, CommandError> {
    let config = match &args.config {
        None => None,
        Some(file) => {
            let (config, _) =
                read_one(&read_text(file)?).map_err(|error| CommandError::invalid(in_file(file, error)))?;
            Some(config)
        }
    };
    let gateway = Gateway::new(args, config.as_ref())?;
    let counts = || args.envoy_admin.as_ref().map(|admin| counts(&gateway, admin)).transpose();
    let before = counts()?;
    let mut found =
        Verification { checks: vec![without_key(&gateway)?, unknown_key(&gateway)?], ..Verification::default() };
    // Requests that something else answered are not counted by any proxy.
    let are_answered = found.checks.iter().all(|check| check.outcome == Outcome::Passed);
    let proxy = match (before, counts()?) {
        (Some(before), Some(after)) if are_answered => Some(counted(before, after)),
        _ => None,
    };
    if let Some(file) = &args.revoked_key_file {
        let text = read_text(file)?;
        let revoked = Revoked::read(&text, file, config.as_ref())?;
        found.checks.push(revoked_key(&gateway, &revoked)?);
    }
    match config.as_ref().map(|config| config.readiness_path.as_deref()) {
        Some(Some(path)) => found.checks.push(readiness(&gateway, path)?),
        Some(None) => {
            found.not_asked.push("readiness was not looked at: the configuration has no `readiness_path`");
        }
        None => found
            .not_asked
            .push("readiness was not looked at: give --config with a configuration that has `readiness_path`"),
    }
    match &args.envoy_admin {
        Some(url) => {
            let listeners = listeners(args, &gateway, url)?;
            found.checks.extend(proxy);
            found.checks.extend(listeners.checks);
            found.others = listeners.others;
        }
        None => found.not_asked.push("the backstop was not looked at: --envoy-admin URL looks at it"),
    }
    Ok(found)
}

/// Says who answered, if it was not Keyward's answer that was expected.
fn other(gateway: &Gateway<'_>, answer: &Answer, expected: &str) -> String {
    let status = answer.status;
    let public_by = &gateway.target.public_by;
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
        None if answer.is_backstop() && gateway.is_shadow => format!(
            "{status} by the backstop: the mode of the configuration is `shadow`, and the backstop refuses what shadow mode \
             lets pass; rename its `rules` to `shadow_rules`, or use `mode: enforce`"
        ),
        None if answer.is_backstop() => {
            let or_shadow = if gateway.has_config { "" } else { ", or its mode is `shadow`" };
            format!(
                "{status} by the backstop and not by Keyward: the filter is not in the chain, or could not start{or_shadow}"
            )
        }
        None if gateway.is_shadow => format!(
            "{status}, and not by Keyward: the mode of the configuration is `shadow`, in which the filter refuses nothing"
        ),
        None if let (300..400, Some(to)) = (status, &answer.location) => {
            let to: Uri = to.parse().unwrap_or_default();
            match (to.scheme_str(), to.authority()) {
                (Some(scheme), Some(to)) => {
                    format!(
                        "{status}: the gateway redirects before it looks at the key; give the address {scheme}://{to}"
                    )
                }
                _ => format!(
                    "{status}: the gateway redirects to another path before it looks at the key; give that with --path"
                ),
            }
        }
        None if status < 400 && public_by.is_some() => format!(
            "{status}: the request passed, as the configuration says: {}; name a path that needs a key with --path",
            public_by.as_deref().unwrap_or_default()
        ),
        None if status < 400 && !gateway.has_config => format!(
            "{status}: the request passed, so nothing checks keys here, or the path is public; --config says which are"
        ),
        None if status < 400 => format!("{status}: the request passed, so nothing checks keys here"),
        None => format!("{status}, and not by Keyward: is this the gateway?"),
    }
}

fn without_key(gateway: &Gateway<'_>) -> Result<Check, CommandError> {
    let answer = gateway.ask(None)?;
    let passed = answer.status == 401 && answer.code().as_deref() == Some("key_missing");
    let Target { method, path, host, .. } = &gateway.target;
    let host = host.as_ref().map(|host| format!(" of {host}")).unwrap_or_default();
    let finding = if passed { "401 key_missing".to_owned() } else { other(gateway, &answer, "key_missing") };
    Ok(Check::new("no key", Outcome::of(passed), format!("{method} {path}{host}: {finding}")))
}

fn unknown_key(gateway: &Gateway<'_>) -> Result<Check, CommandError> {
    let answer = gateway.ask(Some(&format!("kw_{}", random::base62(42))))?;
    let passed = answer.status == 401 && answer.code().as_deref() == Some("key_unknown");
    let finding = if passed { "401 key_unknown".to_owned() } else { other(gateway, &answer, "key_unknown") };
    Ok(Check::new("other key", Outcome::of(passed), finding))
}

fn revoked_key(gateway: &Gateway<'_>, revoked: &Revoked<'_>) -> Result<Check, CommandError> {
    let answer = gateway.ask(Some(revoked.key))?;
    let code = answer.code().unwrap_or_default();
    let (outcome, finding) = match code.as_str() {
        "key_unknown" if answer.status == 401 && revoked.is_of_service => {
            (Outcome::Passed, "401 key_unknown: this key is refused as one that the filter does not know".to_owned())
        }
        "key_unknown" if answer.status == 401 => (
            Outcome::Unseen,
            "401 key_unknown, which does not show that it was a key: the text does not have the form and the checksum of the \
             keys that the service makes, so a copy that was cut would be refused as well"
                .to_owned(),
        ),
        "key_disabled" | "key_expired" if answer.status == 401 => (Outcome::Passed, format!("401 {code}")),
        "permission_missing" => (Outcome::Failed, "this key is still accepted".to_owned()),
        _ if answer.status < 300 => (Outcome::Failed, "this key is still accepted".to_owned()),
        _ => (Outcome::Failed, other(gateway, &answer, "key_unknown")),
    };
    Ok(Check::new("revoked", outcome, finding))
}

fn readiness(gateway: &Gateway<'_>, path: &str) -> Result<Check, CommandError> {
    let answer = gateway.send("GET", &format!("{}{path}", gateway.base), gateway.target.host.as_deref(), None)?;
    let finding = match (answer.status, answer.readiness().as_deref()) {
        (200, Some("ready")) => return Ok(Check::new("readiness", Outcome::Passed, "200: the filter has keys")),
        (503, Some("manifest_unavailable")) => "503: the filter has no usable keys yet".to_owned(),
        (status, _) => {
            format!(
                "{status}, but not by the filter: something else answers {path}, or `readiness_path` is another one there"
            )
        }
    };
    Ok(Check::new("readiness", Outcome::Failed, finding))
}

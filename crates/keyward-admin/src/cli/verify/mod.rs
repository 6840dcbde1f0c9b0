//! `keyward verify`: asks a running gateway from outside whether Keyward and its backstop are in place.

mod args;
mod check;
mod gateway;
mod listeners;

use super::error::{CommandError, end_with};
use super::exit::Exit;
use super::input::{in_file, read_text};
use super::output;
use crate::plugin_config::document::read_one;
use crate::random;
pub use args::VerifyArgs;
use check::{Check, Outcome};
use gateway::{Answer, Gateway};
use listeners::listeners;
use serde_json::{Value, json};
use std::path::Path;

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
    let mut found =
        Verification { checks: vec![without_key(&gateway)?, unknown_key(&gateway)?], ..Verification::default() };
    if let Some(file) = &args.revoked_key_file {
        let text = read_text(file)?;
        found.checks.push(revoked_key(&gateway, key_in(&text, file)?)?);
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
            found.checks.extend(listeners.checks);
            found.others = listeners.others;
        }
        None => found.not_asked.push("the backstop was not looked at: --envoy-admin URL looks at it"),
    }
    Ok(found)
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
    Ok(Check::new("no key", Outcome::of(passed), format!("{request}: {finding}")))
}

fn unknown_key(gateway: &Gateway<'_>) -> Result<Check, CommandError> {
    let answer = gateway.ask(Some(&format!("kw_{}", random::base62(42))))?;
    let passed = answer.status == 401 && answer.code().as_deref() == Some("key_unknown");
    let finding = if passed { "401 key_unknown".to_owned() } else { other(&answer, "key_unknown") };
    Ok(Check::new("other key", Outcome::of(passed), finding))
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
    Ok(Check::new("revoked", Outcome::of(passed), finding))
}

fn readiness(gateway: &Gateway<'_>, path: &str) -> Result<Check, CommandError> {
    let answer = gateway.send("GET", &format!("{}{path}", gateway.base), gateway.host, None)?;
    let finding = match answer.status {
        200 => "200: the filter has keys".to_owned(),
        503 => "503: the filter has no usable keys yet".to_owned(),
        status => format!("{status}: something else than the filter answers {path}"),
    };
    Ok(Check::new("readiness", Outcome::of(answer.status == 200), finding))
}

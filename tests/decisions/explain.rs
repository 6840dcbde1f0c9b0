//! The corpus through `keyward explain`: what a person asks before a rollout gets the same answer as a request.

use crate::suite::{self, Request};
use keyward_testbed::protobuf::encode_route_metadata;
use keyward_testbed::{artifacts, workspace};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const RUNNER: &str = "explain";

#[test]
fn the_command_explains_the_corpus() {
    let folder = workspace::scratch("explain");
    let (mut asked, mut failures) = (0, Vec::new());
    for suite in suite::load() {
        let file = folder.path().join(format!("{}.json", suite.name));
        std::fs::write(&file, suite.plugin.to_string()).unwrap();
        for request in suite::requests_for(&suite, RUNNER) {
            let Some(arguments) = arguments(&file, request) else { continue };
            asked += 1;
            if let Err(difference) = check(&arguments, request) {
                failures.push(format!("{}.toml: {}\n  {difference}", suite.name, request.name));
            }
        }
    }
    assert!(asked >= suite::LEAST_REQUESTS, "only {asked} requests can be told on a command line");
    crate::report(RUNNER, asked, &failures);
}

/// None where the request cannot be told on a command line: bytes that are no text, metadata that means nothing.
fn arguments(config: &Path, request: &Request) -> Option<Vec<String>> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok().filter(|text| !text.contains('\0'));
    let mut arguments: Vec<String> = vec!["explain".into(), "--json".into()];
    let mut add = |name: &str, value: String| arguments.push(format!("--{name}={value}"));
    add("config", config.display().to_string());
    add("method", request.method.clone());
    add("path", text(&request.target)?);
    add("host", text(&request.host)?);
    add("now", request.now.clone());
    for (name, value) in &request.headers {
        add("header", format!("{}: {}", text(name)?, text(value)?));
    }
    if let Some(fields) = &request.route {
        // The command refuses as a mistake what the filter has to deny.
        keyward_policy::config::route_metadata::parse(&encode_route_metadata(fields)).ok()?;
        let [(name, value)] = fields.as_object()?.iter().collect::<Vec<_>>()[..] else { return None };
        add("route-metadata", format!("{name}={}", value.as_str()?));
    }
    Some(arguments)
}

fn check(arguments: &[String], request: &Request) -> Result<(), String> {
    let output = Command::new(artifacts::keyward()).args(arguments).output().map_err(|error| error.to_string())?;
    let explained: Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("{:?} {}", output.status, String::from_utf8_lossy(&output.stderr)))?;
    let expected = request.expected.code.as_str();
    if explained["code"] != expected {
        return Err(format!("expected {expected}, got {explained}"));
    }
    let id = request.expected.key_id.as_deref();
    if explained["key"]["id"].as_str() != id {
        return Err(format!("{expected}: expected the key {id:?}, got {}", explained["key"]));
    }
    if let Some(missing) = &request.expected.missing
        && explained["missing"] != serde_json::json!(missing)
    {
        return Err(format!("{expected}: expected {missing:?} to be missing, got {}", explained["missing"]));
    }
    let allowed = expected == "allowed" || expected == "public";
    let checks = explained["checks"].as_array().ok_or("no checks")?;
    let failed: Vec<&Value> = checks.iter().filter(|check| check["passed"] == false).collect();
    // The check that decided is the last one, and the only one that failed.
    if failed.len() != usize::from(!allowed) || (!allowed && checks.last() != failed.first().copied()) {
        return Err(format!("{expected}, and yet the checks are {}", explained["checks"]));
    }
    if output.status.code() != Some(if allowed { 0 } else { 2 }) {
        return Err(format!("{expected}, and yet {}", output.status));
    }
    Ok(())
}

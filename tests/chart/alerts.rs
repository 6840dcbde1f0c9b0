//! Each alert has a test that fires it, a test that does not, and an entry in the runbook.

use crate::render::read;
use keyward_testbed::envoy_config::parse_yaml;
use keyward_testbed::workspace;
use serde_json::Value;
use std::collections::BTreeMap;

/// Returns the expressions of the alerts by their names.
fn alerts() -> BTreeMap<String, String> {
    let rules = read("files/alerts.yaml");
    let rules = rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    rules.map(|rule| (text(&rule["alert"]), text(&rule["expr"]))).collect()
}

fn read_text(name: &str) -> String {
    std::fs::read_to_string(workspace::root().join(name)).unwrap()
}

/// The names of metrics in an expression. Patterns of names, in quotes, are left out.
fn metrics(expression: &str) -> Vec<String> {
    let unquoted = expression.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let words =
        unquoted.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("keyward_"));
    words.map(str::to_owned).collect()
}

#[test]
fn each_alert_is_tested_to_fire_and_not_to_fire() {
    let tests = parse_yaml(&read_text("deploy/observability/alerts.test.yaml")).unwrap();
    let alerts = alerts();
    let mut wrong = Vec::new();
    for (name, expression) in &alerts {
        let (mut fires, mut is_silent) = (false, false);
        for test in tests["tests"].as_array().unwrap() {
            let series = test["input_series"].as_array().unwrap();
            let has = |metric: &String| {
                series.iter().any(|entry| entry["series"].as_str().unwrap().split('{').next() == Some(metric))
            };
            for case in test["alert_rule_test"].as_array().unwrap().iter().filter(|case| case["alertname"] == *name) {
                if case["exp_alerts"].as_array().unwrap().is_empty() {
                    // Without its series hardly any alert fires, which shows nothing.
                    is_silent |= metrics(expression).iter().all(has);
                } else {
                    fires = true;
                }
            }
        }
        if !(fires && is_silent) {
            wrong.push(format!(
                "{name}: a test that fires it: {fires}; one that does not, with its series: {is_silent}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for test in tests["tests"].as_array().unwrap() {
        for case in test["alert_rule_test"].as_array().unwrap() {
            let name = case["alertname"].as_str().unwrap();
            assert!(alerts.contains_key(name), "{}: there is no alert {name}", test["name"]);
        }
    }
}

#[test]
fn each_alert_has_an_entry_in_the_runbook_and_each_entry_an_alert() {
    let runbook = read_text("docs/operations.md");
    let entries: BTreeMap<&str, &str> = runbook
        .split("\n### ")
        .skip(1)
        .map(|entry| entry.split_once('\n').unwrap())
        .map(|(name, text)| (name, text.split("\n## ").next().unwrap().trim()))
        .filter(|(name, _)| name.starts_with("Keyward"))
        .collect();
    assert_eq!(entries.keys().copied().collect::<Vec<_>>(), alerts().keys().map(String::as_str).collect::<Vec<_>>());
    for (name, text) in entries {
        // What it means, where to look, what to do.
        assert!(text.matches(['.', ':']).count() >= 2, "{name}: the entry is too short to help: {text}");
    }
}

//! The corpus through the policy core itself: the reference.

use crate::suite::{self, Request, Suite};
use keyward_policy::config::Config;
use keyward_policy::decide::{RequestHead, decide};
use keyward_policy::policy::{Keys, Policy, RouteMetadata, Unavailable};
use keyward_policy::timestamp::Timestamp;

const RUNNER: &str = "native";

#[test]
fn the_policy_core_decides_the_corpus() {
    let (mut asked, mut failures) = (0, Vec::new());
    for suite in suite::load() {
        let config = Config::parse(suite.plugin.to_string().as_bytes());
        let config = config.unwrap_or_else(|errors| panic!("{}.toml: {errors}", suite.name));
        for request in suite::requests_for(&suite, RUNNER) {
            asked += 1;
            if let Err(difference) = check(&config, &suite, request) {
                failures.push(difference);
            }
        }
    }
    crate::report(RUNNER, asked, &failures);
}

fn check(config: &Config, suite: &Suite, request: &Request) -> Result<(), String> {
    let route =
        request.route.as_ref().map(|fields| keyward_policy::config::route_metadata::parse(&encode_metadata(fields)));
    let route = route.as_ref().filter(|_| config.route_metadata).map_or(RouteMetadata::Absent, RouteMetadata::from);
    let policy = Policy { config, keys: keys_without_contact(config), route };
    let headers: Vec<(&[u8], &[u8])> = request.headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let head = RequestHead {
        method: request.method.as_bytes(),
        path: &request.target,
        host: &request.host,
        headers: &headers,
    };
    let decision = decide(&policy, &head, Timestamp::parse(&request.now).unwrap());
    let got = (decision.code.as_str().to_owned(), decision.key.map(|key| key.id.to_string()));
    let expected = (request.expected.code.clone(), request.expected.key_id.clone());
    let missing: Vec<String> = decision.missing().map(str::to_owned).collect();
    if got != expected || request.expected.missing.as_ref().is_some_and(|expected| *expected != missing) {
        return Err(format!("{}.toml: {}\n  expected {expected:?}, got {got:?} {missing:?}", suite.name, request.name));
    }
    Ok(())
}

/// The keys of a filter that has not reached its admin service yet.
pub fn keys_without_contact(config: &Config) -> Keys<'_> {
    Keys::choose(config, config.admin.as_ref().map(|_| Err(Unavailable::NotYetLoaded)), None)
}

/// `envoy.config.core.v3.Metadata` with the namespace `keyward`, as Envoy serializes it for the filter.
pub fn encode_metadata(fields: &serde_json::Value) -> Vec<u8> {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        assert!(bytes.len() < 128, "one byte of length is enough for tests");
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }
    fn value(value: &serde_json::Value) -> Vec<u8> {
        match value {
            serde_json::Value::Null => vec![1 << 3, 0],
            serde_json::Value::Bool(value) => vec![4 << 3, u8::from(*value)],
            serde_json::Value::Number(number) => [&[2 << 3 | 1], &number.as_f64().unwrap().to_le_bytes()[..]].concat(),
            serde_json::Value::String(text) => field(3, text.as_bytes()),
            other => panic!("{other} in metadata"),
        }
    }
    let entries = fields.as_object().unwrap().iter();
    let object: Vec<u8> = entries
        .flat_map(|(name, content)| field(1, &[field(1, name.as_bytes()), field(2, &value(content))].concat()))
        .collect();
    field(1, &[field(1, b"keyward"), field(2, &object)].concat())
}

//! The corpus through the policy core itself: the reference.

use crate::suite::{self, Request, Suite};
use keyward_policy::config::Config;
use keyward_policy::decide::{RequestHead, decide};
use keyward_policy::manifest::{Change, Page};
use keyward_policy::policy::{Keys, Policy, RouteMetadata, Unavailable};
use keyward_policy::table::KeyTable;
use keyward_policy::timestamp::Timestamp;
use keyward_testbed::protobuf::encode_route_metadata;

const RUNNER: &str = "native";

#[test]
fn the_policy_core_decides_the_corpus() {
    let (mut asked, mut failures) = (0, Vec::new());
    for suite in suite::load() {
        let config = Config::parse(suite.plugin.to_string().as_bytes());
        let config = config.unwrap_or_else(|errors| panic!("{}.toml: {errors}", suite.name));
        let table = suite.page().map(|page| table(&page));
        for request in suite::requests_for(&suite, RUNNER) {
            asked += 1;
            if let Err(difference) = check(&config, table.as_ref(), &suite, request) {
                failures.push(difference);
            }
        }
    }
    crate::report(RUNNER, asked, &failures);
}

fn check(config: &Config, table: Option<&KeyTable>, suite: &Suite, request: &Request) -> Result<(), String> {
    let route = request
        .route
        .as_ref()
        .map(|fields| keyward_policy::config::route_metadata::parse(&encode_route_metadata(fields)));
    let route = route.as_ref().filter(|_| config.route_metadata).map_or(RouteMetadata::Absent, RouteMetadata::from);
    let policy = Policy { config, keys: keys(config, table, suite.stale), route };
    // Envoy hands names over in lower case.
    let lower: Vec<(Vec<u8>, &[u8])> =
        request.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), &value[..])).collect();
    let headers: Vec<(&[u8], &[u8])> = lower.iter().map(|(name, value)| (&name[..], *value)).collect();
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

fn table(page: &Page<'_>) -> KeyTable {
    let mut table = KeyTable::new();
    for key in page.keys.iter().filter_map(Change::live) {
        table.upsert(key).unwrap();
    }
    table
}

/// The keys that answer where `table` was fetched.
fn keys<'a>(config: &'a Config, table: Option<&'a KeyTable>, stale: bool) -> Keys<'a> {
    let fetched = match table {
        Some(_) if stale => Err(Unavailable::Stale),
        Some(table) => Ok(table),
        None => Err(Unavailable::NotYetLoaded),
    };
    Keys::choose(config, config.admin.as_ref().map(|_| fetched), table)
}

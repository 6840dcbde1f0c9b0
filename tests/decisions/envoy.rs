//! The corpus through a real Envoy with two workers: one listener for each file.
//!
//! The listeners do not normalise paths, so that the filter sees them as they are written in the corpus.

use crate::suite::{self, Request, Suite};
use keyward_testbed::admin_stand_in::AdminStandIn;
use keyward_testbed::artifacts::Edition;
use keyward_testbed::envoy::{self, Envoy};
use keyward_testbed::envoy_config::{self, Encoding, Listener};
use keyward_testbed::http1::{self, Client, Response};
use keyward_testbed::upstream::{Received, Upstream};
use keyward_testbed::wait;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
/// Chooses a route with metadata.
const ROUTE: &str = "x-corpus-route";

#[test]
fn a_real_envoy_decides_the_corpus() {
    // Each worker and the main thread fetch.
    decide(Edition::Wasm, "envoy", 3);
}

#[test]
fn a_real_envoy_with_the_native_edition_decides_the_corpus() {
    if envoy::version() < (1, 39) {
        return is_refused();
    }
    decide(Edition::Native, "envoy", 1);
}

/// Asserts that an Envoy that lacks functions the library needs does not start with it, and says why.
fn is_refused() {
    let upstream = Upstream::start();
    let plugin = json!({"manifest": {"keys": []}, "rules": [{"path": "/a", "access": "public"}]});
    let listener = Listener::of(Edition::Native, "edge", &plugin, Encoding::Struct, upstream.address());
    let log = Envoy::try_start(&envoy_config::bootstrap(&[listener], vec![]), 1).expect_err("it started").log;
    // 1.38 has dynamic modules of the same ABI, and older ones do not get as far as the library's own words.
    let reason = if envoy::version() == (1, 38) { "the native edition runs in Envoy 1.39 and 1.40" } else { "ynamic" };
    assert!(log.contains(reason), "{log}");
}

/// Asks an Envoy with this edition, whose process fetches all keys of a service so many times.
fn decide(edition: Edition, runner: &str, loads: u64) {
    let upstream = Upstream::start();
    let suites = suite::load();
    let listeners: Vec<Listener> = suites
        .iter()
        .enumerate()
        .map(|(number, suite)| {
            // Both encodings get their share.
            let encoding = if number % 2 == 0 { Encoding::Struct } else { Encoding::StringValue };
            let mut listener = Listener::of(edition, &suite.name, &suite.plugin, encoding, upstream.address());
            add_routes(&mut listener, suite);
            listener
        })
        .collect();
    let stand_ins: Vec<(String, AdminStandIn)> = suites.iter().filter_map(stand_in).collect();
    let clusters = stand_ins.iter().map(|(name, admin)| envoy_config::cluster(name, admin.address())).collect();
    let envoy = Envoy::start(&envoy_config::bootstrap(&listeners, clusters));
    let loads = loads * stand_ins.len() as u64;
    wait::until("all keys are fetched", PATIENCE, || {
        (envoy.stat("wasmcustom.keyward_manifest_loads") >= loads).then_some(())
    });
    let (mut asked, mut failures) = (0, Vec::new());
    for suite in &suites {
        let address = envoy.listener(&suite.name);
        for request in suite::requests_for(suite, runner) {
            asked += 1;
            if let Err(difference) = check(address, &upstream, suite, request) {
                failures.push(format!("{}.toml: {}\n  {difference}", suite.name, request.name));
            }
        }
    }
    for worker in 0..2 {
        let connections: u64 = suites
            .iter()
            .map(|suite| {
                let port = envoy.listener(&suite.name).port();
                envoy.stat(&format!("listener.127.0.0.1_{port}.worker_{worker}.downstream_cx_total"))
                    + envoy.stat(&format!("listener.127.0.0.1_0.worker_{worker}.downstream_cx_total"))
            })
            .sum();
        assert!(connections > 0, "worker {worker} was never asked");
    }
    crate::report(runner, asked, &failures);
}

/// An admin service with the keys that the filter has fetched, under the name of the cluster that the file names.
fn stand_in(suite: &Suite) -> Option<(String, AdminStandIn)> {
    let keys = suite.fetched.clone()?;
    let cluster = suite.plugin["admin"]["cluster"].as_str()?.to_owned();
    let admin = AdminStandIn::with_pages_of(usize::MAX);
    admin.put_all(keys);
    Some((cluster, admin))
}

/// One route for each metadata of the suite, chosen by a header.
fn add_routes(listener: &mut Listener, suite: &Suite) {
    let routes = listener.connection_manager().pointer_mut("/route_config/virtual_hosts/0/routes").unwrap();
    let routes = routes.as_array_mut().unwrap();
    for (number, request) in suite.requests.iter().enumerate() {
        let Some(fields) = &request.route else { continue };
        routes.insert(
            0,
            json!({
                "match": {"prefix": "/", "headers": [
                    {"name": ROUTE, "string_match": {"exact": number.to_string()}}]},
                "route": {"cluster": suite.name},
                "metadata": {"filter_metadata": {"keyward": fields}},
            }),
        );
    }
}

fn check(address: SocketAddr, upstream: &Upstream, suite: &Suite, request: &Request) -> Result<(), String> {
    upstream.take();
    let mut headers = vec![(b"host".to_vec(), request.host.clone())];
    headers.extend(request.headers.clone());
    if request.route.is_some() {
        let number = suite.requests.iter().position(|other| std::ptr::eq(other, request)).unwrap();
        headers.push((ROUTE.into(), number.to_string().into_bytes()));
    }
    let mut client = Client::connect(address).map_err(|error| error.to_string())?;
    let bytes = http1::encode(request.method.as_bytes(), &request.target, &headers, b"");
    client.send(&bytes).map_err(|error| error.to_string())?;
    let response = client.receive(&request.method).map_err(|error| format!("no answer: {error}"))?;
    let received = upstream.take();
    let code = request.expected.code.as_str();
    let allowed = code == "allowed" || code == "public";
    if let Some(status) = request.envoy {
        if response.status != status || !received.is_empty() {
            return Err(format!("expected Envoy's own {status}, got {}: {}", response.status, response.text()));
        }
        return Ok(());
    }
    match received.as_slice() {
        [] if !allowed => refused(&response, request),
        [received] if allowed => passed(&response, received, suite, request),
        received => Err(format!(
            "expected {code}, got {} {}; {} requests at the upstream",
            response.status,
            response.text(),
            received.len()
        )),
    }
}

fn passed(response: &Response, received: &Received, suite: &Suite, request: &Request) -> Result<(), String> {
    if response.status != 200 {
        return Err(format!("allowed, and yet status {}", response.status));
    }
    let hidden = suite.plugin.get("hide_key").and_then(Value::as_bool).unwrap_or(true);
    let shown = received.headers.iter().any(|(_, value)| value.windows(3).any(|part| part == b"kw_"));
    if hidden && (shown || received.target().contains("kw_")) {
        return Err("the credential reached the upstream".to_owned());
    }
    if suite.plugin.get("identity_headers").is_none() {
        let told = received.header("x-api-key-id");
        let expected: Vec<String> = request.expected.key_id.iter().cloned().collect();
        if told != expected {
            return Err(format!("the upstream is told {told:?}"));
        }
    }
    Ok(())
}

fn refused(response: &Response, request: &Request) -> Result<(), String> {
    let code = request.expected.code.as_str();
    let status = keyward_policy::decision::Code::ALL.iter().find(|known| known.as_str() == code).unwrap().status();
    if response.status != status {
        return Err(format!("expected {code} {status}, got {}: {}", response.status, response.text()));
    }
    if request.method == "HEAD" {
        return Ok(());
    }
    let body = response.json();
    if body["code"] != code {
        return Err(format!("expected {code}, got {body}"));
    }
    if request.expected.missing.as_ref().is_some_and(|missing| body["missing"] != json!(missing)) {
        return Err(format!("missing {}", body["missing"]));
    }
    Ok(())
}

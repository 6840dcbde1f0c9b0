//! The changes of `docs/recipes.md`, made to the shipped envoy.yaml as they are printed there.

mod admin_link;
mod delivery;

use crate::setup::{ADMIN, READER, assert_denied, assert_passed, manifest};
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::{Shipped, parse_yaml};
use keyward_testbed::http1::{self, Response};
use keyward_testbed::upstream::{Received, Upstream};
use keyward_testbed::{documents, http2, workspace};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

const RECORDS: &str = "/api/collections/posts/records";
/// The place of the filter in the shipped `http_filters`.
const BEFORE_KEYWARD: usize = 0;
/// The place behind the filter and its backstop.
const AFTER_BACKSTOP: usize = 2;

/// The address of a cluster's endpoint.
const ENDPOINT: &str = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";

fn socket(address: SocketAddr) -> Value {
    json!({"address": address.ip().to_string(), "port_value": address.port()})
}

/// Returns an address whose port is free now, for a configuration that has to name it.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Returns the YAML blocks of a recipe, in their order.
fn blocks(recipe: &str) -> Vec<Value> {
    let blocks = documents::blocks("docs/recipes.md", &format!("## {recipe}"), "yaml");
    let parse = |block: &String| parse_yaml(block).unwrap_or_else(|error| panic!("{recipe}: {error}\n{block}"));
    blocks.iter().map(parse).collect()
}

/// Inserts the entries of a list into another one at a place.
fn insert(list: &mut Value, place: usize, entries: &Value) {
    for entry in entries.as_array().unwrap().iter().rev() {
        list.as_array_mut().unwrap().insert(place, entry.clone());
    }
}

/// The shipped configuration with the changes of a recipe.
struct Recipe {
    shipped: Shipped,
    upstream: Upstream,
}

impl Recipe {
    fn new() -> Self {
        let upstream = Upstream::start();
        let mut manifest = manifest();
        // The shipped rules know other permissions than those of the other tests.
        manifest["keys"][0]["permissions"] = json!(["records:read"]);
        let shipped = Shipped::new(upstream.address()).with_manifest(manifest);
        Self { shipped, upstream }
    }

    /// Inserts the entries of a list into another one at a place.
    fn insert(&mut self, list: &str, place: usize, entries: &Value) {
        insert(self.shipped.connection_manager().pointer_mut(list).unwrap(), place, entries);
    }

    /// Adds the fields of an object to another one.
    fn add(&mut self, object: &str, fields: &Value) {
        let object = self.shipped.connection_manager().pointer_mut(object).and_then(Value::as_object_mut).unwrap();
        for (name, value) in fields.as_object().unwrap() {
            assert!(object.insert(name.clone(), value.clone()).is_none(), "{name} is there already");
        }
    }

    fn start(self) -> Edge {
        let envoy = Envoy::start(&self.shipped.build());
        Edge { envoy, upstream: self.upstream }
    }
}

struct Edge {
    envoy: Envoy,
    upstream: Upstream,
}

impl Edge {
    fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> (Response, Vec<Received>) {
        self.upstream.take();
        let response = http1::exchange(self.envoy.listener("databases_api"), method, target, headers).unwrap();
        (response, self.upstream.take())
    }
}

#[test]
fn each_key_has_a_rate_of_its_own() {
    let mut recipe = Recipe::new();
    let mut filter = blocks("Limit the rate of each key").remove(0);
    // The printed rates, but refilled so seldom that the test does not depend on its speed.
    filter[0]["typed_config"]["descriptors"][0]["token_bucket"]["fill_interval"] = json!("3600s");
    filter[0]["typed_config"]["token_bucket"]["fill_interval"] = json!("3600s");
    recipe.insert("/http_filters", AFTER_BACKSTOP, &filter);
    let edge = recipe.start();
    let burst = filter[0]["typed_config"]["descriptors"][0]["token_bucket"]["max_tokens"].as_u64().unwrap();
    for _ in 0..burst {
        assert_eq!(edge.ask("GET", RECORDS, &[("x-api-key", READER)]).0.status, 200);
    }
    let (response, received) = edge.ask("GET", RECORDS, &[("x-api-key", READER)]);
    assert_eq!((response.status, received.len()), (429, 0));
    assert_eq!(edge.ask("GET", RECORDS, &[("x-api-key", ADMIN)]).0.status, 200, "another key has its own bucket");
    assert_eq!(edge.ask("GET", "/api/health", &[]).0.status, 200, "a public route has no key");
    // A key that is refused takes nothing from a bucket.
    let (response, received) = edge.ask("GET", RECORDS, &[("x-api-key", "kw_nobody")]);
    assert_denied(&response, &received, 401, "key_unknown");
    assert_eq!(edge.envoy.stat("keys.http_local_rate_limit.rate_limited"), 1);
}

#[test]
fn the_keys_of_a_plan_have_another_rate() {
    let mut recipe = Recipe::new();
    let [mut filter, mut plan] = <[Value; 2]>::try_from(blocks("Limit the rate of each key")).unwrap();
    let bucket = |tokens: u32| json!({"max_tokens": tokens, "tokens_per_fill": 1, "fill_interval": "3600s"});
    plan[0]["entries"][0]["value"] = json!("key_admin");
    plan[0]["token_bucket"] = bucket(5);
    let descriptors = filter[0]["typed_config"]["descriptors"].as_array_mut().unwrap();
    descriptors[0]["token_bucket"] = bucket(2);
    descriptors.insert(0, plan[0].clone());
    recipe.insert("/http_filters", AFTER_BACKSTOP, &filter);
    let edge = recipe.start();
    for (key, rate) in [(READER, 2), (ADMIN, 5)] {
        let statuses: Vec<_> = (0..7).map(|_| edge.ask("GET", RECORDS, &[("x-api-key", key)]).0.status).collect();
        let expected: Vec<u16> = (0..7).map(|number| if number < rate { 200 } else { 429 }).collect();
        assert_eq!(statuses, expected, "{rate} requests at once");
    }
}

#[test]
fn grpc_calls_pass_by_the_path_of_their_method() {
    let mut recipe = Recipe::new();
    let [rules, protocol] = <[Value; 2]>::try_from(blocks("gRPC")).unwrap();
    insert(&mut recipe.shipped.plugin()["rules"], 0, &rules);
    // A listener of the same Envoy that speaks HTTP/2 alone is the server.
    let server = free_port();
    *recipe.shipped.cluster("records_api").pointer_mut(ENDPOINT).unwrap() = socket(server);
    let cluster = recipe.shipped.cluster("records_api").as_object_mut().unwrap();
    cluster.extend(protocol.as_object().unwrap().clone());
    let mut configuration = recipe.shipped.build();
    configuration["static_resources"]["listeners"].as_array_mut().unwrap().push(grpc_server(server));
    let envoy = Envoy::start(&configuration);
    let call = |path: &str, key: Option<&str>| {
        let mut head = vec![
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "api.example.com"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        head.extend(key.map(|key| ("x-api-key", key)));
        let mut client = http2::Client::connect(envoy.listener("databases_api")).unwrap();
        let http2::Answer::Response(response) = client.request(&http2::fields(&head), b"").unwrap() else {
            panic!("no response")
        };
        (response.status, response.header("grpc-status").map(str::to_owned))
    };
    let list = "/records.v1.Records/List";
    assert_eq!(call(list, Some(READER)), (200, Some("0".to_owned())), "the server answers");
    assert_eq!(call(list, None), (200, Some("16".to_owned())));
    assert_eq!(call("/records.v1.Records/Delete", Some(READER)), (200, Some("7".to_owned())), "no rule allows it");
}

/// A listener that answers gRPC calls, over HTTP/2 alone.
fn grpc_server(address: SocketAddr) -> Value {
    let header = |name: &str, value: &str| json!({"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"});
    let connection_manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "grpc_server", "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{
            "match": {"prefix": "/"}, "direct_response": {"status": 200},
            "response_headers_to_add": [header("content-type", "application/grpc"), header("grpc-status", "0")],
        }]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config":
            {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
    });
    json!({
        "name": "grpc_server", "address": {"socket_address": socket(address)},
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": connection_manager}]}],
    })
}

#[test]
fn a_rate_limit_service_is_told_the_id_of_the_key() {
    let mut recipe = Recipe::new();
    let [filter, limits, cluster] =
        <[Value; 3]>::try_from(blocks("Limit the rate of each key across proxies")).unwrap();
    recipe.insert("/http_filters", AFTER_BACKSTOP, &filter);
    recipe.add("/route_config/virtual_hosts/0", &limits);
    // The stand-in speaks HTTP/1.1 and gives no verdict; what it is asked is what counts here.
    let service = Upstream::start();
    let mut cluster = cluster[0].clone();
    cluster.as_object_mut().unwrap().remove("typed_extension_protocol_options").unwrap();
    *cluster.pointer_mut(ENDPOINT).unwrap() = socket(service.address());
    let mut configuration = recipe.shipped.build();
    configuration["static_resources"]["clusters"].as_array_mut().unwrap().push(cluster);
    let envoy = Envoy::start(&configuration);
    let ask = |headers: &[(&str, &str)], target| {
        http1::exchange(envoy.listener("databases_api"), "GET", target, headers).unwrap().status
    };
    assert_eq!(ask(&[("x-api-key", ADMIN)], RECORDS), 200, "without a verdict requests pass");
    let asked = service.take();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].target(), "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit");
    let question = String::from_utf8_lossy(&asked[0].body).into_owned();
    assert!(question.contains("databases") && question.contains("key_admin"), "{question:?}");
    // A request without an identity asks with an empty descriptor, and one that is refused does not ask.
    assert_eq!(ask(&[], "/api/health"), 200);
    assert_eq!(ask(&[("x-api-key", "kw_nobody")], RECORDS), 401);
    let asked: Vec<_> = service.take().iter().map(|asked| String::from_utf8_lossy(&asked.body).into_owned()).collect();
    assert!(asked.len() == 1 && !asked[0].contains("key_id"), "{asked:?}");
}

#[test]
fn the_access_log_goes_to_a_file() {
    let mut recipe = Recipe::new();
    let folder = workspace::scratch("recipes");
    let file = folder.path().join("access.json");
    let mut loggers = blocks("Write the access log to a file").remove(0);
    loggers[0]["typed_config"]["path"] = json!(file);
    recipe.shipped.connection_manager()["access_log"] = loggers;
    let edge = recipe.start();
    edge.ask("GET", &format!("{RECORDS}?secret=1"), &[("x-api-key", READER)]);
    edge.ask("GET", RECORDS, &[]);
    let lines = keyward_testbed::wait::until("two lines in the log", Duration::from_secs(20), || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        (text.lines().count() == 2).then_some(text)
    });
    assert!(!lines.contains(READER) && !lines.contains("secret"), "{lines}");
    let entries: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let fields = |entry: &Value| (entry["decision"].clone(), entry["key_id"].clone(), entry["status"].clone());
    assert_eq!(fields(&entries[0]), (json!("allowed"), json!("key_reader"), json!(200)));
    assert_eq!(fields(&entries[1]), (json!("key_missing"), Value::Null, json!(401)));
}

/// Signed with the key in the recipe; issuer `https://login.example.com`, audience `databases`, no end.
const JWT: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImV4YW1wbGUifQ.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUuY29tIiwic3ViIjoiYWRhIiwiYXVkIjoiZGF0YWJhc2VzIn0.GbQ1fM5s1XHA70q3oobbAZxPQ9yb2BQH8w30KSJSZnI";

#[test]
fn some_routes_take_a_jwt_and_the_others_a_key() {
    let mut recipe = Recipe::new();
    let [filter, rules] = <[Value; 2]>::try_from(blocks("People with a JWT, programs with a key")).unwrap();
    // Before the filter has another place.
    insert(&mut recipe.shipped.plugin()["rules"], 0, &rules);
    recipe.insert("/http_filters", BEFORE_KEYWARD, &filter);
    let edge = recipe.start();
    let bearer = format!("Bearer {JWT}");
    let (response, received) = edge.ask("GET", "/api/me/settings", &[("authorization", &bearer)]);
    assert_passed(&response, received);
    for (target, headers, status) in [
        ("/api/me/settings", vec![], 401),
        ("/api/me/settings", vec![("x-api-key", ADMIN)], 401),
        (RECORDS, vec![("authorization", &*bearer)], 401),
        // No spelling of the path gets around both filters.
        ("/api/me%2fsettings", vec![], 307),
        ("/api/me//settings", vec![], 401),
        ("/api/x/../me/settings", vec![], 401),
        ("/api/me/%2e%2e/settings", vec![], 401),
    ] {
        let (response, received) = edge.ask("GET", target, &headers);
        assert_eq!((response.status, received.len()), (status, 0), "{target} {}", response.text());
    }
    assert_eq!(edge.ask("GET", RECORDS, &[("x-api-key", READER)]).0.status, 200);
}

#[test]
fn browsers_of_one_origin_read_answers_and_denials() {
    let mut recipe = Recipe::new();
    let [filter, policy] = <[Value; 2]>::try_from(blocks("Browsers of other origins (CORS)")).unwrap();
    recipe.insert("/http_filters", BEFORE_KEYWARD, &filter);
    recipe.add("/route_config/virtual_hosts/0", &policy);
    let edge = recipe.start();
    let origin = ("origin", "https://app.example.com");
    let preflight =
        [origin, ("access-control-request-method", "PATCH"), ("access-control-request-headers", "x-api-key")];
    let (response, received) = edge.ask("OPTIONS", RECORDS, &preflight);
    assert_eq!((response.status, received.len()), (200, 0), "{}", response.text());
    assert!(response.header("access-control-allow-methods").unwrap().contains("PATCH"));
    assert!(response.header("access-control-allow-headers").unwrap().contains("x-api-key"));
    let allowed = |response: &Response| response.header("access-control-allow-origin").map(str::to_owned);
    let (response, received) = edge.ask("GET", RECORDS, &[origin, ("x-api-key", READER)]);
    assert_eq!(allowed(&response).as_deref(), Some(origin.1));
    assert_passed(&response, received);
    let (response, received) = edge.ask("GET", RECORDS, &[origin]);
    assert_eq!(allowed(&response).as_deref(), Some(origin.1), "the page can read the denial");
    assert_denied(&response, &received, 401, "key_missing");
    // Another origin gets neither.
    let other = ("origin", "https://evil.example.com");
    let (response, _) = edge.ask("GET", RECORDS, &[other, ("x-api-key", READER)]);
    assert_eq!(allowed(&response), None);
    let (response, received) = edge.ask("OPTIONS", RECORDS, &[other, ("access-control-request-method", "PATCH")]);
    assert_denied(&response, &received, 401, "key_missing");
}

#[test]
fn grpc_web_clients_read_the_status_of_a_denial() {
    let mut recipe = Recipe::new();
    recipe.insert("/http_filters", BEFORE_KEYWARD, &blocks("gRPC-Web").remove(0));
    let edge = recipe.start();
    let (response, received) = edge.ask("POST", RECORDS, &[("content-type", "application/grpc-web+proto")]);
    assert!(received.is_empty());
    // The headers make a trailers-only response, though Envoy keeps the HTTP status.
    assert_eq!((response.status, response.header("grpc-status")), (401, Some("16")), "{}", response.text());
    assert!(response.header("grpc-message").unwrap().contains("key_missing"), "{response:?}");
}

#[test]
fn a_websocket_opens_with_a_key_only() {
    let mut recipe = Recipe::new();
    recipe.add("", &blocks("WebSocket").remove(0));
    let edge = recipe.start();
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "eA=="),
        ("sec-websocket-version", "13"),
    ];
    let (response, received) = edge.ask("GET", "/api/realtime", &upgrade);
    assert_denied(&response, &received, 401, "key_missing");
    // The upstream answers without switching protocols. The test needs to know only that the upgrade arrived.
    let key = [("x-api-key", READER)];
    let (_, received) = edge.ask("GET", "/api/realtime", &[&upgrade[..], &key].concat());
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].header("upgrade"), ["websocket"]);
}

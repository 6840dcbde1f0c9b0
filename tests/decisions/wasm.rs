//! The corpus through the compiled module, in an embedded runtime: what Envoy loads, without Envoy. Besides the
//! decision it sees all that the filter asks its host to do.

use crate::suite::{self, Request};
use keyward_policy::timestamp::Timestamp;
use keyward_testbed::artifacts;
use keyward_testbed::protobuf::encode_route_metadata;
use keyward_testbed::wasm_host::{Fields, Outcome, State, WasmModule, WasmVm};
use serde_json::Value;

const RUNNER: &str = "wasm";

#[test]
fn the_compiled_module_decides_the_corpus() {
    let module = WasmModule::load(&artifacts::module());
    let (mut asked, mut failures) = (0, Vec::new());
    for suite in suite::load() {
        let mut state = State::at(0);
        let cluster = suite.plugin.pointer("/admin/cluster").and_then(Value::as_str);
        state.clusters.extend(cluster.map(str::to_owned));
        let vm = module.start(suite.plugin.to_string().as_bytes(), state);
        let mut vm = vm.unwrap_or_else(|state| panic!("{}.toml: {}", suite.name, state.log_text()));
        if let Some(page) = suite.page() {
            fetch(&mut vm, &serde_json::to_vec(&page).unwrap());
            assert_eq!(
                vm.state().metric("keyward_manifest_loads"),
                1,
                "{}.toml: {}",
                suite.name,
                vm.state().log_text()
            );
        }
        if suite.stale {
            vm.tick(MAX_STALENESS_NS);
        }
        for request in suite::requests_for(&suite, RUNNER) {
            asked += 1;
            if let Err(difference) = check(&mut vm, &suite.plugin, request) {
                failures.push(format!("{}.toml: {}\n  {difference}", suite.name, request.name));
            }
        }
        let log = vm.state().log_text();
        let leaked = suite.requests.iter().flat_map(|request| &request.headers).find(|(name, value)| {
            name == b"x-api-key" && value.len() > 20 && log.contains(&*String::from_utf8_lossy(value))
        });
        assert!(leaked.is_none(), "a key in the log:\n{log}");
    }
    crate::report(RUNNER, asked, &failures);
}

/// Longer than any file's `max_staleness`.
const MAX_STALENESS_NS: u64 = 2 * 3_600 * 1_000_000_000;

/// Answers the first request for keys.
fn fetch(vm: &mut WasmVm, page: &[u8]) {
    vm.tick(5_000_000);
    let call = vm.state().calls.last().expect("the module asks for keys").id;
    vm.answer_call(call, vec![(b":status".to_vec(), b"200".to_vec())], page);
}

fn check(vm: &mut WasmVm, plugin: &Value, request: &Request) -> Result<(), String> {
    let now = Timestamp::parse(&request.now).unwrap();
    vm.state_mut().now_ns = u64::try_from(now.unix_ms()).unwrap() * 1_000_000;
    vm.state_mut().properties.clear();
    if let Some(fields) = &request.route {
        let metadata = encode_route_metadata(fields);
        vm.state_mut().properties.insert(b"xds\0route_metadata".to_vec(), metadata);
    }
    let code = request.expected.code.as_str();
    let outcome = vm.request(fields(request), true);
    vm.end_stream(outcome.stream);
    let state = |name: &str| outcome.filter_state.get(name).map(|value| String::from_utf8_lossy(value).into_owned());
    let got = (state("keyward.decision"), state("keyward.key_id"));
    if got != (Some(code.to_owned()), request.expected.key_id.clone()) {
        return Err(format!("expected {code} {:?}, got {got:?}", request.expected.key_id));
    }
    if code == "allowed" || code == "public" { passed(&outcome, plugin, request) } else { refused(&outcome, request) }
}

fn fields(request: &Request) -> Fields {
    let pseudo = [
        (b":method".to_vec(), request.method.as_bytes().to_vec()),
        (b":path".to_vec(), request.target.clone()),
        (b":authority".to_vec(), request.host.clone()),
        (b":scheme".to_vec(), b"http".to_vec()),
    ];
    let headers = request.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
    pseudo.into_iter().chain(headers).collect()
}

fn passed(outcome: &Outcome, plugin: &Value, request: &Request) -> Result<(), String> {
    if outcome.paused || outcome.reply.is_some() {
        return Err(format!("allowed, and yet {:?}", outcome.reply));
    }
    let hidden = plugin.get("hide_key").and_then(Value::as_bool).unwrap_or(true);
    let key = |(name, value): &(Vec<u8>, Vec<u8>)| {
        name == b"x-api-key" || (name == b":path" && value.windows(3).any(|part| part == b"kw_"))
    };
    if hidden && outcome.headers.iter().any(key) {
        return Err("the credential goes on to the upstream".to_owned());
    }
    let sent = outcome.headers.iter().find(|(name, _)| name == b"x-api-key-id");
    let sent = sent.map(|(_, value)| String::from_utf8_lossy(value).into_owned());
    let switched_off = plugin.get("identity_headers").is_some();
    if !switched_off && sent != request.expected.key_id {
        return Err(format!("the upstream is told {sent:?}"));
    }
    Ok(())
}

fn refused(outcome: &Outcome, request: &Request) -> Result<(), String> {
    let code = &request.expected.code;
    let Some(reply) = outcome.reply.as_ref().filter(|_| outcome.paused) else {
        return Err("the request goes on".to_owned());
    };
    let status = keyward_policy::decision::Code::ALL.iter().find(|known| known.as_str() == code).unwrap().status();
    let header = |wanted: &str| {
        let found = reply.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()));
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let problems = [
        (reply.status != u32::from(status), format!("status {}", reply.status)),
        (reply.details != format!("keyward_{code}"), format!("details {}", reply.details)),
        (header("cache-control").as_deref() != Some("no-store"), "no `cache-control: no-store`".to_owned()),
        (
            (status == 401) != header("www-authenticate").is_some_and(|value| value.starts_with("ApiKey realm=\"")),
            format!("www-authenticate {:?}", header("www-authenticate")),
        ),
        ((status == 503) != (header("retry-after").as_deref() == Some("1")), "retry-after".to_owned()),
        (header("content-type").as_deref() != Some("application/problem+json"), "content-type".to_owned()),
        (body["code"] != code.as_str() || body["type"] != format!("urn:keyward:{code}"), format!("body {body}")),
        (body["status"] != status || !body["title"].is_string() || !body["detail"].is_string(), format!("body {body}")),
        (
            request.expected.missing.as_ref().is_some_and(|missing| body["missing"] != serde_json::json!(missing)),
            format!("missing {}", body["missing"]),
        ),
    ];
    let wrong: Vec<&str> = problems.iter().filter(|(wrong, _)| *wrong).map(|(_, what)| what.as_str()).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

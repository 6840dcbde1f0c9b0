//! A hundred thousand generated requests through a real Envoy: whatever reaches the upstream has a decision that
//! allows it, by the native policy core, both for what was sent and for what arrived.
//!
//! `KEYWARD_SEED` repeats a run, `KEYWARD_REQUESTS` makes it shorter or longer.

use crate::setup::{ADMIN, EXPIRED, LISTENER, READER, listener, manifest};
use keyward_policy::config::Config;
use keyward_policy::decide::{RequestHead, decide};
use keyward_policy::policy::{Keys, Policy, RouteMetadata};
use keyward_policy::timestamp::Timestamp;
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config;
use keyward_testbed::http1::{self, Client};
use keyward_testbed::upstream::Upstream;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::SystemTime;

const REQUESTS: usize = 100_000;
const THREADS: usize = 4;
const CASE: &str = "x-case";

/// Every kind of rule and every source; the key and the client's own headers go on, so that what arrived can be
/// decided again.
fn plugin() -> Value {
    json!({
        "manifest": manifest(),
        "hide_key": false,
        "identity_headers": {"id": null, "name": null},
        "cors_preflight": "pass",
        "key_sources": [{"header": "x-api-key"}, {"header": "authorization", "scheme": "Bearer"}, {"query": "k"}, {"cookie": "k"}],
        "rules": [
            {"path": "/api/collections/_*/**", "access": "deny"},
            {"path": "/denied/**", "access": "deny"},
            {"hosts": ["internal.example.com", "*.corp.example.com"], "path": "/**", "access": "deny"},
            {"path": "/public", "access": "public"},
            {"methods": ["GET", "HEAD"], "path": "/api/collections/{c}/records", "require": ["records:read"]},
            {"methods": ["POST"], "path": "/api/collections/{c}/records", "content_type": ["application/json", "none"], "require": ["records:write"]},
            {"methods": ["POST"], "path": "/api/collections/{c}/records", "require": ["records:write", "files:write"]},
            {"path": "/a", "require": ["a:read"]},
            {"path": "/any/**", "access": "authenticated"},
        ],
    })
}

/// xorshift64*: the same requests for the same seed, on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

struct Sent {
    method: Vec<u8>,
    target: Vec<u8>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
}

fn generate(random: &mut Random) -> Sent {
    let method: &str = random
        .one(&["GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE"]);
    let mut target = random
        .one(&[
            "/a",
            "/a",
            "/public",
            "/denied/x",
            "/any/x/y",
            "/any",
            "/nothing",
            "/",
            "/api/collections/posts/records",
            "/api/collections/posts/records",
            "/api/collections/_superusers/records",
            "/api/collections/posts/records/abc",
        ])
        .as_bytes()
        .to_vec();
    // Half of the requests are odd in one place at most, so that many get through and what they show counts.
    let odd = random.chance(50);
    let mutations = if odd { random.below(4) } else { random.below(8) / 7 };
    for _ in 0..mutations {
        let piece: &[u8] = random.one(&[
            &b"/"[..],
            b"//",
            b"/.",
            b"/..",
            b"/./",
            b"/../",
            b"%2f",
            b"%2F",
            b"%5c",
            b"\\",
            b"%2e",
            b"%2e%2e",
            b";",
            b"%3b",
            b"%00",
            b"%25",
            b"%252f",
            b"%zz",
            b"%",
            b"_",
            b"%5f",
            b"%61",
            b"%c3%bc",
            b"%ff",
            b"\xc3\xbc",
            b"\xff",
            b"?",
            b"#",
            b"%3f",
            b"a",
            b"~",
            b"+",
            b"%20",
            b"denied",
            b"public",
            b"\x7f",
            b"%0a",
        ]);
        let at = random.below(target.len() + 1);
        target.splice(at..at, piece.iter().copied());
    }
    if random.chance(if odd { 20 } else { 4 }) {
        let key = random.one(&[READER, ADMIN, EXPIRED, "kw_nobody", ""]);
        let name = random.one(&["k", "%6b", "K", "x"]);
        target.extend(format!("{}{name}={key}", if target.contains(&b'?') { "&" } else { "?" }).bytes());
    }
    let mut headers: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut header = |name: &str, value: &[u8]| headers.push((name.as_bytes().to_vec(), value.to_vec()));
    let host: &str = random.one(&[
        "api.example.com",
        "api.example.com",
        "api.example.com:443",
        "internal.example.com",
        "INTERNAL.example.com.:80",
        "x.corp.example.com",
        "corp.example.com",
        "[::1]:1",
        "internal.example.com..",
    ]);
    header("host", if odd { host.as_bytes() } else { b"api.example.com" });
    for _ in 0..[0, 1, 1, 1, 1, 2][random.below(6)] {
        let name: &str = random.one(&["x-api-key", "x-api-key", "x-api-key", "X-Api-Key", "x-api-keys", "x_api_key"]);
        let key: &[u8] = random.one(&[
            READER.as_bytes(),
            READER.as_bytes(),
            ADMIN.as_bytes(),
            ADMIN.as_bytes(),
            EXPIRED.as_bytes(),
            b"kw_nobody",
            b"",
            b"a b",
            b"\xff",
            b",",
            b"kw_nobody,kw_nobody2",
        ]);
        header(name, key);
    }
    if random.chance(if odd { 20 } else { 4 }) {
        let scheme = random.one(&["Bearer ", "bearer ", "Basic ", "", "Bearer"]);
        header("authorization", format!("{scheme}{}", random.one(&[READER, ADMIN, "kw_nobody"])).as_bytes());
    }
    if random.chance(if odd { 20 } else { 4 }) {
        let name = random.one(&["k", "K", "a=1; k", "kk"]);
        header("cookie", format!("{name}={}", random.one(&[READER, ADMIN, "", "x"])).as_bytes());
    }
    for _ in 0..[0, 0, 1, 1, 2][random.below(5)] {
        let media = random.one(&[
            "application/json",
            "APPLICATION/JSON; a=b",
            "multipart/form-data; boundary=x",
            "text/plain",
            "",
            "application/json,text/plain",
        ]);
        header("content-type", media.as_bytes());
    }
    if random.chance(15) {
        header("origin", b"https://app.example.com");
        header("access-control-request-method", random.one(&["GET", "POST", "DELETE", "GET,POST", "x y"]).as_bytes());
    }
    if random.chance(20) {
        let (name, value) = [
            ("x-api-key-id", "key_admin"),
            ("x-envoy-original-path", "/public"),
            ("x-forwarded-host", "public.example.com"),
            ("x-original-url", "/public"),
            ("x-http-method-override", "GET"),
            ("connection", "x-api-key"),
            ("x-envoy-decorator-operation", "x"),
        ][random.below(7)];
        header(name, value.as_bytes());
    }
    Sent { method: method.as_bytes().to_vec(), target, headers }
}

#[test]
fn no_generated_request_reaches_the_upstream_without_an_allowing_decision() {
    let seed = std::env::var("KEYWARD_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        now.subsec_nanos().into()
    });
    let requests = std::env::var("KEYWARD_REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(REQUESTS);
    println!("KEYWARD_SEED={seed} KEYWARD_REQUESTS={requests}");

    let upstream = Upstream::start();
    let plugin = plugin();
    let envoy = Envoy::start(&envoy_config::bootstrap(&[listener(&plugin, &upstream)], vec![]));
    let address = envoy.listener(LISTENER);
    let share = requests / THREADS;
    let threads: Vec<_> =
        (0..THREADS).map(|thread| std::thread::spawn(move || ask(address, seed, thread, share))).collect();
    let sent: Vec<Vec<Sent>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();

    let config = Config::parse(plugin.to_string().as_bytes()).unwrap();
    let received = upstream.take();
    for arrived in &received {
        let code = decided(&config, &arrived.method, &arrived.target, &arrived.headers);
        assert!(allows(&code), "{code}: {} {:?}", arrived.target(), show(&arrived.headers));
        let case = arrived.header(CASE);
        let (thread, number) = case[0].split_once('.').unwrap();
        let original = &sent[thread.parse::<usize>().unwrap()][number.parse::<usize>().unwrap()];
        let code = decided(&config, &original.method, &original.target, &without_hop_by_hop(&original.headers));
        assert!(
            allows(&code),
            "sent: {code}: {} {:?}",
            String::from_utf8_lossy(&original.target),
            show(&original.headers)
        );
    }
    let denied = requests - received.len();
    println!("{requests} requests: {} reached the upstream, {denied} did not", received.len());
    assert!(received.len() > requests / 20 && denied > requests / 4, "the generator says nothing");
}

fn ask(address: SocketAddr, seed: u64, thread: usize, share: usize) -> Vec<Sent> {
    let mut random = Random((seed ^ (thread as u64 + 1) << 32) | 1);
    let mut client = Client::connect(address).unwrap();
    let mut sent = Vec::new();
    for number in 0..share {
        let mut request = generate(&mut random);
        request.headers.push((CASE.into(), format!("{thread}.{number}").into_bytes()));
        let bytes = http1::encode(&request.method, &request.target, &request.headers, b"");
        let method = String::from_utf8_lossy(&request.method).into_owned();
        let answered = client.send(&bytes).and_then(|()| client.receive(&method));
        let open = answered.as_ref().is_ok_and(|response| response.header("connection") != Some("close"));
        if !open {
            client = Client::connect(address).unwrap();
        }
        sent.push(request);
    }
    sent
}

/// Without what `connection` names: Envoy drops that before any filter (RFC 9110, 7.6.1).
fn without_hop_by_hop(headers: &[(Vec<u8>, Vec<u8>)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let named = headers.iter().find(|(name, _)| name == b"connection").map(|(_, value)| value.as_slice());
    headers.iter().filter(|(name, _)| named.is_none_or(|named| !name.eq_ignore_ascii_case(named))).cloned().collect()
}

fn decided(config: &Config, method: &[u8], target: &[u8], headers: &[(Vec<u8>, Vec<u8>)]) -> String {
    let host = headers.iter().find(|(name, _)| name == b"host").map(|(_, value)| value.as_slice()).unwrap_or_default();
    let lower: Vec<(Vec<u8>, &[u8])> = headers
        .iter()
        .filter(|(name, _)| name != b"host")
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_slice()))
        .collect();
    let headers: Vec<(&[u8], &[u8])> = lower.iter().map(|(name, value)| (name.as_slice(), *value)).collect();
    let keys = Keys::Table(&config.manifest.as_ref().unwrap().keys);
    let policy = Policy { config, keys, route: RouteMetadata::Absent };
    let head = RequestHead { method, path: target, host, headers: &headers };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    decide(&policy, &head, Timestamp::from_unix_ms(now.as_millis() as i64)).code.to_string()
}

fn allows(code: &str) -> bool {
    code == "allowed" || code == "public"
}

fn show(headers: &[(Vec<u8>, Vec<u8>)]) -> Vec<String> {
    headers
        .iter()
        .map(|(name, value)| [name.escape_ascii().to_string(), value.escape_ascii().to_string()].join(": "))
        .collect()
}

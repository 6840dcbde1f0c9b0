//! `keyward verify` against stand-ins for a gateway and for Envoy's admin interface.

mod answers;
mod dump;
mod listeners;
mod own_rules;
mod reach;

use keyward_testbed::upstream::{Received, Upstream};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn http(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn denial(status: &str, code: &str) -> Vec<u8> {
    let body = json!({"type": format!("urn:keyward:{code}"), "title": "Denied", "status": 401, "code": code});
    http(status, "content-type: application/problem+json\r\n", &body.to_string())
}

/// Answers as the filter does without a valid key.
fn as_keyward(request: &Received) -> Vec<u8> {
    if request.target() == "/keyward/ready" {
        return http("200 OK", "content-type: application/json\r\n", r#"{"status":"ready"}"#);
    }
    let code = if request.header("x-api-key").is_empty() { "key_missing" } else { "key_unknown" };
    denial("401 Unauthorized", code)
}

/// Envoy's admin interface, with the counts of a filter that answers as [`as_keyward`].
#[derive(Clone, Default)]
struct Proxy {
    missing: Arc<AtomicU64>,
    unknown: Arc<AtomicU64>,
}

impl Proxy {
    fn gateway(&self) -> Upstream {
        let proxy = self.clone();
        Upstream::answering(move |request: &Received| {
            let has_key = !request.header("x-api-key").is_empty();
            if has_key { &proxy.unknown } else { &proxy.missing }.fetch_add(1, Ordering::Relaxed);
            as_keyward(request)
        })
    }

    /// The admin interface, with this dump.
    fn admin(&self, dump: &Value) -> Upstream {
        let (proxy, body) = (self.clone(), dump.to_string());
        Upstream::answering(move |request: &Received| {
            if !request.target().starts_with("/stats?") {
                return http("200 OK", "content-type: application/json\r\n", &body);
            }
            let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
            let start = "wasmcustom.keyward_decisions.outcome.deny.reason";
            let (missing, unknown) = (count(&proxy.missing), count(&proxy.unknown));
            http("200 OK", "", &format!("{start}.key_missing: {missing}\n{start}.key_unknown: {unknown}\n"))
        })
    }
}

/// Runs the command. Returns its exit code, and everything that it said.
fn verify(gateway: &Upstream, more: &[&str]) -> (i32, String) {
    let url = format!("http://{}", gateway.address());
    let output = Command::new(env!("CARGO_BIN_EXE_keyward")).args(["verify", &url]).args(more).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
}

fn plugin(more: Value) -> Value {
    let mut config = json!({"manifest": {"keys": []}, "rules": [{"path": "/a", "require": ["a:read"]}]});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

/// A file in a scratch folder, as an argument.
fn file(folder: &Path, name: &str, text: &str) -> String {
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

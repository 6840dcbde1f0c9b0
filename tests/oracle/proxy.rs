//! A real Envoy with one listener for each configuration, and an upstream that says what it saw.

use crate::setting::{Request, Setting, Verdict};
use keyward_testbed::envoy::{Envoy, Refused};
use keyward_testbed::envoy_config::{self, Encoding, Listener};
use keyward_testbed::http1::{self, Response};
use keyward_testbed::http2;
use keyward_testbed::upstream::Upstream;
use serde_json::{Value, json};
use std::net::SocketAddr;

const DECISION: &str = "x-oracle-decision";
const KEY: &str = "x-oracle-key";

/// A running Envoy.
pub struct Proxy {
    pub envoy: Envoy,
    pub upstream: Upstream,
    pub addresses: Vec<SocketAddr>,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The filter decided.
    Decided(Verdict),
    /// Envoy refused the request before the filter saw it.
    RefusedByEnvoy,
    /// Something that must not be.
    Wrong(String),
}

impl Proxy {
    /// Starts Envoy with a listener for each setting.
    pub fn start(settings: &[Setting]) -> Result<Self, Refused> {
        let upstream = Upstream::answering(|request| {
            let id = request.header("x-api-key-id").join("|");
            format!("HTTP/1.1 200 OK\r\nx-seen-id: {id}\r\ncontent-length: 7\r\n\r\nreached").into_bytes()
        });
        let listeners: Vec<Listener> = settings
            .iter()
            .enumerate()
            .map(|(number, setting)| {
                let encoding = if number % 2 == 0 { Encoding::Struct } else { Encoding::StringValue };
                let mut listener = Listener::new(&name(number), &setting.to_json(), encoding, upstream.address());
                tell_decisions(listener.connection_manager());
                listener
            })
            .collect();
        let envoy = Envoy::try_start(&envoy_config::bootstrap(&listeners, vec![]), 2)?;
        let addresses = (0..settings.len()).map(|number| envoy.listener(&name(number))).collect();
        Ok(Self { envoy, upstream, addresses })
    }
}

fn name(number: usize) -> String {
    format!("setting_{number}")
}

/// Every response carries the filter state, whether the upstream made it or a filter.
pub fn tell_decisions(manager: &mut Value) {
    let header = |name: &str, state: &str| {
        json!({"header": {"key": name, "value": format!("%FILTER_STATE(wasm.keyward.{state}:PLAIN)%")},
               "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"})
    };
    let headers = json!([header(DECISION, "decision"), header(KEY, "key_id")]);
    manager["route_config"]["response_headers_to_add"] = headers.clone();
    manager["local_reply_config"] = json!({"mappers": [{
        "filter": {"status_code_filter": {"comparison": {"op": "GE", "value": {"default_value": 100, "runtime_key": "none"}}}},
        "headers_to_add": headers,
    }]});
}

/// Connections to one listener, opened when they are needed.
pub struct Client {
    address: SocketAddr,
    http1: Option<http1::Client>,
    http2: Option<http2::Client>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, http1: None, http2: None }
    }

    pub fn ask(&mut self, request: &Request) -> Outcome {
        let response = if request.http2 { self.ask_http2(request) } else { self.ask_http1(request) };
        match response {
            Ok(Some(response)) => read(request, &response),
            Ok(None) => Outcome::RefusedByEnvoy,
            Err(error) => Outcome::Wrong(format!("no answer: {error}")),
        }
    }

    fn ask_http1(&mut self, request: &Request) -> std::io::Result<Option<Response>> {
        let mut client = match self.http1.take() {
            Some(client) => client,
            None => http1::Client::connect(self.address)?,
        };
        let mut headers = vec![(b"host".to_vec(), request.host.clone())];
        headers.extend(request.headers.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone())));
        client.send(&http1::encode(request.method.as_bytes(), &request.target, &headers, b""))?;
        let response = client.receive(&request.method)?;
        if response.header("connection") != Some("close") {
            self.http1 = Some(client);
        }
        Ok(Some(response))
    }

    fn ask_http2(&mut self, request: &Request) -> std::io::Result<Option<Response>> {
        let mut client = match self.http2.take() {
            Some(client) => client,
            None => http2::Client::connect(self.address)?,
        };
        let mut fields: Vec<(Vec<u8>, Vec<u8>)> = [
            (":method", request.method.as_bytes()),
            (":scheme", b"http"),
            (":path", &request.target),
            (":authority", &request.host),
        ]
        .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()))
        .to_vec();
        fields.extend(
            request.headers.iter().map(|(name, value)| (name.to_ascii_lowercase().into_bytes(), value.clone())),
        );
        match client.request(&fields, b"")? {
            http2::Answer::Response(response) => {
                self.http2 = Some(client);
                Ok(Some(response))
            }
            http2::Answer::Reset(_) | http2::Answer::Closed(_) => Ok(None),
        }
    }
}

fn read(request: &Request, response: &Response) -> Outcome {
    let decided =
        |name: &str| response.header(name).filter(|value| !value.is_empty() && *value != "-").map(str::to_owned);
    let reached = response.headers.iter().any(|(name, _)| name == "x-seen-id");
    let Some(code) = decided(DECISION) else {
        return if reached {
            Outcome::Wrong("it reached the upstream undecided".to_owned())
        } else {
            Outcome::RefusedByEnvoy
        };
    };
    let body = response.json();
    let missing =
        body["missing"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let verdict = Verdict { code, key: decided(KEY), missing };
    if reached != verdict.passes() {
        return Outcome::Wrong(format!("{verdict:?}, and yet reached the upstream: {reached}"));
    }
    if !reached && request.method != "HEAD" && body["code"] != verdict.code {
        return Outcome::Wrong(format!("{verdict:?}, and yet the client is told {body}"));
    }
    let seen = response.header("x-seen-id").unwrap_or_default();
    let told = if verdict.code == "allowed" { verdict.key.as_deref().unwrap_or("nothing") } else { "" };
    if reached && seen != told {
        return Outcome::Wrong(format!("{verdict:?}, and yet the upstream is told `{seen}`"));
    }
    Outcome::Decided(verdict)
}

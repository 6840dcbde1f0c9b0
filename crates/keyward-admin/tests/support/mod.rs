//! The real service as a process, clients for people and for filters, and a memory of everything it ever said.

#![allow(dead_code, reason = "each test binary uses a part")]

use keyward_testbed::service::{self, Setup};
use keyward_testbed::{wait, workspace};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use ureq::http::{HeaderMap, Method, Request};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) use service::{ADMIN_TOKEN as ADMIN, EDGE_TOKEN as EDGE};

/// What was said: every response body, header and line of output.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    pub(crate) fn add(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// How a service is started.
#[derive(Clone)]
pub(crate) struct Start(Setup);

impl Start {
    /// On SQLite in `folder`, with a token of each role, and with every line of the log.
    pub(crate) fn new(folder: &Path) -> Self {
        Self(Setup::of(env!("CARGO_BIN_EXE_keyward"), folder).with("KEYWARD_LOG", "trace"))
    }

    pub(crate) fn with(self, name: &str, value: &str) -> Self {
        Self(self.0.with(name, value))
    }

    pub(crate) fn without(self, name: &str) -> Self {
        Self(self.0.without(name))
    }

    /// A `keyward` command with the same environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.0.command(args)
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.0.run(args)
    }

    /// Starts the service and waits until it is ready.
    pub(crate) fn serve(&self) -> Service {
        let process = self.0.serve();
        Service { url: process.url().to_owned(), process, heard: Heard::default() }
    }
}

/// A running service; killed with the value.
pub(crate) struct Service {
    pub(crate) process: service::Service,
    pub(crate) url: String,
    pub(crate) heard: Heard,
}

impl Service {
    pub(crate) fn client(&self, token: &str) -> Client {
        Client::new(&self.url, token, self.heard.clone())
    }

    pub(crate) fn admin(&self) -> Client {
        self.client(ADMIN)
    }

    pub(crate) fn edge(&self) -> Client {
        self.client(EDGE)
    }

    /// A filter instance in front of this service.
    pub(crate) fn vm(&self, name: &str) -> Vm {
        Vm {
            client: self.edge(),
            node: "envoy-1".to_owned(),
            name: name.to_owned(),
            max_staleness: "1h".to_owned(),
            mode: "enforce".to_owned(),
            inline_keys: "none".to_owned(),
            marks: Arc::default(),
        }
    }

    /// The memory of the process: now (`VmRSS`), or at most so far (`VmHWM`).
    pub(crate) fn memory_kib(&self, field: &str) -> u64 {
        keyward_testbed::process::memory_bytes(self.process.pid(), field).unwrap() >> 10
    }

    pub(crate) fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// The body of a success.
    #[track_caller]
    pub(crate) fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }

    /// The body of a problem, once its shape is checked.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        let body = self.json();
        assert_eq!((self.status, body["code"].as_str()), (status, Some(code)), "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.headers["cache-control"], "no-store");
        assert_eq!(body["type"], format!("urn:keyward:{code}"));
        assert_eq!(body["status"], status);
        assert!(body["title"].is_string() && body["detail"].is_string(), "{}", self.text);
        assert_eq!(self.headers.contains_key("www-authenticate"), status == 401);
        body
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Someone who calls the service.
#[derive(Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    base: String,
    authorization: Option<String>,
    heard: Heard,
}

impl Client {
    pub(crate) fn new(base: &str, token: &str, heard: Heard) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .allow_non_standard_methods(true);
        let authorization = (!token.is_empty()).then(|| format!("Bearer {token}"));
        Self { agent: config.build().new_agent(), base: base.to_owned(), authorization, heard }
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.try_send(method, path, headers, body).expect("the service answers")
    }

    pub(crate) fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply, ureq::Error> {
        let method: Method = method.parse().unwrap();
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = if body.is_empty() {
            self.agent.run(request.body(()).unwrap())?
        } else {
            self.agent.run(request.body(body).unwrap())?
        };
        let text = response.body_mut().with_config().limit(256 << 20).read_to_string()?;
        let headers = response.headers().clone();
        self.heard.add(format!("{headers:?}"));
        self.heard.add(text.clone());
        Ok(Reply { status: response.status().as_u16(), headers, text })
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Reply {
        self.send("PATCH", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    pub(crate) fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, &[], b"")
    }

    /// Makes a key with one permission; its representation with the plaintext.
    pub(crate) fn make(&self, name: &str) -> Value {
        self.post("/v1/keys", &serde_json::json!({ "name": name, "permissions": ["records:read"] })).ok(201)
    }
}

/// A filter instance.
#[derive(Clone)]
pub(crate) struct Vm {
    pub(crate) client: Client,
    pub(crate) node: String,
    pub(crate) name: String,
    pub(crate) max_staleness: String,
    pub(crate) mode: String,
    pub(crate) inline_keys: String,
    /// The marks of the revisions that it was at.
    pub(crate) marks: Arc<Mutex<HashMap<u64, String>>>,
}

impl Vm {
    pub(crate) fn try_poll(&self, since: u64, base: u64, wait: &str) -> Result<Reply, ureq::Error> {
        let mut headers = vec![
            ("x-keyward-node", self.node.as_str()),
            ("x-keyward-vm", &self.name),
            ("x-keyward-filter", "0.1.0"),
            ("x-keyward-realm", "default"),
            ("x-keyward-max-staleness", &self.max_staleness),
        ];
        let mut path = format!("/v1/manifest?since={since}&base={base}&wait={wait}");
        let known = self.marks.lock().unwrap().clone();
        let table = format!("table of {}", self.name);
        // One that asks from a revision that it never had speaks as older filters do.
        if since == 0 || !known.is_empty() {
            headers.extend([("x-keyward-mode", self.mode.as_str()), ("x-keyward-inline-keys", &self.inline_keys)]);
            headers.push(("x-keyward-table", &table));
            if let Some(mark) = known.get(&since).filter(|_| since == base) {
                path.push_str(&format!("&mark={mark}"));
            }
        }
        let reply = self.client.try_send("GET", &path, &headers, b"");
        if let Ok(reply) = &reply
            && reply.status == 200
            && let page = reply.json()
            && let (Some(revision), Some(mark)) = (page["revision"].as_u64(), page["mark"].as_str())
        {
            self.marks.lock().unwrap().insert(revision, mark.to_owned());
        }
        reply
    }

    pub(crate) fn poll(&self, since: u64, base: u64, wait: &str) -> Reply {
        self.try_poll(since, base, wait).expect("the service answers")
    }

    /// Loads all there is and gives the revision it is at; the next poll acknowledges it.
    pub(crate) fn load(&self) -> u64 {
        let (mut since, mut base) = (0, 0);
        loop {
            let page = self.poll(since, base, "0s").ok(200);
            since = page["revision"].as_u64().unwrap();
            base = page["head"].as_u64().unwrap();
            if page["more"] == false {
                return since;
            }
        }
    }

    /// Follows the service until told to stop or cut off, acknowledging everything, as a filter does.
    pub(crate) fn follow(&self) -> Following {
        let vm = self.clone();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut since = 0;
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                match vm.try_poll(since, since, "500ms") {
                    Ok(reply) if reply.status == 200 => since = reply.json()["revision"].as_u64().unwrap(),
                    Ok(reply) if reply.status == 410 => since = 0,
                    _ => std::thread::sleep(Duration::from_millis(50)),
                }
            }
        });
        Following { stop, thread: Some(thread) }
    }
}

/// An instance that follows; it stops asking with the value.
pub(crate) struct Following {
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A new folder and a service in it.
pub(crate) fn service() -> (tempfile::TempDir, Service) {
    let folder = workspace::scratch("admin");
    let service = Start::new(folder.path()).serve();
    (folder, service)
}

/// How many instances the service counts as in contact and as unreachable.
pub(crate) fn states(client: &Client) -> (usize, usize) {
    let body = client.get("/v1/proxies").ok(200);
    let of = |state: &str| {
        let vms = body["nodes"].as_array().unwrap().iter().flat_map(|node| node["vms"].as_array().unwrap());
        vms.filter(|vm| vm["state"] == state).count()
    };
    (of("in_contact"), of("unreachable"))
}

/// Waits until that many instances are in contact and unreachable.
pub(crate) fn wait_for_states(client: &Client, wanted: (usize, usize)) {
    let mut last = (0, 0);
    wait::until(&format!("{wanted:?} instances in contact and unreachable"), PATIENCE, || {
        last = states(client);
        (last == wanted).then_some(())
    });
}

//! What stands around a gateway: the admin service, the protected application, another one, and the registry.

use crate::registry::{Registry, manifest_digest};
use keyward_testbed::http1::{self, Response};
use keyward_testbed::service::{Service, Setup};
use keyward_testbed::upstream::{Received, Upstream};
use keyward_testbed::{wait, workspace};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The protected host in the shipped files.
pub const HOST: &str = "records.example.com";
/// A host of somebody else on the same gateway.
pub const OTHER_HOST: &str = "other.example.com";
/// A path that takes the permission `records:read`.
pub const RECORDS: &str = "/api/collections/posts/records";
/// How long a change may take until every worker has it.
const PATIENCE: Duration = Duration::from_secs(90);
/// The kernel spreads connections over the workers by their ports: enough that each of two is asked.
const BOTH_WORKERS: usize = 16;

/// A request header that names how long the application keeps quiet on a stream.
const SILENCE_SECONDS: &str = "silence-seconds";
/// The limits of the shipped `realtime.yaml` end a stream at 300 s: just before, it has to be open.
const LONG_SILENCE: Duration = Duration::from_secs(290);

/// Two workers and the main thread.
const VMS: usize = 3;

/// The parts around a gateway. Each ends with the value.
pub struct Stage {
    pub service: Service,
    pub records: Upstream,
    pub other: Upstream,
    pub registry: Registry,
    _folder: workspace::TempDir,
}

impl Stage {
    /// `silence` is how long the application keeps quiet on a stream.
    pub fn start(silence: Duration) -> Self {
        let folder = workspace::scratch("stage");
        let service = Setup::new(folder.path()).serve();
        let records = Upstream::answering(move |request: &Received| {
            if request.target() == "/api/realtime" {
                let named = request.header(SILENCE_SECONDS).first().and_then(|seconds| seconds.parse().ok());
                std::thread::sleep(named.map_or(silence, Duration::from_secs));
            }
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 7\r\n\r\nrecords".to_vec()
        });
        let other = Upstream::answering(|_: &Received| {
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nother".to_vec()
        });
        let registry = Registry::start(vec![image(), failpoint_image()]);
        Self { service, records, other, registry, _folder: folder }
    }

    /// Makes a key that may read records: its id and its plaintext.
    pub fn create_key(&self, name: &str) -> (String, String) {
        self.service.admin().unwrap().create(name).unwrap()
    }

    /// A keyless request is answered by the filter, in every worker.
    pub fn assert_keyless_is_refused(&self, gateway: Door) {
        wait_for_all("401 key_missing from every worker", || {
            let response = ask(gateway, HOST, RECORDS, &[])?;
            (response.status == 401 && response.json()["code"] == "key_missing").then_some(())
        });
    }

    /// A key passes in every worker; the application is told whose it is and does not see it.
    ///
    /// The filter has to answer first: until the files have arrived at the proxy, a request passes as it is.
    pub fn assert_key_passes(&self, gateway: Door, id: &str, key: &str) {
        self.assert_keyless_is_refused(gateway);
        wait_for_all("200 from every worker", || {
            self.records.take();
            let spoofed = [("x-api-key", key), ("x-api-key-id", "somebody-else")];
            let response = ask(gateway, HOST, RECORDS, &spoofed)?;
            if response.status != 200 {
                return None;
            }
            let received = self.records.take();
            let request = received.first().unwrap();
            assert_eq!(request.header("x-api-key-id"), [id], "the identity");
            assert!(request.header("x-api-key").is_empty(), "the key reached the application");
            Some(())
        });
    }

    /// After the receipt of its deletion a key is refused by every worker, without waiting.
    pub fn assert_deletion_holds(&self, gateway: Door, id: &str, key: &str) {
        let (_, receipt) =
            self.service.admin().unwrap().send("DELETE", &format!("/v1/keys/{id}?wait=10s"), "").unwrap();
        for _ in 0..BOTH_WORKERS {
            let response = ask(gateway, HOST, RECORDS, &[("x-api-key", key)]).unwrap();
            assert_eq!((response.status, response.json()["code"].as_str()), (401, Some("key_unknown")), "{receipt}");
        }
    }

    /// Every VM polls, that of the main thread among them.
    pub fn assert_every_vm_polls(&self) {
        wait::until("every VM polls", PATIENCE, || (self.service.vms_up_to_date().unwrap() >= VMS).then_some(()));
    }

    /// Every VM of the proxy whose id holds this text polls, that of the main thread among them.
    pub fn assert_every_vm_of_node_polls(&self, id: &str) {
        wait::until("every VM of the proxy polls", PATIENCE, || {
            let proxies = self.service.admin().ok()?.get("/v1/proxies").ok()?;
            let node = proxies["nodes"].as_array()?.iter().find(|node| node.to_string().contains(id))?.clone();
            let fresh = node["vms"].as_array()?.iter().filter(|vm| vm["lag"] == 0).count();
            (fresh >= VMS).then_some(())
        });
    }

    /// A stream on which nothing moves for nearly the limit of the shipped `realtime.yaml` is answered in the end.
    pub fn assert_long_silence_stays_open(&self, gateway: Door, key: &str) {
        let seconds = LONG_SILENCE.as_secs();
        let mut client = http1::Client::connect(SocketAddr::from(([127, 0, 0, 1], gateway.port))).unwrap();
        client.set_patience(LONG_SILENCE * 2).unwrap();
        let began = Instant::now();
        let request = format!(
            "GET /api/realtime HTTP/1.1\r\nhost: {HOST}\r\nx-api-key: {key}\r\n{SILENCE_SECONDS}: {seconds}\r\n\r\n"
        );
        client.send(request.as_bytes()).unwrap();
        assert_eq!(client.receive("GET").unwrap().status, 200);
        assert!(began.elapsed() >= LONG_SILENCE, "the application was silent for {:?} alone", began.elapsed());
    }

    /// Waits until both workers answer with this status.
    pub fn wait_for_status(&self, gateway: Door, key: Option<&str>, status: u16) {
        let headers: Vec<_> = key.map(|key| ("x-api-key", key)).into_iter().collect();
        wait_for_all(&format!("{status} from every worker"), || {
            (ask(gateway, HOST, RECORDS, &headers)?.status == status).then_some(())
        });
    }

    /// For a time, whatever is asked, nothing reaches the application.
    pub fn assert_nothing_passes(&self, gateway: Door, key: Option<&str>, rounds: usize) {
        let headers: Vec<_> = key.map(|key| ("x-api-key", key)).into_iter().collect();
        for _ in 0..rounds {
            if let Some(response) = ask(gateway, HOST, RECORDS, &headers) {
                assert_ne!(response.status, 200, "it passed: {}", response.text());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A listener of a gateway, on loopback.
#[derive(Debug, Clone, Copy)]
pub struct Door {
    /// The port.
    pub port: u16,
    /// Whether it speaks TLS.
    pub tls: bool,
}

impl Door {
    /// A listener without TLS.
    pub fn plain(port: u16) -> Self {
        Self { port, tls: false }
    }

    /// A listener with TLS.
    pub fn tls(port: u16) -> Self {
        Self { port, tls: true }
    }
}

/// A request to a host. `None` when the gateway does not answer.
pub fn ask(gateway: Door, host: &str, target: &str, headers: &[(&str, &str)]) -> Option<Response> {
    let headers: Vec<_> = [("host", host)].into_iter().chain(headers.iter().copied()).collect();
    if gateway.tls {
        return ask_by_tls(gateway.port, host, target, &headers);
    }
    http1::get(SocketAddr::from(([127, 0, 0, 1], gateway.port)), target, &headers).ok()
}

/// The same by TLS, whoever signed the certificate.
fn ask_by_tls(port: u16, host: &str, target: &str, headers: &[(&str, &str)]) -> Option<Response> {
    let mut request = format!("GET {target} HTTP/1.1\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{port}"), "-servername", host])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    if let Some(input) = client.stdin.as_mut() {
        // A client that could not connect has gone, and what it wrote says so.
        let _ = input.write_all(request.as_bytes());
    }
    let output = client.wait_with_output().unwrap().stdout;
    let at = output.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = output.split_at(at);
    let status = std::str::from_utf8(head).ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(Response { status, headers: Vec::new(), body: body.get(4..)?.to_vec() })
}

/// Waits until `condition` holds for as many connections in a row as it takes to meet both workers.
pub fn wait_for_all(what: &str, mut condition: impl FnMut() -> Option<()>) {
    let mut in_a_row = 0;
    wait::until(what, PATIENCE, || {
        in_a_row = if condition().is_some() { in_a_row + 1 } else { 0 };
        (in_a_row == BOTH_WORKERS).then_some(())
    });
}

/// The image of the module that is shipped.
pub fn image() -> PathBuf {
    workspace::root().join("target/dist/image")
}

/// The image of the module that crashes when a test asks for it.
pub fn failpoint_image() -> PathBuf {
    workspace::root().join("target/control-planes/failpoint-image")
}

/// The digest of the shipped image's manifest.
pub fn digest() -> String {
    manifest_digest(&image())
}

/// The same of the image that crashes.
pub fn failpoint_digest() -> String {
    manifest_digest(&failpoint_image())
}

//! The recipes about the link between the proxy and the admin service: TLS, mutual TLS, another edge token.

use super::{RECORDS, blocks};
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::Shipped;
use keyward_testbed::service::{EDGE_TOKEN, Service, Setup};
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{http1, wait, workspace};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
/// The name that the recipe wants in the service's certificate.
const NAME: &str = "keyward.internal";
/// The folder that the recipes name.
const FOLDER: &str = "/etc/envoy/keyward";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // A certificate that has the name of its authority passes for one that signed itself.
    params.distinguished_name.push(DnType::CommonName, "authority");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes a certificate and its key, each in one step as the recipe asks.
fn write_certificate(folder: &Path, name: &str, authority: &Authority, names: &[&str]) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, authority).unwrap();
    for (ending, text) in [("key", key.serialize_pem()), ("crt", certificate.pem())] {
        workspace::replace(&folder.join(format!("{name}.{ending}")), &text);
    }
}

/// Returns a block of a recipe with this test's folder in place of the one that is printed.
fn block(recipe: &str, number: usize, folder: &Path) -> Value {
    let text = blocks(recipe)[number].to_string();
    let text = text.replace("/etc/envoy/keyward-client.yaml", &folder.join("keyward-client.json").to_string_lossy());
    serde_json::from_str(&text.replace(FOLDER, &folder.to_string_lossy())).unwrap()
}

/// A service with TLS in a folder that also holds what Envoy reads.
struct Link {
    folder: workspace::TempDir,
    setup: Setup,
    service: Service,
    upstream: Upstream,
}

impl Link {
    /// Starts a service whose certificate has these names, and which asks for client certificates of an authority, if any.
    fn start(servers: &Authority, names: &[&str], clients: Option<&Authority>) -> Self {
        let folder = workspace::scratch("admin-link");
        write_certificate(folder.path(), "server", servers, names);
        fs::write(folder.path().join("ca.crt"), servers.pem()).unwrap();
        let mut setup = Setup::new(folder.path())
            .with("KEYWARD_TLS_CERT", "server.crt")
            .with("KEYWARD_TLS_KEY", "server.key")
            .with("KEYWARD_CA", "ca.crt");
        if let Some(clients) = clients {
            fs::write(folder.path().join("clients.crt"), clients.pem()).unwrap();
            write_certificate(folder.path(), "person", clients, &["person"]);
            setup = setup
                .with("KEYWARD_TLS_CLIENT_CA", "clients.crt")
                .with("KEYWARD_CLIENT_CERT", "person.crt")
                .with("KEYWARD_CLIENT_KEY", "person.key");
        }
        let service = setup.serve();
        let setup = setup.with("KEYWARD_URL", service.url());
        Self { folder, setup, service, upstream: Upstream::start() }
    }

    /// Makes a key.
    fn key(&self, name: &str) -> String {
        let made = text(&self.setup.run(&["key", "create", name, "--permissions", "records:read", "--json"]));
        let made: Value = serde_json::from_str(&made).unwrap();
        made["key"].as_str().unwrap().to_owned()
    }

    /// Starts the shipped Envoy with a transport socket to the service.
    fn envoy(&self, socket: &Value) -> Envoy {
        let folder = self.folder.path();
        let mut shipped = Shipped::new(self.upstream.address()).with_admin(self.service.address(), EDGE_TOKEN, folder);
        shipped.cluster("keyward_admin")["transport_socket"] = socket["transport_socket"].clone();
        Envoy::start(&shipped.build())
    }
}

/// Returns what a command wrote.
fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn status(envoy: &Envoy, key: &str) -> u16 {
    http1::get(envoy.listener("databases_api"), RECORDS, &[("x-api-key", key)]).unwrap().status
}

/// Waits until every worker accepts the key.
fn wait_for(envoy: &Envoy, key: &str) {
    let mut in_a_row = 0;
    wait::until("every worker accepts the key", PATIENCE, || {
        in_a_row = if status(envoy, key) == 200 { in_a_row + 1 } else { 0 };
        (in_a_row == 16).then_some(())
    });
}

#[test]
fn keys_come_by_tls_from_the_named_service_alone() {
    let servers = authority();
    let recipe = "TLS to the admin service";
    let link = Link::start(&servers, &[NAME, "127.0.0.1"], None);
    let key = link.key("by TLS");
    wait_for(&link.envoy(&block(recipe, 0, link.folder.path())), &key);

    // Another server of the same authority, and a server of another authority, give no keys.
    for (name, authority, counter) in [
        ("other.internal", &servers, "cluster.keyward_admin.ssl.fail_verify_san"),
        (NAME, &authority(), "cluster.keyward_admin.ssl.fail_verify_error"),
    ] {
        let link = Link::start(authority, &[name, "127.0.0.1"], None);
        let key = link.key("not by TLS");
        fs::write(link.folder.path().join("ca.crt"), servers.pem()).unwrap();
        let envoy = link.envoy(&block(recipe, 0, link.folder.path()));
        wait::until("Envoy refuses the certificate", PATIENCE, || (envoy.stat(counter) > 0).then_some(()));
        assert_eq!(status(&envoy, &key), 503, "{name}: {counter}");
    }
}

#[test]
fn a_client_certificate_is_shown_and_read_again_when_it_changes() {
    let (servers, clients) = (authority(), authority());
    let link = Link::start(&servers, &[NAME, "127.0.0.1"], Some(&clients));
    let folder = link.folder.path();
    let key = link.key("by mutual TLS");
    let mut socket = block("TLS to the admin service", 0, folder);
    let shown = block("Mutual TLS to the admin service", 0, folder);
    let context = socket.pointer_mut("/transport_socket/typed_config/common_tls_context").unwrap();
    context.as_object_mut().unwrap().extend(shown.as_object().unwrap().clone());
    let secret = block("Mutual TLS to the admin service", 1, folder);
    fs::write(folder.join("keyward-client.json"), secret.to_string()).unwrap();

    // A certificate of another authority is not enough.
    write_certificate(folder, "client", &servers, &["edge"]);
    let envoy = link.envoy(&socket);
    wait::until("a poll fails", PATIENCE, || envoy.prometheus().contains("keyward_sync_failures{").then_some(()));
    assert_eq!(status(&envoy, &key), 503);
    write_certificate(folder, "client", &clients, &["edge"]);
    wait_for(&envoy, &key);
}

#[test]
fn another_edge_token_takes_the_place_of_one_that_is_revoked() {
    let folder = workspace::scratch("edge-token");
    // The service knows no token from its environment, so that both tokens can be revoked.
    let setup = Setup::new(folder.path()).without("KEYWARD_EDGE_TOKEN");
    let service = setup.serve();
    let create = |name: &str| {
        let made = text(&setup.run(&["token", "create", name, "--role", "edge", "--json"]));
        serde_json::from_str::<Value>(&made).unwrap()["token"].as_str().unwrap().to_owned()
    };
    let (old, new) = (create("edge-2025"), create("edge-2026"));
    let upstream = Upstream::start();
    // The file is the shipped `deploy/envoy/edge-token.yaml` with other paths.
    let shipped = fs::read_to_string(workspace::root().join("deploy/envoy/edge-token.yaml")).unwrap();
    assert!(shipped.contains("filename: target/up/edge-token\n"));
    let edge = folder.path().join("edge");
    fs::create_dir(&edge).unwrap();
    let mut envoy = Shipped::new(upstream.address()).with_admin(service.address(), &old, &edge);
    let source = "/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions/http_filters/0\
                  /typed_config/credential/typed_config/credential/sds_config/path_config_source/path";
    let file = edge.join("edge-token.yaml");
    fs::write(&file, shipped.replace("target/up", &edge.to_string_lossy())).unwrap();
    *envoy.cluster("keyward_admin").pointer_mut(source).unwrap() = json!(file);
    let envoy = Envoy::start(&envoy.build());
    let key = |name: &str| service.admin().unwrap().create(name).unwrap().1;
    wait_for(&envoy, &key("before"));

    let before = fs::read_to_string(edge.join("edge-token")).unwrap();
    workspace::replace(&edge.join("edge-token"), &before.replace(&old, &new));
    text(&setup.run(&["token", "revoke", "edge-2025"]));
    // Only polls with the new token learn of this key.
    wait_for(&envoy, &key("after"));
    let tokens = text(&setup.run(&["token", "list", "--json"]));
    assert!(tokens.contains("edge-2026"), "{tokens}");
}

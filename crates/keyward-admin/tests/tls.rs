//! TLS: served, required of clients where configured, and read again when the files change.

mod support;

use keyward_testbed::{wait, workspace};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::Path;
use support::{ADMIN, PATIENCE, Start};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key, PEM.
fn certificate(authority: &CertifiedIssuer<'static, KeyPair>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

/// The status that a client gets which trusts `authority`; none: no connection.
fn status(url: &str, authority: &str, client: Option<&(String, String)>) -> Option<u16> {
    let root = Certificate::from_pem(authority.as_bytes()).unwrap();
    let mut tls = TlsConfig::builder().root_certs(RootCerts::from([root]));
    if let Some((cert, key)) = client {
        let chain = [Certificate::from_pem(cert.as_bytes()).unwrap()];
        tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, PrivateKey::from_pem(key.as_bytes()).unwrap())));
    }
    let config = ureq::Agent::config_builder().http_status_as_error(false).tls_config(tls.build()).build();
    let request = config.new_agent().get(format!("{url}/v1/keys")).header("authorization", format!("Bearer {ADMIN}"));
    request.call().ok().map(|response| response.status().as_u16())
}

fn write(folder: &Path, (cert, key): &(String, String)) {
    std::fs::write(folder.join("cert.pem"), cert).unwrap();
    std::fs::write(folder.join("key.pem"), key).unwrap();
}

#[test]
fn certificates_are_read_again_when_they_change() {
    let folder = workspace::scratch("admin");
    let (old, new) = (authority(), authority());
    write(folder.path(), &certificate(&old));
    let start = Start::new(folder.path()).with("KEYWARD_TLS_CERT", "cert.pem").with("KEYWARD_TLS_KEY", "key.pem");
    let service = start.serve();
    assert!(service.url.starts_with("https://"));
    // The check of a container's health asks the same address, and needs no authority.
    let (_, address) = service.url.split_once("://").unwrap();
    assert!(start.clone().with("KEYWARD_LISTEN", address).run(&["health"]).status.success());
    assert_eq!(status(&service.url, &old.pem(), None), Some(200));
    assert_eq!(status(&service.url, &new.pem(), None), None);

    // Half a change, or a broken one, leaves the old certificate in use.
    std::fs::write(folder.path().join("cert.pem"), "nonsense").unwrap();
    wait::until("the trouble is logged", PATIENCE, || service.log().contains("cannot be used").then_some(()));
    assert_eq!(status(&service.url, &old.pem(), None), Some(200));
    write(folder.path(), &certificate(&new));
    wait::until("the new certificate is used", PATIENCE, || {
        (status(&service.url, &new.pem(), None) == Some(200)).then_some(())
    });
    assert_eq!(status(&service.url, &old.pem(), None), None);

    // The command trusts an authority of its own, too.
    std::fs::write(folder.path().join("ca.pem"), new.pem()).unwrap();
    let cli = Start::new(folder.path()).with("KEYWARD_URL", &service.url).with("KEYWARD_CA", "ca.pem");
    assert!(cli.run(&["key", "list"]).status.success());
    assert_eq!(cli.without("KEYWARD_CA").run(&["key", "list"]).status.code(), Some(1));
}

#[test]
fn clients_without_a_certificate_are_not_served_where_one_is_asked_for() {
    let folder = workspace::scratch("admin");
    let (servers, clients) = (authority(), authority());
    write(folder.path(), &certificate(&servers));
    std::fs::write(folder.path().join("clients.pem"), clients.pem()).unwrap();
    let start = Start::new(folder.path())
        .with("KEYWARD_TLS_CERT", "cert.pem")
        .with("KEYWARD_TLS_KEY", "key.pem")
        .with("KEYWARD_TLS_CLIENT_CA", "clients.pem");
    let service = start.serve();
    let ca = servers.pem();
    assert_eq!(status(&service.url, &ca, Some(&certificate(&clients))), Some(200));
    assert_eq!(status(&service.url, &ca, Some(&certificate(&servers))), None);
    assert_eq!(status(&service.url, &ca, None), None);
    let (_, address) = service.url.split_once("://").unwrap();
    assert!(start.clone().with("KEYWARD_LISTEN", address).run(&["health"]).status.success());

    // The command has one to show, too.
    let (cert, key) = certificate(&clients);
    for (name, text) in [("ca.pem", ca), ("mine.pem", cert), ("mine-key.pem", key)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let cli = Start::new(folder.path()).with("KEYWARD_URL", &service.url).with("KEYWARD_CA", "ca.pem");
    assert_eq!(cli.run(&["key", "list"]).status.code(), Some(1));
    let cli = cli.with("KEYWARD_CLIENT_CERT", "mine.pem");
    assert_eq!(cli.run(&["key", "list"]).status.code(), Some(3));
    let cli = cli.with("KEYWARD_CLIENT_KEY", "mine-key.pem");
    let output = cli.run(&["key", "list"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

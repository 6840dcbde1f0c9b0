//! Addresses that cannot be asked, with real servers.

use crate::{as_keyward, denial, file, http, verify};
use keyward_testbed::upstream::{Answer, Upstream};
use keyward_testbed::workspace;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;

/// A name, the URL, further arguments, the exit code, and what is said.
type Case<'a> = (&'a str, String, &'a [&'a str], i32, &'a [&'a str]);

/// A server that shows this certificate, and answers as Keyward does.
fn tls(certificate: &rcgen::Certificate, key: &KeyPair) -> SocketAddr {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let (listener, config) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(config));
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = rustls::StreamOwned::new(rustls::ServerConnection::new(config.clone()).unwrap(), stream);
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                head.push(byte[0]);
            }
            let has_key = String::from_utf8_lossy(&head).to_ascii_lowercase().contains("x-api-key:");
            let code = if has_key { "key_unknown" } else { "key_missing" };
            let answer = denial("401 Unauthorized\r\nconnection: close", code);
            let _ = stream.write_all(&answer).and_then(|()| stream.flush());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    address
}

#[test]
fn an_address_that_cannot_be_asked_is_explained() {
    let folder = workspace::scratch("verify");
    let authority = {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let ca = file(folder.path(), "ca.pem", &authority.pem());
    let served = |name: &str, change: &dyn Fn(&mut CertificateParams)| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        tls(&params.signed_by(&key, &authority).unwrap(), &key)
    };
    let good = served("localhost", &|_| {}).port();
    let elsewhere = served("api.example.com", &|_| {}).port();
    let expired = served("localhost", &|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)).port();
    let by_itself = {
        let key = KeyPair::generate().unwrap();
        tls(&CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap(), &key).port()
    };
    // Envoy takes the first bytes of a handshake for a bad request.
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain_address = plain.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in plain.incoming().flatten() {
            let _ = stream.read(&mut [0; 16_384]);
            let _ = stream.write_all(&http("400 Bad Request", "connection: close\r\n", ""));
        }
    });
    let closing = Upstream::answering(|_| Answer::None);
    let garbage = Upstream::answering(|_| b"\x00\x01\x02\x03 what\r\n\r\n".to_vec());
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let ca = ["--ca", &ca];
    let cases: [Case<'_>; 11] = [
        ("trusted", format!("https://localhost:{good}"), &ca, 0, &["✓ no key"]),
        (
            "not trusted",
            format!("https://localhost:{good}"),
            &[],
            1,
            &["an authority that is not trusted", "--ca FILE"],
        ),
        ("signed by itself", format!("https://localhost:{by_itself}"), &ca, 1, &["not trusted", "signed by itself"]),
        ("another name", format!("https://localhost:{elsewhere}"), &ca, 1, &["for another name", "api.example.com"]),
        ("expired", format!("https://localhost:{expired}"), &ca, 1, &["the certificate has expired", "renew it"]),
        ("TLS to a plain port", format!("https://{plain_address}"), &[], 1, &["does not speak TLS", "use http://"]),
        ("plain to a TLS port", format!("http://127.0.0.1:{good}"), &[], 1, &["if it is a port for TLS, use https://"]),
        ("refused", format!("http://127.0.0.1:{refused}"), &[], 1, &["the connection was refused", "on which port"]),
        ("no such name", "http://no-such-name.invalid".to_owned(), &[], 1, &["does not resolve", "typing error"]),
        ("closed", format!("http://{}", closing.address()), &[], 1, &["the connection was closed before an answer"]),
        ("no HTTP", format!("http://{}", garbage.address()), &[], 1, &["does not speak HTTP/1.1"]),
    ];
    for (name, url, more, exit, says) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        let output = command.args(["verify", &url, "--path", "/a"]).args(more).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let is_said = says.iter().all(|text| said.contains(text)) && (exit == 0 || said.contains(&url));
        assert!(output.status.code() == Some(exit) && is_said, "{name}: {said}");
    }
    // The gateway is no admin interface, and neither is any other page.
    let gateway = Upstream::answering(as_keyward);
    for (answer, status) in
        [(http("200 OK", "", "{}"), 200), (http("200 OK", "", "<html>"), 200), (denial("401 U", "key_missing"), 401)]
    {
        let admin = Upstream::answering(move |_| answer.clone());
        let url = format!("http://{}", admin.address());
        let (code, said) = verify(&gateway, &["--path", "/a", "--envoy-admin", &url]);
        let says = format!("{url}/config_dump?include_eds answers {status} without Envoy's configuration");
        assert!(code == 1 && said.contains(&says) && said.contains("kubectl port-forward"), "{code}: {said}");
    }
}

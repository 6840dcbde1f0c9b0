//! A proxy that is cut off without a word: the network between it and the service swallows everything, and nobody is
//! told. Such a network is made of the loopback of a network namespace, which is switched off.

mod support;

use keyward_testbed::{wait, workspace};
use serde_json::json;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;
use support::{EDGE, PATIENCE, Start, states, wait_for_states};

/// Says that this process is the one within the namespace.
const INSIDE: &str = "CUT_OFF_INSIDE";

fn loopback(state: &str) {
    let done = Command::new("ip").args(["link", "set", "lo", state]).status();
    assert!(done.is_ok_and(|status| status.success()), "ip link set lo {state}");
}

/// The same test in a process whose loopback is its own.
fn in_a_namespace(test: &str) {
    let here = std::env::current_exe().unwrap();
    let namespaces: &[&[&str]] = &[&["--net"], &["--net", "--user", "--map-root-user"]];
    let able = |options: &&&[&str]| {
        let mut command = Command::new("unshare");
        command.args(**options).args(["sh", "-c", "ip link set lo up"]);
        command.output().is_ok_and(|output| output.status.success())
    };
    let Some(options) = namespaces.iter().find(able) else {
        assert!(std::env::var_os("CI").is_none(), "no network namespace can be made (iproute2, util-linux)");
        eprintln!("skipped: no network namespace can be made (iproute2, util-linux)");
        return;
    };
    let mut command = Command::new("unshare");
    command.args(*options).arg(here).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_proxy_cut_off_without_a_word_is_counted_as_unreachable() {
    if std::env::var_os(INSIDE).is_none() {
        return in_a_namespace("a_proxy_cut_off_without_a_word_is_counted_as_unreachable");
    }
    loopback("up");
    let folder = workspace::scratch("admin");
    let service = Start::new(folder.path()).serve();
    let admin = service.admin();
    let key = admin.make("a");
    let page = service.edge().get("/v1/manifest").ok(200);
    let mark = page["mark"].as_str().unwrap();
    let mut poll = TcpStream::connect(service.url.trim_start_matches("http://")).unwrap();
    write!(
        poll,
        "GET /v1/manifest?since=1&base=1&mark={mark}&wait=60s HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {EDGE}\r\n\
         x-keyward-node: envoy-1\r\nx-keyward-vm: vm-1\r\nx-keyward-max-staleness: 1h\r\n\
         x-keyward-table: table of vm-1\r\nx-keyward-mode: enforce\r\nx-keyward-inline-keys: none\r\n\r\n"
    )
    .unwrap();
    wait_for_states(&admin, (1, 0));

    loopback("down");
    std::thread::sleep(std::time::Duration::from_secs(7));
    loopback("up");
    // The connections of before are no more, and their clients do not know it.
    let admin = service.admin();
    // It still holds its end of the connection, and its poll would have waited for most of a minute.
    assert_eq!(states(&admin), (0, 1));
    let deleted = admin.delete(&format!("/v1/keys/{}?wait=30s", key["id"].as_str().unwrap())).ok(200);
    let applied = &deleted["applied"];
    assert_eq!((&applied["vms"], &applied["of"], &applied["unreachable"]), (&json!(0), &json!(0), &json!(1)));
    assert!(applied["refused_everywhere_by"].as_str() > key["created_at"].as_str(), "{applied}");

    let back = service.vm("vm-1").follow();
    wait::until("it is back", PATIENCE, || (states(&admin) == (1, 0)).then_some(()));
    drop((back, poll));
}

//! Wall clocks that are wrong: they jump, start ahead, and differ between replicas.

mod support;

use keyward_policy::timestamp::Timestamp;
use keyward_testbed::postgres::Postgres;
use keyward_testbed::{faketime, workspace};
use serde_json::Value;
use std::path::Path;
use support::{Client, Service, Start, states, wait_for_states};

/// Returns whether libfaketime is there. Under `CI` it has to be.
fn can_move_clocks() -> bool {
    let can = faketime::library().is_some();
    assert!(can || std::env::var_os("CI").is_none(), "libfaketime is not installed (Debian's package `faketime`)");
    can
}

/// A service whose clock is ahead by what `file` says.
fn start(folder: &Path, file: &Path) -> Start {
    let variables = faketime::ahead_by(file);
    variables.iter().fold(Start::new(folder), |start, (name, value)| start.with(name, value))
}

fn set(file: &Path, ahead: &str) {
    // All at once, because the program may be reading it.
    workspace::replace(file, &format!("{ahead}\n"));
}

fn moment(text: &Value) -> i64 {
    Timestamp::parse(text.as_str().unwrap_or_default()).unwrap_or_else(|_| panic!("no moment: {text}")).unix_ms()
}

/// By how much the receipt of a change lies ahead of the service's clock, in seconds. The change is made now.
fn ahead(client: &Client, name: &str) -> (Value, i64) {
    let key = client.make(name);
    let deleted = client.delete(&format!("/v1/keys/{}?wait=0s", key["id"].as_str().unwrap())).ok(200);
    let applied = deleted["applied"].clone();
    let by = &applied["refused_everywhere_by"];
    let seconds = if by.is_null() { -1 } else { (moment(by) - moment(&key["created_at"])) / 1000 };
    (applied, seconds)
}

/// Loads an instance that serves for an hour without contact, and leaves it alone.
fn lose_vm(service: &Service, everywhere: &[&Service]) {
    service.admin().make("known");
    service.vm("lost").load();
    for service in everywhere {
        wait_for_states(&service.admin(), (0, 1));
    }
}

#[test]
fn a_clock_that_jumps_ahead_ends_no_vm() {
    if !can_move_clocks() {
        return;
    }
    let folder = workspace::scratch("admin");
    let file = folder.path().join("ahead");
    set(&file, "+0");
    let service = start(folder.path(), &file).serve();
    lose_vm(&service, &[&service]);
    let admin = service.admin();
    let (applied, before) = ahead(&admin, "before");
    assert!(applied["unreachable"] == 1 && (3_000..=3_600).contains(&before), "{applied}");
    let at = moment(&admin.make("at")["created_at"]);
    for jump in ["+2h", "+1y", "-2h"] {
        set(&file, jump);
        let now = moment(&admin.make(&format!("at {jump}"))["created_at"]);
        assert!((now - at).abs() > 3_600_000, "the clock did not jump: {at} {now}");
        assert_eq!(states(&admin), (0, 1), "{jump}");
        // It goes on serving for what is left of its hour, whatever the clock says.
        let (applied, left) = ahead(&admin, &format!("after {jump}"));
        assert!(applied["unreachable"] == 1 && (3_000..=before).contains(&left), "{jump}: {left} {applied}");
    }
}

#[test]
fn a_clock_that_starts_a_year_ahead_purges_nothing() {
    if !can_move_clocks() {
        return;
    }
    let folder = workspace::scratch("admin");
    let file = folder.path().join("ahead");
    set(&file, "+0");
    let start = start(folder.path(), &file).with("KEYWARD_PURGE_AFTER", "1d");
    let service = start.serve();
    lose_vm(&service, &[&service]);
    drop(service);
    set(&file, "+1y");
    let service = start.serve();
    keyward_testbed::wait::until("the service doubts its clock", support::PATIENCE, || {
        service.log().contains("the clock is ahead of what can be").then_some(())
    });
    let admin = service.admin();
    let keys = admin.get("/v1/keys").ok(200);
    assert_eq!((&keys["keys"][0]["name"], &keys["keys"][0]["status"]), (&"known".into(), &"expired".into()));
    // The instance that was lost counts as in contact until the start.
    let (applied, left) = ahead(&admin, "after");
    assert!(applied["unreachable"] == 1 && (3_000..=3_600).contains(&left), "{left} {applied}");
}

#[test]
fn replicas_whose_clocks_differ_agree() {
    if !can_move_clocks() {
        return;
    }
    let Some(postgres) = Postgres::start() else { return };
    let url = postgres.database();
    let folders = [workspace::scratch("admin"), workspace::scratch("admin")];
    let services: Vec<Service> = ["-30m", "+2h"]
        .iter()
        .zip(&folders)
        .map(|(ahead, folder)| {
            let file = folder.path().join("ahead");
            set(&file, ahead);
            start(folder.path(), &file).with("KEYWARD_DATABASE_URL", &url).serve()
        })
        .collect();
    for (n, asked) in services.iter().enumerate() {
        lose_vm_at(asked, &services, n);
    }
    for (n, service) in services.iter().enumerate() {
        let (applied, left) = keyward_testbed::wait::until("the receipt sees all", support::PATIENCE, || {
            let (applied, left) = ahead(&service.admin(), &format!("{n} at {:?}", std::time::Instant::now()));
            applied["refused_everywhere_by"].is_string().then_some((applied, left))
        });
        assert!(applied["unreachable"] == 2 && (3_000..=3_600).contains(&left), "{n}: {left} {applied}");
    }
}

/// Loads an instance at one replica, and waits until all count it as lost.
fn lose_vm_at(service: &Service, all: &[Service], n: usize) {
    service.admin().make(&format!("known {n}"));
    service.vm(&format!("lost {n}")).load();
    for service in all {
        wait_for_states(&service.admin(), (0, n + 1));
    }
}

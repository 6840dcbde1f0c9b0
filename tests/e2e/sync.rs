//! Fetching keys in a real Envoy with two workers, from a service that fails in many ways.

use crate::setup::LISTENER;
use keyward_policy::timestamp::Timestamp;
use keyward_testbed::admin_stand_in::{AdminStandIn, Fault};
use keyward_testbed::artifacts::Edition;
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::{self, Encoding, Listener};
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{http1, wait};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

const PATIENCE: Duration = Duration::from_secs(40);
const FIRST: &str = "kw_first_0123456789abcdefghijklmnopqrstuvwx";
const SECOND: &str = "kw_second_0123456789abcdefghijklmnopqrstuvw";

fn plugin(max_staleness: &str) -> Value {
    json!({
        "realm": "tests",
        "admin": {"cluster": "keyward_admin", "token": "kwt_edge", "max_staleness": max_staleness},
        "rules": [{"path": "/a", "require": ["a:read"]}],
    })
}

/// Returns how many instances fetch keys.
fn instances() -> u64 {
    Edition::of_this_run().instances()
}

struct Edge {
    envoy: Envoy,
    admin: AdminStandIn,
    _upstream: Upstream,
    address: SocketAddr,
}

impl Edge {
    fn start(max_staleness: &str) -> Self {
        let (admin, upstream) = (AdminStandIn::start(), Upstream::start());
        admin.put("key_first", FIRST);
        // The manifest has several pages.
        (0..10).for_each(|n| admin.put(&format!("key_{n}"), &format!("kw_{n}")));
        let listener = Listener::new(LISTENER, &plugin(max_staleness), Encoding::StringValue, upstream.address());
        let clusters = vec![envoy_config::cluster("keyward_admin", admin.address())];
        let envoy = Envoy::start(&envoy_config::bootstrap(&[listener], clusters));
        let address = envoy.listener(LISTENER);
        Self { envoy, admin, _upstream: upstream, address }
    }

    fn status(&self, key: &str) -> u16 {
        http1::get(self.address, "/a", &[("x-api-key", key)]).unwrap().status
    }

    /// Waits until many connections in a row, which the kernel spreads over the workers, get the same answer.
    fn wait_for(&self, key: &str, status: u16) {
        let mut in_a_row = 0;
        wait::until(&format!("{status} from every worker"), PATIENCE, || {
            in_a_row = if self.status(key) == status { in_a_row + 1 } else { 0 };
            (in_a_row == 16).then_some(())
        });
    }

    fn failures(&self, reason: &str) -> u64 {
        self.envoy.stat(&format!("wasmcustom.keyward_sync_failures.reason.{reason}"))
    }
}

#[test]
fn keys_come_change_and_go_in_every_worker() {
    let edge = Edge::start("1h");
    // Requests that arrive before the first load are held, not refused.
    assert_eq!((0..16).map(|_| edge.status(FIRST)).max(), Some(200));
    edge.admin.put("key_second", SECOND);
    edge.wait_for(SECOND, 200);
    edge.admin.delete("key_first");
    edge.wait_for(FIRST, 401);
    edge.admin.put("key_second", "kw_regenerated");
    edge.wait_for(SECOND, 401);
    edge.wait_for("kw_regenerated", 200);

    let asked = edge.admin.take();
    let polls: Vec<_> = asked.iter().filter(|request| request.target().starts_with("/v1/manifest")).collect();
    let vms: std::collections::BTreeSet<_> = polls.iter().map(|poll| poll.header("x-keyward-vm")).collect();
    assert_eq!(
        vms.len() as u64,
        instances(),
        "two workers and the main thread, and nothing from the VM that tries the configuration"
    );
    for poll in &polls {
        assert_eq!(poll.header("authorization"), ["Bearer kwt_edge"]);
        assert_eq!(poll.header("x-keyward-realm"), ["tests"]);
        assert_eq!(poll.header("x-keyward-max-staleness"), ["1h"]);
        assert_eq!(poll.header("x-keyward-filter").len(), 1);
        assert_eq!(poll.header("x-keyward-node").len(), 1);
    }
    let targets: Vec<String> = polls.iter().map(|poll| poll.target()).collect();
    assert!(targets.iter().any(|target| target.starts_with("/v1/manifest?since=0&base=0&")), "{targets:#?}");
    assert!(targets.iter().any(|target| target.starts_with("/v1/manifest?since=3&base=11&")), "{targets:#?}");
    assert!(targets.iter().any(|target| target.contains("?since=11&base=11&") && target.contains("&wait=25s")));
}

#[test]
fn every_failure_leaves_the_last_good_keys_in_use() {
    let edge = Edge::start("1h");
    edge.wait_for(FIRST, 200);
    let faults = [
        (Fault::Status(500), "status"),
        (Fault::Status(401), "unauthorized"),
        (Fault::Status(409), "wrong_realm"),
        (Fault::Status(429), "busy"),
        (Fault::Status(204), "status"),
        (Fault::NotJson, "malformed"),
        (Fault::WrongType, "malformed"),
        (Fault::Format, "format"),
        (Fault::OtherSince, "out_of_order"),
        (Fault::Repeats, "out_of_order"),
        (Fault::GoesBack, "out_of_order"),
        (Fault::Checksum, "checksum"),
        (Fault::TooLarge, "too_large"),
        (Fault::EmptyStore, "suspicious_store"),
        (Fault::Status(410), "compacted"),
        (Fault::Huge, "no_answer"),
        (Fault::HalfAResponse, "no_answer"),
        (Fault::HangsUp, "status"),
        (Fault::SmallStore, "suspicious_store"),
    ];
    for (number, (fault, reason)) in faults.into_iter().enumerate() {
        let before = edge.failures(reason);
        edge.admin.fail(Some(fault));
        // Every instance has met the fault, some more than once.
        wait::until(&format!("{fault:?} is counted"), PATIENCE, || {
            assert_eq!(edge.status(FIRST), 200, "{fault:?}");
            assert_eq!(edge.status("kw_unknown"), 401, "{fault:?}");
            (edge.failures(reason) > before + instances()).then_some(())
        });
        edge.admin.fail(None);
        let key = format!("kw_after_{number}");
        edge.admin.put(&format!("key_after_{number}"), &key);
        edge.wait_for(&key, 200);
    }
    let log = edge.envoy.log();
    for line in ["status 500", "not accepted (401)", "not a manifest page", "store `st_empty` has 0 keys"] {
        let told = log.matches(line).count();
        assert!((1..=instances() as usize).contains(&told), "told {told} times: {line}\n{log}");
    }
    for secret in ["kwt_edge", FIRST, "kw_after_0", &keyward_policy::digest::Digest::of_key(FIRST.as_bytes()).to_hex()]
    {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn keys_that_nobody_vouches_for_any_more_are_refused() {
    let edge = Edge::start("3s");
    edge.wait_for(FIRST, 200);
    edge.admin.fail(Some(Fault::Status(503)));
    edge.wait_for(FIRST, 503);
    let response = http1::get(edge.address, "/a", &[("x-api-key", FIRST)]).unwrap();
    assert_eq!(response.json()["code"], "manifest_unavailable");
    assert_eq!(response.header("retry-after"), Some("1"));
    edge.admin.fail(None);
    edge.wait_for(FIRST, 200);
    // An answer that never ends counts as no answer.
    edge.admin.fail(Some(Fault::Stalls));
    edge.wait_for(FIRST, 503);
    edge.admin.fail(None);
    edge.wait_for(FIRST, 200);
}

#[test]
fn an_answer_that_comes_too_slowly_is_none() {
    // The limit is long enough for the last good keys to outlive each fault, and short enough for a test.
    let edge = Edge::start("24s");
    edge.wait_for(FIRST, 200);
    for (number, (fault, reason)) in [(Fault::Drips, "no_answer"), (Fault::Hangs, "status")].into_iter().enumerate() {
        let before = edge.failures(reason);
        edge.admin.fail(Some(fault));
        wait::until(&format!("{fault:?} is counted by every VM"), PATIENCE, || {
            assert_eq!(edge.status(FIRST), 200, "{fault:?}");
            (edge.failures(reason) >= before + instances()).then_some(())
        });
        edge.admin.fail(None);
        let key = format!("kw_after_{number}");
        edge.admin.put(&format!("key_after_{number}"), &key);
        edge.wait_for(&key, 200);
    }
}

#[test]
fn a_store_with_other_keys_takes_over_and_a_copy_of_it_too() {
    let edge = Edge::start("1h");
    edge.wait_for(FIRST, 200);
    let loads = || edge.envoy.stat("wasmcustom.keyward_manifest_loads");
    let started_over = || edge.envoy.stat("wasmcustom.keyward_sync_started_over.reason.other_store");
    // The main thread's VM answers no requests, so its load is waited for here: a VM that has not loaded yet does not
    // start over.
    wait::until("every VM has keys", PATIENCE, || (loads() >= instances()).then_some(()));
    for fault in [Some(Fault::OtherStore), None] {
        let before = (started_over(), loads());
        edge.admin.fail(fault);
        // This change ends the polls that wait.
        edge.admin.put("key_5", "kw_5_regenerated");
        // A VM that is loading when the store changes again begins that load anew, without counting another start over.
        wait::until("every VM has changed over", PATIENCE, || {
            assert_eq!(edge.status(FIRST), 200, "{fault:?}");
            assert_eq!(edge.status("kw_unknown"), 401, "{fault:?}");
            (started_over() >= before.0 + instances() && loads() >= before.1 + instances()).then_some(())
        });
    }
    edge.admin.put("key_second", SECOND);
    edge.wait_for(SECOND, 200);
    edge.wait_for(FIRST, 200);
}

#[test]
fn tombstones_that_are_thrown_away_in_the_middle_of_a_load_start_it_over() {
    let edge = Edge::start("1h");
    edge.wait_for(FIRST, 200);
    // While the VMs are cut off, more changes happen than the service keeps.
    edge.admin.fail(Some(Fault::Status(503)));
    edge.admin.put("key_second", SECOND);
    edge.admin.delete("key_5");
    edge.admin.compact(6);
    edge.admin.fail(None);
    wait::until("loads were disturbed", PATIENCE, || {
        assert_eq!(edge.status(FIRST), 200);
        (edge.admin.compactions_left() == 0).then_some(())
    });
    edge.wait_for(SECOND, 200);
    edge.wait_for("kw_5", 401);
    edge.wait_for("kw_6", 200);
    assert!(edge.envoy.stat("wasmcustom.keyward_sync_started_over.reason.gone") >= 6);
}

#[test]
fn a_gigabyte_of_pages_is_not_taken_and_takes_nothing_down() {
    let edge = Edge::start("1h");
    edge.wait_for(FIRST, 200);
    edge.admin.fail(Some(Fault::Endless));
    // A debug build of the native edition takes a minute for it alone, and longer on a machine that does something else.
    wait::until("a gigabyte", 10 * PATIENCE, || {
        assert_eq!(edge.status(FIRST), 200);
        assert_eq!(edge.status("kw_unknown"), 401);
        // Each VM has received more than it can hold and has started over.
        (edge.admin.endless_bytes() > 1 << 30 && edge.failures("record") > instances()).then_some(())
    });
    edge.admin.fail(None);
    edge.admin.put("key_second", SECOND);
    edge.wait_for(SECOND, 200);
    edge.wait_for(FIRST, 200);
    assert_eq!(edge.envoy.stat("wasm.keyward.vm_reload"), 0, "a VM did not survive it");
}

#[test]
fn a_key_expires_by_the_clock_without_a_word_from_the_service() {
    let edge = Edge::start("1h");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let soon = Timestamp::from_unix_ms(now.as_millis() as i64 + 10_000);
    edge.admin.put_until("key_second", SECOND, &soon.to_string());
    edge.wait_for(SECOND, 200);
    edge.admin.fail(Some(Fault::Status(503)));
    edge.wait_for(SECOND, 401);
    let response = http1::get(edge.address, "/a", &[("x-api-key", SECOND)]).unwrap();
    assert_eq!(response.json()["code"], "key_expired");
    edge.wait_for(FIRST, 200);
}

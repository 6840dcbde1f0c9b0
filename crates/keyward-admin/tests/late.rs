//! A proxy whose answers take seconds, in front of a service that is killed.

mod support;

use keyward_policy::timestamp::Timestamp;
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::Shipped;
use keyward_testbed::link::Link;
use keyward_testbed::service::{EDGE_TOKEN, Setup};
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{http1, wait, workspace};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::PATIENCE;

/// How late each part of an answer is: head and body may be two.
const LATE: Duration = Duration::from_secs(2);
/// For how long the filter serves without contact. It waits for an answer for a third of that.
const LIMIT: &str = "18s";

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A proxy behind a slow link, with a key that it knows.
struct Slow {
    setup: Setup,
    service: keyward_testbed::service::Service,
    link: Link,
    envoy: Envoy,
    id: String,
    key: String,
    _upstream: Upstream,
    _folders: [tempfile::TempDir; 2],
}

impl Slow {
    /// Returns as soon as any worker lets the key pass, which is the first moment at which an instance serves.
    fn start() -> Self {
        let folders = [workspace::scratch("admin"), workspace::scratch("edge-token")];
        let setup = Setup::of(env!("CARGO_BIN_EXE_keyward"), folders[0].path()).at_a_fixed_port();
        let service = setup.serve();
        let (id, key) = service.admin().unwrap().create("a").unwrap();
        let link = Link::to(service.address());
        link.delay_answers(LATE);
        let upstream = Upstream::start();
        let mut config = Shipped::new(upstream.address()).with_admin(link.address(), EDGE_TOKEN, folders[1].path());
        config.plugin()["admin"]["max_staleness"] = LIMIT.into();
        config.plugin()["startup_wait"] = "10ms".into();
        let envoy = Envoy::start(&config.build());
        let slow = Self { setup, service, link, envoy, id, key, _upstream: upstream, _folders: folders };
        wait::until("a worker has keys", PATIENCE, || slow.passes().then_some(()));
        slow
    }

    /// Whether any worker lets the key pass.
    fn passes(&self) -> bool {
        let listener: SocketAddr = self.envoy.listener("databases_api");
        let ask = || http1::get(listener, "/api/collections/posts/records", &[("x-api-key", &self.key)]);
        (0..8).any(|_| ask().expect("Envoy answers").status == 200)
    }

    /// Deletes the key, and returns the receipt once all that can be said is said.
    fn delete(&self) -> Value {
        self.service.admin().unwrap().delete(&self.id, "0s").unwrap()
    }

    /// Waits until no worker lets the key pass any more, and holds the last moment against the receipt.
    fn hold_against(&self, receipt: &Value) {
        let mut last = None;
        let mut refused = 0;
        wait::until("every worker refuses the key", PATIENCE, || {
            if self.passes() {
                // A request that is on its way is one that began before.
                last = Some(now_ms());
                refused = 0;
            } else {
                refused += 1;
            }
            std::thread::sleep(Duration::from_millis(100));
            (refused == 20).then_some(())
        });
        let by = receipt["refused_everywhere_by"].as_str().expect("a time is named");
        let by = Timestamp::parse(by).unwrap().unix_ms();
        assert!(last.is_none_or(|last| last <= by), "passed {} ms after {receipt}", last.unwrap_or_default() - by);
    }
}

#[test]
fn a_vm_is_known_before_it_can_serve() {
    let mut slow = Slow::start();
    // The service has had no second poll of this instance, and is killed.
    slow.link.cut();
    slow.service.kill();
    slow.service = slow.setup.serve();
    let receipt = slow.delete();
    assert!(receipt["unreachable"].as_u64() >= Some(1), "{receipt}");
    slow.hold_against(&receipt);
}

#[test]
fn contact_is_when_the_answer_was_asked_for() {
    let slow = Slow::start();
    // The answer that arrived just now was made seconds ago, and is followed by nothing.
    slow.link.cut();
    let receipt = slow.delete();
    slow.hold_against(&receipt);
}

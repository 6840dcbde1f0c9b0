//! Panics of the native edition, planted in each of its hooks: the request is denied or goes on as it was decided, Envoy
//! lives, its log quotes nothing, and requests afterwards are decided as before.

use crate::setup::LISTENER;
use keyward_testbed::admin_stand_in::{AdminStandIn, Fault};
use keyward_testbed::artifacts::{self, Edition};
use keyward_testbed::envoy::{self, Envoy, Refused};
use keyward_testbed::envoy_config::{self, Encoding, Listener};
use keyward_testbed::http1::{self, Client};
use keyward_testbed::upstream::Upstream;
use keyward_testbed::wait;
use keyward_testbed::workspace::{self, TempDir};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const KEY: &str = "kw_first";

/// Returns whether the Envoy of this run has the functions that the library needs.
fn runs_here() -> bool {
    envoy::version() >= (1, 39)
}

/// An Envoy with the library that panics where a test asks for it, in front of an upstream.
struct Planted {
    folder: TempDir,
    admin: AdminStandIn,
    upstream: Upstream,
}

impl Planted {
    fn new() -> Self {
        let (folder, admin) = (workspace::scratch("panics"), AdminStandIn::start());
        Self { folder, admin, upstream: Upstream::start() }
    }

    fn start(&self) -> Result<Envoy, Refused> {
        let plugin = json!({
            "admin": {"cluster": "keyward_admin", "token": "kwt_edge", "max_staleness": "1h"},
            "startup_wait": "30s",
            "rules": [{"path": "/a", "access": "authenticated"}, {"path": "/public", "access": "public"}],
        });
        let mut listener =
            Listener::of(Edition::Native, LISTENER, &plugin, Encoding::StringValue, self.upstream.address());
        let place = "/http_filters/0/typed_config/dynamic_module_config/module/local/filename";
        *listener.connection_manager().pointer_mut(place).unwrap() = json!(artifacts::failpoint_library());
        listener.connection_manager()["http_protocol_options"] = json!({"enable_trailers": true});
        // The filter alone has to deny, without the backstop.
        let filters = listener.connection_manager()["http_filters"].as_array_mut().unwrap();
        filters.retain(|filter: &Value| !filter.to_string().contains("rbac"));
        let clusters = vec![envoy_config::cluster("keyward_admin", self.admin.address())];
        let config = envoy_config::bootstrap(&[listener], clusters);
        Envoy::try_start_in(&config, &[("KEYWARD_FAILPOINTS", self.folder.path())])
    }

    /// Starts with the first key in use.
    fn start_serving(&self) -> (Envoy, SocketAddr) {
        self.admin.put("key_first", KEY);
        let envoy = self.start().unwrap_or_else(|refused| panic!("{}", refused.log));
        let address = envoy.listener(LISTENER);
        wait_for(address, KEY, 200);
        (envoy, address)
    }

    /// Asks for one panic at this place.
    fn plant(&self, place: &str) {
        std::fs::write(self.folder.path().join(place), b"").unwrap();
    }

    fn happened(&self, place: &str) -> bool {
        !self.folder.path().join(place).exists()
    }

    fn wait_until_it_happens(&self, place: &str) {
        wait::until(&format!("the panic at {place}"), PATIENCE, || self.happened(place).then_some(()));
    }
}

fn ask(address: SocketAddr, key: &str) -> http1::Response {
    http1::get(address, "/a", &[("x-api-key", key)]).unwrap()
}

fn wait_for(address: SocketAddr, key: &str, wanted: u16) {
    // Several connections, so that both workers are asked.
    wait::until(&format!("{key} gets {wanted}"), PATIENCE, || {
        (0..8).all(|_| ask(address, key).status == wanted).then_some(())
    });
}

#[track_caller]
fn assert_quotes_nothing(envoy: &Envoy) {
    let log = envoy.log();
    assert!(log.contains("keyward: a bug: panic at "), "{log}");
    for secret in ["kw_", "kwt_"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn a_panic_while_the_library_or_a_configuration_is_loaded_keeps_envoy_from_starting() {
    if !runs_here() {
        return;
    }
    for place in ["program_init", "config_new"] {
        let planted = Planted::new();
        planted.plant(place);
        let refused = planted.start().expect_err(place);
        assert!(planted.happened(place) && !refused.log.contains("kw_planted at"), "{}", refused.log);
        assert!(!refused.log.contains("Caught "), "it crashed: {}", refused.log);
    }
}

#[test]
fn a_panic_in_any_hook_of_a_request_denies_it_or_leaves_it_as_it_was_decided() {
    if !runs_here() {
        return;
    }
    let planted = Planted::new();
    let (mut envoy, address) = planted.start_serving();
    let body_and_trailers = format!(
        "POST /a HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-t: 1\r\n\r\n"
    );
    let without_key = body_and_trailers.replace(KEY, "kw_nobody");
    let send = |text: &str| {
        let mut client = Client::connect(address).unwrap();
        client.send(text.as_bytes()).unwrap();
        client.receive("POST")
    };
    // What is denied gets an answer at once. A panic after the decision changes nothing. Where the library makes no request,
    // Envoy 1.40 answers itself, and 1.39 calls the library's hooks all the same.
    for (place, status) in [
        ("new", if envoy::version() < (1, 40) { 503 } else { 500 }),
        ("request_headers", 503),
        ("request_body", 503),
        ("request_trailers", 503),
        ("response_headers", 200),
        ("response_body", 200),
        ("stream_complete", 200),
    ] {
        planted.upstream.take();
        planted.plant(place);
        let response = send(&body_and_trailers).unwrap_or_else(|error| panic!("{place}: {error}"));
        planted.wait_until_it_happens(place);
        assert_eq!(response.status, status, "{place}: {}", response.text());
        if ["new", "request_headers"].contains(&place) {
            assert_eq!(planted.upstream.count(), 0, "{place}");
        }
        assert!(envoy.is_running(), "{place}: {}", envoy.log());
        assert_eq!((ask(address, KEY).status, ask(address, "kw_nobody").status), (200, 401), "{place}");
    }
    // Each was counted: at once, or at the next tick.
    wait::until("the panics are counted", PATIENCE, || (envoy.stat("wasmcustom.keyward_panics") == 7).then_some(()));
    // A request without a valid key never passes, wherever the panic is.
    for place in ["request_headers", "request_body", "local_reply", "response_headers", "stream_complete"] {
        planted.upstream.take();
        planted.plant(place);
        let response = send(&without_key).unwrap();
        assert!(matches!(response.status, 401 | 503), "{place}: {}", response.status);
        assert_eq!(planted.upstream.count(), 0, "{place}");
        let _ = std::fs::remove_file(planted.folder.path().join(place));
    }
    assert!(envoy.is_running());
    assert_quotes_nothing(&envoy);
}

#[test]
fn a_request_that_waits_and_meets_a_panic_is_denied_and_stays_denied() {
    if !runs_here() {
        return;
    }
    for (place, at_once) in [("request_held", true), ("scheduled", false), ("destroy", false)] {
        let planted = Planted::new();
        planted.admin.fail(Some(Fault::Status(500)));
        planted.admin.put("key_first", KEY);
        planted.plant(place);
        let mut envoy = planted.start().unwrap_or_else(|refused| panic!("{}", refused.log));
        let address = envoy.listener(LISTENER);
        let asking = std::thread::spawn(move || ask(address, KEY));
        wait::until("it waits", PATIENCE, || (envoy.stat("wasmcustom.keyward_held_requests") == 1).then_some(()));
        if at_once {
            assert_eq!(asking.join().unwrap().status, 503, "{place}");
            planted.admin.fail(None);
            wait_for(address, KEY, 200);
        } else {
            planted.admin.fail(None);
            let status = asking.join().unwrap().status;
            assert_eq!(status, if place == "destroy" { 200 } else { 503 }, "{place}");
            wait_for(address, KEY, 200);
        }
        planted.wait_until_it_happens(place);
        assert!(envoy.is_running());
        assert_quotes_nothing(&envoy);
    }
}

#[test]
fn after_a_panic_beside_requests_keys_come_and_go_as_before() {
    if !runs_here() {
        return;
    }
    let planted = Planted::new();
    let (mut envoy, address) = planted.start_serving();
    for place in
        ["ticks_round", "ticks_start", "config_scheduled", "config_http_callout_done", "answer", "collected", "applied"]
    {
        // The thread starts anew after a panic alone.
        if place == "ticks_start" {
            planted.plant("ticks_round");
        }
        planted.plant(place);
        let (new, old) = (format!("kw_{place}"), format!("key_{place}"));
        // A change, so that there is a page to apply, and one that takes a key away.
        planted.admin.put(&old, &new);
        planted.wait_until_it_happens(place);
        assert_ne!(ask(address, "kw_nobody").status, 200);
        wait_for(address, &new, 200);
        wait_for(address, KEY, 200);
        planted.plant(if place.starts_with("ticks") { "ticks_round" } else { place });
        planted.admin.delete(&old);
        wait_for(address, &new, 401);
        // Once it is gone it does not come back.
        for _ in 0..8 {
            assert_eq!(ask(address, &new).status, 401, "{place}");
        }
        assert!(envoy.is_running(), "{place}");
    }
    assert_quotes_nothing(&envoy);
}

#[test]
fn a_panic_while_a_configuration_ends_ends_it_all_the_same() {
    if !runs_here() {
        return;
    }
    for place in ["config_destroy", "config_free"] {
        let planted = Planted::new();
        let (mut envoy, address) = planted.start_serving();
        planted.plant(place);
        assert_eq!(ask(address, KEY).status, 200);
        http1::exchange(envoy.admin_address(), "POST", "/quitquitquit", &[]).unwrap();
        wait::until("Envoy has ended", PATIENCE, || (!envoy.is_running()).then_some(()));
        let log = envoy.log();
        assert!(planted.happened(place), "{log}");
        assert!(!log.contains("Caught "), "it crashed: {log}");
    }
}

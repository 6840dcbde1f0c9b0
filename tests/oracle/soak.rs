//! A soak: good, bad and malformed requests for as long as wanted, while keys come and go, configurations are pushed, the
//! admin service is killed and workers trap. Every decision is compared with the reference, and memory has to stay flat.
//!
//! `cargo xtask soak` runs it for thirty minutes.

use crate::generate;
use crate::proxy::{Client, Outcome, tell_decisions};
use crate::reference;
use crate::setting::{Key, Setting};
use fastrand::Rng;
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::{self, Encoding, Listener};
use keyward_testbed::process::memory_bytes;
use keyward_testbed::service::{EDGE_TOKEN, Restartable};
use keyward_testbed::upstream::Upstream;
use keyward_testbed::{artifacts, http1, wait, workspace};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

const SECONDS: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(60);
const THREADS: u64 = 2;
/// Live keys at most; the oldest is deleted when there is another one.
const KEYS: usize = 8;
/// A listener of its own for each way in which configurations are pushed.
const LISTENERS: [&str; 2] = ["by_lds", "by_ecds"];
/// How long Envoy keeps a listener that was replaced. A VM that has trapped is freed when the last listener that used it is:
/// with Envoy's default of 600 s, all of them stay for as long as this takes.
const DRAIN_SECONDS: u64 = 10;
/// Time between two lines of the report.
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// Growth of the resident memory that is no leak: heaps of two workers that fill up, and a service's caches.
const MAX_GROWTH_BYTES: u64 = 96 << 20;

/// What the filter may decide by: one setting, or while something changes the old and the new one.
#[derive(Default)]
struct Worlds {
    /// By listener.
    settings: [RwLock<Vec<Setting>>; 2],
    /// Workers have been made to trap, and may be without keys, or without a VM.
    trapping: AtomicBool,
    /// Counts the changes of all this, so that a request which overlaps one can be told.
    changes: AtomicUsize,
}

impl Worlds {
    fn of(&self, listener: usize) -> Vec<Setting> {
        self.settings[listener].read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, listener: usize, settings: Vec<Setting>) {
        *self.settings[listener].write().unwrap_or_else(PoisonError::into_inner) = settings;
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    fn trap(&self, trapping: bool) {
        self.trapping.store(trapping, Ordering::SeqCst);
        self.changes.fetch_add(1, Ordering::SeqCst);
    }
}

struct Soak {
    service: Restartable,
    envoy: Envoy,
    upstream: Upstream,
    addresses: [SocketAddr; 2],
    worlds: Worlds,
    folder: workspace::TempDir,
    version: u64,
    done: BTreeMap<&'static str, usize>,
}

#[test]
#[ignore = "takes half an hour: `cargo xtask soak`"]
fn nothing_is_wrongly_decided_whatever_happens() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("KEYWARD_SOAK_SECONDS").unwrap_or(SECONDS);
    let seed = number("KEYWARD_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("KEYWARD_SEED={seed} KEYWARD_SOAK_SECONDS={seconds}");
    let mut rng = Rng::with_seed(seed);
    let mut soak = Soak::start(&mut rng);
    let (over, asked, codes) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    let end = Instant::now() + Duration::from_secs(seconds);
    let worlds = std::mem::take(&mut soak.worlds);
    let addresses = soak.addresses;
    let (memory, wrong) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (worlds, over, asked, codes) = (&worlds, &over, &asked, &codes);
                let rng = Rng::with_seed(seed ^ (thread + 1));
                scope.spawn(move || ask(worlds, addresses, rng, over, asked, codes))
            })
            .collect();
        let memory = soak.disturb(&mut rng, &worlds, end, &threads);
        over.store(true, Ordering::SeqCst);
        let wrong: Vec<String> =
            threads.into_iter().filter_map(|thread| thread.join().expect("a client ends").err()).collect();
        (memory, wrong)
    });
    println!("{} requests, {:?}", asked.load(Ordering::SeqCst), codes.into_inner().expect("no client panics"));
    println!("{:?}", soak.done);
    let [first, last] = memory;
    println!(
        "resident after the start and at the end: Envoy {} and {} MiB, service {} and {} MiB",
        first.0 >> 20,
        last.0 >> 20,
        first.1 >> 20,
        last.1 >> 20
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(last.0 < first.0 + MAX_GROWTH_BYTES, "Envoy grew");
    assert!(last.1 < first.1 + MAX_GROWTH_BYTES, "the service grew");
}

impl Soak {
    fn start(rng: &mut Rng) -> Self {
        let mut service = Restartable::new();
        service.start();
        let upstream = Upstream::answering(|request| {
            let id = request.header("x-api-key-id").join("|");
            format!("HTTP/1.1 200 OK\r\nx-seen-id: {id}\r\ncontent-length: 7\r\n\r\nreached").into_bytes()
        });
        let folder = workspace::scratch("soak");
        let mut setting = generate::setting(rng);
        setting.keys.clear();
        let settings = [setting.clone(), setting];
        let [lds, ecds] = [0, 1].map(|number| listener(number, &settings[number], 0, upstream.address()));
        let files = [0, 1].map(|number| file(&folder, number));
        ecds.write_ecds(&files[1], "0");
        let mut discovering = ecds.clone();
        discovering.discover_filter(&files[1]);
        envoy_config::write_lds(&files[0], "0", &[lds.clone(), discovering.clone()]);
        let mut bootstrap = envoy_config::bootstrap_with_lds(&files[0], &[lds, discovering]);
        let admin = envoy_config::cluster("keyward_admin", service.address());
        bootstrap["static_resources"]["clusters"].as_array_mut().expect("clusters").push(admin);
        let envoy = Envoy::start_with(&bootstrap, &["--drain-time-s", &DRAIN_SECONDS.to_string()]);
        let addresses = LISTENERS.map(|name| wait::until("the listener", PATIENCE, || envoy.find_listener(name)));
        let worlds = Worlds::default();
        for (number, setting) in settings.into_iter().enumerate() {
            worlds.set(number, vec![setting]);
        }
        let mut soak = Self { service, envoy, upstream, addresses, worlds, folder, version: 0, done: BTreeMap::new() };
        let worlds = std::mem::take(&mut soak.worlds);
        (0..3).for_each(|_| soak.create(rng, &worlds));
        soak.worlds = worlds;
        soak
    }

    /// Changes something, again and again. Returns the resident memory of Envoy and of the service, at first and at last.
    fn disturb<T>(
        &mut self,
        rng: &mut Rng,
        worlds: &Worlds,
        end: Instant,
        clients: &[std::thread::ScopedJoinHandle<'_, T>],
    ) -> [(u64, u64); 2] {
        let begin = Instant::now();
        let warm = begin + (end - begin) / 5;
        let mut first = None;
        let mut reported = begin;
        while Instant::now() < end && clients.iter().all(|client| !client.is_finished()) {
            let what = match rng.u8(..16) {
                0 => self.kill_the_service(),
                1 => self.trap(worlds),
                2..=4 => self.push(rng, worlds, 0),
                5..=7 => self.push(rng, worlds, 1),
                8..=11 => self.delete(rng, worlds),
                _ => {
                    self.create(rng, worlds);
                    "keys created"
                }
            };
            *self.done.entry(what).or_default() += 1;
            // The upstream writes everything down.
            self.upstream.take();
            if reported.elapsed() > REPORT_EVERY {
                reported = Instant::now();
                let (envoy, service) = self.memory();
                println!(
                    "{} s: Envoy {} MiB with {} VMs, service {} MiB",
                    begin.elapsed().as_secs(),
                    envoy >> 20,
                    self.envoy.stat("wasm.envoy.wasm.runtime.v8.active"),
                    service >> 20
                );
            }
            if first.is_none() && Instant::now() > warm {
                first = Some(self.memory());
            }
        }
        let last = self.memory();
        [first.unwrap_or(last), last]
    }

    fn create(&mut self, rng: &mut Rng, worlds: &Worlds) {
        if worlds.of(0)[0].keys.len() >= KEYS {
            self.delete(rng, worlds);
        }
        self.version += 1;
        let mut permissions: Vec<&str> = generate::PERMISSIONS.to_vec();
        rng.shuffle(&mut permissions);
        permissions.truncate(rng.usize(1..=permissions.len()));
        let body = json!({"name": format!("key {}", self.version), "permissions": permissions, "expires_in": "30d"});
        let mut admin = self.service.service().admin().expect("a connection");
        // The key may be known before the answer is, so nothing is decided by its text until it is in the new world.
        let (status, answer) = admin.send("POST", "/v1/keys", &body.to_string()).expect("an answer");
        assert_eq!(status, 201, "{answer}");
        let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
        let key = Key {
            id: text("id"),
            text: text("key"),
            permissions: permissions.iter().map(|name| (*name).to_owned()).collect(),
            disabled: false,
            expired: false,
        };
        self.change_keys(worlds, |keys| keys.push(key.clone()), |soak| soak.wait_for_keys());
    }

    fn delete(&mut self, rng: &mut Rng, worlds: &Worlds) -> &'static str {
        let keys = worlds.of(0)[0].keys.clone();
        if keys.is_empty() {
            return "nothing to delete";
        }
        let gone = keys[rng.usize(..keys.len())].clone();
        let id = gone.id.clone();
        self.change_keys(
            worlds,
            |keys| keys.retain(|key| key.id != id),
            |soak| {
                let mut admin = soak.service.service().admin().expect("a connection");
                let receipt = admin.delete(&gone.id, "10s").expect("a receipt");
                if receipt["vms"] != receipt["of"] {
                    soak.wait_for_keys();
                }
            },
        );
        "keys deleted"
    }

    /// Both worlds may be met until `change` has returned.
    fn change_keys(&mut self, worlds: &Worlds, edit: impl Fn(&mut Vec<Key>), change: impl FnOnce(&mut Self)) {
        let both = [0, 1].map(|listener| {
            let old = worlds.of(listener);
            let mut new = old[0].clone();
            edit(&mut new.keys);
            worlds.set(listener, vec![old[0].clone(), new.clone()]);
            new
        });
        change(self);
        for (listener, new) in both.into_iter().enumerate() {
            worlds.set(listener, vec![new]);
        }
    }

    /// Waits until each VM has the newest revision: two workers and the main thread, of each listener.
    fn wait_for_keys(&self) {
        wait::until("every VM has the keys", PATIENCE, || {
            let fresh = self.service.service().vms_up_to_date().ok()?;
            (fresh >= LISTENERS.len() * 3).then_some(())
        });
    }

    fn push(&mut self, rng: &mut Rng, worlds: &Worlds, number: usize) -> &'static str {
        self.version += 1;
        let (version, upstream) = (self.version, self.upstream.address());
        let old = worlds.of(number).swap_remove(0);
        let mut new = generate::setting(rng);
        new.keys.clone_from(&old.keys);
        worlds.set(number, vec![old, new.clone()]);
        let pushed = listener(number, &new, version, upstream);
        let files = [0, 1].map(|number| file(&self.folder, number));
        if number == 0 {
            let mut discovering = listener(1, &worlds.of(1)[0], 0, upstream);
            discovering.discover_filter(&files[1]);
            envoy_config::write_lds(&files[0], &version.to_string(), &[pushed, discovering]);
        } else {
            pushed.write_ecds(&files[1], &version.to_string());
        }
        self.wait_for_version(number, version);
        worlds.set(number, vec![new]);
        ["configurations pushed by LDS", "configurations pushed by ECDS"][number]
    }

    /// The readiness path names the version.
    fn wait_for_version(&self, number: usize, version: u64) {
        let mut in_a_row = 0;
        wait::until("the configuration counts in every worker", PATIENCE, || {
            let ready = http1::get(self.addresses[number], &readiness_path(version), &[]);
            let counts = ready.is_ok_and(|response| {
                response.status == 200 && !response.headers.iter().any(|(name, _)| name == "x-seen-id")
            });
            in_a_row = if counts { in_a_row + 1 } else { 0 };
            (in_a_row == 24).then_some(())
        });
    }

    /// Keys stay as they are: the filter goes on with what it has.
    fn kill_the_service(&mut self) -> &'static str {
        self.service.kill();
        std::thread::sleep(Duration::from_secs(1));
        self.service.start();
        self.wait_for_keys();
        "services killed"
    }

    fn trap(&self, worlds: &Worlds) -> &'static str {
        worlds.trap(true);
        for address in self.addresses {
            for _ in 0..8 {
                let crash = [("x-keyward-failpoint", "1")];
                let response = http1::get(address, "/", &crash).expect("an answer");
                assert!(
                    !response.headers.iter().any(|(name, _)| name == "x-seen-id"),
                    "a VM that trapped let a request pass"
                );
            }
            let mut in_a_row = 0;
            wait::until("both workers have keys again", PATIENCE, || {
                let decided = http1::get(address, "/", &[("x-api-key", "kw_nobody")]).ok();
                let healthy = decided.is_some_and(|response| {
                    response.status != 503
                        && response
                            .header("x-oracle-decision")
                            .is_some_and(|code| code != "-" && code != "manifest_unavailable")
                });
                in_a_row = if healthy { in_a_row + 1 } else { 0 };
                (in_a_row == 24).then_some(())
            });
        }
        worlds.trap(false);
        "times that workers trapped"
    }

    fn memory(&self) -> (u64, u64) {
        (resident(self.envoy.pid()), resident(self.service.service().pid()))
    }
}

fn resident(pid: u32) -> u64 {
    memory_bytes(pid, "VmRSS").expect("the process runs")
}

fn file(folder: &workspace::TempDir, number: usize) -> PathBuf {
    folder.path().join(format!("{}.json", LISTENERS[number]))
}

fn readiness_path(version: u64) -> String {
    format!("/ready/{version}")
}

fn listener(number: usize, setting: &Setting, version: u64, upstream: SocketAddr) -> Listener {
    let mut plugin = setting.to_json();
    let fields = plugin.as_object_mut().expect("an object");
    fields.remove("manifest");
    fields.insert("admin".to_owned(), json!({"cluster": "keyward_admin", "token": EDGE_TOKEN, "max_staleness": "1h"}));
    fields.insert("readiness_path".to_owned(), json!(readiness_path(version)));
    let mut listener = Listener::new(LISTENERS[number], &plugin, Encoding::StringValue, upstream);
    listener.vm_config()["code"] = json!({"local": {"filename": artifacts::failpoint_module()}});
    tell_decisions(listener.connection_manager());
    listener
}

fn ask(
    worlds: &Worlds,
    addresses: [SocketAddr; 2],
    mut rng: Rng,
    over: &AtomicBool,
    asked: &AtomicU64,
    codes: &Mutex<BTreeMap<String, u64>>,
) -> Result<(), String> {
    let mut clients = addresses.map(Client::new);
    let mut opened = [0, 0];
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    while !over.load(Ordering::Relaxed) {
        let number = rng.usize(..clients.len());
        // First of all: what is changed from here on is seen as a change.
        let before = (worlds.of(number), worlds.trapping.load(Ordering::SeqCst));
        // A connection of a listener that was replaced goes on with the old configuration until it is closed.
        let changes = worlds.changes.load(Ordering::SeqCst);
        if opened[number] != changes {
            clients[number] = Client::new(addresses[number]);
            opened[number] = changes;
        }
        let mut setting = before.0[0].clone();
        if setting.keys.is_empty() {
            setting.keys.push(Key {
                id: String::new(),
                text: "kw_none".into(),
                permissions: vec![],
                disabled: false,
                expired: false,
            });
        }
        let request = generate::request(&mut rng, &setting);
        let outcome = clients[number].ask(&request);
        let mut possible = before.0;
        let mut trapping = before.1;
        if worlds.changes.load(Ordering::SeqCst) != changes || possible != worlds.of(number) {
            // What changes while a request is under way may count for it or not. A second change cannot be told.
            possible.extend(worlds.of(number));
            trapping |= worlds.trapping.load(Ordering::SeqCst);
        }
        asked.fetch_add(1, Ordering::Relaxed);
        let seen = crate::as_the_filter_sees_it(&request);
        let expected: Vec<_> = possible.iter().map(|setting| reference::decide(setting, &seen)).collect();
        let label = match outcome {
            Outcome::RefusedByEnvoy => "refused by Envoy".to_owned(),
            Outcome::Decided(verdict)
                if expected.iter().any(|expected| expected.code == verdict.code && expected.key == verdict.key) =>
            {
                verdict.code
            }
            Outcome::Decided(verdict) if trapping && verdict.code == "manifest_unavailable" => verdict.code,
            // Envoy closes connections when a listener is replaced.
            Outcome::Wrong(text) if text.starts_with("no answer") => {
                clients[number] = Client::new(addresses[number]);
                "no answer".to_owned()
            }
            other => {
                return Err(format!(
                    "{}: {request:?}\nfilter: {other:?}\ndocumentation: {expected:?}\nsettings: {:?}",
                    LISTENERS[number],
                    possible.iter().map(Setting::to_json).map(|json: Value| json.to_string()).collect::<Vec<_>>()
                ));
            }
        };
        *counts.entry(label).or_default() += 1;
    }
    let mut codes = codes.lock().unwrap_or_else(PoisonError::into_inner);
    for (label, count) in counts {
        *codes.entry(label).or_default() += count;
    }
    Ok(())
}

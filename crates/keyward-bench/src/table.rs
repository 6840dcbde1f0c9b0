//! `table`: the memory that keys take.
//!
//! Linear memory: an embedded host gives the shipped module the manifest page by page, as the proxy does, with names of
//! twelve characters. The size of the module's memory is read before, after the first load, and after all keys were
//! loaded again from another store, which needs two tables at once. The memory of a VM without keys is subtracted. Linear
//! memory never shrinks.
//!
//! Resident memory: a real Envoy with two workers, and so three VMs, is compared with Envoy's own api_key_auth with the
//! same keys in its configuration. The native edition has one table for the process, and is measured with one worker, two
//! and four.

use crate::edge::Edge;
use crate::keys;
use crate::process;
use crate::report::{self, Table};
use crate::request::alternatives::api_key_auth;
use crate::request::listener::{HeaderChanges, Upstream, bootstrap, listener};
use crate::server;
use anyhow::{Result, bail};
use keyward_policy::timestamp::Timestamp;
use keyward_testbed::admin_stand_in::AdminStandIn;
use keyward_testbed::artifacts::Edition;
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::Shipped;
use keyward_testbed::service::EDGE_TOKEN;
use keyward_testbed::wasm_host::{HttpCall, State, WasmModule, WasmVm};
use keyward_testbed::{artifacts, envoy_config, http1, wait, workspace};
use serde_json::json;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub struct Arguments {
    /// Number of keys
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000, 1_000_000])]
    keys: Vec<u32>,
    /// Leave out starting over in the embedded host, which interprets and takes minutes for a million
    #[arg(long)]
    no_again: bool,
}

const PATIENCE: Duration = Duration::from_secs(300);
/// The numbers of workers that the native edition is measured with.
const NATIVE_WORKERS: [usize; 3] = [1, 2, 4];

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut figures = Vec::new();
    let mut linear =
        Table::new(&["keys", "linear memory, MiB", "bytes a key", "after starting over, MiB", "bytes a key"]);
    let mut resident = Table::new(&[
        "keys",
        "Keyward, MiB",
        "after starting over, MiB",
        "api_key_auth, MiB",
        "api_key_auth is ready after, s",
    ]);
    let module = WasmModule::load(&artifacts::module());
    let empty = in_module(&module, 1, false)?.0;
    let one_key = api_key_auth_in_envoy(1)?.0;
    let mut native =
        Table::new(&["keys", "workers", "Keyward native, MiB", "after starting over, MiB", "loaded after, s"]);
    println!("a VM without keys has {:.2} MiB of linear memory", mib(empty));
    for keys in &arguments.keys {
        eprintln!("{keys} keys, in the embedded host");
        let (first, again) = in_module(&module, *keys, !arguments.no_again)?;
        let each = |bytes: u64| bytes.saturating_sub(empty) as f64 / f64::from(*keys);
        let shown = |bytes: Option<u64>| bytes.map_or(String::new(), |bytes| format!("{:.2}", mib(bytes)));
        let per_key = |bytes: Option<u64>| bytes.map_or(String::new(), |bytes| format!("{:.1}", each(bytes)));
        linear.row([keys.to_string(), shown(Some(first)), per_key(Some(first)), shown(again), per_key(again)]);
        eprintln!("{keys} keys, in Envoy");
        let (loaded, over) = in_envoy(*keys)?;
        let (api_key_auth, ready) = api_key_auth_in_envoy(*keys)?;
        resident.row([
            keys.to_string(),
            shown(Some(loaded)),
            shown(Some(over)),
            shown(Some(api_key_auth)),
            format!("{:.1}", ready.as_secs_f64()),
        ]);
        let mut by_workers = Vec::new();
        for workers in NATIVE_WORKERS {
            eprintln!("{keys} keys, in the native edition with {workers} workers");
            let one = native_in_envoy(*keys, workers)?;
            native.row([
                keys.to_string(),
                workers.to_string(),
                shown(Some(one.loaded)),
                shown(Some(one.again)),
                format!("{:.1}", one.took.as_secs_f64()),
            ]);
            by_workers.push(json!({
                "workers": workers, "resident_bytes": one.loaded, "resident_bytes_again": one.again,
                "loaded_after_s": one.took.as_secs_f64(),
            }));
        }
        figures.push(json!({
            "native": by_workers,
            "keys": keys, "linear_bytes": first, "linear_bytes_a_key": each(first),
            "linear_bytes_again": again, "linear_bytes_a_key_again": again.map(each),
            "resident_bytes": loaded, "resident_bytes_again": over,
            "api_key_auth_resident_bytes": api_key_auth, "api_key_auth_ready_s": ready.as_secs_f64(),
        }));
    }
    println!("\nlinear memory of a VM\n");
    linear.print();
    println!(
        "\nresident memory of Envoy with two workers; with one key in api_key_auth it has {:.0} MiB\n",
        mib(one_key)
    );
    resident.print();
    println!("\nresident memory of Envoy with the native edition\n");
    native.print();
    report::write(
        "table",
        json!({"linear_bytes_without_keys": empty, "resident_bytes_with_one_key": one_key, "sizes": figures}),
    )
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Returns the linear memory after the first load, and after a second one from another store.
fn in_module(module: &WasmModule, keys: u32, again: bool) -> Result<(u64, Option<u64>)> {
    let store = keys::serve(keys);
    let mut plugin = envoy_config::shipped_plugin();
    plugin["admin"] = json!({"cluster": "keyward_admin"});
    let now = Timestamp::parse("2026-06-01T00:00:00Z").map_or(0, |at| at.unix_ms().cast_unsigned() * 1_000_000);
    let mut state = State::at(now);
    state.clusters.push("keyward_admin".to_owned());
    let Ok(mut vm) = module.start(plugin.to_string().as_bytes(), state) else {
        bail!("the module refused its configuration")
    };
    load(&mut vm, &store)?;
    let first = vm.memory_bytes() as u64;
    if !again {
        return Ok((first, None));
    }
    store.start_over();
    // The poll that waits gets its answer from the other store.
    load(&mut vm, &store)?;
    Ok((first, Some(vm.memory_bytes() as u64)))
}

/// Answers the module's polls until it has all keys.
fn load(vm: &mut WasmVm, store: &AdminStandIn) -> Result<()> {
    let before = store.loads();
    for _ in 0..10_000_000_u32 {
        let Some(call) = vm.state_mut().calls.pop() else {
            vm.tick(5_000_000);
            continue;
        };
        if store.loads() > before && waits(&call) {
            vm.state_mut().calls.push(call);
            // Deferred work is done now, as it would be before the next change.
            (0..4_000).for_each(|_| vm.tick(5_000_000));
            return Ok(());
        }
        let status = |status: &str| vec![(b":status".to_vec(), status.as_bytes().to_vec())];
        match target(&call) {
            path if path.starts_with("/v1/manifest") => {
                let number = |name: &str| path.split(name).nth(1)?.split('&').next()?.parse::<u32>().ok();
                let [since, base, limit] = ["since=", "base=", "limit="].map(|name| number(name).unwrap_or(0));
                vm.answer_call(call.id, status("200"), &store.page(since.into(), base.into(), limit as usize));
            }
            _ => vm.answer_call(call.id, status("204"), b""),
        }
    }
    bail!("the module never had all keys")
}

fn target(call: &HttpCall) -> String {
    let path = call.headers.iter().find(|(name, _)| name == b":path").map(|(_, path)| path.as_slice());
    String::from_utf8_lossy(path.unwrap_or_default()).into_owned()
}

fn waits(call: &HttpCall) -> bool {
    target(call).contains("wait=") && !target(call).contains("wait=0s")
}

/// Returns the resident memory of Envoy with all keys, and after it has loaded them again.
fn in_envoy(keys: u32) -> Result<(u64, u64)> {
    let store = keys::serve(keys);
    let edge = Edge::start(store.address(), Edition::Wasm)?;
    let loaded = |loads: u64| {
        wait::until("every VM holds all keys", PATIENCE, || {
            let have = edge.envoy.stat("wasmcustom.keyward_manifest_loads");
            (have >= loads).then_some(())
        });
        // Deferred work takes a few hundred ticks.
        std::thread::sleep(Duration::from_secs(3));
        process::resident(edge.envoy.pid())
    };
    let first = loaded(edge.instances())?;
    store.start_over();
    Ok((first, loaded(2 * edge.instances())?))
}

/// The memory of Envoy with the native edition.
struct Native {
    /// Resident, with all keys.
    loaded: u64,
    /// Resident, after all keys were loaded again from another store.
    again: u64,
    /// From the start of Envoy until all keys were there.
    took: Duration,
}

fn native_in_envoy(keys: u32, workers: usize) -> Result<Native> {
    let store = keys::serve(keys);
    let folder = workspace::scratch("bench-native");
    let config = Shipped::native(server::start(server::UPSTREAM)?)
        .with_admin(store.address(), EDGE_TOKEN, folder.path())
        .build();
    let begin = Instant::now();
    let envoy = Envoy::try_start(&config, workers).map_err(|refused| anyhow::anyhow!("{}", refused.log))?;
    let wait_for = |loads: u64| {
        wait::until("the process holds all keys", PATIENCE, || {
            (envoy.stat("wasmcustom.keyward_manifest_loads") >= loads).then_some(())
        });
    };
    let resident = || {
        // Deferred work takes a few hundred ticks.
        std::thread::sleep(Duration::from_secs(3));
        process::resident(envoy.pid())
    };
    wait_for(1);
    let took = begin.elapsed();
    let loaded = resident()?;
    store.start_over();
    wait_for(2);
    Ok(Native { loaded, again: resident()?, took })
}

/// Returns the resident memory of Envoy with api_key_auth, and the time until it serves.
fn api_key_auth_in_envoy(keys: u32) -> Result<(u64, Duration)> {
    let listener = listener("api_key_auth", &[api_key_auth(keys)], HeaderChanges::Filter, Upstream::Direct);
    let config = bootstrap(vec![listener], Vec::new());
    let begin = Instant::now();
    let envoy = Envoy::try_start(&config, 2).map_err(|refused| anyhow::anyhow!("{}", refused.log))?;
    let target = envoy.listener("api_key_auth");
    let key = keys::key(keys - 1);
    wait::until("Envoy serves", PATIENCE, || {
        let answer = http1::get(target, crate::edge::PATH, &[("x-api-key", &key)]).ok()?;
        (answer.status == 200).then_some(())
    });
    let ready = begin.elapsed();
    std::thread::sleep(Duration::from_secs(1));
    Ok((process::resident(envoy.pid())?, ready))
}

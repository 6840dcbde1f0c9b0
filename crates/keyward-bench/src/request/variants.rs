//! The variants that are measured.

use super::alternatives;
use super::listener::{HeaderChanges, Upstream, backstop, listener, open_backstop};
use super::rules;
use crate::keys;
use crate::server;
use crate::wrk::Load;
use anyhow::{Context as _, Result};
use keyward_testbed::admin_stand_in::AdminStandIn;
use keyward_testbed::{artifacts, envoy_config};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// One way to protect an upstream, or to leave it unprotected.
pub struct Variant {
    /// The variant's name, which is also the listener's.
    pub name: String,
    /// The name of the variant without the filter, which this one's added cost is computed against.
    pub base: Option<String>,
    pub listener: Value,
    pub load: Load,
    /// Whether the variant has to fetch its keys before it can serve.
    pub fetches: bool,
    /// Whether the worker has other work than requests: the polls of the WebAssembly edition.
    pub polls: bool,
}

/// All variants of one Envoy, with the servers that they need.
pub struct Variants {
    pub variants: Vec<Variant>,
    pub clusters: Vec<Value>,
    // The stand-ins serve as long as this value lives.
    _stores: [AdminStandIn; 2],
}

/// The name of the variant that added costs are given as a multiple of.
pub const YARDSTICK: &str = "empty wasm filter";
const BARE: &str = "no filter";
const BACKSTOP: &str = "no filter, backstop";
const BACKSTOP_AND_ROUTE: &str = "no filter, backstop, header changes by the route";

/// Returns every variant, and those of other builds of the module where some are given.
///
/// # Errors
/// Returns an error when a server cannot be started, or a module is missing.
pub fn all(upstream: Upstream, others: &[PathBuf]) -> Result<Variants> {
    let (few_keys, many_keys) = (keys::serve(FEW), keys::serve(MANY));
    let mut set = Variants {
        variants: Vec::new(),
        clusters: vec![
            envoy_config::cluster("records_api", server::start(server::UPSTREAM)?),
            envoy_config::cluster("authorization", server::start(server::ALLOWED)?),
            envoy_config::cluster("few_keys", few_keys.address()),
            envoy_config::cluster("many_keys", many_keys.address()),
        ],
        _stores: [few_keys, many_keys],
    };
    let few = rules::allowed(FEW);
    let mut add = |name: &str, base: Option<&str>, filters: &[Value], changes, load: Load| {
        set.variants.push(Variant {
            name: name.to_owned(),
            base: base.map(str::to_owned),
            listener: listener(name, filters, changes, upstream),
            load,
            fetches: name.starts_with("Keyward") && !name.contains("configuration"),
            polls: name.starts_with("Keyward,") && !name.contains("configuration"),
        });
    };
    use HeaderChanges::{Filter, Route};
    add(BARE, None, &[], Filter, few.clone());
    add(BACKSTOP, None, &[open_backstop()], Filter, few.clone());
    add(BACKSTOP_AND_ROUTE, None, &[open_backstop()], Route, few.clone());

    for (name, module) in
        [(YARDSTICK, empty("empty-filter")?), ("empty wasm filter, trimmed", empty("empty-filter-trimmed")?)]
    {
        let filters = [wasm(name, &module, &json!({})), open_backstop()];
        add(name, Some(BACKSTOP_AND_ROUTE), &filters, Route, few.clone());
    }

    let shipped = [(String::new(), artifacts::module())].into_iter();
    let others = others.iter().map(|file| {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (format!(" ({name})"), file.clone())
    });
    for (suffix, module) in shipped.chain(others) {
        let mut keyward = |name: &str, plugin: &Value, changes, load: Load| {
            let name = format!("Keyward, {name}{suffix}");
            let base = if changes == Route { BACKSTOP_AND_ROUTE } else { BACKSTOP };
            // Each variant has a VM to itself, as every other filter here has. In a shared VM the keys of large
            // variants would lie between those of small ones.
            let filter = wasm(&name, &module, plugin);
            add(&name, Some(base), &[filter, backstop()], changes, load);
        };
        let small = plugin(rules::ten(), "few_keys");
        keyward("10 rules, 1,000 keys, as envoy.yaml", &small, Route, few.clone());
        keyward("10 rules, 1,000 keys, all by the filter", &by_itself(&small), Filter, few.clone());
        let large = plugin(rules::thousand(), "many_keys");
        let many = rules::allowed_by_thousand(MANY);
        keyward("1,000 rules, 1,000,000 keys, as envoy.yaml", &large, Route, many.clone());
        keyward("1,000 rules, 1,000,000 keys, all by the filter", &by_itself(&large), Filter, many);
        keyward("10 rules, 1,000 keys in the configuration", &inline(&small), Route, few.clone());
        keyward("denying unknown keys", &small, Route, rules::unknown_keys());
        keyward("denying for want of a permission", &small, Route, rules::missing_permissions());
    }

    // The native edition has one thread of its own that polls, so the worker does nothing but requests.
    let library = artifacts::native();
    let mut native = |name: &str, plugin: &Value, changes, load: Load| {
        let base = if changes == Route { BACKSTOP_AND_ROUTE } else { BACKSTOP };
        let value = json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": plugin.to_string()});
        let filters = [envoy_config::native_filter(&library, &value), backstop()];
        add(&format!("Keyward native, {name}"), Some(base), &filters, changes, load);
    };
    let small = plugin(rules::ten(), "few_keys");
    native("10 rules, 1,000 keys, as envoy.yaml", &small, Route, few.clone());
    native("10 rules, 1,000 keys, all by the filter", &by_itself(&small), Filter, few.clone());
    let large = plugin(rules::thousand(), "many_keys");
    let many = rules::allowed_by_thousand(MANY);
    native("1,000 rules, 1,000,000 keys, as envoy.yaml", &large, Route, many.clone());
    native("1,000 rules, 1,000,000 keys, all by the filter", &by_itself(&large), Filter, many);
    native("10 rules, 1,000 keys in the configuration", &inline(&small), Route, few.clone());
    native("denying unknown keys", &small, Route, rules::unknown_keys());

    add("api_key_auth", Some(BARE), &[alternatives::api_key_auth(FEW)], Filter, few.clone());
    let with_rules = [alternatives::api_key_auth(FEW), alternatives::rbac_rules()];
    add("api_key_auth, RBAC rules", Some(BARE), &with_rules, Filter, few.clone());
    let lua = [alternatives::lua(FEW, false), alternatives::lua_backstop()];
    add("Lua, header changes by the filter", Some(BACKSTOP), &lua, Filter, few.clone());
    let mut by_route = listener(
        "Lua, header changes by the route",
        &[alternatives::lua(FEW, true), alternatives::lua_backstop()],
        Route,
        upstream,
    );
    alternatives::identity_from_metadata(&mut by_route);
    let ext_authz = [alternatives::ext_authz(), open_backstop()];
    add("ext_authz, the proxy's part", Some(BACKSTOP), &ext_authz, Filter, few.clone());
    set.variants.push(Variant {
        name: "Lua, header changes by the route".to_owned(),
        base: Some(BACKSTOP_AND_ROUTE.to_owned()),
        listener: by_route,
        load: few,
        fetches: false,
        polls: false,
    });
    Ok(set)
}

/// The number of keys in small variants.
const FEW: u32 = 1_000;
/// The number of keys in large variants.
const MANY: u32 = 1_000_000;

/// Returns the shipped plugin configuration with other rules and with keys from a stand-in for the admin service.
fn plugin(rules: Value, cluster: &str) -> Value {
    let mut plugin = envoy_config::shipped_plugin();
    plugin["rules"] = rules;
    plugin["admin"]["cluster"] = json!(cluster);
    plugin
}

/// Returns a plugin configuration with its keys in the configuration in place of an admin service.
fn inline(plugin: &Value) -> Value {
    let mut plugin = plugin.clone();
    plugin["manifest"] = json!({"keys": (0..FEW).map(keys::record).collect::<Value>()});
    if let Some(fields) = plugin.as_object_mut() {
        fields.remove("admin");
    }
    plugin
}

/// Returns a plugin configuration without the settings that leave header changes to the route, so that the filter
/// makes them, as it does by default.
fn by_itself(plugin: &Value) -> Value {
    let mut plugin = plugin.clone();
    if let Some(fields) = plugin.as_object_mut() {
        fields.remove("hide_key");
        fields.remove("identity_headers");
    }
    plugin
}

fn wasm(vm: &str, module: &Path, plugin: &Value) -> Value {
    json!({
        "name": "wasm",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "bench", "root_id": "bench", "failure_policy": "FAIL_RELOAD",
                "vm_config": {
                    "vm_id": vm, "runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": module}},
                },
                "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": plugin.to_string()},
            },
        },
    })
}

/// Returns the path of an empty filter that `cargo xtask bench` has built.
fn empty(name: &str) -> Result<PathBuf> {
    let file = keyward_testbed::workspace::root().join(format!("target/dist/bench/{name}.wasm"));
    file.is_file().then_some(file).with_context(|| format!("{name}.wasm is missing: run `cargo xtask bench request`"))
}

//! What is measured.

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

/// One way to protect an upstream, or not to.
pub struct Variant {
    /// Also the listener's name.
    pub name: String,
    /// The variant without the filter: what this one adds is told against it.
    pub base: Option<String>,
    pub listener: Value,
    pub load: Load,
    /// Whether it has to fetch its keys before it can serve.
    pub fetches: bool,
}

/// All that one Envoy needs.
pub struct Variants {
    pub variants: Vec<Variant>,
    pub clusters: Vec<Value>,
    // They serve as long as this value lives.
    _stores: [AdminStandIn; 2],
}

/// The variant that everything is told as a multiple of.
pub const YARDSTICK: &str = "empty wasm filter";
const BARE: &str = "no filter";
const BACKSTOP: &str = "no filter, backstop";
const BACKSTOP_AND_ROUTE: &str = "no filter, backstop, header changes by the route";

/// Every variant; those of other builds of the module besides, where some are given.
///
/// # Errors
/// When a server cannot be started, or a module is missing.
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
            // A VM of its own for each, as for every other filter here: in one for all, the keys of the large ones lie
            // between those of the small ones.
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
    });
    Ok(set)
}

/// Keys of the small variants.
const FEW: u32 = 1_000;
/// Keys of the large ones.
const MANY: u32 = 1_000_000;

/// The shipped plugin configuration with other rules, and keys from one of the stand-ins for the admin service.
fn plugin(rules: Value, cluster: &str) -> Value {
    let mut plugin = envoy_config::shipped_plugin();
    plugin["rules"] = rules;
    plugin["admin"]["cluster"] = json!(cluster);
    plugin
}

/// The same with the keys in the configuration.
fn inline(plugin: &Value) -> Value {
    let mut plugin = plugin.clone();
    plugin["manifest"] = json!({"keys": (0..FEW).map(keys::record).collect::<Value>()});
    if let Some(fields) = plugin.as_object_mut() {
        fields.remove("admin");
    }
    plugin
}

/// The header changes that the shipped configuration leaves to the route are the filter's by default.
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

/// The empty filters are built by `cargo xtask bench`.
fn empty(name: &str) -> Result<PathBuf> {
    let file = keyward_testbed::workspace::root().join(format!("target/dist/bench/{name}.wasm"));
    file.is_file().then_some(file).with_context(|| format!("{name}.wasm is missing: run `cargo xtask bench request`"))
}

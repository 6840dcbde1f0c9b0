//! The edge token from the VM's environment.

use crate::plugin::{poll, with_admin};
use keyward_testbed::artifacts;
use keyward_testbed::wasm_host::{State, WasmModule};
use serde_json::json;

/// Starts a VM with this environment, and returns what its first poll shows to the service and what it logged.
fn authorization(environment: &[&str]) -> (Option<String>, String) {
    let mut plugin = with_admin();
    plugin["admin"]["token_env"] = json!("KEYWARD_EDGE_TOKEN");
    let mut state = State::at(1_800_000_000_000_000_000);
    state.clusters.push("keyward_admin".to_owned());
    state.environment = environment.iter().map(|entry| (*entry).to_owned()).collect();
    let module = WasmModule::load(&artifacts::module());
    let mut vm =
        module.start(plugin.to_string().as_bytes(), state).unwrap_or_else(|state| panic!("{}", state.log_text()));
    let call = poll(&mut vm);
    let value = call.headers.iter().find(|(name, _)| name == b"authorization").map(|(_, value)| value.clone());
    (value.map(|value| String::from_utf8(value).unwrap()), vm.state().log_text())
}

#[test]
fn the_variable_that_is_named_is_the_token() {
    let (shown, log) = authorization(&["OTHER=1", "KEYWARD_EDGE_TOKEN_2=no", "KEYWARD_EDGE_TOKEN=kwt_edge=="]);
    assert_eq!(shown.as_deref(), Some("Bearer kwt_edge=="));
    assert!(!log.contains("kwt_edge"), "{log}");
    let (shown, _) = authorization(&["KEYWARD_EDGE_TOKEN=kwt_edge\n"]);
    assert_eq!(shown.as_deref(), Some("Bearer kwt_edge"));
}

#[test]
fn without_a_token_in_it_none_is_shown_and_the_log_says_why() {
    for environment in [&[][..], &["OTHER=1"], &["KEYWARD_EDGE_TOKEN="], &["KEYWARD_EDGE_TOKEN=a secret"]] {
        let (shown, log) = authorization(environment);
        assert_eq!(shown, None);
        assert!(log.contains("admin.token_env") && log.contains("`KEYWARD_EDGE_TOKEN`"), "{log}");
        assert!(!log.contains("a secret"), "{log}");
    }
}

#[test]
fn a_secret_of_envoy_is_refused_with_what_to_use_instead() {
    let mut plugin = with_admin();
    plugin["admin"]["token_secret"] = json!({"name": "keyward_edge_token"});
    let module = WasmModule::load(&artifacts::module());
    let state = State::at(1_800_000_000_000_000_000);
    let Err(refused) = module.start(plugin.to_string().as_bytes(), state) else { panic!("it started") };
    let log = refused.log_text();
    for part in ["admin.token_secret", "only the native edition", "`admin.token_env`", "credential_injector"] {
        assert!(log.contains(part), "not in the log: {part}\n{log}");
    }
}

//! A VM with the filter, and an admin service that answers its calls.

use keyward_policy::checksum::{Checksum, contribution};
use keyward_policy::digest::Digest;
use keyward_policy::manifest::{Change, FORMAT, Live, LiveKey, Page};
use keyward_testbed::artifacts;
use keyward_testbed::wasm_host::{Fields, HttpCall, Outcome, State, WasmModule, WasmVm};
use serde_json::{Value, json};
use std::sync::OnceLock;

pub const FETCHED: &str = "kw_fetched_0123456789abcdefghijklmnopqrstu";
pub const INLINE: &str = "kw_inline_0123456789abcdefghijklmnopqrstuv";

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;

/// Keys come from the admin service.
pub fn with_admin() -> Value {
    json!({"admin": {"cluster": "keyward_admin"}, "rules": [
        {"path": "/a", "require": ["a:read"]}, {"path": "/public", "access": "public"}]})
}

/// The same with a key in the configuration.
pub fn with_both(when: &str) -> Value {
    let mut plugin = with_admin();
    plugin["manifest"] = json!({"use": when, "keys": [{"id": "key_inline", "name": "Inline",
        "sha256": Digest::of_key(INLINE.as_bytes()).to_hex(), "permissions": ["a:read"]}]});
    plugin
}

pub fn start(plugin: &Value) -> WasmVm {
    start_bytes(plugin.to_string().as_bytes()).unwrap_or_else(|state| panic!("{}", state.log_text()))
}

pub fn start_bytes(plugin: &[u8]) -> Result<WasmVm, Box<State>> {
    static MODULE: OnceLock<WasmModule> = OnceLock::new();
    let module = MODULE.get_or_init(|| WasmModule::load(&artifacts::module()));
    let mut state = State::at(1_800_000_000 * SECOND);
    state.clusters.push("keyward_admin".to_owned());
    module.start(plugin, state)
}

pub fn head(path: &str, more: &[(&str, &str)]) -> Fields {
    let pseudo = [(":method", "GET"), (":path", path), (":authority", "api.example.com"), (":scheme", "https")];
    let all = pseudo.iter().chain(more);
    all.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

/// A request whose body is still to come.
pub fn ask(vm: &mut WasmVm, path: &str, key: Option<&str>) -> Outcome {
    let key: Vec<_> = key.map(|key| ("x-api-key", key)).into_iter().collect();
    vm.request(head(path, &key), false)
}

/// What was decided, and the status of the answer if there was one.
pub fn told(outcome: &Outcome) -> (Option<String>, Option<u32>) {
    let code = outcome.filter_state.get("keyward.decision").map(|code| String::from_utf8_lossy(code).into_owned());
    (code, outcome.reply.as_ref().map(|reply| reply.status))
}

#[track_caller]
pub fn assert_held(outcome: &Outcome) {
    assert!(outcome.paused);
    assert_eq!(told(outcome), (None, None));
}

#[track_caller]
pub fn assert_refused(outcome: &Outcome, status: u32, code: &str) {
    assert!(outcome.paused, "{code} goes on");
    assert_eq!(told(outcome), (Some(code.to_owned()), Some(status)));
}

#[track_caller]
pub fn assert_passed(outcome: &Outcome, key_id: Option<&str>) {
    assert!(!outcome.paused);
    assert_eq!(told(outcome), (Some(if key_id.is_some() { "allowed" } else { "public" }.to_owned()), None));
    let value = |name: &str| {
        let found = outcome.headers.iter().find(|(have, _)| have == name.as_bytes());
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    assert_eq!(value("x-api-key-id").as_deref(), key_id);
    assert_eq!(value("x-api-key"), None, "the key goes on");
}

/// The newest request for a page. Ticks until there is one.
pub fn poll(vm: &mut WasmVm) -> HttpCall {
    let is_poll = |call: &&HttpCall| call.headers.iter().any(|(name, value)| name == b":method" && value == b"GET");
    let before = vm.state().calls.iter().filter(is_poll).count();
    let newest = |vm: &WasmVm| vm.state().calls.iter().rfind(is_poll).cloned();
    if before == 0 {
        vm.tick(5 * MS);
    }
    newest(vm).expect("the module asks for keys")
}

pub fn ok() -> Fields {
    vec![(b":status".to_vec(), b"200".to_vec()), (b"content-type".to_vec(), b"application/json".to_vec())]
}

/// A whole store of one key.
pub fn page() -> Value {
    page_of(0, 1, "key_fetched", FETCHED, None)
}

/// Page `number` of a load that goes on, with one key.
pub fn filler(number: u64, head: u64) -> Value {
    let mut page = page_of(number, head + 1, &format!("key_{number}"), &format!("kw_{number}"), None);
    page["more"] = json!(true);
    page["live"].as_object_mut().unwrap().remove("checksum");
    page
}

/// The page that completes a load of `fillers` pages by [`filler`].
pub fn last_page(fillers: u64) -> Value {
    let mut sum = Checksum::default();
    (0..fillers).for_each(|number| {
        sum.add(contribution(&key(number + 1, &format!("key_{number}"), &format!("kw_{number}"))));
    });
    page_of(fillers, fillers + 1, "key_fetched", FETCHED, Some(sum))
}

fn key(revision: u64, id: &str, text: &str) -> LiveKey<'static> {
    LiveKey {
        revision,
        id: id.to_owned().into(),
        name: "Fetched".into(),
        sha256: Digest::of_key(text.as_bytes()).to_hex().into(),
        permissions: vec!["a:read".into()],
        expires_at: None,
        disabled: false,
        must: Vec::new(),
    }
}

/// A page with the key of revision `since + 1`; `others` is the checksum of the pages before.
fn page_of(since: u64, head: u64, id: &str, text: &str, others: Option<Checksum>) -> Value {
    let key = key(since + 1, id, text);
    let mut sum = others.unwrap_or_default();
    sum.add(contribution(&key));
    let live = Live { count: head, checksum: Some(sum.to_string().into()) };
    let (store, revision) = ("st_1".into(), since + 1);
    let keys = vec![Change::Live(key)];
    let page = Page { format: FORMAT, store, since, revision, mark: None, head, more: false, keys, live };
    serde_json::to_value(page).unwrap()
}

/// Answers the first request for keys.
pub fn load(vm: &mut WasmVm) {
    let call = poll(vm);
    vm.answer_call(call.id, ok(), page().to_string().as_bytes());
}

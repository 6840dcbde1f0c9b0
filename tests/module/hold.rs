//! Requests that come before the first keys: they wait, but not for ever, not too many, and not for nothing.

use crate::plugin::*;
use keyward_testbed::wasm_host::WasmVm;
use serde_json::json;

const MAX_HELD: usize = 1_000;

#[test]
fn a_request_with_a_key_waits_for_the_first_keys() {
    let mut vm = start(&with_admin());
    let (good, bad) = (ask(&mut vm, "/a", Some(FETCHED)), ask(&mut vm, "/a", Some("kw_nobody")));
    assert_held(&good);
    assert_held(&bad);
    assert!(!vm.body_goes_on(good.stream), "the body carries a request along that nobody has allowed");
    load(&mut vm);
    assert_passed(&vm.outcome(good.stream), Some("key_fetched"));
    assert!(vm.body_goes_on(good.stream));
    assert_refused(&vm.outcome(bad.stream), 401, "key_unknown");
    assert!(!vm.body_goes_on(bad.stream));
    assert_eq!(vm.state().metric("keyward_held_requests"), 2);
    assert_passed(&ask(&mut vm, "/a", Some(FETCHED)), Some("key_fetched"));
}

#[test]
fn what_no_keys_could_help_is_answered_at_once() {
    let mut vm = start(&with_admin());
    assert_refused(&ask(&mut vm, "/a", None), 401, "key_missing");
    assert_refused(&ask(&mut vm, "/a", Some("a b")), 401, "key_malformed");
    assert_refused(&ask(&mut vm, "//a", Some(FETCHED)), 400, "path_ambiguous");
    assert_passed(&ask(&mut vm, "/public", Some(FETCHED)), None);
}

#[test]
fn waiting_ends_with_startup_wait() {
    let mut vm = start(&with_admin());
    let held = ask(&mut vm, "/a", Some(FETCHED));
    vm.tick(1_999 * MS);
    assert_held(&vm.outcome(held.stream));
    vm.tick(MS);
    assert_refused(&vm.outcome(held.stream), 503, "manifest_unavailable");

    let mut plugin = with_admin();
    plugin["startup_wait"] = json!("0s");
    let mut vm = start(&plugin);
    assert_refused(&ask(&mut vm, "/a", Some(FETCHED)), 503, "manifest_unavailable");
}

#[test]
fn a_vm_holds_a_thousand_requests_and_no_more() {
    let mut vm = start(&with_admin());
    let held: Vec<u32> = (0..MAX_HELD).map(|_| ask(&mut vm, "/a", Some(FETCHED)).stream).collect();
    assert_refused(&ask(&mut vm, "/a", Some(FETCHED)), 503, "manifest_unavailable");
    // A look at them does not make room, a client that leaves does.
    vm.tick(50 * MS);
    assert_refused(&ask(&mut vm, "/a", Some(FETCHED)), 503, "manifest_unavailable");
    vm.end_stream(held[500]);
    assert_held(&ask(&mut vm, "/a", Some(FETCHED)));
    assert_refused(&ask(&mut vm, "/a", Some(FETCHED)), 503, "manifest_unavailable");
    load(&mut vm);
    for (_, stream) in held.iter().enumerate().filter(|(number, _)| *number != 500) {
        assert_passed(&vm.outcome(*stream), Some("key_fetched"));
    }
}

#[test]
fn requests_that_wait_are_decided_when_the_load_is_complete_and_not_after_each_page() {
    const PAGES: u64 = 50;
    let mut vm = start(&with_admin());
    let held: Vec<u32> = (0..MAX_HELD).map(|_| ask(&mut vm, "/a", Some("kw_nobody")).stream).collect();
    let decided = |vm: &WasmVm| vm.state().counts.get("proxy_set_effective_context").copied().unwrap_or(0);
    let before = decided(&vm);
    for number in 0..PAGES {
        let call = poll(&mut vm);
        vm.answer_call(call.id, ok(), filler(number, PAGES).to_string().as_bytes());
    }
    let looks = decided(&vm) - before;
    assert!(looks < MAX_HELD as u64, "{PAGES} pages, and {looks} looks at requests that wait");
    assert_held(&vm.outcome(held[0]));
    let call = poll(&mut vm);
    let last = last_page(PAGES);
    vm.answer_call(call.id, ok(), last.to_string().as_bytes());
    for stream in held {
        assert_refused(&vm.outcome(stream), 401, "key_unknown");
    }
}

#[test]
fn clients_that_leave_while_they_wait_harm_nobody() {
    let mut vm = start(&with_admin());
    let streams: Vec<u32> = (0..5).map(|_| ask(&mut vm, "/a", Some(FETCHED)).stream).collect();
    streams.iter().take(4).for_each(|stream| vm.end_stream(*stream));
    load(&mut vm);
    assert_passed(&vm.outcome(streams[4]), Some("key_fetched"));
    vm.tick(SECOND);
    vm.end_stream(streams[4]);
}

#[test]
fn a_request_whose_key_was_removed_for_the_routes_sake_is_remembered_with_it() {
    for source in [json!({"header": "x-api-key"}), json!({"query": "x-api-key"}), json!({"cookie": "x-api-key"})] {
        let mut plugin = with_admin();
        plugin["route_metadata"] = json!(true);
        plugin["key_sources"] = json!([source]);
        let mut vm = start(&plugin);
        let query = format!("/a?x-api-key={FETCHED}&x=1");
        let cookie = format!("x-api-key={FETCHED}; a=b");
        let request = match source.as_object().unwrap().keys().next().unwrap().as_str() {
            "header" => head("/a?x=1", &[("x-api-key", FETCHED)]),
            "query" => head(&query, &[]),
            _ => head("/a?x=1", &[("cookie", &cookie)]),
        };
        let held = vm.request(request, true);
        assert_held(&held);
        vm.tick(50 * MS);
        assert_held(&vm.outcome(held.stream));
        load(&mut vm);
        let outcome = vm.outcome(held.stream);
        assert_passed(&outcome, Some("key_fetched"));
        assert!(outcome.headers.contains(&(b":path".to_vec(), b"/a?x=1".to_vec())), "{:?}", outcome.headers);
        assert!(!outcome.headers.iter().any(|(_, value)| value.windows(3).any(|part| part == b"kw_")));
    }
}

#[test]
fn a_key_that_the_fallback_does_not_have_may_still_come() {
    let mut vm = start(&with_both("fallback"));
    assert_passed(&ask(&mut vm, "/a", Some(INLINE)), Some("key_inline"));
    let held = ask(&mut vm, "/a", Some(FETCHED));
    assert_held(&held);
    load(&mut vm);
    assert_passed(&vm.outcome(held.stream), Some("key_fetched"));
    assert_refused(&ask(&mut vm, "/a", Some(INLINE)), 401, "key_unknown");

    let mut vm = start(&with_both("fallback"));
    let held = ask(&mut vm, "/a", Some(FETCHED));
    vm.tick(2 * SECOND);
    assert_refused(&vm.outcome(held.stream), 401, "key_unknown");
}

#[test]
fn keys_that_are_always_there_do_not_wait_and_others_do() {
    let mut vm = start(&with_both("always"));
    assert_passed(&ask(&mut vm, "/a", Some(INLINE)), Some("key_inline"));
    let held = ask(&mut vm, "/a", Some(FETCHED));
    assert_held(&held);
    load(&mut vm);
    assert_passed(&vm.outcome(held.stream), Some("key_fetched"));
    assert_passed(&ask(&mut vm, "/a", Some(INLINE)), Some("key_inline"));
}

#[test]
fn once_there_were_keys_nothing_waits() {
    let mut plugin = with_admin();
    plugin["admin"]["max_staleness"] = json!("3s");
    let mut vm = start(&plugin);
    load(&mut vm);
    vm.tick(3 * SECOND);
    assert_refused(&ask(&mut vm, "/a", Some(FETCHED)), 503, "manifest_unavailable");
}

#[test]
fn shadow_mode_holds_nothing_and_changes_nothing() {
    let mut plugin = with_admin();
    plugin["mode"] = json!("shadow");
    plugin["route_metadata"] = json!(true);
    let mut vm = start(&plugin);
    let request = head("/a?x=1", &[("x-api-key", FETCHED), ("x_api_key_id", "root"), ("x-api-key-name", "root")]);
    let outcome = vm.request(request, true);
    assert!(!outcome.paused);
    assert_eq!(told(&outcome), (Some("manifest_unavailable".to_owned()), None));
    assert_eq!(outcome.headers, head("/a?x=1", &[("x-api-key", FETCHED)]));
    assert_eq!(vm.state().metric("keyward_decisions.outcome.shadow.reason.manifest_unavailable"), 1);
}

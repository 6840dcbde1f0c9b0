//! Answers of the admin service that nobody would think of. None may trap, none may change what is served, and after
//! each the next good one counts.

use crate::plugin::*;
use keyward_testbed::wasm_host::{Fields, WasmVm};

fn fields(fields: &[(&str, &[u8])]) -> Fields {
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect()
}

/// Ticks until the module asks again after `call`, and gives that request's number.
fn next_call(vm: &mut WasmVm, call: u32) -> u32 {
    for _ in 0..1_000 {
        let newest = poll(vm);
        if newest.id > call {
            return newest.id;
        }
        vm.tick(50 * MS);
    }
    panic!("it does not ask again:\n{}", vm.state().log_text());
}

#[test]
fn an_odd_answer_neither_traps_nor_counts() {
    let page = page().to_string();
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let long = format!("{{\"format\":{}", "1".repeat(5 << 20));
    let twice = page.replacen("{", r#"{"format":1,"#, 1);
    let huge_count = page.replace(r#""count":1"#, r#""count":18446744073709551615"#);
    let odd: [(Fields, &[u8]); 15] = [
        (Fields::new(), b""),
        (fields(&[("content-type", b"text/plain")]), page.as_bytes()),
        (fields(&[(":status", b"")]), page.as_bytes()),
        (fields(&[(":status", b"-200")]), page.as_bytes()),
        (fields(&[(":status", b"99999999999")]), page.as_bytes()),
        (fields(&[(":status", b"\xff\xfe")]), page.as_bytes()),
        (fields(&[(":status", b"204")]), b""),
        (ok(), b""),
        (ok(), b"\xff\xfe\x00"),
        (ok(), b"null"),
        (ok(), nested.as_bytes()),
        (ok(), long.as_bytes()),
        (ok(), twice.as_bytes()),
        (ok(), huge_count.as_bytes()),
        (fields(&[(":status", b"429"), ("retry-after", b"18446744073709551615"), ("date", b"\xff")]), b""),
    ];
    for (number, (headers, body)) in odd.into_iter().enumerate() {
        let mut vm = start(&with_admin());
        let first = poll(&mut vm).id;
        vm.answer_call(first, headers, body);
        assert_refused(&ask_after_wait(&mut vm), 503, "manifest_unavailable");
        let again = next_call(&mut vm, first);
        // Dates that are none, in an answer that is one.
        let mut headers = ok();
        headers
            .push((b"date".to_vec(), [&b"Tue, 24 Nov 99999999 03:11:05 GMT"[..], b"Tue, \xff"][number % 2].to_vec()));
        vm.answer_call(again, headers, page.as_bytes());
        assert_passed(&ask(&mut vm, "/a", Some(FETCHED)), Some("key_fetched"));
        assert!(!vm.state().log_text().contains("kw_"), "{}", vm.state().log_text());
    }
}

/// A request that is held, and then no more.
fn ask_after_wait(vm: &mut WasmVm) -> keyward_testbed::wasm_host::Outcome {
    let held = ask(vm, "/a", Some(FETCHED));
    let mut headers_only = held.clone();
    for _ in 0..60 {
        if headers_only.reply.is_some() {
            break;
        }
        vm.tick(50 * MS);
        headers_only = vm.outcome(held.stream);
    }
    headers_only
}

#[test]
fn a_callback_for_a_call_that_is_over_changes_nothing() {
    let mut vm = start(&with_admin());
    let first = poll(&mut vm).id;
    // Envoy's time limit passes without a word: the request is given up and made again.
    vm.tick(60 * SECOND);
    let again = next_call(&mut vm, first);
    vm.answer_call(again, ok(), page().to_string().as_bytes());
    let stale = page().to_string().replace("st_1", "st_2");
    vm.answer_call(first, ok(), stale.as_bytes());
    assert_passed(&ask(&mut vm, "/a", Some(FETCHED)), Some("key_fetched"));
}

//! What changes elsewhere comes to an open page by itself.

use crate::Page;
use crate::support::wait_for_states;

#[test]
fn open_pages_follow_what_happens() {
    let Some(page) = Page::open() else { return };
    let (browser, service) = (&page.browser, &page.service);
    browser.wait_text("main", "No API keys yet");
    let id = page.make("From elsewhere", &["records:read"]);
    browser.wait_text("#keys", "From elsewhere");
    browser.wait_text("#count", "1 key");
    service.admin().patch(&format!("/v1/keys/{id}"), &serde_json::json!({"disabled": true})).ok(200);
    browser.wait_text("#keys", "Disabled");

    page.goto("/settings/proxies");
    browser.wait_text("main", "No filter has called yet");
    let vm = service.vm("worker-1").follow();
    browser.wait_text("#proxies", "worker-1");
    browser.wait_text("#proxies", "Up to date");
    drop(vm);
    browser.wait_text("#proxies", "Out of contact");
    browser.wait_text("#proxies", "refuses everything by");
    page.assert_no_complaints();
}

#[test]
fn a_receipt_goes_on_telling() {
    let Some(page) = Page::open() else { return };
    let (browser, service) = (&page.browser, &page.service);
    let id = page.make("Old", &["records:read"]);
    page.make("Another", &["records:read"]);
    let _follows = service.vm("follows").follow();
    // This one loads what there is, waits with a poll, and then says nothing of what came.
    let silent = service.vm("silent");
    let since = silent.load();
    let waiting = std::thread::spawn(move || silent.poll(since, since, "25s"));
    wait_for_states(&service.admin(), (2, 0));
    page.goto(&format!("/settings/keys/{id}"));
    browser.click(".head-actions a.danger");
    browser.click("dialog button.danger");
    let text = browser.wait_text("dialog .receipt", "Refused by 1 of 2 filter VMs so far.");
    assert!(text.contains("The others refuse by"), "{text}");
    // It leaves: of those in contact all have applied it, and it is told by when even that one refuses.
    browser.wait_text("dialog .receipt", "Refused by 1 of 1 filter VM after");
    let text = browser.wait_text("dialog .receipt", "1 out of contact refuses by");
    assert!(text.contains("UTC) at the latest"), "local time, with UTC beside it: {text}");
    waiting.join().unwrap();
    page.assert_no_complaints();
}

#[test]
fn times_are_local_with_utc_beside_them() {
    let Some(page) = Page::open() else { return };
    let id = page.make("Timed", &["records:read"]);
    // 03:04:05 UTC is 04:04 in Berlin in winter.
    page.use_key(&id, &[("records:read", 1)]);
    page.goto("/settings/keys");
    let last_used = || page.browser.wait_text("#keys td:nth-of-type(5)", "UTC").replace('\n', " ");
    assert_eq!(last_used(), "2 Jan 2026 04:04 (03:04 UTC)");
    // Where it is another day in UTC, that is told too.
    let used = serde_json::json!({"id": id, "count": 1, "last_used_at": "2026-01-03T23:30:00Z", "permissions": {}});
    let batch = serde_json::json!({"vm": "another", "seq": 1, "keys": [used]});
    assert!(page.service.edge().post("/v1/usage", &batch).status < 300);
    page.goto("/settings/keys");
    assert_eq!(last_used(), "4 Jan 2026 00:30 (2026-01-03 23:30 UTC)");
}

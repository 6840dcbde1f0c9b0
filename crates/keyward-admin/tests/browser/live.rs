//! What changes elsewhere comes to an open page by itself.

use crate::Page;
use crate::place::{EVENING_IN_LOS_ANGELES, NEW_YEAR_IN_TOKYO, NOON_IN_BERLIN, Place, everywhere};
use crate::support::wait_for_states;

everywhere!(open_pages_follow_what_happens);
fn open_pages_follow_what_happens(place: Place) {
    let Some(page) = Page::open(place) else { return };
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

everywhere!(a_receipt_goes_on_telling);
fn a_receipt_goes_on_telling(place: Place) {
    let Some(page) = Page::open(place) else { return };
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
    let text = browser.wait_text("dialog .receipt", "Refused by 1 of 2 filter instances so far.");
    assert!(text.contains("The others may accept this key until"), "{text}");
    // It leaves: of those in contact all have applied it, and it is told by when even that one refuses.
    browser.wait_text("dialog .receipt", "Refused by the only filter instance in contact (");
    let text = browser.wait_text("dialog .receipt", "1 that is cut off may accept this key until");
    assert!(text.contains("UTC) at the latest"), "local time, with UTC beside it: {text}");
    waiting.join().unwrap();
    page.assert_no_complaints();
}

everywhere!(a_keys_page_follows_what_happens);
fn a_keys_page_follows_what_happens(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let (browser, admin) = (&page.browser, page.service.admin());
    let id = page.make("Watched", &["records:read"]);
    let path = format!("/settings/keys/{id}");
    let change = |change: serde_json::Value| admin.patch(&format!("/v1/keys/{id}"), &change).ok(200);
    page.goto(&path);
    browser.wait_text("h1", "Active");
    change(serde_json::json!({"disabled": true}));
    browser.wait_text("h1", "Disabled");
    browser.wait_text("#toggle", "Enable key");
    // What it says can be done is done at the first try.
    browser.click("#toggle");
    browser.wait_text("h1", "Active");
    change(serde_json::json!({"name": "Renamed", "permissions": ["records:read", "files:read"]}));
    browser.wait_text("h1", "Renamed");
    assert_eq!(browser.property("#name", "value"), "Renamed");
    assert_eq!(browser.property("[id='permission-files:read']", "checked"), true);
    // What somebody is filling in is left alone.
    browser.fill("#name", "Mine");
    change(serde_json::json!({"disabled": true}));
    browser.wait_text("h1", "Disabled");
    assert_eq!(browser.property("#name", "value"), "Mine");
    assert_eq!(admin.delete(&format!("/v1/keys/{id}")).status, 200);
    browser.wait_text("main", "does not exist");
    assert!(!browser.body_text().contains("Active"));
    browser.click("main a");
    browser.wait_text("main", "No API keys yet");
    page.assert_no_complaints();
}

#[test]
fn times_in_the_list_are_relative_and_say_the_moment() {
    for (place, created, seen) in [
        (NOON_IN_BERLIN, "24 Nov 2026, 12:", "(2026-11-24 11:"),
        (NEW_YEAR_IN_TOKYO, "1 Jan 2027, 08:", "(2026-12-31 23:"),
        (EVENING_IN_LOS_ANGELES, "28 Feb 2027, 20:", "(2027-03-01 04:"),
    ] {
        let Some(page) = Page::open(place) else { return };
        let id = page.make("Timed", &["records:read"]);
        page.use_key(&id, &[("records:read", 1)]);
        page.alter(&["UPDATE keys SET created_at = created_at - 3 * 60000"]);
        page.goto("/settings/keys");
        let time = |column: u32| format!("#keys td:nth-of-type({column}) time");
        assert_eq!(page.browser.text_of(&time(3)), "3 minutes ago");
        assert_eq!(page.browser.text_of(&time(4)), "in 30 days");
        assert!(page.browser.text_of(&time(5)).ends_with(" ago"));
        // The moment itself is in the title, and on the key's own page.
        let title = page.browser.property(&time(3), "title").as_str().unwrap_or_default().to_owned();
        assert!(title.starts_with(created) && title.contains(seen) && title.ends_with(" UTC)"), "{title}");
        page.goto(&format!("/settings/keys/{id}"));
        let facts = page.browser.wait_text("#facts", "UTC").replace('\n', " ");
        assert!(facts.contains(&created.replace(',', "")), "{facts}");
    }
}

everywhere!(times_are_local_with_utc_beside_them);
fn times_are_local_with_utc_beside_them(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let id = page.make("Timed", &["records:read"]);
    let berlin = place.zone == "Europe/Berlin";
    // 03:04:05 UTC is 04:04 in Berlin in winter, and 12:04 in Tokyo.
    page.use_key(&id, &[("records:read", 1)]);
    page.goto(&format!("/settings/keys/{id}"));
    let last_used = || page.browser.wait_text("#facts div:nth-of-type(4) dd", "UTC").replace('\n', " ");
    let expected = if berlin { "2 Jan 2026 04:04 (03:04 UTC)" } else { "2 Jan 2026 12:04 (03:04 UTC)" };
    assert_eq!(last_used(), expected);
    // Where it is another day in UTC, the day is named too.
    let used = serde_json::json!({"id": id, "count": 1, "last_used_at": "2026-01-03T23:30:00Z", "permissions": {}});
    let batch = serde_json::json!({"vm": "another", "seq": 1, "keys": [used]});
    assert!(page.service.edge().post("/v1/usage", &batch).status < 300);
    page.goto(&format!("/settings/keys/{id}"));
    let local = if berlin { "00:30" } else { "08:30" };
    assert_eq!(last_used(), format!("4 Jan 2026 {local} (2026-01-03 23:30 UTC)"));
}

everywhere!(the_list_behind_a_dialog_is_up_to_date);
fn the_list_behind_a_dialog_is_up_to_date(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let (browser, service) = (&page.browser, &page.service);
    let (stays, mut lost) = (service.vm("stays"), service.vm("lost"));
    lost.max_staleness = "15m".to_owned();
    let (_stays, lost) = (stays.follow(), lost.follow());
    wait_for_states(&service.admin(), (2, 0));
    drop(lost);
    wait_for_states(&service.admin(), (1, 1));
    page.make("Stays", &["records:read"]);
    let id = page.make("Goes", &["records:read"]);
    page.goto("/settings/keys");
    browser.click(&format!("#delete-{id}"));
    browser.wait_text("#dialog-title", "Delete");
    browser.click("dialog button.danger");
    browser.wait_text("#dialog-title", "Key deleted");
    browser.wait_gone(&format!("#delete-{id}"));
    assert!(browser.is_there("dialog[open]"));
    page.assert_no_complaints();
}

//! The whole life of a key, by mouse.

use crate::Page;
use crate::place::{Place, everywhere};
use crate::support::wait_for_states;

everywhere!(a_key_lives_by_mouse);
fn a_key_lives_by_mouse(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let (browser, service) = (&page.browser, &page.service);
    let _filters = [service.vm("a").follow(), service.vm("b").follow()];
    wait_for_states(&service.admin(), (2, 0));

    // An empty list explains the first step.
    assert!(browser.text_of("main").contains("No API keys yet"));
    browser.click(".head a.primary");
    browser.find("dialog[open]");
    assert_eq!(browser.property("#expires-30d", "checked"), true, "30 days are chosen");

    // What is missing is told beside its field, and nothing is sent.
    browser.click("dialog button[type=submit]");
    assert_eq!(browser.text_of("#name-error"), "Give the key a name.");
    assert_eq!(browser.text_of("#permissions-error"), "Choose at least one permission.");
    assert!(page.keys().is_empty());

    // The warning comes with the choice that it is about.
    assert!(!browser.body_text().contains("will never be revoked by itself"));
    browser.click("label[for=expires-never]");
    assert!(browser.text_of("#never-warning").contains("only when strictly necessary"));
    browser.click("label[for=expires-90d]");

    browser.fill("#name", "  CI Bot ");
    browser.click("[for='permission-records:read']");
    browser.click("[for='permission-files:read']");
    browser.click("dialog button[type=submit]");
    browser.wait_text("#dialog-title", "API key created");
    let key = browser.text_of("#key");
    assert!(key.starts_with("kw_") && key.len() == 45, "{key}");
    let curl = browser.text_of("#curl");
    assert!(curl.starts_with("curl -s -X GET 'https://host/api/collections/your_collection/records'"), "{curl}");
    assert!(curl.contains(&format!("-H 'X-Api-Key: {key}'")), "{curl}");
    assert!(browser.text_of("dialog").contains("only shown once"));
    browser.wait_text("dialog .receipt", "Works on all 2 filter instances in contact (");

    // Closing asks first, because it was not copied.
    browser.click("dialog [data-close]");
    assert!(browser.text_of("[data-ask]").contains("You have not copied the key"));
    browser.click("[data-ask-stay]");
    browser.click("[data-copy=key]");
    browser.wait_text("[data-copied]", "Copied");
    let params = serde_json::json!({"permissions": ["clipboardReadWrite"]});
    browser.devtools("Browser.grantPermissions", params);
    let copied =
        browser.eval_async("navigator.clipboard.readText().then(arguments[0], (e) => arguments[0](String(e)))");
    assert_eq!(copied, key.as_str());
    browser.click("dialog [data-close]");
    browser.wait_gone("dialog[open]");
    assert!(!browser.eval("return document.documentElement.outerHTML").to_string().contains(&key[3..40]));

    let row = browser.wait_text("#keys tbody tr", "CI Bot");
    for says in ["Read records", "Read files", &key[41..], "Never used"] {
        assert!(row.contains(says), "{says}: {row}");
    }
    let made = &page.keys()[0];
    assert_eq!((made["name"].as_str(), made["expires_in"].as_str()), (Some("CI Bot"), Some("90d")));

    // Its own page: what was granted and never used can be dropped with one click.
    let id = made["id"].as_str().unwrap().to_owned();
    page.use_key(&id, &[("records:read", 1_234)]);
    browser.click("#keys a.name");
    browser.wait_text("h1", "CI Bot");
    assert!(browser.text_of("#usage").contains("One permission is not used yet."));
    assert!(browser.text_of("#usage").contains("1\u{202f}234"));
    assert!(browser.text_of("#known").contains("Applied by 2 of 2 instances"));
    browser.click("#usage form button");
    browser.wait_text(".notice", "“Read files” is no longer granted.");
    browser.wait_text(".notice .receipt", "Applied by all 2 filter instances in contact (");
    assert_eq!(page.keys()[0]["permissions"], serde_json::json!(["records:read"]));

    // Edited, disabled, enabled.
    browser.fill("#name", "CI Robot");
    browser.click("[for='permission-records:write']");
    browser.click("#edit button");
    browser.wait_text("h1", "CI Robot");
    assert_eq!(page.keys()[0]["permissions"], serde_json::json!(["records:read", "records:write"]));
    browser.click("#toggle");
    browser.wait_text("h1", "Disabled");
    browser.wait_text(".notice .receipt", "Refused by all 2 filter instances in contact (");
    assert_eq!(page.keys()[0]["status"], "disabled");
    browser.click("#toggle");
    browser.wait_text("h1", "Active");
    assert_eq!(page.keys()[0]["status"], "active");
    let trail = browser.text_of("#trail");
    for says in ["Key created", "Removed: Read files", "Renamed from “CI Bot” to “CI Robot”", "Disabled", "Enabled"]
    {
        assert!(trail.contains(says), "{says}: {trail}");
    }

    // Regenerated: another key, once; the receipt says who refuses the old one.
    browser.click(".head-actions a:not(.danger)");
    assert!(browser.text_of("dialog").contains("stops working immediately"));
    browser.click("dialog button.danger");
    browser.wait_text("#dialog-title", "API key regenerated");
    let second = browser.text_of("#key");
    assert_ne!(key, second);
    browser.wait_text("dialog .receipt", "The old key is refused by all 2 filter instances in contact (");
    browser.click("[data-close]");
    browser.click("[data-ask-leave]");
    browser.wait_gone("dialog[open]");

    // Deleted, with its receipt.
    browser.click(".head-actions a.danger");
    assert!(browser.text_of("dialog").contains("lose access immediately"));
    browser.click("dialog button.danger");
    browser.wait_text("#dialog-title", "Key deleted");
    browser.wait_text("dialog .receipt", "Refused by all 2 filter instances in contact (");
    // The page of the key has nothing more to show.
    browser.click("dialog [data-close]");
    browser.wait_text("main", "No API keys yet");
    assert_eq!(page.path(), "/settings/keys");
    assert!(page.keys().is_empty());
    page.goto("/settings/audit?action=key.delete");
    assert!(browser.text_of("#entries").contains("CI Robot"));
    page.assert_no_complaints();
}

everywhere!(search_finds_as_one_types_and_pages_follow_each_other);
fn search_finds_as_one_types_and_pages_follow_each_other(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    for number in 0..30 {
        page.make(&format!("Service {number:02}"), &["records:read"]);
    }
    page.goto("/settings/keys");
    assert_eq!(browser.text_of("#count"), "30 keys");
    assert_eq!(browser.all("#keys tbody tr").len(), 25);
    assert!(browser.text_of(".pager").contains("1–25 of 30"));
    browser.click("a[rel=next]");
    assert_eq!(browser.all("#keys tbody tr").len(), 5);
    assert!(browser.text_of(".pager").contains("26–30 of 30"));
    browser.click(".pager a");
    assert_eq!(browser.all("#keys tbody tr").len(), 25);
    browser.fill("#q", "service");
    browser.wait_text("#count", "More than 25 found");
    browser.fill("#q", "service 07");
    browser.wait_text("#count", "1 found");
    assert!(browser.text_of("#keys").contains("Service 07"));
    assert!(browser.has_focus("#q"), "typing goes on");
    browser.fill("#q", "no such key");
    browser.wait_text("#count", "No match");
    assert!(browser.text_of("#keys").contains("No key matches “no such key”"));
    assert!(page.path().ends_with("?q=no+such+key"));
    page.assert_no_complaints();
}

everywhere!(filters_hold_together_and_pages_lead_both_ways);
fn filters_hold_together_and_pages_lead_both_ways(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    for number in 0..30 {
        page.make(&format!("Reader {number:02}"), &["records:read"]);
    }
    page.make("Writer", &["records:write"]);
    page.goto("/settings/keys");
    browser.eval("document.querySelector('#permission').value = 'records:read'; document.querySelector('#permission').dispatchEvent(new Event('input', {bubbles: true}))");
    browser.wait_text("#count", "30 found");
    browser.eval("document.querySelector('#sort').value = 'name'; document.querySelector('#sort').dispatchEvent(new Event('input', {bubbles: true}))");
    browser.wait_text("#keys tbody tr:first-child", "Reader 00");
    assert!(page.path().contains("permission=records%3Aread") && page.path().contains("sort=name"), "{}", page.path());
    // What was chosen stays on each page, and after a reload.
    browser.click("#next");
    browser.wait_text(".pager", "26–30 of 30");
    browser.reload();
    browser.wait_text("#keys tbody tr:first-child", "Reader 25");
    assert_eq!(browser.property("#permission", "value").as_str(), Some("records:read"));
    browser.click("#previous");
    browser.wait_text(".pager", "1–25 of 30");
    browser.wait_text("#keys tbody tr:first-child", "Reader 00");
    assert!(!browser.is_there("#previous"));
    browser.eval("document.querySelector('#status').value = 'disabled'; document.querySelector('#status').dispatchEvent(new Event('input', {bubbles: true}))");
    browser.wait_text("#keys", "No key matches these filters");
    browser.click("[data-clear]");
    browser.wait_text("#count", "31 keys");
    page.assert_no_complaints();
}

everywhere!(a_decision_is_seen_where_it_is_below_the_form);
fn a_decision_is_seen_where_it_is_below_the_form(place: Place) {
    for script in [true, false] {
        let options = crate::Options { width: 360, height: 640, script, ..crate::Options::default() };
        let Some(page) = Page::with(place, options) else { return };
        let browser = &page.browser;
        page.goto("/settings/explain");
        browser.fill("#path", "/api/health");
        browser.click("#request button.primary");
        browser.wait_text("#result", "Allowed");
        let top = browser.eval("return document.querySelector('#result').getBoundingClientRect().top");
        let is_seen = top.as_f64().is_some_and(|top| (-1.0..100.0).contains(&top));
        assert!(is_seen, "with the script: {script}: {top}");
    }
}

everywhere!(explain_decides_as_the_filter_does);
fn explain_decides_as_the_filter_does(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    page.make("Reader", &["records:read"]);
    page.goto("/settings/explain");
    browser.fill("#key", "Reader");
    browser.fill("#path", "/api/collections/posts/records");
    browser.click("main button.primary");
    browser.wait_text("#result", "Allowed allowed");
    assert!(browser.text_of("#result").contains("require records:read"));
    assert!(browser.text_of("#result .checks").contains("rules[12] matches"), "as the configuration counts");
    // What a terminal shows between backticks is code here.
    assert!(!browser.text_of("#result").contains('`'), "{}", browser.text_of("#result"));
    assert_eq!(browser.text_of("#result .checks code"), "/api/collections/posts/records");
    // Times are as on every page, and what has a name in the configuration looks the same wherever it is mentioned.
    assert_eq!(browser.all("#result .checks time.inline .utc").len(), 2);
    let named = browser.eval(
        "return [...document.querySelectorAll('#result code')].map((e) => e.textContent).filter((text) => text === 'records:read').length",
    );
    assert_eq!(named, 3, "{}", browser.text_of("#result"));
    browser.fill("#method", "POST");
    browser.fill("#content_type", "multipart/form-data");
    browser.click("main button.primary");
    browser.wait_text("#result", "Denied with 403 permission_missing");
    assert!(browser.text_of("#result").contains("files:write"));
    browser.fill("#config", "rules: [");
    browser.fill("#key", "nobody");
    browser.click("main button.primary");
    browser.wait_text("#config-error", "neither YAML nor JSON");
    assert!(browser.has_focus("#config"));
    browser.fill("#config", "");
    browser.click("main button.primary");
    browser.wait_text("#key-error", "no key of this name or id");
    page.assert_no_complaints();
}

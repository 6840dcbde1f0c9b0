//! Without JavaScript: plain links and forms.

use crate::place::{Place, everywhere};
use crate::{Options, Page};

everywhere!(a_key_lives_without_script);
fn a_key_lives_without_script(place: Place) {
    let Some(page) = Page::with(place, Options { script: false, ..Options::default() }) else { return };
    let browser = &page.browser;
    let _filter = page.service.vm("a").follow();
    browser.click(".head a.primary");
    assert_eq!(page.path(), "/settings/keys/new");
    browser.fill("#name", "Plain");
    browser.click("main button.primary");
    browser.wait_text("#permissions-error", "Choose at least one permission.");
    assert_eq!(browser.property("#name", "value"), "Plain");
    // A screen reader reads the title first.
    assert_eq!(browser.title(), "Error: Create API key · Keyward");
    browser.click("[for='permission-records:read']");
    browser.click("[for='permission-files:read']");
    browser.click("main button.primary");
    browser.wait_text("h1", "API key created");
    let first = browser.text_of("#key");
    assert!(first.starts_with("kw_"));
    assert!(browser.all("[data-copy]").iter().all(|button| !browser.is_shown(button)), "no button that cannot work");
    browser.click(".buttons a.primary");
    browser.wait_text("#keys", "Plain");
    // In the list times are relative, with the moment in the title; on the key's page they are RFC 3339 in UTC.
    assert_eq!(browser.text_of("#keys td:nth-of-type(4) time"), "in 30 days");
    let title = browser.property("#keys time", "title").as_str().unwrap_or_default().to_owned();
    assert!(title.len() == 23 && title.ends_with(" UTC"), "{title}");
    browser.fill("#q", "plain");
    browser.click("#toolbar button");
    browser.wait_text("#count", "1 found");
    browser.click("#keys a.name");
    browser.wait_text("h1", "Plain");
    let time = browser.text_of("#facts time");
    assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
    browser.click("#usage form button");
    browser.wait_text(".notice", "is no longer granted.");
    assert!(browser.text_of(".notice").contains("Applied by the only filter instance in contact"));
    browser.click("#toggle");
    browser.wait_text("h1", "Disabled");
    browser.reload();
    browser.wait_text("h1", "Disabled");
    assert!(!browser.is_there(".notice.good"), "told once");
    browser.click("#toggle");
    browser.click(".head-actions a:not(.danger)");
    browser.click("button.danger");
    browser.wait_text("h1", "API key regenerated");
    assert_ne!(browser.text_of("#key"), first);
    // Sending the form again by reloading does nothing.
    let masked = page.keys()[0]["masked"].clone();
    browser.reload();
    browser.wait_text("h1", "This was done already");
    assert_eq!(page.keys()[0]["masked"], masked);
    page.goto("/settings/keys");
    browser.click("#keys .actions a.danger");
    browser.click("button.danger");
    browser.wait_text("h1", "Key deleted");
    assert!(browser.text_of(".receipt").contains("Refused by the only filter instance in contact"));
    assert!(page.keys().is_empty());
    page.goto("/settings/explain");
    browser.fill("#path", "/api/health");
    browser.click("main button.primary");
    browser.wait_text("#result", "Allowed public");

    // A session that ends loses nothing here either.
    page.goto("/settings/keys/new");
    browser.fill("#name", "Waiting");
    browser.click("[for='permission-records:read']");
    browser.delete_cookies();
    browser.click("main button.primary");
    browser.wait_text(".notice", "nothing was changed");
    browser.fill("#token", crate::ADMIN);
    browser.click("button[type=submit]");
    browser.wait_text("h1", "Create API key");
    assert_eq!(browser.property("#name", "value"), "Waiting");
    assert_eq!(browser.property("[id='permission-records:read']", "checked"), true);
}

everywhere!(an_edit_of_a_deleted_key_becomes_a_new_key);
fn an_edit_of_a_deleted_key_becomes_a_new_key(place: Place) {
    // Either Save finds that the key is gone, or the session has ended, and who signed in again finds it.
    for session_ends in [false, true] {
        let Some(page) = Page::with(place, Options { script: false, ..Options::default() }) else { return };
        let browser = &page.browser;
        let id = page.make("Before", &["records:read"]);
        page.goto(&format!("/settings/keys/{id}"));
        browser.fill("#name", "After");
        browser.click("[for='permission-files:write']");
        page.service.admin().delete(&format!("/v1/keys/{id}")).ok(200);
        if session_ends {
            browser.delete_cookies();
        }
        browser.click("#edit button[type=submit]");
        if session_ends {
            browser.wait_text(".notice", "nothing was changed");
            browser.fill("#token", crate::ADMIN);
            browser.click("button[type=submit]");
        }
        browser.wait_text("main .notice.bad", "“Before” was deleted by admin (environment), ");
        assert_eq!(browser.title(), "Error: Create API key · Keyward");
        assert_eq!(browser.property("#name", "value"), "After");
        browser.click("main button.primary");
        browser.wait_text("h1", "API key created");
        let key = &page.keys()[0];
        assert_eq!(key["name"], "After");
        assert_eq!(key["permissions"], serde_json::json!(["records:read", "files:write"]));
    }
}

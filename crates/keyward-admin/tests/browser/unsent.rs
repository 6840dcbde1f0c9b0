//! What is filled in and not yet sent is never lost: when the service is away, the session has ended, another form of the
//! page is sent, or the page is left.

use crate::Page;
use crate::driver::ESCAPE;
use crate::place::{Place, everywhere};
use crate::support::ADMIN;
use keyward_testbed::wait;
use serde_json::json;

/// Whether the page may be left without a question.
fn leaves(page: &Page) -> bool {
    page.browser.eval(
        "const event = new Event('beforeunload', {cancelable: true}); dispatchEvent(event); return !event.defaultPrevented",
    ) == true
}

fn sign_in_again(page: &Page) {
    page.browser.wait_text("#sign-in-title", "Your session has ended");
    page.browser.fill("#token", ADMIN);
    page.browser.click("[data-sign-in-card] button");
    page.browser.wait_gone("#sign-in-title");
}

everywhere!(another_form_of_the_page_takes_nothing_away);
fn another_form_of_the_page_takes_nothing_away(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    let id = page.make("Before", &["records:read", "files:read"]);
    page.goto(&format!("/settings/keys/{id}"));
    browser.fill("#name", "After");
    browser.click("[for='permission-files:write']");
    browser.click("#toggle");
    browser.wait_text("#enabled h2", "Disabled");
    assert_eq!(browser.property("#name", "value"), "After");
    assert_eq!(browser.property("[id='permission-files:write']", "checked"), true);
    assert_eq!(browser.text_of("h1"), "Before Disabled", "nothing was saved");
    assert!(!leaves(&page));
    // A permission that is removed stays so, and the rest stays filled in.
    assert_eq!(browser.name_of("#usage td.actions button"), "Remove Read records");
    browser.click("#usage td.actions button");
    browser.wait_gone("#usage td.actions button");
    assert_eq!(browser.property("[id='permission-records:read']", "checked"), false);
    assert_eq!(browser.property("#name", "value"), "After");
    browser.click("#edit button");
    browser.wait_text("h1", "After");
    let key = &page.keys()[0];
    assert_eq!((&key["permissions"], &key["status"]), (&json!(["files:read", "files:write"]), &json!("disabled")));
    assert!(leaves(&page));
    page.assert_no_complaints();
}

everywhere!(a_request_to_explain_stays);
fn a_request_to_explain_stays(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    page.goto("/settings/explain");
    assert!(leaves(&page));
    browser.fill("#path", "/typed");
    browser.fill("#config", "{manifest: {keys: []}, rules: [{path: '/typed', access: public}]}");
    assert!(!leaves(&page), "leaving asks first");
    browser.offline(true);
    browser.click("#request button.primary");
    browser.wait_text("#request [data-failure]", "could not be reached");
    browser.click("nav a[href$=audit]");
    browser.wait_text("main > [data-failure]", "could not be reached");
    browser.offline(false);
    browser.delete_cookies();
    browser.click("#request button.primary");
    sign_in_again(&page);
    assert_eq!(browser.property("#path", "value"), "/typed");
    browser.click("#request button.primary");
    browser.wait_text("#result", "Allowed");
    assert_eq!(browser.property("#path", "value"), "/typed");
}

everywhere!(a_change_of_a_key_stays_when_the_session_ends);
fn a_change_of_a_key_stays_when_the_session_ends(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    let id = page.make("Before", &["records:read"]);
    page.goto(&format!("/settings/keys/{id}"));
    browser.fill("#name", "After");
    browser.delete_cookies();
    browser.click("#edit button");
    sign_in_again(&page);
    assert_eq!(browser.property("#name", "value"), "After");
    browser.click("#edit button");
    browser.wait_text("h1", "After");
    assert_eq!(page.keys()[0]["name"], "After");
}

everywhere!(filters_of_the_audit_log_stay);
fn filters_of_the_audit_log_stay(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    page.make("Made", &["records:read"]);
    page.goto("/settings/audit");
    browser.fill("#actor", "nobody");
    browser.eval("document.querySelector('#since').value = '2026-01-02'");
    browser.offline(true);
    browser.click(".filters button");
    browser.wait_text("main > [data-failure]", "What you filled in is still here");
    assert_eq!(browser.property("#actor", "value"), "nobody");
    browser.offline(false);
    browser.delete_cookies();
    browser.click(".filters button");
    sign_in_again(&page);
    assert_eq!(browser.property("#since", "value"), "2026-01-02");
    browser.click(".filters button");
    browser.wait_text("#entries", "Nothing matches");
    assert_eq!(page.path(), "/settings/audit?action=&actor=nobody&subject=&since=2026-01-02&until=");
}

everywhere!(a_token_stays_when_the_service_is_away);
fn a_token_stays_when_the_service_is_away(place: Place) {
    let Some(page) = Page::signed_out(place, crate::Options::default()) else { return };
    let browser = &page.browser;
    page.goto("/sign-in?next=/settings/audit");
    browser.fill("#token", ADMIN);
    browser.offline(true);
    browser.click("button[type=submit]");
    browser.wait_text(".card > [data-failure]", "could not be reached");
    assert_eq!(browser.property("#token", "value"), ADMIN);
    browser.offline(false);
    browser.click("button[type=submit]");
    browser.wait_text("h1", "Audit log");
    // Signing out is told to have failed, too.
    browser.offline(true);
    browser.click(".who button");
    browser.wait_text("main > [data-failure]", "could not be reached");
    browser.offline(false);
    browser.click(".who button");
    browser.wait_text(".notice", "You have signed out.");
}

everywhere!(a_search_that_could_not_be_made_is_told_and_made_later);
fn a_search_that_could_not_be_made_is_told_and_made_later(place: Place) {
    let Some(mut page) = Page::open(place) else { return };
    page.make("Apple", &["records:read"]);
    page.make("Pear", &["records:read"]);
    page.goto("/settings/keys");
    let address = page.service.url.trim_start_matches("http://").to_owned();
    page.service.kill();
    page.browser.fill("#q", "pear");
    page.browser.wait_text("main > [data-failure]", "may be out of date");
    page.browser.wait_text(".away", "may be out of date");
    assert_eq!(page.browser.property("#q", "value"), "pear");
    page.start = page.start.clone().with("KEYWARD_LISTEN", &address);
    page.service = page.start.serve();
    sign_in_again(&page);
    page.browser.wait_gone("main > [data-failure]");
    page.browser.wait_text("#count", "1 found");
    assert_eq!(page.browser.property("#q", "value"), "pear");
    wait::until("nothing is out of date", crate::driver::PATIENCE, || {
        (page.browser.eval("return document.querySelector('.away').textContent") == "").then_some(())
    });
}

everywhere!(a_change_of_a_key_that_somebody_deletes_becomes_a_new_key);
fn a_change_of_a_key_that_somebody_deletes_becomes_a_new_key(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    let id = page.make("Before", &["records:read"]);
    page.goto(&format!("/settings/keys/{id}"));
    browser.fill("#name", "After");
    browser.click("[for='permission-files:write']");
    page.service.admin().delete(&format!("/v1/keys/{id}")).ok(200);
    // The page says so before the form is sent, and keeps it.
    browser.wait_text("main > [data-failure]", "This key does not exist any more: it was deleted.");
    assert_eq!(browser.property("#name", "value"), "After");
    browser.click("#edit button[type=submit]");
    let notice = browser.wait_text("main .notice.bad", "“Before” was deleted by admin (environment), ");
    assert!(notice.contains("so nothing was saved. What you filled in is below"), "{notice}");
    assert_eq!(browser.text_of("h1"), "Create API key");
    assert_eq!(browser.property("#name", "value"), "After");
    assert_eq!(browser.property("[id='permission-files:write']", "checked"), true);
    assert!(!leaves(&page), "leaving asks first");
    // A reload asks for the same form.
    browser.reload();
    browser.wait_text("main .notice.bad", "“Before” was deleted by");
    assert_eq!(browser.property("#name", "value"), "After");
    browser.click("main form[data-submit] button[type=submit]");
    browser.wait_text("#dialog-title", "API key created");
    let key = &page.keys()[0];
    assert_eq!((&key["name"], &key["permissions"]), (&json!("After"), &json!(["records:read", "files:write"])));
    page.assert_no_complaints();
}

everywhere!(a_new_key_that_was_not_sent_comes_back_in_its_tab);
fn a_new_key_that_was_not_sent_comes_back_in_its_tab(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    let kept = || browser.eval("return JSON.stringify({...sessionStorage})");
    let open = |path: &str| {
        page.goto(path);
        browser.click(".head a.primary");
        browser.wait_focus("dialog #name");
    };
    let fill = || {
        browser.fill("#name", "Later");
        browser.click("[for='permission-files:read']");
        browser.click("[for='expires-7d']");
    };
    let is_back = || {
        assert_eq!(browser.property("#name", "value"), "Later");
        assert_eq!(browser.property("[id='permission-files:read']", "checked"), true);
        assert_eq!(browser.property("#expires-7d", "checked"), true);
    };
    open("/settings/keys");
    fill();
    browser.press(ESCAPE);
    browser.wait_gone("dialog[open]");
    let draft = r#"{"keyward-draft:/settings/keys/new":"name=Later&permissions=files%3Aread&expires_in=7d"}"#;
    assert_eq!(kept(), draft, "no nonce, and nothing else");
    page.goto("/settings/audit");
    open("/settings/keys");
    is_back();
    // The page is left while the form is open.
    page.goto("/settings/audit");
    open("/settings/keys");
    is_back();
    // It is discarded by its button,
    browser.click("dialog [data-close]");
    browser.wait_gone("dialog[open]");
    assert_eq!(kept(), "{}");
    open("/settings/keys");
    assert_eq!(browser.property("#name", "value"), "");
    // by signing out,
    fill();
    browser.press(ESCAPE);
    browser.wait_gone("dialog[open]");
    browser.click(".who button");
    browser.wait_text(".notice", "You have signed out.");
    assert_eq!(kept(), "{}");
    page.sign_in();
    // and when it is sent.
    open("/settings/keys");
    fill();
    browser.press(ESCAPE);
    browser.wait_gone("dialog[open]");
    open("/settings/keys");
    browser.click("dialog button[type=submit]");
    browser.wait_text("#dialog-title", "API key created");
    assert_eq!(kept(), "{}");
}

everywhere!(a_form_that_is_too_long_stays);
fn a_form_that_is_too_long_stays(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    page.goto("/settings/explain");
    browser.fill("#path", "/typed");
    browser.eval("document.querySelector('#config').value = '#'.repeat(2 << 20)");
    browser.click("#request button.primary");
    browser.wait_text(
        "#request > [data-failure]",
        "too long, or was cut off on its way, and nothing was done. Make it shorter",
    );
    assert_eq!(browser.property("#path", "value"), "/typed");
}

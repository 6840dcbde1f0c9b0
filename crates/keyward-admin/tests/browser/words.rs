//! What the page says is true, at the right time and in the right place.

use crate::Page;
use crate::driver::ESCAPE;
use crate::place::{NOON_IN_BERLIN, Place, everywhere};
use crate::support::wait_for_states;
use serde_json::json;

#[test]
fn unused_permissions_are_advised_against_once_they_had_time_to_be_used() {
    let Some(mut page) = Page::open(NOON_IN_BERLIN) else { return };
    let id = page.make("Fresh", &["records:read", "files:read"]);
    page.use_key(&id, &[("records:read", 1)]);
    let path = format!("/settings/keys/{id}");
    page.goto(&path);
    assert!(page.browser.text_of("#usage").contains("One permission is not used yet."));
    assert!(!page.browser.is_there("#usage .notice"));
    page.travel_to("2026-12-01 11:14:00");
    page.goto(&path);
    assert!(page.browser.text_of("#usage").contains("not used yet"), "not quite 7 days");
    page.travel_to("2026-12-01 12:15:00");
    page.goto(&path);
    assert!(page.browser.text_of("#usage .notice").contains("Granted but never used."));
    // One that was granted just now has its 7 days.
    let change = json!({"permissions": ["records:read", "files:read", "files:write"]});
    page.service.admin().patch(&format!("/v1/keys/{id}"), &change).ok(200);
    page.goto(&path);
    assert!(page.browser.text_of("#usage").contains("2 permissions are not used yet."));
}

#[test]
fn an_expiry_is_near_in_the_last_fifth_and_an_expired_key_says_when_it_is_deleted() {
    let Some(mut page) = Page::open(NOON_IN_BERLIN) else { return };
    let body = json!({"name": "Week", "permissions": ["records:read"], "expires_in": "7d"});
    let id = page.service.admin().post("/v1/keys", &body).ok(201)["id"].as_str().unwrap().to_owned();
    let expires = |page: &Page| {
        page.goto("/settings/keys");
        let warns = page.browser.is_there("#keys td:nth-of-type(4) .tag");
        (page.browser.text_of("#keys th[scope=row]"), page.browser.text_of("#keys td:nth-of-type(4)"), warns)
    };
    let says = |name: &str, expires: &str, warns: bool| (name.to_owned(), expires.to_owned(), warns);
    assert_eq!(expires(&page), says("Week", "in 7 days", false));
    page.travel_to("2026-11-30 12:00:00");
    assert_eq!(expires(&page), says("Week", "Expires in 24 hours", true));
    // That it has expired is said once, where the state of a key is.
    page.travel_to("2026-12-04 12:00:00");
    assert_eq!(expires(&page), says("Week\nExpired", "3 days ago", false));
    page.goto(&format!("/settings/keys/{id}"));
    assert!(!page.browser.is_there("#facts .tag.bad"));
    let expired = page.browser.wait_text("#enabled", "Expired");
    // It expired on the first of December, and is kept for 30 days.
    assert!(expired.contains("deleted for good on 31 Dec 2026, 12:"), "{expired}");
    assert!(!page.browser.is_there("#toggle"), "there is nothing to disable");
}

everywhere!(a_mistake_is_gone_when_it_is_mended);
fn a_mistake_is_gone_when_it_is_mended(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    browser.click(".head a.primary");
    browser.click("dialog button[type=submit]");
    browser.wait_text("#name-error", "Give the key a name.");
    browser.wait_text("#permissions-error", "Choose at least one permission.");
    let has_the_colour_of_its_error = "const style = (css) => getComputedStyle(document.querySelector(css));
        return style('#name').borderTopColor === style('#name-error').color";
    assert_eq!(browser.eval(has_the_colour_of_its_error), true);
    browser.fill("#name", "M");
    assert!(!browser.is_shown(&browser.all("#name-error")[0]));
    assert!(browser.is_shown(&browser.all("#permissions-error")[0]));
    browser.click("[for='permission-records:read']");
    assert!(!browser.is_shown(&browser.all("#permissions-error")[0]));
    assert_eq!(browser.text_of("[data-chosen]"), "1 of 5 chosen");
    // Nothing is wrong before it was filled in.
    browser.fill("#name", "");
    assert!(!browser.is_shown(&browser.all("#name-error")[0]));
}

everywhere!(what_was_typed_survives_escape_but_not_cancel);
fn what_was_typed_survives_escape_but_not_cancel(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    let leaves = || {
        browser.eval(
            "const event = new Event('beforeunload', {cancelable: true}); dispatchEvent(event); return !event.defaultPrevented",
        )
    };
    browser.click(".head a.primary");
    browser.wait_focus("dialog #name");
    assert_eq!(leaves(), true);
    browser.fill("#name", "Half a key");
    browser.click("[for='permission-files:read']");
    browser.click("label[for=expires-60d]");
    assert_eq!(leaves(), false, "Back asks first");
    browser.press(ESCAPE);
    browser.wait_gone("dialog[open]");
    browser.click(".head a.primary");
    browser.wait_focus("dialog #name");
    assert_eq!(browser.property("#name", "value"), "Half a key");
    assert_eq!(browser.property("[id='permission-files:read']", "checked"), true);
    assert_eq!(browser.property("#expires-60d", "checked"), true);
    browser.click("dialog [data-close]");
    browser.wait_gone("dialog[open]");
    browser.click(".head a.primary");
    browser.wait_focus("dialog #name");
    assert_eq!(browser.property("#name", "value"), "");
    assert!(page.keys().is_empty());
}

everywhere!(receipts_and_copies_are_announced);
fn receipts_and_copies_are_announced(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    let _filters = [page.service.vm("a").follow(), page.service.vm("b").follow()];
    wait_for_states(&page.service.admin(), (2, 0));
    browser.click(".head a.primary");
    browser.fill("#name", "Heard");
    browser.click("[for='permission-records:read']");
    browser.eval("window.announcer = document.querySelector('dialog [data-announcer]')");
    browser.click("dialog button[type=submit]");
    browser.wait_text("#dialog-title", "API key created");
    // The region was there before its text: otherwise it is not read.
    let announced = "return window.announcer.isConnected && window.announcer.textContent";
    keyward_testbed::wait::until("the receipt is announced", crate::driver::PATIENCE, || {
        browser.eval(announced).as_str().is_some_and(|text| text.starts_with("Works on all 2")).then_some(())
    });
    assert_eq!(browser.name_of("[data-copy=key]"), "Copy the key");
    assert_eq!(browser.name_of("[data-copy=curl]"), "Copy the command");
    browser.click("[data-copy=curl]");
    browser.wait_text("[data-copied]", "Command copied; it contains the key.");
    assert_eq!(browser.name_of("[data-copy=curl]"), "Copied the command");
    browser.click("[data-copy=key]");
    browser.wait_text("[data-copied]", "Copied. Store it safely.");
    assert_eq!(browser.name_of("[data-copy=curl]"), "Copy the command");
    assert_eq!(browser.eval("return document.querySelector('dialog [data-close]').getAttribute('role')"), "button");
}

everywhere!(a_new_key_is_not_taken_for_the_old_one);
fn a_new_key_is_not_taken_for_the_old_one(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let id = page.make("Turned", &["records:read"]);
    page.goto(&format!("/settings/keys/{id}/regenerate"));
    page.browser.click("button.danger");
    page.browser.wait_text("h1", "API key regenerated");
    assert_eq!(page.browser.text_of(".lead"), "This is the new key of “Turned”.");
}

everywhere!(the_list_folds_permissions_in_the_order_of_the_catalogue);
fn the_list_folds_permissions_in_the_order_of_the_catalogue(place: Place) {
    let Some(page) = Page::open(place) else { return };
    page.make("Some", &["files:read", "records:read"]);
    page.make("All", &["files:write", "files:read", "records:delete", "records:write", "records:read"]);
    page.goto("/settings/keys");
    let chips = page.browser.eval(
        "return [...document.querySelectorAll('#keys tr:has(.chips)')].map((row) => [...row.querySelectorAll('.chip')].map((e) => e.textContent))",
    );
    let folded = "+2 more: Read files, Upload files";
    assert_eq!(
        chips,
        json!([["Read records", "Create & update records", "Delete records", folded], ["Read records", "Read files"]])
    );
}

everywhere!(who_sees_the_name_of_a_key_is_said);
fn who_sees_the_name_of_a_key_is_said(place: Place) {
    let Some(page) = Page::open(place) else { return };
    page.goto("/settings/keys/new");
    assert_eq!(
        page.browser.text_of("#name-help"),
        "Say which application uses the key, in up to 100 characters. Your API and the access logs see the name, too."
    );
}

everywhere!(a_key_that_never_was_is_not_said_to_have_been_deleted);
fn a_key_that_never_was_is_not_said_to_have_been_deleted(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let id = page.make("Short", &["records:read"]);
    page.service.admin().delete(&format!("/v1/keys/{id}")).ok(200);
    let says = |id: &str| {
        page.goto(&format!("/settings/keys/{id}"));
        (page.browser.text_of("h1"), page.browser.text_of("main p"))
    };
    let (title, unknown) = says("key_aaaaaaaaaaaaaaaa");
    assert_eq!(title, "This key does not exist");
    assert!(unknown.starts_with("There is no key with this id. If there was one, the audit log says"), "{unknown}");
    let (title, deleted) = says(&id);
    assert_eq!(title, "This key does not exist any more");
    assert!(
        deleted.starts_with("“Short” was deleted by admin (environment), ") && deleted.contains(" UTC)"),
        "{deleted}"
    );
}

everywhere!(whatever_is_done_with_a_deleted_key_says_who_deleted_it);
fn whatever_is_done_with_a_deleted_key_says_who_deleted_it(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let (browser, admin) = (&page.browser, page.service.admin());
    let says = |place: &str| {
        let text = browser.wait_text(place, "“Gone” was deleted by admin (environment), ");
        assert!(text.contains("This key does not exist any more") && text.contains(" UTC)."), "{text}");
    };
    let gone_before = |act: &dyn Fn(&str)| {
        let id = page.make("Gone", &["records:read", "files:read"]);
        page.goto(&format!("/settings/keys/{id}"));
        act(&id);
    };
    // Somebody deletes the key while a dialog is open, or before the page has heard of it.
    let deaf = "document.querySelectorAll('[data-live]').forEach((region) => region.removeAttribute('data-live'))";
    let delete = |id: &str| admin.delete(&format!("/v1/keys/{id}")).ok(200);
    for button in ["#delete", "#regenerate"] {
        gone_before(&|id| {
            browser.click(button);
            browser.find("dialog button.danger");
            delete(id);
            browser.click("dialog button.danger");
            says("dialog");
            // What is behind the dialog is not the page of a key any more.
            browser.click("dialog [data-close]");
            browser.wait_gone("dialog[open]");
            says("main");
        });
        gone_before(&|id| {
            browser.eval(deaf);
            delete(id);
            browser.click(button);
            says("dialog");
        });
    }
    for button in ["#toggle", "#usage form button"] {
        gone_before(&|id| {
            browser.eval(deaf);
            delete(id);
            browser.click(button);
            says("main");
        });
    }
    page.assert_no_complaints();
}

everywhere!(the_command_of_the_sign_in_page_makes_a_token_that_signs_in);
fn the_command_of_the_sign_in_page_makes_a_token_that_signs_in(place: Place) {
    let Some(page) = Page::signed_out(place, crate::Options::default()) else { return };
    page.goto("/sign-in");
    let command = page.browser.text_of("#token-help code").replace("NAME", "Anna");
    let mut words = command.split(' ');
    assert_eq!(words.next(), Some("keyward"), "{command}");
    let made = page.start.run(&words.chain(["--json"]).collect::<Vec<_>>());
    assert!(made.status.success(), "{command}: {}", String::from_utf8_lossy(&made.stderr));
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let token = made["token"].as_str().expect("the token");
    // The service sees a token that the command made within half a second.
    keyward_testbed::wait::until("the token is known", crate::driver::PATIENCE, || {
        (page.service.client(token).get("/v1/keys").status == 200).then_some(())
    });
    page.browser.fill("#token", token);
    page.browser.click("button[type=submit]");
    page.browser.wait_text(".who", "Anna");
}

everywhere!(a_count_of_one_is_in_the_singular);
fn a_count_of_one_is_in_the_singular(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let id = page.make("Only", &["records:read", "files:read"]);
    let _filter = page.service.vm("a").follow();
    wait_for_states(&page.service.admin(), (1, 0));
    page.use_key(&id, &[("records:read", 1)]);
    let plural = "(keys|instances|requests|permissions|revisions|rules|days|hours|minutes)";
    for path in ["keys", &format!("keys/{id}"), "usage", "proxies", "audit", "proxies/confirm"] {
        page.goto(&format!("/settings/{path}"));
        let found = page.browser.eval(&format!(
            "return document.querySelector('main').innerText.match(/(?<![0-9.,–] ?)\\b1 (filter |further |more )?{plural}\\b/g) ?? []"
        ));
        assert_eq!(found, json!([]), "{path}");
    }
    page.goto(&format!("/settings/keys/{id}"));
    page.browser.wait_text("#known", "Applied by 1 of 1 instance\n");
}

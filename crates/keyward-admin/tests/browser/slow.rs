//! A slow network: nothing that is under way is lost, and the page says that it is.

use crate::Page;
use crate::driver::ESCAPE;
use crate::place::{Place, everywhere};
use std::time::Duration;

/// Long enough that what is done next happens before the answer.
const LATENCY: Duration = Duration::from_secs(3);

everywhere!(a_key_that_is_being_made_is_shown);
fn a_key_that_is_being_made_is_shown(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    browser.click(".head a.primary");
    browser.fill("#name", "Slow");
    browser.click("[for='permission-records:read']");
    browser.slow_down(LATENCY);
    browser.click("dialog button[type=submit]");
    try_to_leave(&page);
    assert_eq!(browser.text_of("dialog button[type=submit]"), "Creating…");
    browser.slow_down(Duration::ZERO);
    browser.wait_text("#dialog-title", "API key created");
    let first = browser.text_of("#key");
    assert!(first.starts_with("kw_"), "{first}");
    assert_eq!(page.keys().len(), 1);

    browser.click("[data-copy=key]");
    browser.click("dialog [data-close]");
    browser.wait_gone("dialog[open]");
    browser.click("#keys .actions a:not(.danger)");
    browser.find("dialog button.danger");
    browser.slow_down(LATENCY);
    browser.click("dialog button.danger");
    try_to_leave(&page);
    assert_eq!(browser.text_of("dialog button.danger"), "Regenerating…");
    browser.slow_down(Duration::ZERO);
    browser.wait_text("#dialog-title", "API key regenerated");
    assert_ne!(browser.text_of("#key"), first);
    page.assert_no_complaints();
}

/// By Escape, by Cancel, by a click beside the dialog, and by leaving the page.
fn try_to_leave(page: &Page) {
    let browser = &page.browser;
    browser.press(ESCAPE);
    browser.press(ESCAPE);
    browser.click_at(3, 3);
    browser.eval("document.querySelector('dialog [data-close]')?.click()");
    assert!(browser.is_there("dialog[open]"), "the dialog is closed while its form is under way");
    let asks = browser.eval(
        "const event = new Event('beforeunload', {cancelable: true}); dispatchEvent(event); return event.defaultPrevented",
    );
    assert_eq!(asks, true, "leaving the page asks first");
}

everywhere!(a_click_shows_a_sign_of_life);
fn a_click_shows_a_sign_of_life(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    browser.slow_down(LATENCY);
    browser.click(".head a.primary");
    assert_eq!(browser.eval("return document.querySelector('.head a.primary').getAttribute('aria-busy')"), "true");
    browser.slow_down(Duration::ZERO);
    browser.wait_focus("dialog #name");
    assert!(!browser.is_there("[aria-busy]"));
}

everywhere!(what_was_typed_stays_when_the_service_is_away);
fn what_was_typed_stays_when_the_service_is_away(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    browser.click(".head a.primary");
    browser.fill("#name", "Kept");
    browser.click("[for='permission-records:read']");
    browser.offline(true);
    browser.click("dialog button[type=submit]");
    browser.wait_text("dialog [data-failure]", "could not be reached");
    assert_eq!(browser.property("#name", "value"), "Kept");
    browser.press(ESCAPE);
    browser.wait_gone("dialog[open]");
    // Opening a dialog says so, too, in place of the browser's own page.
    browser.click(".head a.primary");
    browser.wait_text("main [data-failure]", "could not be reached");
    browser.offline(false);
    browser.click(".head a.primary");
    browser.wait_focus("dialog #name");
    assert!(!browser.is_there("main [data-failure]"));
}

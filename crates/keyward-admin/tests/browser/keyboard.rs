//! The whole life of a key, by keyboard alone.

use crate::Page;
use crate::driver::{ENTER, ESCAPE, SPACE};
use crate::place::{Place, everywhere};
use crate::support::ADMIN;

everywhere!(a_key_lives_by_keyboard);
fn a_key_lives_by_keyboard(place: Place) {
    let Some(page) = Page::signed_out(place, crate::Options::default()) else { return };
    let browser = &page.browser;
    page.goto("/settings/keys");
    // The field has the focus from the start.
    browser.wait_focus("#token");
    browser.press(ADMIN);
    browser.press(ENTER);
    browser.wait_text("h1", "API Keys");

    // The first thing that Tab comes to skips the sidebar.
    browser.press(crate::driver::TAB);
    assert!(browser.has_focus(".skip"), "{}", browser.focus());
    browser.press(ENTER);
    browser.tab_to(".head a.primary");
    browser.press(ENTER);
    browser.wait_focus("dialog #name");

    // Escape closes, and the focus goes back to what opened it.
    browser.press(ESCAPE);
    browser.wait_gone("dialog[open]");
    browser.wait_focus(".head a.primary");
    browser.press(ENTER);
    browser.wait_focus("dialog #name");

    // The focus stays in the dialog.
    browser.press(ENTER);
    browser.wait_text("#name-error", "Give the key a name.");
    assert!(browser.has_focus("#name"));
    for _ in 0..30 {
        browser.press(crate::driver::TAB);
        assert!(
            browser
                .eval("return document.activeElement === document.body || !!document.activeElement.closest('dialog')")
                == true,
            "{}",
            browser.focus()
        );
    }
    browser.eval("document.querySelector('#name').focus()");
    browser.press("Keyboard");
    browser.tab_to("[id='permission-records:read']");
    browser.press(SPACE);
    browser.tab_to("#expires-30d");
    // Arrow keys choose among the expirations.
    browser.press("\u{E014}");
    assert_eq!(browser.property("#expires-60d", "checked"), true);
    browser.tab_to("dialog button[type=submit]");
    browser.press(ENTER);
    browser.wait_text("#dialog-title", "API key created");
    browser.wait_focus("#dialog-title");

    // Escape asks, because the key was not copied; a second one does not close either.
    browser.press(ESCAPE);
    browser.wait_focus("[data-ask-stay]");
    browser.press(ESCAPE);
    assert!(browser.is_there("dialog[open] #key"));
    browser.press(ENTER);
    browser.wait_focus("[data-copy=key]");
    browser.press(ENTER);
    browser.wait_text("[data-copied]", "Copied");
    browser.press(ESCAPE);
    browser.wait_gone("dialog[open]");
    browser.wait_text("#keys", "Keyboard");
    assert_eq!(page.keys()[0]["expires_in"], "60d");

    // Regenerate: selecting the key and Ctrl+C counts as copying it.
    let before = page.keys()[0]["masked"].clone();
    browser.tab_to("#keys .actions a:not(.danger)");
    browser.press(ENTER);
    browser.wait_text("#dialog-title", "Regenerate “Keyboard”?");
    assert!(browser.has_focus("dialog [data-close]"), "what does no harm has the focus: {}", browser.focus());
    browser.tab_to("dialog button.danger");
    browser.press(ENTER);
    browser.wait_text("#dialog-title", "API key regenerated");
    assert_ne!(page.keys()[0]["masked"], before);
    browser.tab_to("#key");
    browser.eval("getSelection().selectAllChildren(document.activeElement)");
    browser.press_with_control('c');
    browser.wait_text("[data-copied]", "Copied");
    browser.press(ESCAPE);
    browser.wait_gone("dialog[open]");

    // Delete: afterwards the focus is not lost, although the row is.
    browser.tab_to("#keys .actions a.danger");
    browser.press(ENTER);
    browser.wait_text("#dialog-title", "Delete “Keyboard”?");
    browser.tab_to("dialog button.danger");
    browser.press(ENTER);
    browser.wait_text("#dialog-title", "Key deleted");
    browser.press(ESCAPE);
    browser.wait_gone("dialog[open]");
    browser.wait_text("main", "No API keys yet");
    browser.wait_focus(".head a.primary");
    assert!(page.keys().is_empty());
    page.assert_no_complaints();
}

everywhere!(after_a_delete_the_focus_goes_on);
fn after_a_delete_the_focus_goes_on(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    let ids = ["First", "Second", "Third", "Fourth"].map(|name| page.make(name, &["records:read"]));
    page.goto("/settings/keys");
    let delete = |id: &str, at_once: bool| {
        browser.eval(&format!("document.getElementById('delete-{id}').focus()"));
        browser.press(ENTER);
        browser.wait_text("#dialog-title", "Delete");
        browser.tab_to("dialog button.danger");
        browser.press(ENTER);
        browser.wait_text("#dialog-title", "Key deleted");
        if !at_once {
            // A person reads the receipt, and the row is gone by then.
            browser.wait_gone(&format!("#delete-{id}"));
        }
        browser.press(ESCAPE);
        browser.wait_gone("dialog[open]");
        browser.wait_gone(&format!("#delete-{id}"));
    };
    // The newest is on top: after the third comes the second.
    delete(&ids[2], false);
    browser.wait_focus(&format!("a.name[href='/settings/keys/{}']", ids[1]));
    delete(&ids[3], true);
    browser.wait_focus(&format!("a.name[href='/settings/keys/{}']", ids[1]));
    // Below the last there is none.
    delete(&ids[0], false);
    browser.wait_focus(".head a.primary");
    delete(&ids[1], false);
    browser.wait_focus(".head a.primary");
    page.assert_no_complaints();
}

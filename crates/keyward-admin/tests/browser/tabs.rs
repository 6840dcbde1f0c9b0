//! Two tabs at once.

use crate::Page;
use crate::place::{Place, everywhere};

everywhere!(one_tab_sees_what_the_other_does_and_neither_undoes_it);
fn one_tab_sees_what_the_other_does_and_neither_undoes_it(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    let id = page.make("Shared", &["records:read", "files:read"]);
    let first = browser.tab();
    page.goto(&format!("/settings/keys/{id}/regenerate"));
    let second = browser.new_tab();
    browser.switch_to(&second);
    page.goto(&format!("/settings/keys/{id}"));

    // The second tab saves; the first confirms what it saw before: it is told, and has to look again.
    browser.fill("#name", "Renamed");
    browser.click("#edit button");
    browser.wait_text("h1", "Renamed");
    let masked = page.keys()[0]["masked"].clone();
    browser.switch_to(&first);
    browser.click("button.danger");
    browser.wait_text(".notice", "The key was changed after you opened this");
    assert_eq!(page.keys()[0]["masked"], masked, "nothing was regenerated");
    browser.wait_text("#dialog-title", "Regenerate “Renamed”?");
    browser.click("button.danger");
    browser.wait_text("#dialog-title", "API key regenerated");
    assert_ne!(page.keys()[0]["masked"], masked);

    // What the second tab has in its fields is not lost when it comes too late.
    browser.switch_to(&second);
    browser.fill("#name", "Renamed again");
    browser.eval("document.querySelector('#edit [name=revision]').value = '1'");
    browser.click("#edit button");
    browser.wait_text(".notice.bad", "nothing was saved");
    assert_eq!(browser.property("#name", "value"), "Renamed again");
    browser.click("#edit button");
    browser.wait_text("h1", "Renamed again");

    // A key that the other tab deleted: this one is told without a click,
    let raw = page.service.admin();
    page.goto(&format!("/settings/keys/{id}/delete"));
    assert_eq!(raw.delete(&format!("/v1/keys/{id}")).status, 200);
    browser.wait_text("h1", "This key does not exist");

    // and with the click that was faster.
    let id = page.make("Shared, too", &["records:read"]);
    page.goto(&format!("/settings/keys/{id}/delete"));
    browser.eval("document.querySelectorAll('[data-live]').forEach((region) => region.remove())");
    assert_eq!(raw.delete(&format!("/v1/keys/{id}")).status, 200);
    browser.click("button.danger");
    browser.wait_text("h1", "This key does not exist");
}

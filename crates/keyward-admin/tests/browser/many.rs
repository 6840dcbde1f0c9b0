//! Choosing among many permissions.

use crate::place::Place;
use crate::place::everywhere;
use crate::{Options, Page};
use std::fmt::Write as _;

/// A catalogue of 60 permissions in 8 groups, in a file.
pub(crate) fn catalogue() -> tempfile::NamedTempFile {
    const GROUPS: [(&str, &str); 8] = [
        ("Orders", "orders"),
        ("Customers", "customers"),
        ("Invoices", "invoices"),
        ("Products", "products"),
        ("Shipments", "shipments"),
        ("Files", "files"),
        ("Reports", "reports"),
        ("Webhooks", "webhooks"),
    ];
    const VERBS: [(&str, &str); 8] = [
        ("read", "Read"),
        ("create", "Create"),
        ("update", "Update"),
        ("delete", "Delete"),
        ("export", "Export"),
        ("share", "Share"),
        ("archive", "Archive"),
        ("restore", "Restore"),
    ];
    let mut text = String::new();
    for (place, (label, id)) in GROUPS.into_iter().enumerate() {
        let _ = writeln!(text, "[[groups]]\nid = \"{id}\"\nlabel = \"{label}\"");
        // Four groups have eight, four have seven.
        for (verb, word) in VERBS.into_iter().take(if place % 2 == 0 { 8 } else { 7 }) {
            let noun = label.to_lowercase();
            let _ = writeln!(
                text,
                "[[groups.permissions]]\nid = \"{id}:{verb}\"\nlabel = \"{word} {noun}\"\ndescription = \"{word} {noun} of every store.\""
            );
        }
    }
    let file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a file");
    std::fs::write(file.path(), text).expect("a catalogue");
    file
}

everywhere!(sixty_permissions_are_found_and_chosen_by_group);
fn sixty_permissions_are_found_and_chosen_by_group(place: Place) {
    let catalogue = catalogue();
    let settings = [("KEYWARD_PERMISSIONS", catalogue.path().to_str().expect("a path"))];
    let Some(page) = Page::start(place, Options::default(), &settings) else { return };
    page.sign_in();
    let browser = &page.browser;
    browser.click("#create");
    browser.wait_text("#dialog-title", "Create API key");
    browser.wait_text("[data-chosen]", "0 of 60 chosen");
    let footer = "return document.querySelector('.footer').getBoundingClientRect().bottom <= innerHeight";
    assert_eq!(browser.eval(footer), true, "what is done with the form stays in sight");
    browser.click("[data-read-only]");
    browser.wait_text("[data-chosen]", "8 of 60 chosen");
    // The filter stays in sight, and it covers nothing that is scrolled to.
    for (width, height) in [(1280, 900), (360, 640)] {
        browser.resize(width, height);
        let stays = browser.eval(
            "const box = (css) => document.querySelector(css).getBoundingClientRect(), last = [...document.querySelectorAll('[name=permissions]')].at(-20);
             last.scrollIntoView();
             const [tools, row, frame] = [box('.tools'), last.getBoundingClientRect(), box('dialog')];
             return [tools.top >= frame.top - 1, row.top >= tools.bottom - 1, row.bottom < innerHeight]",
        );
        assert_eq!(stays, serde_json::json!([true, true, true]), "at {width}");
    }
    browser.resize(1280, 900);
    browser.fill("[data-filter]", "shipments");
    let in_sight = "return document.querySelectorAll('.check:not([hidden])').length";
    assert_eq!(browser.eval(in_sight), 8);
    let group = "fieldset:not([hidden]) [data-group]";
    assert_eq!(browser.text_of(group).replace('\n', " "), "Choose all of Shipments");
    browser.click(group);
    browser.wait_text("[data-chosen]", "15 of 60 chosen");
    assert_eq!(browser.text_of(group).replace('\n', " "), "Remove all of Shipments");
    browser.click(group);
    browser.wait_text("[data-chosen]", "7 of 60 chosen");
    browser.fill("[data-filter]", "no such thing");
    browser.wait_text("[data-none]", "No permission has this text.");
    browser.fill("[data-filter]", "delete orders");
    browser.press(crate::driver::ENTER);
    assert!(browser.is_there("dialog[open] #name"), "the filter does not send the form");
    browser.click("[for='permission-orders:delete']");
    browser.fill("#name", "Reader");
    browser.click("dialog button[type=submit]");
    browser.wait_text("#dialog-title", "API key created");
    // What the filter hides is chosen nonetheless.
    let permissions = page.keys()[0]["permissions"].as_array().expect("a list").len();
    assert_eq!(permissions, 8);
    page.assert_no_complaints();
}

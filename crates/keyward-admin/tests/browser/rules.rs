//! What the page knows of the filter and of the API: their addresses and the rules.

use crate::Page;
use crate::place::{Place, everywhere};

const ENVOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../envoy.yaml");

everywhere!(a_new_key_shows_what_it_may_do_and_a_command_that_runs);
fn a_new_key_shows_what_it_may_do_and_a_command_that_runs(place: Place) {
    let api = "https://api.example/api/collections/posts/records";
    let settings = [("KEYWARD_EXPLAIN_CONFIG", ENVOY), ("KEYWARD_API_URL", api)];
    let Some(page) = Page::with_settings(place, &settings) else { return };
    let browser = &page.browser;
    browser.click("#create");
    browser.find("dialog[open]");
    browser.click("dialog summary");
    let row = "dialog .may li[data-requires='records:delete']";
    assert!(browser.text_of(row).contains("Needs Delete records"));
    browser.click("[for='permission-records:delete']");
    browser.wait_text(&format!("{row}.good [data-reason]"), "Delete records");
    assert!(browser.is_there("dialog .may li.bad[data-requires='records:read']"));
    browser.fill("#name", "Cleaner");
    browser.click("dialog button[type=submit]");
    browser.wait_text("#dialog-title", "API key created");
    let key = browser.text_of("#key");
    assert!(browser.text_of("#curl").contains(&format!("'{api}'")));
    assert_eq!(browser.text_of("#env"), format!("API_KEY={key}"));
    browser.click("[data-copy=env]");
    browser.wait_text("[data-copied]", "Line copied");
    browser.click("dialog [data-close]");
    browser.wait_gone("dialog[open]");
    browser.click("#keys a.name");
    browser.wait_text("#may h2", "What may this key do?");
    assert!(browser.is_there("#may li.good[data-requires='records:delete']"));
    assert!(browser.is_there("#may li.bad[data-requires='records:read']"));
    // Explain starts from the same rules.
    page.goto("/settings/explain");
    assert!(browser.text_of("#config-help").contains("The configuration that this service was given"));
    page.assert_no_complaints();
}

everywhere!(the_page_works_below_a_path);
fn the_page_works_below_a_path(place: Place) {
    // The address is not the browser's, whose requests come straight here: only the path counts.
    let Some(page) = Page::with_settings(place, &[]) else { return };
    let url = format!("{}/ops/keyward", page.service.url);
    drop(page);
    let host = url.trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned();
    let settings = [("KEYWARD_PUBLIC_URL", url.as_str()), ("KEYWARD_LISTEN", host.as_str())];
    let Some(page) = Page::start(place, crate::Options::default(), &settings) else { return };
    let browser = &page.browser;
    page.goto("/ops/keyward/");
    browser.fill("#token", crate::ADMIN);
    browser.click("button[type=submit]");
    browser.wait_text("h1", "API Keys");
    assert_eq!(page.path(), "/ops/keyward/settings/keys");
    browser.click("#create");
    browser.find("dialog[open]");
    browser.fill("#name", "Below");
    browser.click("[for='permission-records:read']");
    browser.click("dialog button[type=submit]");
    browser.wait_text("#dialog-title", "API key created");
    browser.click("[data-copy=key]");
    browser.click("dialog [data-close]");
    browser.wait_gone("dialog[open]");
    // Changes made elsewhere arrive: the stream of events is below the path as well.
    page.make("Elsewhere", &["records:read"]);
    browser.wait_text("#keys", "Elsewhere");
    browser.click("#keys tr:last-child a.name");
    browser.wait_text("h1", "Below");
    browser.click("#toggle");
    browser.wait_text("h1", "Disabled");
    // After the session has ended, signing in leads back to the same place.
    browser.delete_cookies();
    browser.reload();
    browser.fill("#token", crate::ADMIN);
    browser.click("button[type=submit]");
    browser.wait_text("h1", "Below");
    assert!(page.path().starts_with("/ops/keyward/settings/keys/key_"), "{}", page.path());
    page.assert_no_complaints();
}

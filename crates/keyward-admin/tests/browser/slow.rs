//! A slow network: nothing that is under way is lost, and the page says that it is.

use crate::Page;
use crate::driver::ESCAPE;
use crate::place::{Place, everywhere};
use keyward_testbed::link::Link;
use keyward_testbed::wait;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
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

/// Makes requests of the page wait a quarter of their time, or all of it.
fn hurry(page: &Page, hurry: bool) {
    page.browser.eval(&format!(
        "if (!('hurry' in window)) {{
           const {{set}} = Object.getOwnPropertyDescriptor(XMLHttpRequest.prototype, 'timeout');
           Object.defineProperty(XMLHttpRequest.prototype, 'timeout', {{
             set(ms) {{ set.call(this, window.hurry ? ms / 4 : ms); }},
           }});
         }}
         window.hurry = {hurry};"
    ));
}

everywhere!(a_network_that_hangs_loses_nothing_and_a_form_is_done_once);
fn a_network_that_hangs_loses_nothing_and_a_form_is_done_once(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    let address = page.service.url.trim_start_matches("http://").parse().expect("an address");
    let link = Link::to(address);
    let through = |path: &str| browser.goto(&format!("http://{}{path}", link.address()));
    // The request arrives, and no answer does.
    let sent_into_nothing = |button: &str, failure: &str| {
        hurry(&page, true);
        link.delay_answers(Duration::from_secs(3600));
        browser.click(button);
        browser.wait_text(failure, "has not answered yet");
        browser.wait_text(
            failure,
            "has not answered for 30 seconds. It is not known whether it has done what you asked for.",
        );
        hurry(&page, false);
        link.delay_answers(Duration::ZERO);
        assert_eq!(browser.property("#name", "value"), "Once");
    };

    through("/settings/keys");
    browser.click(".head a.primary");
    browser.fill("#name", "Once");
    browser.click("[for='permission-records:read']");
    sent_into_nothing("dialog button[type=submit]", "dialog [data-failure]");
    assert_eq!(browser.text_of("dialog button[type=submit]"), "Create");
    browser.click("dialog button[type=submit]");
    browser.wait_text("#dialog-title", "This was done already");
    browser.wait_text("dialog", "Keys are shown only once: if it was not copied then, regenerate it.");
    assert_eq!(page.keys().len(), 1);

    let id = page.keys()[0]["id"].as_str().expect("an id").to_owned();
    page.service.admin().patch(&format!("/v1/keys/{id}"), &serde_json::json!({"name": "Before"})).ok(200);
    through(&format!("/settings/keys/{id}"));
    browser.fill("#name", "Once");
    sent_into_nothing("#edit button[type=submit]", "#edit > [data-failure]");
    let revision = page.keys()[0]["revision"].clone();
    browser.click("#edit button[type=submit]");
    browser.wait_text("main h1", "This was done already");
    assert_eq!((&page.keys()[0]["name"], &page.keys()[0]["revision"]), (&serde_json::json!("Once"), &revision));
}

/// Answers every request at the address of the service, which has ended, with 503 and a text.
fn answer_in_its_place(page: &mut Page, html: &'static str) {
    let address = page.service.url.trim_start_matches("http://").to_owned();
    page.service.kill();
    let listener = TcpListener::bind(address).expect("the service's address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 65_536]);
            let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nConnection: close";
            let _ = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{html}", html.len());
        }
    });
}

/// What something in front of the service sends while it restarts, and what the service sends while its database is away.
const UNAVAILABLE: [(&str, &str); 2] = [
    ("<html><body><h1>503</h1></body></html>", "not available at the moment (503)"),
    (
        "<main><div data-dialog-body><h1>The database cannot be reached</h1><p>Try again.</p></div></main>",
        "cannot be reached. Try again.",
    ),
];

everywhere!(what_was_typed_stays_when_the_service_is_unavailable);
fn what_was_typed_stays_when_the_service_is_unavailable(place: Place) {
    for (html, says) in UNAVAILABLE {
        let Some(mut page) = Page::open(place) else { return };
        page.browser.click(".head a.primary");
        page.browser.fill("#name", "Kept");
        page.browser.click("[for='permission-records:read']");
        answer_in_its_place(&mut page, html);
        let browser = &page.browser;
        browser.click("dialog button[type=submit]");
        browser.wait_text("dialog [data-failure]", says);
        assert_eq!(browser.property("#name", "value"), "Kept");
        assert_eq!(browser.property("[id='permission-records:read']", "checked"), true);

        let Some(mut page) = Page::open(place) else { return };
        let id = page.make("Before", &["records:read"]);
        page.goto(&format!("/settings/keys/{id}"));
        page.browser.fill("#name", "Kept");
        answer_in_its_place(&mut page, html);
        let browser = &page.browser;
        browser.click("#edit button[type=submit]");
        browser.wait_text("#edit [data-failure]", says);
        assert_eq!(browser.property("#name", "value"), "Kept");
        browser.click("#delete");
        browser.wait_text("main > [data-failure]", says);
    }
}

everywhere!(a_link_says_when_the_service_is_away);
fn a_link_says_when_the_service_is_away(place: Place) {
    let Some(mut page) = Page::open(place) else { return };
    page.service.kill();
    let browser = &page.browser;
    browser.find("html[data-away]");
    browser.click("nav a[href$=audit]");
    browser.wait_text("main > [data-failure]", "could not be reached");
    assert_eq!(page.path(), "/settings/keys");
}

everywhere!(a_stream_that_hangs_is_noticed);
fn a_stream_that_hangs_is_noticed(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    let link = Link::to(page.service.url.trim_start_matches("http://").parse().expect("an address"));
    // The test decides when a stream has said nothing for too long, in place of the clock.
    let source = "
        const [start, stop] = [window.setTimeout, window.clearTimeout];
        window.silent = new Map();
        window.setTimeout = (act, ms, ...rest) => {
          if (!(ms >= 40000)) return start(act, ms, ...rest);
          const id = -1 - window.silent.size - Math.random();
          window.silent.set(id, act);
          return id;
        };
        window.clearTimeout = (id) => window.silent.delete(id) || stop(id);";
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", serde_json::json!({ "source": source }));
    browser.goto(&format!("http://{}/settings/keys", link.address()));
    page.make("Heard", &["records:read"]);
    browser.wait_text("#keys", "Heard");
    // From now on nothing comes, and nothing is closed.
    link.delay_answers(Duration::from_secs(3600));
    page.make("Not heard", &["records:read"]);
    hurry(&page, true);
    assert_eq!(browser.eval("return window.silent.size"), 1, "one stream, one clock");
    browser.eval("for (const act of [...window.silent.values()]) act()");
    browser.wait_text(".away", "What is shown here may be out of date.");
    link.delay_answers(Duration::ZERO);
    browser.wait_text("#keys", "Not heard");
    wait::until("nothing is out of date", crate::driver::PATIENCE, || {
        (browser.eval("return document.querySelector('.away').textContent") == "").then_some(())
    });
    page.make("Heard again", &["records:read"]);
    browser.wait_text("#keys", "Heard again");
}

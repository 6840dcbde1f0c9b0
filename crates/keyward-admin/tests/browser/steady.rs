//! A page that updates itself takes nothing from the person who uses it at that moment: no focus, no key or button that is being
//! pressed, no scrolling, nothing that was typed.

use crate::Page;
use crate::driver::{ENTER, PATIENCE};
use crate::layout::{bad_day, pages};
use crate::place::{Place, everywhere};
use keyward_testbed::wait;
use serde_json::{Value, json};

/// From now on the page's requests wait until they are let go, so that the moment of each answer is certain.
fn hold(page: &Page) {
    page.browser.eval(
        "const send = XMLHttpRequest.prototype.send;
         window.held = [];
         window.asked = window.answered = 0;
         XMLHttpRequest.prototype.send = function (body) {
           window.asked += 1;
           // After the page's own listeners and what waits for them.
           this.addEventListener('loadend', () => setTimeout(() => (window.answered += 1)));
           const go = () => send.call(this, body);
           window.held ? window.held.push(go) : go();
         }",
    );
}

/// Waits until this many requests are held.
#[track_caller]
fn wait_held(page: &Page, count: u64) {
    wait::until(&format!("{count} requests are held"), PATIENCE, || {
        (page.browser.eval("return window.held.length").as_u64() >= Some(count)).then_some(())
    });
}

/// Lets all requests go, and those that follow, and waits until all are answered.
#[track_caller]
fn let_go(page: &Page) {
    page.browser.eval("const held = window.held; window.held = null; for (const go of held) go()");
    wait::until("all requests are answered", PATIENCE, || {
        (page.browser.eval("return window.asked > 0 && window.asked === window.answered") == true).then_some(())
    });
}

fn focus_on(page: &Page, id: &str) {
    page.browser.eval(&format!("document.getElementById({}).focus()", json!(id)));
}

everywhere!(a_dialog_gives_the_focus_back_only_once);
fn a_dialog_gives_the_focus_back_only_once(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    let ids = ["First", "Second"].map(|name| page.make(name, &["records:read"]));
    page.goto("/settings/keys");
    browser.click(&format!("#delete-{}", ids[1]));
    browser.wait_text("#dialog-title", "Delete “Second”?");
    hold(&page);
    browser.click("dialog [data-close]");
    browser.wait_gone("dialog[open]");
    browser.wait_focus(&format!("#delete-{}", ids[1]));
    // The page looks for what has changed. Meanwhile somebody goes on.
    wait_held(&page, 1);
    focus_on(&page, &format!("delete-{}", ids[0]));
    let_go(&page);
    assert!(browser.has_focus(&format!("#delete-{}", ids[0])), "{}", browser.focus());
    browser.press(ENTER);
    browser.wait_text("#dialog-title", "Delete “First”?");
    page.assert_no_complaints();
}

everywhere!(a_press_that_began_before_an_update_counts);
fn a_press_that_began_before_an_update_counts(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let (browser, admin) = (&page.browser, page.service.admin());
    let id = page.make("Before", &["records:read"]);
    page.goto("/settings/keys");
    let rename = |name: &str| {
        admin.patch(&format!("/v1/keys/{id}"), &json!({ "name": name })).ok(200);
    };
    let mouse = |kind: &str, css: &str| {
        let middle = browser.eval(&format!(
            "const box = document.querySelector('{css}').getBoundingClientRect();
             return [box.left + box.width / 2, box.top + box.height / 2]"
        ));
        let params = json!({"type": kind, "x": middle[0], "y": middle[1], "button": "left", "clickCount": 1});
        browser.devtools("Input.dispatchMouseEvent", params);
    };
    let button = format!("#delete-{id}");
    mouse("mousePressed", &button);
    rename("Pressed");
    browser.wait_text("#keys", "Pressed");
    mouse("mouseReleased", &button);
    browser.wait_text("#dialog-title", "Delete “Pressed”?");
    browser.click("dialog [data-close]");
    browser.wait_gone("dialog[open]");

    // A button is pressed by Space when the key comes up again.
    page.goto(&format!("/settings/keys/{id}"));
    let space = |kind: &str| {
        let params = json!({"type": kind, "key": " ", "code": "Space", "text": " ", "windowsVirtualKeyCode": 32});
        browser.devtools("Input.dispatchKeyEvent", params);
    };
    focus_on(&page, "toggle");
    space("keyDown");
    admin.patch(&format!("/v1/keys/{id}"), &json!({"name": "Held", "disabled": true})).ok(200);
    browser.wait_text("#toggle", "Enable key");
    admin.patch(&format!("/v1/keys/{id}"), &json!({"disabled": false})).ok(200);
    browser.wait_text("#toggle", "Disable key");
    space("keyUp");
    browser.wait_text("#enabled h2", "Disabled");
    page.assert_no_complaints();
}

everywhere!(an_update_keeps_focus_selection_and_scrolling);
fn an_update_keeps_focus_selection_and_scrolling(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    let (ids, _works) = bad_day(&page);
    browser.resize(1280, 800);
    // Every frame scrolls sideways.
    for (path, css) in [
        ("/settings/keys", format!("#delete-{}", ids[1])),
        ("/settings/keys", "#keys .table-frame".to_owned()),
        ("/settings/audit", "#entries tr:nth-child(3) a[href*='/keys/']".to_owned()),
        ("/settings/audit", "#entries tr:nth-child(3) a[href*='subject=']".to_owned()),
        ("/settings/audit", "#entries .table-frame".to_owned()),
        ("/settings/proxies", "#proxies .actions a".to_owned()),
        ("/settings/usage", "#days summary".to_owned()),
    ] {
        page.goto(path);
        browser.eval(&format!(
            "const sheet = new CSSStyleSheet();
             sheet.replaceSync('.table-frame table {{ width: 150% }}');
             document.adoptedStyleSheets = [sheet];
             window.kept = document.querySelector(\"{css}\");
             window.mark = window.kept.textContent;"
        ));
        // The observer gives a frame that scrolls its tab stop.
        wait::until("the frame can be scrolled", PATIENCE, || {
            let done = browser.eval(
                "return [...document.querySelectorAll('.table-frame')].every((e) => e.scrollWidth <= e.clientWidth || e.tabIndex === 0)",
            );
            (done == true).then_some(())
        });
        browser.eval(
            "for (const frame of document.querySelectorAll('.table-frame')) frame.scrollLeft = 40;
             window.kept.focus();
             getSelection().selectAllChildren(window.kept.closest('tr') ?? window.kept);
             window.scrolled = [...document.querySelectorAll('.table-frame')].map((e) => e.scrollLeft);",
        );
        hold(&page);
        // Every page shows something of these.
        page.use_by_day(&page.make(&format!("New {path} {}", css.len()), &["records:read"]), &[(0, 7, 1)]);
        let vm = page.service.vm(&format!("vm_{}", css.len())).follow();
        wait_held(&page, 1);
        let_go(&page);
        let state = browser.eval(
            "return [window.kept.isConnected, document.activeElement === window.kept, getSelection().toString() !== '',
               JSON.stringify([...document.querySelectorAll('.table-frame')].map((e) => e.scrollLeft).slice(-window.scrolled.length)),
               JSON.stringify(window.scrolled)]",
        );
        assert_eq!((&state[0], &state[1]), (&json!(true), &json!(true)), "{path} {css}: {}", browser.focus());
        assert_eq!(state[2], true, "{path} {css}: the selection is gone");
        if path != "/settings/proxies" {
            assert_eq!(state[3], state[4], "{path} {css}");
        }
        drop(vm);
    }
    page.assert_no_complaints();
}

everywhere!(every_stop_in_what_updates_itself_has_an_id);
fn every_stop_in_what_updates_itself_has_an_id(place: Place) {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../../envoy.yaml");
    let Some(page) = Page::with_settings(place, &[("KEYWARD_EXPLAIN_CONFIG", rules)]) else { return };
    let (ids, _works) = bad_day(&page);
    let mut all: Vec<String> = Vec::new();
    let mut seen = 0;
    let more = ["/settings/keys?q=nothing", "/settings/keys?status=active", "/settings/audit?actor=nobody"];
    for path in pages(&ids).into_iter().chain(more.map(str::to_owned)) {
        page.goto(&path);
        // Without an id there is no telling which element of the newer page is the same.
        let found = page.browser.eval(
            "const stops = [...document.querySelectorAll('[data-live] :is(a[href], button, input:not([type=hidden]), select, textarea, summary, .table-frame)')];
             const twice = [...document.querySelectorAll('[id]')].map((e) => e.id).filter((id, i, ids) => ids.indexOf(id) !== i);
             return [stops.length, ...stops.filter((e) => !e.id).map((e) => e.outerHTML.slice(0, 160)), ...twice.map((id) => `twice: ${id}`)]",
        );
        let mut lines = found.as_array().into_iter().flatten();
        seen += lines.next().and_then(Value::as_u64).unwrap_or_default();
        all.extend(lines.map(|line| format!("{path}: {line}")));
    }
    assert!(seen > 50, "{seen}");
    assert!(all.is_empty(), "{}", all.join("\n"));
}

everywhere!(what_is_opened_last_is_what_opens);
fn what_is_opened_last_is_what_opens(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    let id = page.make("First", &["records:read"]);
    page.goto("/settings/keys");
    hold(&page);
    browser.click(&format!("#delete-{id}"));
    wait_held(&page, 1);
    browser.click("#create");
    wait_held(&page, 2);
    // The answers come in the other order: the form is there, and somebody has begun to fill it in.
    browser.eval("window.held.pop()()");
    browser.wait_focus("dialog #name");
    browser.press("Typed");
    let_go(&page);
    assert_eq!(browser.text_of("#dialog-title"), "Create API key");
    assert_eq!(browser.property("#name", "value"), "Typed");
    assert!(browser.has_focus("#name"), "{}", browser.focus());
    page.assert_no_complaints();
}

everywhere!(a_key_that_goes_leaves_the_focus_in_the_sidebar);
fn a_key_that_goes_leaves_the_focus_in_the_sidebar(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    let id = page.make("Goes", &["records:read"]);
    page.goto(&format!("/settings/keys/{id}"));
    browser.tab_to("nav a[href$=audit]");
    page.service.admin().delete(&format!("/v1/keys/{id}")).ok(200);
    browser.wait_text("main", "does not exist");
    assert!(browser.has_focus("nav a[href$=audit]"), "{}", browser.focus());
    page.assert_no_complaints();
}

everywhere!(what_is_typed_while_a_form_is_under_way_stays);
fn what_is_typed_while_a_form_is_under_way_stays(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    page.goto("/settings/explain");
    browser.fill("#config", "{manifest: {keys: []}, rules: [{path: '/first', access: public}]}");
    browser.fill("#path", "/first");
    hold(&page);
    browser.press(ENTER);
    wait_held(&page, 1);
    browser.fill("#path", "/second");
    let_go(&page);
    browser.wait_text("#result", "Allowed");
    assert_eq!(browser.property("#path", "value"), "/second");
    assert!(browser.has_focus("#path"), "{}", browser.focus());

    let id = page.make("Before", &["records:read"]);
    page.goto(&format!("/settings/keys/{id}"));
    browser.fill("#name", "Sent");
    hold(&page);
    browser.press(ENTER);
    wait_held(&page, 1);
    browser.fill("#name", "Typed later");
    let_go(&page);
    browser.wait_text("h1", "Sent");
    assert_eq!(browser.property("#name", "value"), "Typed later");
    assert!(browser.has_focus("#name"), "{}", browser.focus());
    page.assert_no_complaints();
}

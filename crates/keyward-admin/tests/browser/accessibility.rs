//! Every page and dialog, looked through by axe-core, light and dark; and how much the first page weighs.

use crate::Page;
use crate::driver::PATIENCE;
use crate::layout::{bad_day, pages};
use crate::place::{Place, everywhere};
use crate::proxies::restored;
use crate::support::{ADMIN, wait_for_states};
use keyward_testbed::{wait, workspace};
use serde_json::Value;
use std::process::Command;

/// Pinned, so that a new rule there does not fail a build here.
const AXE: &str = "axe-core@4.14.1";

/// axe-core, fetched once by npm under `target/`.
fn axe() -> String {
    let folder = workspace::target().join("npm");
    std::fs::create_dir_all(&folder).expect("a folder");
    // Tests run at the same time, in processes of their own: one of them fetches, and the others wait. While npm works its
    // folder may have any part of the file, or none, so what a test reads is a file that npm does not know.
    let lock = std::fs::File::create(folder.join("lock")).expect("a lock");
    lock.lock().expect("a lock");
    let file = folder.join(format!("{AXE}.min.js"));
    if !file.is_file() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(&folder).arg(AXE);
        let status = npm.status().expect("npm can be run");
        assert!(status.success(), "npm could not install axe-core");
        let part = folder.join("part");
        std::fs::copy(folder.join("node_modules/axe-core/axe.min.js"), &part).expect("axe.min.js");
        std::fs::rename(part, &file).expect("axe.min.js");
    }
    std::fs::read_to_string(&file).expect("axe.min.js")
}

#[track_caller]
fn check(page: &Page, axe: &str, what: &str) {
    for dark in [false, true] {
        page.browser.set_dark(dark);
        if page.browser.eval("return typeof axe") == "undefined" {
            page.browser.eval(&format!("{axe}; window.axe = axe;"));
        }
        // On a busy machine axe-core takes minutes for a page with many fields: it works on, and is asked for what it found.
        page.browser.eval(
            "window.found = null;
             axe.run(document, {resultTypes: ['violations']}).then(
               (found) => (window.found = found.violations.map((v) =>
                 `${v.impact} ${v.id}: ${v.help}: ${v.nodes.map((n) => n.html + ' ' + n.failureSummary).join(' | ')}`)),
               (error) => (window.found = [`critical ${error}`]))",
        );
        let found = wait::until(&format!("axe-core has looked at {what}"), PATIENCE * 10, || {
            Some(page.browser.eval("return window.found")).filter(Value::is_array)
        });
        let found: Vec<&str> = found.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        assert!(found.is_empty(), "{what}, {}:\n{}", if dark { "dark" } else { "light" }, found.join("\n"));
    }
}

everywhere!(axe_finds_nothing_on_any_page);
fn axe_finds_nothing_on_any_page(place: Place) {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../../envoy.yaml");
    let settings = [("KEYWARD_EXPLAIN_CONFIG", rules), ("KEYWARD_API_URL", "https://api.example/v1/ping")];
    let Some(page) = Page::start(place, crate::Options::default(), &settings) else { return };
    let (browser, service) = (&page.browser, &page.service);
    let axe = axe();
    page.goto("/sign-in");
    check(&page, &axe, "sign-in");
    browser.fill("#token", "wrong");
    browser.click("button[type=submit]");
    browser.find("#token-error");
    check(&page, &axe, "sign-in refused");
    page.sign_in();
    check(&page, &axe, "no keys");
    page.goto("/settings/proxies");
    check(&page, &axe, "no proxies");

    let _filter = service.vm("a").follow();
    wait_for_states(&service.admin(), (1, 0));
    let id = page.make("Reader", &["records:read", "files:read"]);
    page.make("Writer", &["records:write"]);
    page.use_key(&id, &[("records:read", 5)]);
    page.goto("/settings/usage");
    check(&page, &axe, "no usage");
    page.use_by_day(&id, &[(0, 3, 0), (1, 1_000_000, 12), (89, 40, 0)]);
    for path in [
        "/settings/usage",
        "/docs",
        "/settings/keys",
        "/settings/keys?q=nothing",
        "/settings/keys?status=active&sort=name",
        "/settings/keys?status=disabled",
        "/settings/keys/new",
        &format!("/settings/keys/{id}"),
        &format!("/settings/keys/{id}/delete"),
        "/settings/proxies",
        "/settings/proxies/confirm",
        "/settings/audit",
        "/settings/audit?actor=nobody",
        "/settings/explain",
        "/settings/audit?since=2027-03-02&until=2027-03-01",
        "/settings/nowhere",
        "/settings/keys/key_aaaaaaaaaaaaaaaa",
    ] {
        page.goto(path);
        check(&page, &axe, path);
    }
    page.goto("/settings/explain");
    browser.click("main button.primary");
    browser.wait_text("#result", "Denied");
    check(&page, &axe, "explained");

    page.goto("/settings/keys");
    browser.click(".head a.primary");
    browser.find("dialog[open]");
    browser.click("dialog summary");
    check(&page, &axe, "create");
    browser.click("dialog summary");
    browser.click("dialog button[type=submit]");
    browser.click("label[for=expires-never]");
    check(&page, &axe, "create with mistakes");
    browser.fill("#name", "Shown");
    browser.click("[for='permission-records:read']");
    browser.click("dialog button[type=submit]");
    browser.wait_text("#dialog-title", "API key created");
    check(&page, &axe, "created");
    browser.click("dialog [data-close]");
    check(&page, &axe, "asked before closing");
    browser.click("[data-ask-leave]");
    browser.wait_gone("dialog[open]");
    browser.click(&format!("#regenerate-{id}"));
    browser.wait_text("#dialog-title", "Regenerate");
    check(&page, &axe, "regenerate");
    browser.click("dialog [data-close]");
    browser.wait_gone("dialog[open]");
    browser.click(&format!("#delete-{id}"));
    browser.wait_text("#dialog-title", "Delete");
    browser.click("dialog button.danger");
    browser.wait_text("#dialog-title", "Key deleted");
    check(&page, &axe, "deleted");
}

everywhere!(axe_finds_nothing_on_a_bad_day);
fn axe_finds_nothing_on_a_bad_day(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    let axe = axe();
    let (ids, works) = bad_day(&page);
    for path in pages(&ids) {
        page.goto(&path);
        browser.eval("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })");
        check(&page, &axe, &path);
    }
    page.goto("/settings/proxies");
    browser.click("#proxies td.actions a");
    browser.wait_text("dialog h1", "Forget this instance?");
    check(&page, &axe, "forget");

    page.goto("/settings/keys");
    browser.click("#create");
    browser.fill("#name", "Kept");
    browser.click("[for='permission-records:read']");
    browser.offline(true);
    browser.click("dialog button[type=submit]");
    browser.wait_text("dialog [data-failure]", "could not be reached");
    check(&page, &axe, "the service is away");
    browser.offline(false);
    browser.delete_cookies();
    browser.click("dialog button[type=submit]");
    browser.wait_text("#sign-in-title", "Your session has ended");
    check(&page, &axe, "the session has ended");
    browser.fill("#token", ADMIN);
    browser.click("[data-sign-in-card] button");
    browser.wait_gone("#sign-in-title");
    browser.click("dialog [data-close]");
    browser.wait_gone("dialog[open]");

    drop(works);
    wait_for_states(&page.service.admin(), (0, 4));
    browser.click(&format!("#delete-{}", ids[0]));
    browser.wait_text("#dialog-title", "Delete");
    check(&page, &axe, "delete");
    browser.click("dialog button.danger");
    browser.wait_text("dialog .receipt", "No proxy is in contact.");
    check(&page, &axe, "every proxy is cut off");
}

everywhere!(axe_finds_nothing_where_vms_may_be_missing);
fn axe_finds_nothing_where_vms_may_be_missing(place: Place) {
    let Some(page) = restored(place, crate::Options::default()) else { return };
    let axe = axe();
    page.browser.wait_text("#may-miss", "Receipts name no time at the moment.");
    check(&page, &axe, "the list, where instances may be missing");
    page.goto("/settings/proxies");
    check(&page, &axe, "proxies, where instances may be missing");
    page.browser.click("#confirm");
    page.browser.wait_text("dialog h1", "Is every proxy in the list?");
    check(&page, &axe, "confirm");
}

everywhere!(axe_finds_nothing_among_many_permissions);
fn axe_finds_nothing_among_many_permissions(place: Place) {
    let catalogue = crate::many::catalogue();
    let settings = [("KEYWARD_PERMISSIONS", catalogue.path().to_str().expect("a path"))];
    let Some(page) = Page::start(place, crate::Options::default(), &settings) else { return };
    page.sign_in();
    page.browser.click("#create");
    page.browser.wait_text("#dialog-title", "Create API key");
    page.browser.click("[data-read-only]");
    check(&page, &axe(), "create with many permissions");
}

everywhere!(the_first_page_weighs_little_and_comes_from_here_alone);
fn the_first_page_weighs_little_and_comes_from_here_alone(place: Place) {
    let Some(page) = Page::open(place) else { return };
    for number in 0..25 {
        page.make(&format!("Service {number:02}"), &["records:read", "files:read"]);
    }
    page.goto("/settings/keys");
    let sizes = page.browser.eval(
        "return performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))
           .filter((e) => !e.name.includes('/events'))
           .map((e) => [new URL(e.name).origin === location.origin, e.transferSize || e.encodedBodySize])",
    );
    let sizes = sizes.as_array().unwrap();
    assert!(sizes.iter().all(|entry| entry[0] == true), "something came from elsewhere: {sizes:?}");
    let text = page.browser.eval_async(
        "const done = arguments[0]; Promise.all([location.href, ...[...document.querySelectorAll('link, script')]
           .map((e) => e.href || e.src)].map((u) => fetch(u).then((r) => r.arrayBuffer()).then((b) => b.byteLength)))
           .then(done)",
    );
    let bytes: u64 = text.as_array().unwrap().iter().filter_map(Value::as_u64).sum();
    println!("the first page with 25 keys: {bytes} bytes in {} responses", sizes.len());
    assert!(bytes < 100_000, "{bytes} bytes");
}

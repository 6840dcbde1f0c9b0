//! The key that the page shows, through a real Envoy: it works, and stops working on Regenerate and on Delete.

use crate::Page;
use crate::place::NOW;
use crate::support::{EDGE, wait_for_states};
use keyward_testbed::envoy::Envoy;
use keyward_testbed::envoy_config::Shipped;
use keyward_testbed::http1;
use keyward_testbed::upstream::Upstream;
use std::net::SocketAddr;

#[test]
fn the_copied_key_works_until_it_is_regenerated_or_deleted() {
    let Some(page) = Page::open(NOW) else { return };
    let browser = &page.browser;
    let admin: SocketAddr = page.service.url.strip_prefix("http://").unwrap().parse().unwrap();
    let upstream = Upstream::start();
    let folder = keyward_testbed::workspace::scratch("edge-token");
    let envoy = Envoy::start(&Shipped::new(upstream.address()).with_admin(admin, EDGE, folder.path()).build());
    let listener = envoy.listener("databases_api");
    // Two workers and the main thread.
    wait_for_states(&page.service.admin(), (3, 0));
    let status = |key: &str| {
        let path = "/api/collections/posts/records";
        http1::get(listener, path, &[("x-api-key", key)]).expect("Envoy answers").status
    };

    browser.click(".head a.primary");
    browser.fill("#name", "Through Envoy");
    browser.click("[for='permission-records:read']");
    browser.click("dialog button[type=submit]");
    browser.wait_text("dialog .receipt", "Works on all 3 filter instances in contact (");
    let first = browser.text_of("#key");
    assert_eq!(status(&first), 200);
    assert_eq!(status("kw_another"), 401);
    browser.click("[data-copy=key]");
    browser.wait_text("[data-copied]", "Copied");
    browser.click("dialog [data-close]");
    browser.wait_gone("dialog[open]");

    browser.click("#keys .actions a:not(.danger)");
    browser.click("dialog button.danger");
    browser.wait_text("dialog .receipt", "The old key is refused by all 3 filter instances in contact (");
    let second = browser.text_of("#key");
    for _ in 0..10 {
        assert_eq!((status(&first), status(&second)), (401, 200));
    }
    browser.click("[data-copy=key]");
    browser.wait_text("[data-copied]", "Copied");
    browser.click("dialog [data-close]");
    browser.wait_gone("dialog[open]");

    page.goto("/settings/proxies");
    browser.wait_text("#proxies", "Up to date");
    page.goto("/settings/keys");
    browser.click("#keys .actions a.danger");
    browser.click("dialog button.danger");
    browser.wait_text("dialog .receipt", "Refused by all 3 filter instances in contact (");
    for _ in 0..10 {
        assert_eq!(status(&second), 401);
    }
    page.assert_no_complaints();
}

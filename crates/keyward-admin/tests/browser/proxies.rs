//! Forgetting an instance, and confirming the list of proxies.

use crate::place::{Place, everywhere};
use crate::safety::{Raw, hidden};
use crate::support::wait_for_states;
use crate::{Options, Page};

/// A service that was restored from a copy, so that instances may be missing in its list.
pub(crate) fn restored(place: Place, options: Options) -> Option<Page> {
    let mut page = Page::signed_out(place, options)?;
    page.service.kill();
    let made = page.start.run(&["store", "new-identity"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    page.service = page.start.serve();
    page.sign_in();
    Some(page)
}

everywhere!(a_vm_that_does_not_come_back_is_forgotten);
fn a_vm_that_does_not_come_back_is_forgotten(place: Place) {
    for script in [true, false] {
        let Some(page) = Page::with(place, Options { script, ..Options::default() }) else { return };
        let (browser, service) = (&page.browser, &page.service);
        page.make("Reader", &["records:read"]);
        let _stays = service.vm("stays").follow();
        service.vm("went & never <came> back").load();
        wait_for_states(&service.admin(), (1, 1));
        page.goto("/settings/proxies");
        browser.wait_text("#proxies", "Out of contact");
        assert_eq!(
            browser.all("#proxies td.actions a").len(),
            1,
            "an instance in contact would be listed again at once"
        );
        let place = if script { "dialog " } else { "main " };
        let heading = format!("{place}h1");
        for forgets in [false, true] {
            browser.click("#proxies td.actions a");
            browser.wait_text(&heading, "Forget this instance?");
            assert!(browser.text_of(&format!("{place}.facts")).contains("went & never <came> back"));
            if forgets {
                browser.click(&format!("{place}button.danger"));
                browser.wait_text(&heading, "Instance forgotten");
            }
            browser.click(&format!("{place}[data-close]"));
            if script {
                browser.wait_gone("dialog[open]");
            }
            browser.wait_text(
                "#proxies",
                if forgets { "1 instance in contact. Newest revision" } else { "1 out of contact" },
            );
        }
        wait_for_states(&service.admin(), (1, 0));
        let entry = service.admin().get("/v1/audit?action=proxy.forget").ok(200)["entries"][0].clone();
        assert_eq!(entry["subject_id"], "went & never <came> back");
        assert_eq!(entry["actor"], "admin (environment)");
        page.goto("/settings/audit");
        browser.wait_text("#entries", "Filter instance forgotten");
        page.assert_no_complaints();
        page.goto("/settings/proxies/forget?vm=nobody");
        browser.wait_text("h1", "This instance is not in the list");
    }
}

everywhere!(a_list_that_may_lack_vms_is_confirmed);
fn a_list_that_may_lack_vms_is_confirmed(place: Place) {
    for script in [true, false] {
        let Some(page) = restored(place, Options { script, ..Options::default() }) else { return };
        let browser = &page.browser;
        // Whoever looks at keys is told, and led to the list.
        browser.wait_text("#may-miss", "Receipts name no time at the moment.");
        let id = page.make("Reader", &["records:read"]);
        let receipt = |id: &str| page.service.admin().delete(&format!("/v1/keys/{id}")).ok(200)["applied"].clone();
        let applied = receipt(&id);
        assert_eq!(applied["unknown_because"][0]["reason"], "vms_may_be_missing", "{applied}");
        browser.click("#may-miss a");
        browser.wait_text("#proxies", "This list may lack instances, so receipts name no time.");
        browser.click("#confirm");
        let place = if script { "dialog " } else { "main " };
        let heading = format!("{place}h1");
        browser.wait_text(&heading, "Is every proxy in the list?");
        browser.click(&format!("{place}button.primary"));
        browser.wait_text(&heading, "List confirmed");
        browser.click(&format!("{place}[data-close]"));
        browser.wait_text("#proxies", "No filter has called yet");
        browser.wait_gone("#confirm");
        page.goto("/settings/keys");
        browser.wait_text("h1", "API Keys");
        assert!(!browser.is_there("#may-miss .notice"));
        let id = page.make("Reader", &["records:read"]);
        assert!(receipt(&id)["refused_everywhere_by"].is_string());
        let entry = page.service.admin().get("/v1/audit?action=proxies.confirm").ok(200)["entries"][0].clone();
        assert_eq!(entry["actor"], "admin (environment)");
        page.assert_no_complaints();
    }
}

everywhere!(nobody_forgets_or_confirms_for_somebody_else);
fn nobody_forgets_or_confirms_for_somebody_else(place: Place) {
    let Some(page) = restored(place, Options::default()) else { return };
    page.make("Reader", &["records:read"]);
    page.service.vm("lost").load();
    wait_for_states(&page.service.admin(), (0, 1));
    let raw = Raw::of(&page);
    let (forget, confirm) = ("/settings/proxies/forget", "/settings/proxies/confirm");
    let nonce_to_forget = hidden(&raw.get(&format!("{forget}?vm=lost")).text, forget, "nonce");
    let nonce_to_confirm = hidden(&raw.get(confirm).text, confirm, "nonce");
    let list = hidden(&raw.get(confirm).text, confirm, "list");
    let cross = [("sec-fetch-site", "cross-site")];
    for (path, right, wrong) in
        [(forget, &nonce_to_forget, &nonce_to_confirm), (confirm, &nonce_to_confirm, &nonce_to_forget)]
    {
        let send =
            |nonce: &str, headers: &[(&str, &str)]| raw.post(path, &[("nonce", nonce), ("vm", "lost")], headers).status;
        assert_eq!((send("", &[]), send(wrong, &[]), send(right, &cross)), (403, 403, 403), "{path}");
        let other_vm = raw.post(path, &[("nonce", right), ("vm", "other")], &cross);
        assert_eq!(other_vm.status, 403, "{path}");
    }
    assert_eq!(raw.post(forget, &[("nonce", &nonce_to_forget), ("vm", "other")], &[]).status, 403);
    let listed = page.service.admin().get("/v1/proxies").ok(200);
    assert!(listed["may_be_incomplete"] == true && listed.to_string().contains("lost"), "{listed}");
    // A list that another failover made incomplete is not confirmed by the form of an older one.
    let old_list = raw.post(
        confirm,
        &[("nonce", &hidden(&raw.get(confirm).text, confirm, "nonce")), ("list", "0123456789abcdef")],
        &[],
    );
    assert!(old_list.status == 409 && old_list.text.contains("The list was not confirmed"), "{}", old_list.text);
    // The right forms work, once each.
    for (path, nonce) in [(forget, &nonce_to_forget), (confirm, &nonce_to_confirm)] {
        let send = || raw.post(path, &[("nonce", nonce), ("vm", "lost"), ("list", &list)], &[]).status;
        assert_eq!((send(), send()), (200, 409), "{path}");
    }
    let listed = page.service.admin().get("/v1/proxies").ok(200);
    assert!(listed["may_be_incomplete"] == false && !listed.to_string().contains("lost"), "{listed}");
}

//! What must not happen: foreign forms, forms done twice, keys that stay, names that become markup.

use crate::Page;
use crate::place::{Place, everywhere};
use crate::support::{ADMIN, Client, EDGE, Heard};
use keyward_testbed::wait;
use serde_json::json;

/// A browser's session without the browser, to send what no browser would.
pub(crate) struct Raw {
    client: Client,
    cookie: String,
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

pub(crate) fn hidden(html: &str, action: &str, name: &str) -> String {
    let form = html.split("<form").find(|form| form.contains(&format!("action=\"{action}\""))).expect("the form");
    let field = form.split(&format!("name=\"{name}\" value=\"")).nth(1).expect("the field");
    field.split('"').next().unwrap_or_default().to_owned()
}

fn encode(pairs: &[(&str, &str)]) -> Vec<u8> {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish().into_bytes()
}

impl Raw {
    pub(crate) fn of(page: &Page) -> Self {
        Self::sign_in(&page.service.url)
    }

    fn sign_in(url: &str) -> Self {
        let client = Client::new(url, "", Heard::default());
        let form = client.get("/sign-in");
        let visit = form.header("set-cookie").split(';').next().unwrap().to_owned();
        let nonce = hidden(&form.text, "/sign-in", "nonce");
        let body = encode(&[("nonce", &nonce), ("next", ""), ("token", ADMIN)]);
        let reply = client.send("POST", "/sign-in", &[FORM, ("cookie", &visit)], &body);
        assert_eq!(reply.status, 303, "{}", reply.text);
        let cookie = reply.header("set-cookie").to_owned();
        for says in ["HttpOnly", "SameSite=Strict", "Path=/"] {
            assert!(cookie.contains(says), "{cookie}");
        }
        Self { client, cookie: cookie.split(';').next().unwrap().to_owned() }
    }

    pub(crate) fn get(&self, path: &str) -> crate::support::Reply {
        self.client.send("GET", path, &[("cookie", &self.cookie)], b"")
    }

    pub(crate) fn post(&self, path: &str, pairs: &[(&str, &str)], headers: &[(&str, &str)]) -> crate::support::Reply {
        let all: Vec<(&str, &str)> =
            [FORM, ("cookie", &self.cookie)].into_iter().chain(headers.iter().copied()).collect();
        self.client.send("POST", path, &all, &encode(pairs))
    }
}

everywhere!(a_foreign_form_does_nothing);
fn a_foreign_form_does_nothing(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let raw = Raw::of(&page);
    let form = raw.get("/settings/keys/new");
    let nonce = hidden(&form.text, "/settings/keys", "nonce");
    let fields = [("nonce", nonce.as_str()), ("name", "Forged"), ("permissions", "records:read"), ("expires_in", "7d")];
    let cross = [("sec-fetch-site", "cross-site")];
    let same_site = [("sec-fetch-site", "same-site")];
    let origin = [("origin", "https://evil.example")];
    for headers in [&cross[..], &same_site, &origin, &[("origin", "null")]] {
        let reply = raw.post("/settings/keys", &fields, headers);
        assert_eq!(reply.status, 403, "{headers:?}");
    }
    // Without a nonce, with one of another form, of another session, or with a changed one.
    let sign_out = hidden(&form.text, "/sign-out", "nonce");
    let other = Raw::of(&page);
    let foreign = hidden(&other.get("/settings/keys/new").text, "/settings/keys", "nonce");
    for nonce in ["", &sign_out, &foreign, &nonce[1..]] {
        let fields = [("nonce", nonce), ("name", "Forged"), ("permissions", "records:read")];
        assert_eq!(raw.post("/settings/keys", &fields, &[]).status, 403);
    }
    // The API takes tokens only, never the cookie; the page takes the cookie only, never a token.
    let reply = raw.client.send("GET", "/v1/keys", &[("cookie", &raw.cookie)], b"");
    reply.problem(401, "token_missing");
    let reply = page.service.admin().get("/settings/keys");
    assert_eq!((reply.status, reply.header("location")), (303, "/sign-in"));
    assert!(page.keys().is_empty());
    // After all that the right form still works.
    assert_eq!(raw.post("/settings/keys", &fields, &[]).status, 200);

    // A page of another site that sends a form by itself, in the real browser.
    let html = format!(
        "<form method=post action='{}/sign-out'><input name=nonce value=x></form><script>document.forms[0].submit()</script>",
        page.service.url
    );
    page.browser.goto(&format!("data:text/html,{}", html.replace('#', "%23")));
    page.browser.wait_text("h1", "Nothing was done");
    page.goto("/settings/keys");
    page.browser.wait_text("h1", "API Keys");
}

everywhere!(a_form_is_done_once);
fn a_form_is_done_once(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let raw = Raw::of(&page);
    let nonce = hidden(&raw.get("/settings/keys/new").text, "/settings/keys", "nonce");
    // What was refused can be sent again.
    let fields = [("nonce", nonce.as_str()), ("name", "")];
    let reply = raw.post("/settings/keys", &fields, &[]);
    assert_eq!(reply.status, 422);
    assert!(reply.text.contains("Give the key a name.") && reply.text.contains("Choose at least one permission."));
    let fields = [("nonce", nonce.as_str()), ("name", "Once"), ("permissions", "records:read")];
    let reply = raw.post("/settings/keys", &fields, &[]);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("cache-control"), "no-store");
    let key = reply.text.split("data-secret translate=\"no\">").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let again = raw.post("/settings/keys", &fields, &[]);
    assert_eq!(again.status, 409);
    assert!(again.text.contains("This was done already") && !again.text.contains(&key));
    assert_eq!(page.keys().len(), 1);

    let id = page.keys()[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/settings/keys/{id}/regenerate");
    let confirm = raw.get(&path).text;
    let (nonce, revision) = (hidden(&confirm, &path, "nonce"), hidden(&confirm, &path, "revision"));
    let fields = [("nonce", nonce.as_str()), ("revision", &revision)];
    // Sent twice at once: one regenerates.
    let replies: Vec<u16> = std::thread::scope(|scope| {
        let send = || raw.post(&path, &fields, &[]).status;
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(send)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(replies.iter().filter(|status| **status == 200).count(), 1, "{replies:?}");
    assert!(replies.iter().all(|status| [200, 409].contains(status)), "{replies:?}");
    let masked = page.keys()[0]["masked"].clone();
    let again = raw.post(&path, &fields, &[]);
    assert_eq!(again.status, 409);
    assert!(again.text.contains("was not regenerated again"));
    assert_eq!(page.keys()[0]["masked"], masked);
}

everywhere!(going_back_never_shows_the_key_again);
fn going_back_never_shows_the_key_again(place: Place) {
    for script in [true, false] {
        let Some(page) = Page::with(place, crate::Options { script, ..Default::default() }) else { return };
        let browser = &page.browser;
        page.goto("/settings/keys/new");
        browser.fill("#name", "Once");
        browser.click("[for='permission-records:read']");
        browser.click("main button.primary");
        browser.wait_text("h1", "API key created");
        let key = browser.text_of("#key");
        assert!(key.starts_with("kw_"));
        browser.goto(&format!("{}/settings/audit", page.service.url));
        for _ in 0..2 {
            browser.back();
            let shown = wait::until("a page", crate::driver::PATIENCE, || {
                let html = browser.eval("return document.readyState + document.documentElement.outerHTML");
                html.as_str().filter(|html| html.starts_with("complete")).map(str::to_owned)
            });
            assert!(!shown.contains(&key), "script: {script}: {shown}");
        }
        assert_eq!(page.keys().len(), 1);
        let url = browser.url();
        assert!(!url.contains(&key));
    }
}

everywhere!(the_key_is_kept_nowhere);
fn the_key_is_kept_nowhere(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    browser.click(".head a.primary");
    browser.fill("#name", "Once");
    browser.click("[for='permission-records:read']");
    browser.click("dialog button[type=submit]");
    browser.wait_text("#dialog-title", "API key created");
    let key = browser.text_of("#key");
    assert!(!browser.url().contains(&key));
    let kept = browser.eval_async(
        "const done = arguments[0]; caches.keys().then((names) => done(JSON.stringify(
           [{...localStorage}, {...sessionStorage}, document.cookie, history.state, names])))",
    );
    assert_eq!(kept, "[{},{},\"\",null,[]]");
    browser.click("[data-copy=key]");
    browser.wait_text("[data-copied]", "Copied");
    browser.click("dialog [data-close]");
    browser.wait_gone("dialog[open]");
    assert!(!browser.eval("return document.documentElement.outerHTML").as_str().unwrap().contains(&key));
    assert!(!page.service.log().contains(&key));
    for cookie in browser.cookies() {
        assert_eq!((&cookie["httpOnly"], &cookie["sameSite"]), (&json!(true), &json!("Strict")), "{cookie}");
    }
    page.assert_no_complaints();
}

everywhere!(a_name_is_never_markup);
fn a_name_is_never_markup(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    let names = [
        "<script>window.hit=1</script>",
        "\"><img src=x onerror=window.hit=1>",
        "'-alert(1)-'",
        "{{7*7}}</title><svg onload=window.hit=1>",
        "</textarea></option><b>bold",
        "javascript:window.hit=1",
        "&lt;b&gt; &amp;amp;",
    ];
    let ids: Vec<String> = names.iter().map(|name| page.make(name, &["records:read"])).collect();
    for path in ["/settings/keys", "/settings/audit", "/settings/explain", "/settings/keys?q=%3Cscript%3E%22%27"] {
        page.goto(path);
        assert_eq!(browser.eval("return window.hit ?? null"), json!(null), "{path}");
        assert_eq!(
            browser.eval("return document.querySelectorAll('main b, main img, main script').length"),
            0,
            "{path}"
        );
    }
    page.goto("/settings/keys");
    let shown = browser.eval("return [...document.querySelectorAll('a.name')].map((a) => a.textContent)");
    let newest_first: Vec<&str> = names.iter().rev().copied().collect();
    assert_eq!(shown, json!(newest_first));
    for (id, name) in ids.iter().zip(names) {
        page.goto(&format!("/settings/keys/{id}"));
        assert_eq!(browser.property("#name", "value"), name);
        page.goto("/settings/keys");
        browser.click(&format!("#delete-{id}"));
        browser.wait_text("#dialog-title", "Delete");
        assert_eq!(
            browser.eval("return document.querySelector('#dialog-title').textContent"),
            format!("Delete “{name}”?")
        );
        browser.click("dialog button.danger");
        browser.wait_text("#dialog-title", "Key deleted");
        browser.click("dialog [data-close]");
        browser.wait_gone("dialog[open]");
        assert_eq!(browser.eval("return window.hit ?? null"), json!(null));
    }
    assert!(page.keys().is_empty());
    page.assert_no_complaints();
}

everywhere!(every_answer_has_its_headers);
fn every_answer_has_its_headers(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let raw = Raw::of(&page);
    let id = page.make("Reader", &["records:read"]);
    for path in [
        "/",
        "/sign-in",
        "/settings/keys",
        "/settings/keys/new",
        &format!("/settings/keys/{id}"),
        "/settings/proxies",
        "/settings/audit",
        "/settings/explain",
        "/settings/nowhere",
        "/settings/keys/key_none",
    ] {
        let reply = raw.get(path);
        assert_eq!(reply.header("cache-control"), "no-store", "{path}");
        let policy = reply.header("content-security-policy");
        for says in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "form-action 'self'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(says), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(reply.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(reply.header("referrer-policy"), "same-origin", "{path}");
        for inline in ["<style", " style=", " onclick=", "<script>", "javascript:"] {
            assert!(!reply.text.contains(inline), "{path}: {inline}");
        }
    }
    let css =
        raw.get("/settings/keys").text.split("href=\"/assets/").nth(2).unwrap().split('"').next().unwrap().to_owned();
    assert!(raw.get(&format!("/assets/{css}")).header("cache-control").contains("immutable"));
    assert_eq!(raw.get("/assets/other.js").status, 404);
}

everywhere!(only_an_admin_token_signs_in_and_guessing_is_slowed_down);
fn only_an_admin_token_signs_in_and_guessing_is_slowed_down(place: Place) {
    let Some(page) = Page::signed_out(place, crate::Options::default()) else { return };
    let browser = &page.browser;
    page.goto("/settings/audit?action=key.delete");
    assert!(page.path().starts_with("/sign-in?next="));
    browser.fill("#token", "wrong");
    browser.click("button[type=submit]");
    browser.wait_text("#token-error", "This token is not valid");
    assert_eq!(browser.property("#token", "value"), "", "what was typed does not come back");
    browser.fill("#token", EDGE);
    browser.click("button[type=submit]");
    browser.wait_text("#token-error", "edge token");
    browser.fill("#token", ADMIN);
    browser.click("button[type=submit]");
    browser.wait_text("h1", "Audit log");
    assert_eq!(page.path(), "/settings/audit?action=key.delete");
    browser.click(".who button");
    browser.wait_text(".notice", "You have signed out.");
    browser.back();
    browser.find("#token");
    page.goto("/settings/keys");
    browser.find("#token");

    // Many wrong ones at once: some wait, the rest is refused; a right one is served all the same.
    let client = Client::new(&page.service.url, "", Heard::default());
    let guess = || {
        let form = client.get("/sign-in");
        let visit = form.header("set-cookie").split(';').next().unwrap().to_owned();
        let body = encode(&[("nonce", &hidden(&form.text, "/sign-in", "nonce")), ("token", "guess")]);
        client.send("POST", "/sign-in", &[FORM, ("cookie", &visit)], &body).status
    };
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..60).map(|_| scope.spawn(guess)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(statuses.contains(&429), "{statuses:?}");
    page.sign_in();
}

everywhere!(a_session_that_ends_in_the_middle_of_a_dialog_loses_nothing);
fn a_session_that_ends_in_the_middle_of_a_dialog_loses_nothing(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    browser.click(".head a.primary");
    browser.fill("#name", "Kept");
    browser.click("[for='permission-files:write']");
    browser.click("label[for=expires-7d]");
    browser.delete_cookies();
    browser.click("dialog button[type=submit]");
    browser.wait_text("#sign-in-title", "Your session has ended");
    assert!(page.keys().is_empty());
    browser.fill("#token", "wrong");
    browser.click("[data-sign-in-card] button");
    browser.wait_text("#token-error", "not valid");
    browser.fill("#token", ADMIN);
    browser.click("[data-sign-in-card] button");
    browser.wait_gone("#sign-in-title");
    assert_eq!(browser.property("#name", "value"), "Kept");
    browser.click("dialog button[type=submit]");
    browser.wait_text("#dialog-title", "API key created");
    let key = &page.keys()[0];
    assert_eq!((&key["name"], &key["expires_in"]), (&json!("Kept"), &json!("7d")));
    assert_eq!(key["permissions"], json!(["files:write"]));
    page.assert_no_complaints();
}

everywhere!(a_session_ends_with_its_token);
fn a_session_ends_with_its_token(place: Place) {
    let Some(page) = Page::signed_out(place, crate::Options::default()) else { return };
    let browser = &page.browser;
    let made = page.start.run(&["token", "create", "Anna", "--role", "admin", "--json"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let token = made["token"].as_str().expect("the token").to_owned();
    page.goto("/settings/keys");
    // The service sees a token that the command made within half a second.
    wait::until("the token is known", crate::driver::PATIENCE, || {
        (page.service.client(&token).get("/v1/keys").status == 200).then_some(())
    });
    browser.fill("#token", &token);
    browser.click("button[type=submit]");
    browser.wait_text(".who", "Anna");
    assert!(page.start.run(&["token", "revoke", "Anna"]).status.success());
    // The open page is told without being touched.
    browser.wait_text("#sign-in-title", "Your session has ended");
    page.goto("/settings/keys");
    browser.find("#token");
    assert!(page.path().starts_with("/sign-in"));
}

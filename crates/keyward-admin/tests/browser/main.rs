//! The page in a real Chromium, in front of the real service.

mod accessibility;
mod driver;
mod envoy;
mod keyboard;
mod life;
mod live;
mod safety;
mod screenshots;
#[path = "../support/mod.rs"]
mod support;
mod tabs;
mod without_script;

use driver::{Browser, Options};
use serde_json::{Value, json};
use support::{ADMIN, Service, Start};

/// A service with a browser in front of it.
struct Page {
    service: Service,
    browser: Browser,
    _folder: tempfile::TempDir,
}

impl Page {
    /// Signed in, on the list of keys. None: there is no browser here.
    fn open() -> Option<Self> {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Option<Self> {
        let page = Self::signed_out(options)?;
        page.sign_in();
        Some(page)
    }

    fn signed_out(options: Options) -> Option<Self> {
        if !driver::is_there() {
            return None;
        }
        let folder = keyward_testbed::workspace::scratch("page");
        let service = Start::new(folder.path()).with("KEYWARD_LOG", "info").serve();
        Some(Self { service, browser: Browser::start(options), _folder: folder })
    }

    fn sign_in(&self) {
        self.goto("/");
        self.browser.fill("#token", ADMIN);
        self.browser.click("button[type=submit]");
        self.browser.find("h1");
        assert_eq!(self.path(), "/settings/keys");
    }

    fn goto(&self, path: &str) {
        self.browser.goto(&format!("{}{path}", self.service.url));
    }

    fn path(&self) -> String {
        self.browser.url().strip_prefix(&self.service.url).unwrap_or_default().to_owned()
    }

    /// Makes a key by the API; its id.
    fn make(&self, name: &str, permissions: &[&str]) -> String {
        let key = self.service.admin().post("/v1/keys", &json!({"name": name, "permissions": permissions})).ok(201);
        key["id"].as_str().expect("an id").to_owned()
    }

    /// All keys, by the API.
    fn keys(&self) -> Vec<Value> {
        self.service.admin().get("/v1/keys").ok(200)["keys"].as_array().cloned().unwrap_or_default()
    }

    /// What a filter reports of a key.
    fn use_key(&self, id: &str, permissions: &[(&str, u64)]) {
        let count: u64 = permissions.iter().map(|(_, count)| count).sum();
        let permissions: Value = permissions.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect();
        let used =
            json!({"id": id, "count": count, "last_used_at": "2026-01-02T03:04:05Z", "permissions": permissions});
        let batch = json!({"vm": format!("vm-{id}"), "seq": 1, "keys": [used]});
        let reply = self.service.edge().post("/v1/usage", &batch);
        assert!(reply.status < 300, "{}", reply.text);
    }

    /// Fails where the browser complained about anything.
    #[track_caller]
    fn assert_no_complaints(&self) {
        assert_eq!(self.browser.complaints(), Vec::<String>::new());
    }
}

//! The page in a real Chromium, in front of the real service.

mod accessibility;
mod chart;
mod driver;
mod envoy;
mod keyboard;
mod layout;
mod life;
mod live;
mod many;
mod place;
mod proxies;
mod room;
mod rules;
mod safety;
mod screenshots;
mod slow;
mod steady;
#[path = "../support/mod.rs"]
mod support;
mod tabs;
mod unsent;
mod without_script;
mod words;

use driver::{Browser, Options};
use keyward_policy::timestamp::Timestamp;
use place::Place;
use serde_json::{Value, json};
use sqlx::Connection as _;
use support::{ADMIN, Service, Start};

/// A service with a browser in front of it.
struct Page {
    service: Service,
    browser: Browser,
    /// For commands on the service's database, at the service's time.
    start: Start,
    folder: tempfile::TempDir,
}

impl Page {
    /// Signed in, on the list of keys. `None`: what the tests need is not installed.
    fn open(place: Place) -> Option<Self> {
        Self::with(place, Options::default())
    }

    fn with(place: Place, options: Options) -> Option<Self> {
        let page = Self::signed_out(place, options)?;
        page.sign_in();
        Some(page)
    }

    /// Signed in, with a service that has further settings.
    fn with_settings(place: Place, settings: &[(&str, &str)]) -> Option<Self> {
        let page = Self::start(place, Options::default(), settings)?;
        page.sign_in();
        Some(page)
    }

    fn signed_out(place: Place, options: Options) -> Option<Self> {
        Self::start(place, options, &[])
    }

    fn start(place: Place, options: Options, settings: &[(&str, &str)]) -> Option<Self> {
        if !driver::is_there() {
            return None;
        }
        let folder = keyward_testbed::workspace::scratch("page");
        let mut start = Start::new(folder.path()).with("KEYWARD_LOG", "info");
        for (name, value) in place.of_service() {
            start = start.with(name, &value);
        }
        for (name, value) in settings {
            start = start.with(name, value);
        }
        Some(Self { service: start.serve(), browser: Browser::start(&place, options), start, folder })
    }

    fn sign_in(&self) {
        self.goto("/");
        self.browser.fill("#token", ADMIN);
        self.browser.click("button[type=submit]");
        // The click only begins the way there.
        self.browser.wait_text("h1", "API Keys");
        assert_eq!(self.path(), "/settings/keys");
    }

    /// Ends the service and starts it again at another time, and signs in.
    fn travel_to(&mut self, moment: &str) {
        self.service.kill();
        let start = std::mem::replace(&mut self.start, Start::new(self.folder.path()));
        self.start = start.with("FAKETIME", &format!("@{moment}"));
        self.service = self.start.serve();
        self.browser.delete_cookies();
        self.sign_in();
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

    /// What a filter reports of the days before: how many days ago, allowed requests, and ones that lacked a permission.
    fn use_by_day(&self, id: &str, days: &[(i64, u64, u64)]) {
        let key = self.service.admin().get(&format!("/v1/keys/{id}")).ok(200);
        let now = Timestamp::parse(key["created_at"].as_str().expect("a time")).expect("a time").unix_ms();
        let mut entries = Vec::new();
        for &(ago, allowed, denied) in days {
            let at = Timestamp::from_unix_ms(now - ago * 86_400_000).to_string();
            entries.push(json!({"id": id, "count": allowed, "last_used_at": at}));
            let denials = json!({"permission_missing": denied, "route_denied": denied / 10});
            entries.push(json!({"id": id, "last_denied_at": at, "denials": denials}));
        }
        let batch = json!({"vm": format!("days-{id}"), "seq": 1, "keys": entries});
        let reply = self.service.edge().post("/v1/usage", &batch);
        assert!(reply.status < 300, "{}", reply.text);
    }

    /// Changes the service's database in a way that no API can, for instance to make a key older.
    fn alter(&self, statements: &[&str]) {
        let url = format!("sqlite://{}", self.folder.path().join("keyward.db").display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut database = sqlx::SqliteConnection::connect(&url).await.expect("the database");
            for sql in statements {
                sqlx::query(sqlx::AssertSqlSafe(*sql)).execute(&mut database).await.expect(sql);
            }
        });
    }

    /// Fails where the browser complained about anything.
    #[track_caller]
    fn assert_no_complaints(&self) {
        assert_eq!(self.browser.complaints(), Vec::<String>::new());
    }
}

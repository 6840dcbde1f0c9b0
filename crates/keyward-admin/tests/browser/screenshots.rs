//! The pictures of the documentation: `cargo test -p keyward-admin --test browser -- --ignored pictures`. Where there is
//! a `pngquant` on the PATH it makes them a third of their size.

use crate::place::PICTURES;
use crate::support::wait_for_states;
use crate::{Browser, Options, Page};
use base64::Engine as _;
use keyward_policy::checksum::splitmix64;
use keyward_testbed::workspace;
use std::path::PathBuf;
use std::process::Command;

struct Pictures<'p> {
    page: &'p Page,
    folder: PathBuf,
    width: u32,
    suffix: String,
}

impl Pictures<'_> {
    fn take(&self, name: &str) {
        self.take_at(name, "body");
    }

    /// Takes a picture that begins at an element. On a wide window that is the top of the page.
    fn take_at(&self, name: &str, css: &str) {
        let browser: &Browser = &self.page.browser;
        // As high as what it shows, within reason.
        let height = browser.eval(
            "const d = document.querySelector('dialog[open]');
             return Math.max(d ? d.scrollHeight + 80 : 0, document.querySelector('main').getBoundingClientRect().bottom)",
        );
        let most = if self.width < 500 { 1500.0 } else { 1000.0 };
        let least = if self.width < 500 { 640.0 } else { 560.0 };
        browser.resize(self.width, height.as_f64().unwrap_or(800.0).clamp(least, most) as u32);
        browser.eval("scrollTo(0, 0)");
        if self.width < 500 {
            browser.eval(&format!("document.querySelector('{css}').scrollIntoView()"));
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        let png = base64::engine::general_purpose::STANDARD.decode(browser.screenshot()).expect("Base64");
        let file = self.folder.join(format!("{name}-{}.png", self.suffix));
        std::fs::write(&file, png).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let _ =
            Command::new("pngquant").args(["--force", "--ext", ".png", "--strip", "--speed", "1"]).arg(&file).status();
        browser.resize(self.width, 900);
    }
}

#[test]
#[ignore = "writes the pictures in docs/images"]
fn pictures() {
    let settings = [
        ("KEYWARD_API_URL", "https://api.example.com/api/collections/posts/records"),
        ("KEYWARD_EXPLAIN_CONFIG", concat!(env!("CARGO_MANIFEST_DIR"), "/../../envoy.yaml")),
    ];
    let Some(page) = Page::start(PICTURES, Options::default(), &settings) else { return };
    let (browser, service) = (&page.browser, &page.service);
    let folder = workspace::root().join("docs/images");
    std::fs::create_dir_all(&folder).expect("docs/images");
    let all = |act: &dyn Fn(&Pictures<'_>)| {
        for (width, size) in [(1440, "wide"), (360, "narrow")] {
            for (dark, light) in [(false, "light"), (true, "dark")] {
                browser.resize(width, 900);
                browser.set_dark(dark);
                act(&Pictures { page: &page, folder: folder.clone(), width, suffix: format!("{size}-{light}") });
            }
        }
    };
    page.goto("/sign-in");
    all(&|pictures| pictures.take("sign-in"));
    page.sign_in();
    all(&|pictures| pictures.take("keys-empty"));

    let mut edge = service.vm("vm_9f86d081884c7d65");
    let mut filters = Vec::new();
    for (node, name) in [
        ("gateway-7d9f8c5b6d-x2x4k", "vm_9f86d081884c7d65"),
        ("gateway-7d9f8c5b6d-x2x4k", "vm_60303ae22b998861"),
        ("gateway-7d9f8c5b6d-x2x4k", "vm_2c26b46b68ffc68f"),
        ("gateway-7d9f8c5b6d-zq8mt", "vm_fcde2b2edba56bf4"),
        ("gateway-7d9f8c5b6d-zq8mt", "vm_08f271887ce94707"),
        ("gateway-7d9f8c5b6d-zq8mt", "vm_3608bca1e44ea6c4"),
    ] {
        edge.node = node.to_owned();
        edge.name = name.to_owned();
        edge.max_staleness = "15m".to_owned();
        filters.push(edge.follow());
    }
    wait_for_states(&service.admin(), (6, 0));
    let create = |name: &str, permissions: &[&str], expires_in: &str| {
        let body = serde_json::json!({"name": name, "permissions": permissions, "expires_in": expires_in});
        service.admin().post("/v1/keys", &body).ok(201)["id"].as_str().unwrap().to_owned()
    };
    let everything = ["records:read", "records:write", "records:delete", "files:read", "files:write"];
    let nightly = create("Nightly import", &["records:read", "records:write"], "180d");
    let backend = create("Backend Production", &everything, "90d");
    let old = create("Old backend", &everything, "90d");
    create("Partner portal", &["records:read", "files:read"], "never");
    let bot = create("CI Bot", &["records:read", "records:write"], "60d");
    create("Mobile preview", &["records:read", "files:read"], "30d");
    create("Status dashboard", &["records:read"], "30d");
    create("Load test", &["records:read"], "7d");
    service.admin().patch(&format!("/v1/keys/{old}"), &serde_json::json!({"disabled": true})).ok(200);
    page.use_key(
        &backend,
        &[("records:read", 148_203), ("records:write", 20_911), ("files:read", 5_120), ("files:write", 871)],
    );
    page.use_key(&bot, &[("records:read", 412), ("records:write", 96)]);
    page.use_by_day(&backend, &weeks(82, 2_400));
    page.use_by_day(&nightly, &weeks(80, 90));
    // Each key becomes as old as it would be, its lifetime and its entry in the audit log with it. Nothing but these
    // pictures may change that log.
    page.alter(&["DROP TRIGGER audit_keeps_entries"]);
    let ages = [
        ("Nightly import", 83),
        ("Backend Production", 82),
        ("Old backend", 61),
        ("Partner portal", 45),
        ("CI Bot", 33),
        ("Mobile preview", 27),
        ("Status dashboard", 12),
        ("Load test", 9),
    ];
    for (place, (name, days)) in ages.into_iter().enumerate() {
        // Nobody makes all keys at the same time of day.
        let ms = days * 86_400_000 - (place as i64 * 37 % 11) * 1_500_000;
        page.alter(&[
            &format!(
                "UPDATE keys SET created_at = created_at - {ms}, expires_at = expires_at - {ms} WHERE name = '{name}'"
            ),
            &format!("UPDATE audit SET at = at - {ms} WHERE action = 'key.create' AND subject_name = '{name}'"),
        ]);
    }
    page.alter(&[
        "UPDATE key_usage SET last_used_at = (SELECT MAX(at) FROM audit) - 60000 * LENGTH(permission)",
        "UPDATE audit SET at = at - 86400000 * 2 WHERE action = 'key.update'",
    ]);

    for (path, name) in [
        ("/settings/keys", "keys"),
        (&format!("/settings/keys/{backend}"), "key"),
        ("/settings/usage", "usage"),
        ("/settings/proxies", "proxies"),
        ("/settings/audit", "audit"),
    ] {
        page.goto(path);
        all(&|pictures| pictures.take(name));
    }
    page.goto("/settings/keys");
    browser.resize(1920, 900);
    browser.set_dark(false);
    Pictures { page: &page, folder: folder.clone(), width: 1920, suffix: "1920-light".to_owned() }.take("keys");

    page.goto("/settings/explain");
    browser.fill("#key", "Status dashboard");
    browser.fill("#method", "POST");
    browser.fill("#path", "/api/collections/posts/records");
    browser.click("main button.primary");
    browser.wait_text("#result", "Denied");
    all(&|pictures| pictures.take_at("explain", "#result"));

    page.goto("/settings/keys");
    browser.click(".head a.primary");
    browser.find("dialog[open]");
    browser.fill("#name", "Invoice export");
    browser.click("[for='permission-records:read']");
    browser.click("[for='permission-files:read']");
    all(&|pictures| pictures.take("create"));
    browser.click("label[for=expires-never]");
    browser.fill("#name", "");
    browser.click("[for='permission-records:read']");
    browser.click("[for='permission-files:read']");
    browser.click("dialog button[type=submit]");
    all(&|pictures| pictures.take("create-mistakes"));
    browser.fill("#name", "Invoice export");
    browser.click("[for='permission-records:read']");
    browser.click("label[for=expires-30d]");
    browser.click("dialog button[type=submit]");
    browser.wait_text("#dialog-title", "API key created");
    all(&|pictures| pictures.take("created"));
    browser.click("dialog [data-close]");
    browser.find("[data-ask]");
    all(&|pictures| pictures.take("created-not-copied"));
    browser.click("[data-ask-leave]");
    browser.wait_gone("dialog[open]");
    browser.click(&format!("#regenerate-{bot}"));
    browser.wait_text("#dialog-title", "Regenerate");
    all(&|pictures| pictures.take("regenerate"));
    browser.click("dialog [data-close]");
    browser.wait_gone("dialog[open]");
    browser.click(&format!("#delete-{backend}"));
    browser.wait_text("#dialog-title", "Delete");
    all(&|pictures| pictures.take("delete"));
    // One Envoy is lost: the receipt says by when even that one refuses.
    filters.truncate(4);
    wait_for_states(&service.admin(), (4, 2));
    browser.click("dialog button.danger");
    browser.wait_text("#dialog-title", "Key deleted");
    browser.wait_text("dialog .receipt", "2 that are cut off");
    browser.wait_gone(&format!("#delete-{backend}"));
    all(&|pictures| pictures.take("deleted"));
    page.goto("/settings/proxies");
    all(&|pictures| pictures.take("proxies-lost"));
    page.goto("/docs");
    browser.click("[id='patch-v1-keys--id-'] summary");
    all(&|pictures| pictures.take("docs"));
}

/// Requests of the days before the pictures' day, a Tuesday: fewer on weekends, and some that were refused.
fn weeks(days: i64, most: u64) -> Vec<(i64, u64, u64)> {
    let day = |ago: i64| {
        let seed = splitmix64(ago.unsigned_abs() + most);
        let is_weekend = matches!(ago % 7, 2 | 3);
        let usual = if is_weekend { most / 5 } else { most };
        let refused = if seed.is_multiple_of(17) { seed % 60 } else { 0 };
        (ago, usual - seed % (usual / 3) - usual / 400 * ago.unsigned_abs(), refused)
    };
    (0..days).map(day).collect()
}

/// The dialog with a catalogue of 60 permissions.
#[test]
#[ignore = "writes the pictures in docs/images"]
fn pictures_of_many_permissions() {
    let catalogue = crate::many::catalogue();
    let settings = [("KEYWARD_PERMISSIONS", catalogue.path().to_str().expect("a path"))];
    let Some(page) = Page::start(PICTURES, Options::default(), &settings) else { return };
    page.sign_in();
    let browser = &page.browser;
    browser.click("#create");
    browser.wait_text("#dialog-title", "Create API key");
    browser.fill("#name", "Warehouse");
    browser.click("[data-read-only]");
    for (width, size) in [(1440, "wide"), (360, "narrow")] {
        for (dark, light) in [(false, "light"), (true, "dark")] {
            browser.resize(width, 900);
            browser.set_dark(dark);
            let folder = workspace::root().join("docs/images");
            Pictures { page: &page, folder, width, suffix: format!("{size}-{light}") }.take("create-many");
        }
    }
}

/// Four views as readers set them up, to be looked at: with wider text spacing, on paper, in forced colours, and in a font of
/// 32 pixels. `cargo test -p keyward-admin --test browser -- --ignored looks` writes them to `target/looks`.
#[test]
#[ignore = "writes pictures to look at"]
fn looks() {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../../envoy.yaml");
    let Some(page) = Page::with_settings(PICTURES, &[("KEYWARD_EXPLAIN_CONFIG", rules)]) else { return };
    let (ids, _works) = crate::layout::bad_day(&page);
    let browser = &page.browser;
    let folder = workspace::target().join("looks");
    std::fs::create_dir_all(&folder).expect("target/looks");
    for look in ["spaced", "printed", "forced", "large"] {
        if look == "large" {
            let sizes = serde_json::json!({"fontSizes": {"standard": 32, "fixed": 26}});
            browser.devtools("Page.setFontSizes", sizes);
        }
        for width in [360, 1280] {
            for (view, path) in [
                ("keys", "/settings/keys"),
                ("key", &format!("/settings/keys/{}", ids[1])),
                ("create", "/settings/keys/new"),
                ("proxies", "/settings/proxies"),
            ] {
                browser.resize(width, 900);
                page.goto(path);
                match look {
                    "spaced" => _ = browser.eval(crate::layout::SPACED),
                    "printed" => browser.emulate_media("print", &[]),
                    "forced" => browser.emulate_media("", &[("forced-colors", "active")]),
                    _ => browser.emulate_media("", &[]),
                }
                let height = browser.eval("return document.documentElement.scrollHeight");
                browser.resize(width, (height.as_f64().unwrap_or(900.0) as u32).clamp(600, 4000));
                std::thread::sleep(std::time::Duration::from_millis(200));
                let png = base64::engine::general_purpose::STANDARD.decode(browser.screenshot()).expect("Base64");
                std::fs::write(folder.join(format!("{look}-{view}-{width}.png")), png).expect("a picture");
            }
        }
    }
}

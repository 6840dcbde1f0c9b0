//! A real Chromium, driven by chromedriver over the WebDriver protocol (W3C), which is plain JSON over HTTP.

use crate::place::{self, Place};
use keyward_testbed::{wait, workspace};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Only bounds a test that has failed already: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);

/// Keys that have no character.
pub(crate) const TAB: &str = "\u{E004}";
pub(crate) const ENTER: &str = "\u{E007}";
pub(crate) const ESCAPE: &str = "\u{E00C}";
pub(crate) const SPACE: &str = " ";

/// How the browser is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) dark: bool,
    pub(crate) script: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { width: 1280, height: 900, dark: false, script: true }
    }
}

/// A browser with a fresh profile; it ends with the value.
pub(crate) struct Browser {
    driver: Child,
    session: String,
    agent: ureq::Agent,
    _profile: tempfile::TempDir,
}

/// An element of the page.
#[derive(Debug, Clone)]
pub(crate) struct Element(String);

const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

fn program(variable: &str, names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = names
        .iter()
        .find_map(|name| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file()));
    std::env::var_os(variable).map(PathBuf::from).or(found)
}

/// Whether everything that these tests need is installed. Where it is not, the tests are skipped, but never on a build
/// server.
pub(crate) fn is_there() -> bool {
    let mut missing = place::missing();
    if program("CHROMEDRIVER", &["chromedriver"]).is_none() {
        missing.push("chromium-driver");
    }
    if program("CHROMIUM", &["chromium", "chromium-browser", "google-chrome"]).is_none() {
        missing.push("chromium");
    }
    let there = missing.is_empty();
    assert!(
        there || std::env::var("CI").as_deref() != Ok("true"),
        "these Debian packages are missing: {missing:?}. `cargo xtask test` installs them"
    );
    if !there {
        eprintln!("SKIPPED: these Debian packages are missing: {missing:?}");
    }
    there
}

impl Browser {
    pub(crate) fn start(place: &Place, options: Options) -> Self {
        let profile = workspace::scratch("chromium");
        let binary = program("CHROMEDRIVER", &["chromedriver"]).expect("chromedriver");
        let chromium = program("CHROMIUM", &["chromium", "chromium-browser", "google-chrome"]).expect("chromium");
        let start_driver = || {
            let mut driver = Command::new(&binary)
                .arg("--port=0")
                .envs(place.of_browser(profile.path()))
                .env("LANGUAGE", "en_GB")
                .env("HOME", profile.path())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("chromedriver can be started");
            let output = driver.stdout.take().expect("its output");
            let port = BufReader::new(output)
                .lines()
                .map_while(Result::ok)
                .filter_map(|line| line.rsplit_once("on port ")?.1.trim_end_matches('.').parse::<u16>().ok())
                // What it was asked for comes first: any.
                .find(|port| *port != 0);
            if port.is_none() {
                let _ = driver.wait();
            }
            port.map(|port| (driver, port))
        };
        // It takes a free port of one address family and ends if the same port of the other is taken: then it is
        // started again.
        let (driver, port) = (0..5).find_map(|_| start_driver()).expect("chromedriver says its port");
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE * 2));
        let mut browser = Self {
            driver,
            session: format!("http://127.0.0.1:{port}/session"),
            agent: config.build().new_agent(),
            _profile: profile,
        };
        let folder = browser._profile.path().join("data");
        let mut args = vec![
            "--headless".to_owned(),
            "--no-sandbox".into(),
            "--disable-gpu".into(),
            "--disable-quic".into(),
            "--disable-dev-shm-usage".into(),
            "--no-first-run".into(),
            "--disable-background-networking".into(),
            "--disable-component-update".into(),
            "--disable-sync".into(),
            "--lang=en-GB".into(),
            "--hide-scrollbars".into(),
            format!("--window-size={},{}", options.width, options.height),
            format!("--user-data-dir={}", folder.display()),
        ];
        if !options.script {
            args.push("--blink-settings=scriptEnabled=false".into());
        }
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "unhandledPromptBehavior": "accept",
            "goog:chromeOptions": {"binary": chromium, "args": args, "prefs": {"intl.accept_languages": "en-GB"}},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let answer = browser.post_to(&browser.session.clone(), &capabilities);
        let id = answer["sessionId"].as_str().expect("a session").to_owned();
        write!(browser.session, "/{id}").expect("a string");
        browser.resize(options.width, options.height);
        browser.set_dark(options.dark);
        // Some packages of Chromium have other languages.
        browser.devtools("Emulation.setLocaleOverride", json!({"locale": "en-GB"}));
        if let Some(source) = place.script() {
            browser.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": source }));
        }
        browser
    }

    fn post_to(&self, url: &str, body: &Value) -> Value {
        self.try_post(url, body).unwrap_or_else(|error| panic!("{url} {body}: {error}"))
    }

    fn try_post(&self, url: &str, body: &Value) -> Result<Value, String> {
        let body = body.to_string();
        let sent = self.agent.post(url).content_type("application/json").send(body.as_bytes());
        let text = sent.and_then(|mut answer| answer.body_mut().with_config().limit(64 << 20).read_to_string());
        let text = text.map_err(|error| error.to_string())?;
        let mut answer: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let value = answer["value"].take();
        match value["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", value["message"].as_str().unwrap_or_default())),
            None => Ok(value),
        }
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.post_to(&format!("{}{path}", self.session), body)
    }

    fn get(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.session);
        let mut answer = self.agent.get(&url).call().expect("chromedriver answers");
        let text = answer.body_mut().with_config().limit(64 << 20).read_to_string().expect("a body");
        serde_json::from_str::<Value>(&text).expect("JSON")["value"].take()
    }

    /// A command of the DevTools protocol.
    pub(crate) fn devtools(&self, command: &str, params: Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": params}))
    }

    pub(crate) fn resize(&self, width: u32, height: u32) {
        let params = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", params);
    }

    pub(crate) fn set_dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!([
            {"name": "prefers-color-scheme", "value": value},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.devtools("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// Sets features of the media that the page is shown on.
    pub(crate) fn emulate_media(&self, media: &str, features: &[(&str, &str)]) {
        let features: Vec<Value> = features.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        self.devtools("Emulation.setEmulatedMedia", json!({"media": media, "features": features}));
    }

    /// Lets every answer of the network take at least this long.
    pub(crate) fn slow_down(&self, latency: Duration) {
        self.network(false, latency);
    }

    /// Takes the network away, or gives it back.
    pub(crate) fn offline(&self, offline: bool) {
        self.network(offline, Duration::ZERO);
    }

    fn network(&self, offline: bool, latency: Duration) {
        let conditions = json!({
            "offline": offline, "latency": latency.as_millis() as u64, "downloadThroughput": -1, "uploadThroughput": -1,
        });
        self.devtools("Network.enable", json!({}));
        self.devtools("Network.emulateNetworkConditions", conditions);
    }

    /// Clicks at a point of the window.
    pub(crate) fn click_at(&self, x: u32, y: u32) {
        for kind in ["mousePressed", "mouseReleased"] {
            let params = json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1});
            self.devtools("Input.dispatchMouseEvent", params);
        }
    }

    pub(crate) fn goto(&self, url: &str) {
        self.post("/url", &json!({"url": url}));
    }

    pub(crate) fn back(&self) {
        self.post("/back", &json!({}));
    }

    pub(crate) fn reload(&self) {
        self.post("/refresh", &json!({}));
    }

    pub(crate) fn url(&self) -> String {
        self.get("/url").as_str().unwrap_or_default().to_owned()
    }

    /// Runs a function body and gives what it returns.
    pub(crate) fn eval(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Runs a function body that calls back with its last argument.
    pub(crate) fn eval_async(&self, script: &str) -> Value {
        self.post("/timeouts", &json!({"script": 60_000}));
        self.post("/execute/async", &json!({"script": script, "args": []}))
    }

    pub(crate) fn all(&self, css: &str) -> Vec<Element> {
        let found = self.post("/elements", &json!({"using": "css selector", "value": css}));
        let elements = found.as_array().into_iter().flatten();
        elements.filter_map(|element| Some(Element(element[ELEMENT].as_str()?.to_owned()))).collect()
    }

    /// The first element that fits and is shown, once there is one.
    #[track_caller]
    pub(crate) fn find(&self, css: &str) -> Element {
        wait::until(&format!("`{css}` on {}", self.url()), PATIENCE, || {
            self.all(css).into_iter().find(|element| self.is_shown(element))
        })
    }

    pub(crate) fn is_shown(&self, element: &Element) -> bool {
        self.get(&format!("/element/{}/displayed", element.0)) == true
    }

    pub(crate) fn is_there(&self, css: &str) -> bool {
        !self.all(css).is_empty()
    }

    /// Waits until nothing fits any more.
    #[track_caller]
    pub(crate) fn wait_gone(&self, css: &str) {
        wait::until(&format!("`{css}` is gone"), PATIENCE, || (!self.is_there(css)).then_some(()));
    }

    /// Waits until what fits says this.
    #[track_caller]
    pub(crate) fn wait_text(&self, css: &str, says: &str) -> String {
        let script = format!("return document.querySelector({})?.innerText ?? ''", json!(css));
        wait::until(&format!("`{css}` says “{says}”"), PATIENCE, || {
            let text = self.eval(&script).as_str().unwrap_or_default().to_owned();
            text.contains(says).then_some(text)
        })
    }

    /// The title, which is there without the script, too.
    pub(crate) fn title(&self) -> String {
        self.get("/title").as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn body_text(&self) -> String {
        self.all("body").first().map(|body| self.text(body)).unwrap_or_default()
    }

    pub(crate) fn text(&self, element: &Element) -> String {
        self.get(&format!("/element/{}/text", element.0)).as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub(crate) fn text_of(&self, css: &str) -> String {
        self.text(&self.find(css))
    }

    /// The name by which assistive technology calls an element.
    pub(crate) fn name_of(&self, css: &str) -> String {
        let element = self.find(css);
        self.get(&format!("/element/{}/computedlabel", element.0)).as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn property(&self, css: &str, name: &str) -> Value {
        let element = self.find(css);
        self.get(&format!("/element/{}/property/{name}", element.0))
    }

    #[track_caller]
    pub(crate) fn click(&self, css: &str) {
        wait::until(&format!("`{css}` can be clicked"), PATIENCE, || {
            let element = self.all(css).into_iter().find(|element| self.is_shown(element))?;
            self.try_post(&format!("{}/element/{}/click", self.session, element.0), &json!({})).ok()
        });
    }

    /// Replaces what stands in a field. A page that updates itself may replace the field meanwhile: then the new one is filled in.
    #[track_caller]
    pub(crate) fn fill(&self, css: &str, text: &str) {
        wait::until(&format!("`{css}` can be filled in"), PATIENCE, || {
            let element = self.all(css).into_iter().find(|element| self.is_shown(element))?;
            let of_element = |what: &str| format!("{}/element/{}/{what}", self.session, element.0);
            self.try_post(&of_element("clear"), &json!({})).ok()?;
            if !text.is_empty() {
                self.try_post(&of_element("value"), &json!({"text": text})).ok()?;
            }
            Some(())
        });
    }

    /// Presses keys one after another, wherever the focus is.
    pub(crate) fn press(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})])
            .collect();
        self.post("/actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}));
    }

    /// Presses a key together with Control.
    pub(crate) fn press_with_control(&self, key: char) {
        let actions = json!([
            {"type": "keyDown", "value": "\u{E009}"}, {"type": "keyDown", "value": key},
            {"type": "keyUp", "value": key}, {"type": "keyUp", "value": "\u{E009}"},
        ]);
        self.post("/actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}));
    }

    /// Presses Tab until the element that fits has the focus, as a person would.
    #[track_caller]
    pub(crate) fn tab_to(&self, css: &str) {
        for _ in 0..60 {
            self.press(TAB);
            if self.has_focus(css) {
                return;
            }
        }
        panic!("Tab never came to `{css}`; the focus is on {}", self.focus());
    }

    pub(crate) fn has_focus(&self, css: &str) -> bool {
        self.eval(&format!("return document.activeElement?.matches({}) ?? false", json!(css))) == true
    }

    #[track_caller]
    pub(crate) fn wait_focus(&self, css: &str) {
        wait::until(&format!("the focus is on `{css}`"), PATIENCE, || self.has_focus(css).then_some(()));
    }

    pub(crate) fn focus(&self) -> String {
        self.eval("return document.activeElement?.outerHTML.slice(0, 200) ?? ''").as_str().unwrap_or_default().into()
    }

    pub(crate) fn new_tab(&self) -> String {
        let made = self.post("/window/new", &json!({"type": "tab"}));
        made["handle"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn tab(&self) -> String {
        self.get("/window").as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn switch_to(&self, tab: &str) {
        self.post("/window", &json!({"handle": tab}));
    }

    pub(crate) fn cookies(&self) -> Vec<Value> {
        self.get("/cookie").as_array().cloned().unwrap_or_default()
    }

    pub(crate) fn delete_cookies(&self) {
        let url = format!("{}/cookie", self.session);
        self.agent.delete(&url).call().expect("chromedriver answers");
    }

    /// A PNG of what is shown, Base64.
    pub(crate) fn screenshot(&self) -> String {
        self.get("/screenshot").as_str().unwrap_or_default().to_owned()
    }

    /// What the browser complained about: refused by the policy, or an error in the script.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({"type": "browser"}));
        let entries = entries.as_array().into_iter().flatten();
        let severe = entries.filter(|entry| entry["level"] == "SEVERE" || entry["source"] == "security");
        severe
            .filter_map(|entry| entry["message"].as_str().map(str::to_owned))
            // A status of 400 and more is told as one, and tests provoke those.
            .filter(|message| !message.contains("the server responded with a status of"))
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = self.try_post(
                &format!("{}/execute/sync", self.session),
                &json!({"script":
                "return location.href + '\\n' + document.body.innerText", "args": []}),
            );
            eprintln!("--- the browser showed\n{}", text.unwrap_or_default().as_str().unwrap_or_default());
        }
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

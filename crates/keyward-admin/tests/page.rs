//! The page over plain HTTP, as a browser without the script sees it.

mod support;

use sqlx::Connection as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;
use support::{ADMIN, Reply, Service, Start, service};

/// The value of a hidden field.
fn hidden(page: &str, form: &str, name: &str) -> String {
    let (_, rest) = page.split_once(form).unwrap_or_else(|| panic!("no {form} in {page}"));
    let (_, rest) = rest.split_once(&format!("name=\"{name}\" value=\"")).expect("the field");
    rest.split('"').next().expect("its end").to_owned()
}

/// A signed-in browser.
struct Browser<'s> {
    service: &'s Service,
    cookie: String,
}

impl<'s> Browser<'s> {
    fn sign_in(service: &'s Service) -> Self {
        let client = service.client("");
        let form = client.send("GET", "/sign-in", &[], b"");
        let visit = form.header("set-cookie").split(';').next().unwrap().to_owned();
        let nonce = hidden(&form.text, "action=\"/sign-in\"", "nonce");
        let headers = [("cookie", visit.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        let body = format!("nonce={nonce}&token={ADMIN}&next=/settings/keys");
        let reply = client.send("POST", "/sign-in", &headers, body.as_bytes());
        assert_eq!(reply.status, 303, "{}", reply.text);
        let cookie = reply.header("set-cookie").split(';').next().unwrap().to_owned();
        Self { service, cookie }
    }

    fn get(&self, path: &str) -> Reply {
        self.service.client("").send("GET", path, &[("cookie", &self.cookie)], b"")
    }

    fn post(&self, path: &str, body: &str) -> Reply {
        let headers = [("cookie", self.cookie.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        self.service.client("").send("POST", path, &headers, body.as_bytes())
    }
}

#[test]
fn the_create_form_shows_every_mistake_at_once() {
    let (_folder, service) = service();
    let browser = Browser::sign_in(&service);
    let nonce = hidden(&browser.get("/settings/keys/new").text, "action=\"/settings/keys\"", "nonce");
    let reply = browser.post("/settings/keys", &format!("nonce={nonce}&name=&expires_in=tomorrow"));
    assert_eq!(reply.status, 422);
    let page = &reply.text;
    for says in ["Give the key a name.", "Choose at least one permission.", "Choose one of these."] {
        assert!(page.contains(says), "{says}: {page}");
    }
    // The form was not used up: the same nonce creates the key.
    let body = format!("nonce={nonce}&name=CI+Bot&permissions=records:read&expires_in=7d");
    assert_eq!(browser.post("/settings/keys", &body).status, 200);
    assert_eq!(browser.post("/settings/keys", &body).status, 409);
    assert_eq!(service.admin().get("/v1/keys").ok(200)["keys"].as_array().unwrap().len(), 1);
}

#[test]
fn behind_a_proxy_that_ends_tls_cookies_are_secure_and_links_lead_below_the_path() {
    let folder = keyward_testbed::workspace::scratch("admin");
    let service = Start::new(folder.path()).with("KEYWARD_PUBLIC_URL", "https://ops.example/keyward/").serve();
    let client = service.client("");
    for base in ["", "/keyward"] {
        let reply = client.send("GET", &format!("{base}/settings/audit"), &[], b"");
        assert_eq!((reply.status, reply.header("location")), (303, "/keyward/sign-in?next=%2Fsettings%2Faudit"));
        let form = client.send("GET", &format!("{base}/sign-in"), &[], b"");
        let cookie = form.header("set-cookie");
        assert!(cookie.starts_with("__Host-") && cookie.contains("; Secure") && cookie.contains("Path=/;"), "{cookie}");
        assert!(form.text.contains("action=\"/keyward/sign-in\""), "{}", form.text);
        assert!(!form.text.contains("=\"/assets"), "{}", form.text);
        // The proxy sends its own host; the browser says where it is.
        let sent = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("cookie", cookie.split(';').next().unwrap()),
            ("origin", "https://ops.example"),
        ];
        let nonce = hidden(&form.text, "action=\"/keyward/sign-in\"", "nonce");
        let body = format!("nonce={nonce}&token={ADMIN}&next=/keyward/settings/proxies");
        let reply = client.send("POST", &format!("{base}/sign-in"), &sent, body.as_bytes());
        assert_eq!((reply.status, reply.header("location")), (303, "/keyward/settings/proxies"));
        let made = serde_json::json!({"name": format!("at /{base}"), "permissions": ["records:read"]});
        let made = service.admin().post(&format!("{base}/v1/keys"), &made);
        assert!(made.header("location").starts_with("/keyward/v1/keys/key_"), "{}", made.header("location"));
    }
    assert_eq!(client.send("GET", "/keyward/healthz", &[], b"").status, 200);
}

#[test]
fn the_audit_log_is_exported_with_its_filters() {
    let (_folder, service) = service();
    let id = service.admin().make("=1+1, \"x\"")["id"].as_str().unwrap().to_owned();
    service.admin().patch(&format!("/v1/keys/{id}"), &serde_json::json!({ "disabled": true })).ok(200);
    let browser = Browser::sign_in(&service);
    let reply = browser.get("/settings/audit.csv");
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/csv; charset=utf-8"));
    let lines: Vec<&str> = reply.text.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, "at,actor,action,subject_id,subject_name,revision,detail"));
    assert!(lines[1].contains("\"key.update\"") && lines[2].contains("\"'=1+1, \"\"x\"\"\""), "{}", reply.text);
    assert_eq!(browser.get("/settings/audit.csv?action=key.create").text.lines().count(), 2);
    // A day is within the range that it ends.
    let today = service.admin().get("/v1/audit").ok(200)["entries"][0]["at"].as_str().unwrap()[..10].to_owned();
    let lines = |range: &str| browser.get(&format!("/settings/audit.csv?{range}")).text.lines().count();
    assert_eq!(lines(&format!("since={today}&until={today}")), 3);
    assert_eq!((lines("until=2020-01-01"), lines("since=2999-01-01")), (1, 1));
    assert!(browser.get("/settings/audit?since=2020-01-02").text.contains("value=\"2020-01-02\""));
    let page = browser.get("/settings/audit").text;
    assert!(page.contains("Key disabled") && page.contains(&format!("href=\"/settings/keys/{id}\"")), "{page}");
    assert_eq!(service.client("").send("GET", "/settings/audit.csv", &[], b"").status, 303);
}

#[test]
fn days_that_select_nothing_are_told_and_kept() {
    let (_folder, service) = service();
    service.admin().make("a");
    let browser = Browser::sign_in(&service);
    let before = "since=2027-03-02&until=2027-03-01&actor=someone";
    for (query, kept, says) in [
        (before, "2027-03-01", "id=\"until-error\">This day is before the first one."),
        (before, "2027-03-02", "value=\"someone\""),
        ("since=yesterday", "yesterday", "id=\"since-error\">Give a day like 2026-11-01."),
        ("until=2026-02-30", "2026-02-30", "id=\"until-error\">Give a day like 2026-11-01."),
    ] {
        let reply = browser.get(&format!("/settings/audit?{query}"));
        assert_eq!(reply.status, 422, "{query}");
        assert!(reply.text.contains(says) && reply.text.contains(&format!("value=\"{kept}\"")), "{}", reply.text);
        assert!(reply.text.contains("<title>Error: ") && !reply.text.contains("Key created</th>"), "{}", reply.text);
        // A file could not say it.
        let file = browser.get(&format!("/settings/audit.csv?{query}"));
        assert_eq!((file.status, file.header("location")), (303, &*format!("/settings/audit?{query}")));
    }
    assert_eq!(browser.get("/settings/audit?since=2027-03-01&until=2027-03-01").status, 200);
}

/// The gateway in front of the page gave up, or the network was lost: the answer with the key reaches nobody.
#[test]
fn a_form_that_is_sent_again_while_it_is_worked_on_brings_the_key() {
    let (folder, service) = service();
    let browser = Browser::sign_in(&service);
    let nonce = hidden(&browser.get("/settings/keys/new").text, "action=\"/settings/keys\"", "nonce");
    let body = format!("nonce={nonce}&name=CI+Bot&permissions=records:read");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("keyward.db").display());
    let mut database = runtime.block_on(sqlx::SqliteConnection::connect(&url)).unwrap();
    runtime.block_on(sqlx::query("BEGIN IMMEDIATE").execute(&mut database)).unwrap();

    let mut first = TcpStream::connect(service.url.trim_start_matches("http://")).unwrap();
    let head = format!("POST /settings/keys HTTP/1.1\r\nhost: a\r\ncookie: {}", browser.cookie);
    let kind = "content-type: application/x-www-form-urlencoded";
    write!(first, "{head}\r\n{kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    // Nothing tells from outside that the work began. Where the pause is too short, the second form begins it.
    std::thread::sleep(Duration::from_millis(500));
    drop(first);
    let again = std::thread::scope(|scope| {
        let again = scope.spawn(|| browser.post("/settings/keys", &body));
        std::thread::sleep(Duration::from_millis(500));
        runtime.block_on(sqlx::query("ROLLBACK").execute(&mut database)).unwrap();
        again.join().unwrap()
    });
    assert!(again.status == 200 && again.text.contains("kw_"), "{}: {}", again.status, again.text);
    assert_eq!(service.admin().get("/v1/keys").ok(200)["keys"].as_array().unwrap().len(), 1);
    let third = browser.post("/settings/keys", &body);
    assert!(third.status == 409 && third.text.contains("regenerate it"), "{}", third.text);
}

/// The page explains what the shipped Envoy does, although its example is the plugin configuration alone.
#[test]
fn the_example_is_explained_behind_the_envoy_that_it_is_from() {
    let (_folder, service) = service();
    let browser = Browser::sign_in(&service);
    let explained = |config: &str| {
        let nonce = hidden(&browser.get("/settings/explain").text, "action=\"/settings/explain#result\"", "nonce");
        let path = "//api/collections/x/../posts/records";
        let body = format!("nonce={nonce}&method=GET&host=localhost&path={path}&config={config}");
        let reply = browser.post("/settings/explain", &body);
        assert_eq!(reply.status, 200);
        reply.text
    };
    let page = explained("");
    assert!(page.contains("normalises the path to <code>/api/collections/posts/records</code>"), "{page}");
    assert!(page.contains("<code>key_missing</code>"), "{page}");
    let page = explained("manifest: {keys: []}%0Arules: [{path: /**, require: [records:read]}]");
    assert!(page.contains("<code>path_ambiguous</code>"), "{page}");
    assert!(page.contains("is not part of this configuration"), "{page}");
}

#[test]
fn who_is_not_signed_in_is_led_to_the_form_and_back() {
    let (_folder, service) = service();
    let client = service.client("");
    let reply = client.send("GET", "/settings/audit?action=key.create", &[], b"");
    assert_eq!(
        (reply.status, reply.header("location")),
        (303, "/sign-in?next=%2Fsettings%2Faudit%3Faction%3Dkey.create")
    );
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let reply = client.send("POST", "/settings/keys", &form, b"name=CI+Bot&permissions=records:read");
    assert_eq!(reply.status, 401);
    let page = &reply.text;
    assert!(page.contains("value=\"/settings/keys/new?name=CI+Bot&#38;permissions=records%3Aread\""), "{page}");
    let foreign = [form[0], ("sec-fetch-site", "cross-site")];
    let reply = client.send("POST", "/settings/keys", &foreign, b"name=CI+Bot");
    assert_eq!(reply.status, 403);
    assert!(reply.text.contains("Nothing was done"));
    assert_eq!(reply.header("x-frame-options"), "DENY");
}

/// Opens an event stream, and returns its status line. The stream ends with the connection.
fn follow(service: &Service, cookie: &str, topic: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(service.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    write!(stream, "GET /settings/events?topic={topic} HTTP/1.1\r\nhost: a\r\ncookie: {cookie}\r\n\r\n").unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    (stream, String::from_utf8_lossy(&status).into_owned())
}

#[test]
fn one_session_cannot_take_the_event_streams_of_others() {
    const MAX_OF_A_SESSION: usize = 16;
    let (_folder, service) = service();
    let (greedy, other) = (Browser::sign_in(&service), Browser::sign_in(&service));
    let mut open: Vec<_> = (0..MAX_OF_A_SESSION).map(|_| follow(&service, &greedy.cookie, "proxies")).collect();
    assert!(open.iter().all(|(_, status)| status == "HTTP/1.1 200"), "{open:?}");
    assert_eq!(follow(&service, &greedy.cookie, "proxies").1, "HTTP/1.1 503");
    assert_eq!(follow(&service, &other.cookie, "proxies").1, "HTTP/1.1 200");
    // The page itself works on, and a stream that ends makes room for another.
    assert_eq!(greedy.get("/settings/proxies").status, 200);
    open.truncate(MAX_OF_A_SESSION - 1);
    keyward_testbed::wait::until("there is room again", support::PATIENCE, || {
        (follow(&service, &greedy.cookie, "proxies").1 == "HTTP/1.1 200").then_some(())
    });
}

/// Returns the first event of a stream.
fn first_event(stream: &TcpStream) -> String {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.filter_map(|line| line.strip_prefix("event: ").map(str::to_owned)).next().expect("an event")
}

#[test]
fn a_stream_says_what_was_missed_before_it_began_and_that_it_is_alive() {
    let (_folder, service) = service();
    let browser = Browser::sign_in(&service);
    let page = browser.get("/settings/audit").text;
    let revision = |page: &str| page.split_once("data-revision=\"").unwrap().1.split('"').next().unwrap().to_owned();
    let body = serde_json::json!({"name": "Made meanwhile", "permissions": ["records:read"]});
    service.admin().post("/v1/keys", &body).ok(201);
    let streams: Vec<TcpStream> = [revision(&page), revision(&browser.get("/settings/audit").text)]
        .into_iter()
        .map(|since| follow(&service, &browser.cookie, &format!("audit&since={since}")).0)
        .collect();
    assert_eq!(first_event(&streams[0]), "changed");
    // Nothing happens, and the stream says so now and then, so that the script can tell it from one that hangs.
    assert_eq!(first_event(&streams[1]), "alive");
}

/// The description of the API, as a view and as the document that it is made from.
#[test]
fn the_api_is_described_at_docs() {
    let folder = keyward_testbed::workspace::scratch("admin");
    let service = Start::new(folder.path()).with("KEYWARD_PUBLIC_URL", "https://ops.example/keyward/").serve();
    let client = service.client("");
    let document = client.get("/openapi.json").ok(200);
    let reply = client.get("/docs");
    let page = &reply.text;
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(reply.header("content-security-policy").contains("default-src 'none'"));
    let mut calls = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let id: String = path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            assert!(page.contains(&format!("id=\"{method}{id}\"")), "{method} {path}");
            calls += 1;
        }
    }
    assert_eq!(page.matches("class=\"call\"").count(), calls, "each call is there once");
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("id=\"{name}\"")), "{name}");
    }
    for link in page.split("href=\"#").skip(1) {
        let target = link.split('"').next().unwrap();
        assert!(page.contains(&format!("id=\"{target}\"")), "{target}");
    }
    // Nothing inline, nothing from elsewhere, and links lead below the path.
    assert!(!page.contains("style=") && !page.contains("<script") && !page.contains("://"), "{page}");
    assert!(page.contains("href=\"/keyward/openapi.json\"") && !page.contains("href=\"/openapi"));
    assert!(page.len() < 150_000, "{} bytes", page.len());
    let (_folder, service) = self::service();
    assert!(Browser::sign_in(&service).get("/settings/keys").text.contains("href=\"/docs\""));
}

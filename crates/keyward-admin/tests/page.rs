//! The page over plain HTTP, as a browser without the script sees it.

mod support;

use support::{ADMIN, Reply, Service, service};

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

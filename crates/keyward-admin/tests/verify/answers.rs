//! Which request is sent, and what is said of the answers.

use crate::{as_keyward, file, http, plugin, verify};
use keyward_testbed::upstream::{Received, Upstream};
use keyward_testbed::workspace;
use serde_json::{Value, json};

type Responder = dyn Fn(&Received) -> Vec<u8> + Send + Sync;

#[test]
fn the_request_is_chosen_by_what_the_rules_ask_for() {
    let folder = workspace::scratch("verify");
    let by_host = json!([{"hosts": ["*.example.com", "api.example.com"], "path": "/h/{id}", "require": ["a:read"]}]);
    let public_first = json!([{"path": "/a/**", "access": "public"}, {"path": "/a/b", "require": ["a:read"]}, {"path": "/c", "access": "authenticated"}]);
    let with_body = json!([{"methods": ["POST"], "content_type": ["image/png"], "path": "/a", "require": ["a:read"]}, {"methods": ["HEAD", "PUT"], "path": "/b", "require": ["a:read"]}]);
    let cases: [(&str, &Value, &[&str], i32, &str); 8] = [
        ("a rule for hosts", &by_host, &[], 0, "GET /h/keyward-verify of api.example.com: 401"),
        ("a host that the rule is for", &by_host, &["--host", "x.example.com"], 0, "of x.example.com: 401"),
        (
            "a host that no rule is for",
            &by_host,
            &["--host", "example.org"],
            3,
            "asks for one for the host `example.org`",
        ),
        ("a rule that is never reached", &public_first, &[], 0, "GET /c: 401"),
        ("a rule for another body", &with_body, &[], 0, "PUT /b: 401"),
        ("a method that no rule is for", &with_body, &["--method", "GET"], 3, "with the method `GET`: give --path"),
        ("HEAD", &with_body, &["--method", "HEAD"], 3, "an answer to HEAD has no body"),
        ("rules without keys", &json!([]), &[], 3, "no rule of the configuration asks for one: give --path"),
    ];
    let gateway = Upstream::answering(as_keyward);
    for (name, rules, more, exit, says) in cases {
        let config = file(folder.path(), "plugin.json", &plugin(json!({"rules": rules})).to_string());
        let (code, said) = verify(&gateway, &[&["--config", &config], more].concat());
        assert!(code == exit && said.contains(says), "{name}: {code}: {said}");
    }
}

#[test]
fn the_cause_is_named_where_something_else_answers() {
    let folder = workspace::scratch("verify");
    let config = |more: Value| plugin(more).to_string();
    let ready = |more: Value| {
        let mut config = plugin(more);
        config["readiness_path"] = "/keyward/ready".into();
        config.to_string()
    };
    let public = json!({"rules": [{"path": "/p", "access": "public"}, {"path": "/a", "require": ["a:read"]}]});
    let ok = || http("200 OK", "", "hello");
    let rbac = || http("403 Forbidden", "", "RBAC: access denied");
    let to = || http("301 Moved Permanently", "location: https://api.example.com/a\r\n", "");
    let shadow = || json!({"mode": "shadow"});
    let whole = |answer: Vec<u8>| -> Box<Responder> { Box::new(move |_| answer.clone()) };
    let with_ready = |answer: Vec<u8>| -> Box<Responder> {
        Box::new(move |request| if request.target() == "/keyward/ready" { answer.clone() } else { as_keyward(request) })
    };
    let cases = [
        ("nothing", whole(ok()), config(json!({})), "", "so nothing checks keys here"),
        ("a public path", whole(ok()), config(public), "/p", "rules[0] makes it public; name a path that needs a key"),
        ("an unmatched path", whole(ok()), config(json!({"unmatched": "public"})), "/x", "`unmatched` is `public`"),
        ("shadow, backstop", whole(rbac()), config(shadow()), "", "rename its `rules` to `shadow_rules`"),
        ("shadow", whole(ok()), config(shadow()), "", "in which the filter refuses nothing"),
        ("backstop", whole(rbac()), config(json!({})), "", "403 by the backstop and not by Keyward"),
        (
            "a redirect",
            whole(to()),
            config(json!({})),
            "",
            "redirects before it looks at the key; give the address https://api.example.com\n",
        ),
        ("readiness of others", with_ready(ok()), ready(json!({})), "", "✗ readiness  200, but not by the filter"),
        ("no readiness", with_ready(http("404 Not Found", "", "")), ready(json!({})), "", "404, but not by the filter"),
        (
            "not ready",
            with_ready(http("503 Service Unavailable", "", r#"{"status":"manifest_unavailable"}"#)),
            ready(json!({})),
            "",
            "503: the filter has no usable keys yet",
        ),
    ];
    for (name, answer, config, path, says) in cases {
        let gateway = Upstream::answering(move |request| answer(request));
        let config = file(folder.path(), "plugin.json", &config);
        let path: &[&str] = if path.is_empty() { &[] } else { &["--path", path] };
        let (code, said) = verify(&gateway, &[&["--config", &config], path].concat());
        assert!(code == 1 && said.contains(says), "{name}: {code}: {said}");
    }
}

#[test]
fn a_copy_of_a_key_that_was_cut_does_not_pass_as_revoked() {
    const KEY: &str = "kw_deletedLongAgo0123456789ABCDEFGHIJKL2pgrsH";
    let folder = workspace::scratch("verify");
    let gateway = Upstream::answering(as_keyward);
    let of_service = json!({
        "admin": {"cluster": "keyward_admin", "authority": "keyward", "token": "kwt_x"},
        "rules": [{"path": "/a", "require": ["a:read"]}],
    });
    let of_service = file(folder.path(), "service.json", &of_service.to_string());
    let own = file(folder.path(), "own.json", &plugin(json!({})).to_string());
    let other_letter = KEY.replace("deleted", "Deleted");
    let cases = [
        ("a whole key", KEY, vec!["--config", &of_service], 0, "✓ revoked"),
        ("another prefix", &KEY.replace("kw_", "acme_live_"), vec!["--config", &of_service], 0, "✓ revoked"),
        ("cut", &KEY[..44], vec!["--config", &of_service], 3, "not a key as the service makes it"),
        ("cut before the underscore", &KEY[3..], vec!["--config", &of_service], 3, "exactly one key"),
        ("one letter", &other_letter, vec!["--config", &of_service], 3, "cut or mistyped"),
        (
            "cut, keys of the user",
            &KEY[..44],
            vec!["--config", &own],
            1,
            "? revoked    401 key_unknown, which does not show",
        ),
        (
            "cut, no configuration",
            &KEY[..44],
            vec!["--path", "/a"],
            1,
            "? revoked    401 key_unknown, which does not show",
        ),
    ];
    for (name, key, mut args, exit, says) in cases {
        let key = file(folder.path(), "key", key);
        args.extend(["--revoked-key-file", &key]);
        let (code, said) = verify(&gateway, &args);
        assert!(code == exit && said.contains(says), "{name}: {code}: {said}");
    }
}

//! No key and no token is ever said but once: every log line and every response is searched for every one ever made.

mod support;

use keyward_policy::digest::Digest;
use keyward_testbed::workspace;
use serde_json::{Value, json};
use support::{ADMIN, EDGE, Start};

#[test]
fn no_log_line_and_no_response_holds_a_secret_but_the_one_that_gives_it() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path());
    let service = start.serve();
    let (admin, edge) = (service.admin(), service.edge());
    let mut secrets: Vec<String> = Vec::new();
    let mut take = |answer: &Value| secrets.push(answer["key"].as_str().unwrap().to_owned());

    let keys: Vec<Value> = (0..5).map(|n| admin.make(&format!("key {n}"))).collect();
    keys.iter().for_each(&mut take);
    let path = format!("/v1/keys/{}", keys[0]["id"].as_str().unwrap());
    take(&admin.send("POST", &format!("{path}/regenerate"), &[], b"").ok(200));
    let token = start.run(&["token", "create", "another", "--role", "admin", "--json"]);
    let token: Value = serde_json::from_slice(&token.stdout).unwrap();
    let token = token["token"].as_str().unwrap().to_owned();

    // All calls, and mistakes that carry secrets in every place a client may put them.
    let key = keys[1]["key"].as_str().unwrap();
    for path in
        ["/v1/keys", "/v1/keys?q=key", &path, "/v1/proxies", "/v1/audit", "/v1/permissions", "/metrics", "/v1/export"]
    {
        admin.get(path);
    }
    for secret in [key, &token, ADMIN, EDGE] {
        admin.get(&format!("/v1/keys?q={secret}"));
        admin.get(&format!("/v1/keys/{secret}"));
        admin.get(&format!("/v1/{secret}"));
        admin.get(&format!("/v1/keys?cursor={secret}"));
        admin.delete(&format!("/v1/keys/{secret}?wait={secret}"));
        admin.send("GET", "/v1/keys", &[("x-api-key", secret), ("if-match", secret)], b"");
        admin.send(
            "POST",
            "/v1/keys",
            &[("content-type", "application/json")],
            format!("{{\"name\": {secret}").as_bytes(),
        );
        admin.post("/v1/keys", &json!({ "name": 1, "permissions": [secret], "expires_in": secret }));
        // Names that are made up are shown where they are short; what is made here is not.
        if secret.len() > 40 {
            admin.post("/v1/keys", &json!({ secret: secret, "permissions": [{ secret: 1 }] }));
            let twice = format!("{{\"{secret}\": 1, \"{secret}\": {{\"{secret}\": 1, \"{secret}\": 2}}}}");
            admin.send("POST", "/v1/keys", &[("content-type", "application/json")], twice.as_bytes());
            admin.get(&format!("/v1/keys?{secret}=1&{secret}=2"));
        }
        service.client(&format!("{secret}x")).get("/v1/keys");
        // A key in the address, with a token that is wrong.
        let wrong = service.client("wrong");
        wrong.delete(&format!("/v1/keys/{secret}"));
        wrong.get(&format!("/v1/{secret}"));
        edge.get(&format!("/v1/manifest?since={secret}"));
        edge.send("GET", "/v1/manifest", &[("x-keyward-vm", "vm"), ("x-keyward-realm", secret)], b"");
        edge.post("/v1/usage", &json!({ "vm": "vm", "seq": secret, "keys": [{ "id": secret, "count": secret }] }));
    }
    edge.get("/v1/manifest");
    let mut shown = service.log();
    for args in [
        &["key", "list"][..],
        &["key", "list", "--json"],
        &["token", "list"],
        &["manifest"],
        &["key", "delete", "key 2"],
    ] {
        let start = Start::new(folder.path()).with("KEYWARD_URL", &service.url);
        let output = start.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        shown.push_str(&String::from_utf8_lossy(&output.stdout));
        shown.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    shown.push_str(&service.log());

    let responses = service.heard.all();
    for secret in &secrets {
        assert!(!shown.contains(secret.as_str()), "a log line holds a key");
        let said = responses.iter().filter(|text| text.contains(secret.as_str())).count();
        assert_eq!(said, 1, "a key is given once");
        let digest = Digest::of_key(secret.as_bytes()).to_hex();
        assert!(!service.log().contains(&digest), "a log line holds a digest");
        let told: Vec<&String> = responses.iter().filter(|text| text.contains(&digest)).collect();
        assert!(told.iter().all(|text| text.starts_with("{\"format\":1")), "a digest outside the manifest: {told:?}");
    }
    for token in [token.as_str(), ADMIN, EDGE] {
        assert!(!shown.contains(token), "a log line holds a token");
        assert!(responses.iter().all(|text| !text.contains(token)), "a response holds a token");
        let digest = Digest::of_key(token.as_bytes()).to_hex();
        assert!(!shown.contains(&digest) && responses.iter().all(|text| !text.contains(&digest)));
    }
    // On disk there are digests only.
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for secret in secrets.iter().chain([&token]) {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "the disk holds a secret");
        }
    }
}

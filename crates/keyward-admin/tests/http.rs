//! The HTTP API, as whoever uses it meets it.

mod support;

use keyward_policy::timestamp::Timestamp;
use keyward_testbed::postgres::Postgres;
use keyward_testbed::workspace;
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};
use support::{Client, Start, service};

fn fields(problem: &Value) -> Vec<&str> {
    problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect()
}

#[test]
fn the_whole_life_of_a_key() {
    let (_folder, service) = service();
    let admin = service.admin();

    let reply = admin.post("/v1/keys", &json!({ "name": "CI Bot", "permissions": ["records:read", "files:read"] }));
    let key = reply.ok(201);
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(reply.header("location"), format!("/v1/keys/{}", key["id"].as_str().unwrap()));
    let plaintext = key["key"].as_str().unwrap().to_owned();
    assert!(plaintext.starts_with("kw_") && plaintext.len() == 45, "{plaintext}");
    assert_eq!(key["permissions"], json!(["records:read", "files:read"]));
    assert_eq!((&key["status"], &key["expires_in"], &key["revision"]), (&json!("active"), &json!("30d"), &json!(1)));
    assert!(key["masked"].as_str().unwrap().ends_with(&plaintext[41..]));
    let path = format!("/v1/keys/{}", key["id"].as_str().unwrap());

    let mut listed = admin.get("/v1/keys").ok(200);
    let mut shown = key.clone();
    shown.as_object_mut().unwrap().remove("key");
    assert_eq!(listed["keys"].as_array_mut().unwrap().remove(0), shown);
    let detail = admin.get(&path).ok(200);
    assert_eq!(detail["usage"]["count"], 0);
    assert_eq!(
        detail["usage"]["permissions"][0],
        json!({ "permission": "records:read", "granted": true, "count": 0, "last_used_at": null })
    );

    let edited = admin.patch(&path, &json!({ "name": "CI", "permissions": ["files:read"], "disabled": true })).ok(200);
    assert_eq!(
        (&edited["name"], &edited["status"], &edited["revision"]),
        (&json!("CI"), &json!("disabled"), &json!(2))
    );
    assert_eq!(edited["applied"]["of"], 0);

    let reply = admin.send("POST", &format!("{path}/regenerate"), &[], b"");
    let regenerated = reply.ok(200);
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_ne!(regenerated["key"], key["key"]);
    assert_eq!((&regenerated["name"], &regenerated["revision"]), (&json!("CI"), &json!(3)));
    assert!(regenerated["regenerated_at"].is_string());

    let deleted = admin.delete(&path).ok(200);
    assert_eq!((&deleted["id"], &deleted["revision"]), (&key["id"], &json!(4)));
    admin.get(&path).problem(404, "key_not_found");
    admin.delete(&path).problem(404, "key_not_found");
    assert_eq!(admin.get("/v1/keys").ok(200), json!({ "keys": [], "next_cursor": null }));

    let audit = admin.get("/v1/audit").ok(200);
    let actions: Vec<&str> =
        audit["entries"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["key.delete", "key.regenerate", "key.update", "key.create"]);
    // A range that ends before it begins selects nothing. The page and the command say so to a person.
    for until in ["2027-01-01T00:00:00Z", "1999-12-31T23:59:59Z"] {
        let audit = admin.get(&format!("/v1/audit?since=2027-01-01T00:00:00Z&until={until}")).ok(200);
        assert_eq!(audit["entries"], json!([]));
    }
}

#[test]
fn metrics_tell_of_keys_that_expire_and_of_receipts_and_prometheus_reads_them() {
    let (_folder, service) = service();
    let admin = service.admin();
    let make = |name: &str, expires_in: &str| {
        let key = json!({ "name": name, "permissions": ["records:read"], "expires_in": expires_in });
        admin.post("/v1/keys", &key).ok(201)["id"].as_str().unwrap().to_owned()
    };
    make("Week", "7d");
    let disabled = make("Disabled", "7d");
    admin.patch(&format!("/v1/keys/{disabled}?wait=0s"), &json!({ "disabled": true })).ok(200);
    make("Month", "30d");
    make("Quarter", "90d");
    let forever = make("Forever", "never");
    admin.delete(&format!("/v1/keys/{forever}?wait=1s")).ok(200);

    let metrics = admin.get("/metrics").text;
    let value = |name: &str| {
        let mut values = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        values.next().unwrap_or_else(|| panic!("{name} in {metrics}")).to_owned()
    };
    assert_eq!(value(&format!("keyward_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))), "1");
    assert_eq!(value("keyward_keys_expiring{within=\"1d\"}"), "0");
    assert_eq!(value("keyward_keys_expiring{within=\"7d\"}"), "1");
    assert_eq!(value("keyward_keys_expiring{within=\"30d\"}"), "2");
    // The change that did not wait is not among them.
    assert_eq!(value("keyward_receipt_seconds_count"), "1");
    assert_eq!(value("keyward_receipt_seconds_bucket{le=\"+Inf\"}"), "1");
    assert!(value("keyward_store_writes_total{result=\"committed\"}").parse::<u64>().unwrap() >= 7);
    assert_eq!(value("keyward_store_writes_total{result=\"failed\"}"), "0");
    assert!(value("process_resident_memory_bytes").parse::<u64>().unwrap() > 1 << 20);

    let mut promtool = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    assert!(promtool.wait().unwrap().success(), "{metrics}");
}

#[test]
fn what_is_wrong_with_a_key_is_told_field_by_field() {
    let (_folder, service) = service();
    let admin = service.admin();
    let long = "é".repeat(101);
    for (body, wrong) in [
        (json!({}), vec!["name", "permissions"]),
        (json!({ "name": "", "permissions": [] }), vec!["name", "permissions"]),
        (json!({ "name": long, "permissions": ["records:read"] }), vec!["name"]),
        (json!({ "name": "a\nb", "permissions": ["records:read"] }), vec!["name"]),
        (json!({ "name": "a", "permissions": ["records:read", "nothing"] }), vec!["permissions[1]"]),
        (json!({ "name": "a", "permissions": "records:read" }), vec!["permissions"]),
        (json!({ "name": 5, "permissions": [null] }), vec!["name", "permissions[0]"]),
        (json!({ "name": "a", "permissions": ["records:read"], "expires_in": "1d" }), vec!["expires_in"]),
        (json!({ "name": "a", "permissions": ["records:read"], "expires_in": null }), vec!["expires_in"]),
        (json!({ "name": "a", "permissions": ["records:read"], "color": 1, "odd": 2 }), vec!["color", "odd"]),
        (
            json!({ "name": "", "permissions": ["nothing"], "expires_in": 3, "odd": 1 }),
            vec!["expires_in", "name", "odd", "permissions[0]"],
        ),
        (json!([]), vec![""]),
    ] {
        let problem = admin.post("/v1/keys", &body).problem(422, "validation_failed");
        let mut told = fields(&problem);
        told.sort_unstable();
        assert_eq!(told, wrong, "{body}: {problem}");
    }
    let twice = br#"{"name":"a","name":"b","permissions":["records:read"]}"#;
    let json = [("content-type", "application/json")];
    let problem = admin.send("POST", "/v1/keys", &json, twice).problem(422, "validation_failed");
    assert_eq!(fields(&problem), ["name"]);
    admin.send("POST", "/v1/keys", &json, b"{\"name\"").problem(400, "malformed_json");
    admin.send("POST", "/v1/keys", &[], b"{}").problem(415, "unsupported_media_type");
    admin.send("POST", "/v1/keys", &json, &vec![b' '; 70_000]).problem(413, "body_too_large");
    assert_eq!(admin.get("/v1/keys").ok(200)["keys"], json!([]));
    assert_eq!(service.edge().get("/v1/manifest").ok(200)["head"], 0);

    admin.make("taken");
    let again = json!({ "name": "taken", "permissions": ["records:read"] });
    admin.post("/v1/keys", &again).problem(409, "name_taken");
}

#[test]
fn names_that_look_alike_are_one_name() {
    let (_folder, service) = service();
    let admin = service.admin();
    let key = admin.make("CI Bot");
    let named = |name: &str| json!({ "name": name, "permissions": ["records:read"] });
    // Another case, a Cyrillic letter, full width, and another way to write the same character.
    admin.make("Café");
    for alike in ["ci bot", "CI BOT", "CI Вot", "ＣＩ Bot", "CI B\u{043e}t", "cafe\u{301}"] {
        admin.post("/v1/keys", &named(alike)).problem(409, "name_taken");
    }
    admin.make("CI Bot 2");
    // A key may change how its own name is written, and a name is free again when its key is gone.
    let path = format!("/v1/keys/{}", key["id"].as_str().unwrap());
    admin.patch(&path, &json!({ "name": "ci bot" })).ok(200);
    admin.patch(&path, &json!({ "name": "CI bot 2" })).problem(409, "name_taken");
    admin.delete(&path).ok(200);
    admin.make("CI Bot");
}

#[test]
fn every_lifetime_is_counted_from_now() {
    let (_folder, service) = service();
    let admin = service.admin();
    for lifetime in ["7d", "30d", "60d", "90d", "180d", "never"] {
        let body = json!({ "name": lifetime, "permissions": ["records:read"], "expires_in": lifetime });
        let key = admin.post("/v1/keys", &body).ok(201);
        assert_eq!(key["expires_in"], lifetime);
        assert_eq!(key["expires_at"].is_null(), lifetime == "never");
    }
}

#[test]
fn tokens_have_roles_and_nothing_goes_without() {
    let (_folder, service) = service();
    let nobody = service.client("");
    for path in ["/v1/keys", "/v1/keys/x", "/v1/permissions", "/v1/proxies", "/v1/audit", "/v1/manifest", "/v1/export"]
    {
        nobody.get(path).problem(401, "token_missing");
        let cookie = [("cookie", "session=abc")];
        nobody.send("GET", path, &cookie, b"").problem(401, "token_missing");
    }
    service.client("wrong").get("/v1/keys").problem(401, "token_invalid");
    service.edge().get("/v1/keys").problem(403, "role_forbidden");
    service.admin().get("/v1/manifest").problem(403, "role_forbidden");
    service.admin().post("/v1/usage", &json!({})).problem(403, "role_forbidden");
    let basic = [("authorization", "Basic YWRtaW46YWRtaW4=")];
    nobody.send("GET", "/v1/keys", &basic, b"").problem(401, "token_missing");
    let lower = format!("bearer {}", support::ADMIN);
    nobody.send("GET", "/v1/keys", &[("authorization", &lower)], b"").ok(200);
    let two = format!("Bearer {}", support::ADMIN);
    service.admin().send("GET", "/v1/keys", &[("authorization", &two)], b"").problem(401, "token_missing");
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        nobody.get(path).ok(200);
    }
    assert!(nobody.get("/metrics").text.contains("keyward_live_keys 0"));
}

#[test]
fn addresses_and_methods_that_are_none() {
    let (_folder, service) = service();
    let admin = service.admin();
    admin.get("/v1/nothing").problem(404, "not_found");
    admin.get("/v1/keys/").problem(404, "not_found");
    let reply = admin.send("PUT", "/v1/keys", &[], b"");
    reply.problem(405, "method_not_allowed");
    assert!(reply.header("allow").contains("POST"), "{:?}", reply.headers);
    for path in ["/v1/keys?limit=0", "/v1/keys?limit=201", "/v1/keys?limit=-1", "/v1/keys?cursor=x", "/v1/keys?odd=1"] {
        admin.get(path).problem(422, "validation_failed");
    }
    let key = admin.make("a");
    let path = format!("/v1/keys/{}", key["id"].as_str().unwrap());
    for query in ["wait=5", "wait=31s", "wait=-1s", "wiat=1s", "wait=1s&wait=2s"] {
        admin.delete(&format!("{path}?{query}")).problem(422, "validation_failed");
    }
    admin.get(&path).ok(200);
}

#[test]
fn what_cannot_be_an_id_names_no_key() {
    let folder = workspace::scratch("admin");
    let mut services = vec![Start::new(folder.path()).serve()];
    let postgres = Postgres::start();
    if let Some(postgres) = &postgres {
        services.push(Start::new(folder.path()).with("KEYWARD_DATABASE_URL", &postgres.database()).serve());
    }
    for service in services {
        let admin = service.admin();
        let long = "a".repeat(1_000);
        for id in ["x", "a%00b", "%ff", "%20", "key_%2f", "..%2fkeys", "'", "%F0%9F%94%91", &long] {
            let path = format!("/v1/keys/{id}");
            admin.get(&path).problem(404, "key_not_found");
            // Refused before its body was read: a connection may end after that, and is not to be used again.
            let headers = [("content-type", "application/json"), ("connection", "close")];
            let edit = json!({ "disabled": true, "permissions": ["records:read"] }).to_string();
            admin.send("PATCH", &path, &headers, edit.as_bytes()).problem(404, "key_not_found");
            admin.send("POST", &format!("{path}/regenerate"), &[], b"").problem(404, "key_not_found");
            admin.delete(&path).problem(404, "key_not_found");
        }
    }
}

#[test]
fn a_head_that_is_too_large_is_told_in_words() {
    let (_folder, service) = service();
    let admin = service.admin();
    let large = "a".repeat(40_000);
    admin.send("GET", "/v1/keys", &[("x-large", &large)], b"").problem(431, "head_too_large");
    admin.get(&format!("/v1/keys?q={large}")).problem(431, "head_too_large");
    assert_eq!(admin.send("GET", "/v1/keys", &[("x-large", &"a".repeat(100_000))], b"").status, 431);
    admin.send("GET", "/v1/keys", &[("x-large", &large[..20_000])], b"").ok(200);
}

#[test]
fn what_regenerating_cannot_do_is_refused() {
    let (_folder, service) = service();
    let admin = service.admin();
    let key = admin.make("a");
    let path = format!("/v1/keys/{}/regenerate", key["id"].as_str().unwrap());
    let problem = admin.post(&path, &json!({ "expires_in": "7d" })).problem(422, "validation_failed");
    assert_eq!(fields(&problem), ["expires_in"]);
    admin.send("POST", &path, &[], b"expires_in=7d").problem(415, "unsupported_media_type");
    assert_eq!(admin.get("/v1/keys").ok(200)["keys"][0]["revision"], 1);
    assert_eq!(admin.post(&path, &json!({})).ok(200)["revision"], 2);
}

#[test]
fn more_connections_than_may_be_are_told_so() {
    let folder = keyward_testbed::workspace::scratch("admin");
    let service = Start::new(folder.path()).with("KEYWARD_MAX_CONNECTIONS", "2").serve();
    let address = service.url.trim_start_matches("http://");
    let _open: Vec<_> = (0..2).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let mut refused = std::net::TcpStream::connect(address).unwrap();
    // A client may well say more than the service has read when it closes, and then read.
    for _ in 0..2 {
        std::io::Write::write_all(&mut refused, b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let mut said = String::new();
    std::io::Read::read_to_string(&mut refused, &mut said).unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("application/problem+json"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["status"], &body["code"]), (&json!(503), &json!("too_many_connections")));
}

#[test]
fn a_change_can_be_bound_to_a_revision() {
    let (_folder, service) = service();
    let admin = service.admin();
    let path = format!("/v1/keys/{}", admin.make("a")["id"].as_str().unwrap());
    let get = admin.get(&path);
    let tag = get.header("etag").to_owned();
    assert_eq!(tag, "\"1\"");
    let json = ("content-type", "application/json");
    let regenerate = format!("{path}/regenerate");
    admin.send("POST", &regenerate, &[("if-match", &tag)], b"").ok(200);
    // The same request again, as after a lost answer, does not regenerate again.
    admin.send("POST", &regenerate, &[("if-match", &tag)], b"").problem(412, "revision_mismatch");
    admin.send("PATCH", &path, &[json, ("if-match", "1")], b"{\"disabled\":true}").problem(412, "revision_mismatch");
    admin.send("DELETE", &path, &[("if-match", "\"1\"")], b"").problem(412, "revision_mismatch");
    admin.send("DELETE", &path, &[("if-match", "W/\"2\"")], b"").problem(400, "invalid_header");
    admin.send("PATCH", &path, &[json, ("if-match", "2")], b"{\"disabled\":true}").ok(200);
    let unchanged = admin.send("PATCH", &path, &[json, ("if-match", "*")], b"{\"disabled\":true}").ok(200);
    assert_eq!(unchanged["revision"], 3);
    admin.send("DELETE", &path, &[("if-match", "\"3\"")], b"").ok(200);
}

#[test]
fn a_list_is_paged_and_searched() {
    let (_folder, service) = service();
    let admin = service.admin();
    for n in 0..7 {
        admin.make(&format!("Backend {n}"));
    }
    let mut names = Vec::new();
    let mut path = "/v1/keys?limit=3&q=backend".to_owned();
    loop {
        let page = admin.get(&path).ok(200);
        names.extend(page["keys"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/keys?limit=3&q=backend&cursor={cursor}");
    }
    let all: Vec<String> = (0..7).rev().map(|n| format!("Backend {n}")).collect();
    assert_eq!(names, all);
    assert_eq!(admin.get("/v1/keys?q=nothing").ok(200)["keys"], json!([]));
}

#[test]
fn a_list_is_filtered_and_sorted_and_paged_both_ways() {
    let (_folder, service) = service();
    let admin = service.admin();
    let make = |name: &str, permission: &str, expires_in: &str| {
        let body = json!({ "name": name, "permissions": [permission], "expires_in": expires_in });
        admin.post("/v1/keys", &body).ok(201)
    };
    let beta = make("beta", "records:read", "never");
    make("Alpha", "files:read", "7d");
    make("gamma", "records:read", "30d");
    admin.patch(&format!("/v1/keys/{}", beta["id"].as_str().unwrap()), &json!({ "disabled": true })).ok(200);
    let names = |query: &str| -> Vec<String> {
        let page = admin.get(&format!("/v1/keys?{query}")).ok(200);
        page["keys"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap().to_owned()).collect()
    };
    for (query, wanted) in [
        ("", &["gamma", "Alpha", "beta"][..]),
        ("status=disabled", &["beta"]),
        ("status=active&sort=name", &["Alpha", "gamma"]),
        ("status=expired", &[]),
        ("permission=records%3Aread", &["gamma", "beta"]),
        ("permission=records", &[]),
        ("never_expires=true", &["beta"]),
        ("never_expires=false&never_used=true", &["gamma", "Alpha", "beta"]),
        ("expires_within=8d", &["Alpha"]),
        ("expires_within=60d", &["Alpha", "gamma"]),
        ("sort=expires", &["Alpha", "gamma", "beta"]),
        ("sort=-name", &["gamma", "beta", "Alpha"]),
        ("q=alpha&status=active", &["Alpha"]),
    ] {
        assert_eq!(names(query), wanted, "{query}");
    }
    let first = admin.get("/v1/keys?sort=name&limit=2").ok(200);
    assert!(first.get("previous_cursor").is_none());
    let second = admin.get(&format!("/v1/keys?limit=2&cursor={}", first["next_cursor"].as_str().unwrap())).ok(200);
    assert_eq!((&second["keys"][0]["name"], &second["next_cursor"]), (&json!("gamma"), &json!(null)));
    let back = admin.get(&format!("/v1/keys?limit=2&cursor={}", second["previous_cursor"].as_str().unwrap())).ok(200);
    assert_eq!(back["keys"], first["keys"]);
    for (query, field) in [
        ("status=gone", "status"),
        ("sort=age", "sort"),
        ("never_used=yes", "never_used"),
        ("expires_within=soon", "expires_within"),
        ("cursor=x1", "cursor"),
        ("permission=%00", "permission"),
    ] {
        let problem = admin.get(&format!("/v1/keys?{query}"));
        assert!(problem.status == 422 && problem.json()["errors"][0]["field"] == field, "{query}: {}", problem.text);
    }
}

#[test]
fn the_catalogue_is_configuration() {
    let folder = workspace::scratch("admin");
    let file = folder.path().join("permissions.toml");
    std::fs::write(
        &file,
        "[[groups]]\nid = 'pets'\nlabel = 'Pets'\npermissions = [{ id = 'pets:feed', label = 'Feed' }]\n",
    )
    .unwrap();
    let service = Start::new(folder.path()).with("KEYWARD_PERMISSIONS", file.to_str().unwrap()).serve();
    let admin = service.admin();
    let catalogue = admin.get("/v1/permissions").ok(200);
    assert_eq!(catalogue["groups"][0]["permissions"][0]["id"], "pets:feed");
    admin.post("/v1/keys", &json!({ "name": "a", "permissions": ["pets:feed"] })).ok(201);
    let problem = admin.post("/v1/keys", &json!({ "name": "b", "permissions": ["records:read"] }));
    assert!(problem.problem(422, "validation_failed")["detail"].as_str().unwrap().contains("pets:feed"));
}

#[test]
fn usage_is_added_up_and_a_repeated_batch_counts_once() {
    let (_folder, service) = service();
    let (admin, edge) = (service.admin(), service.edge());
    let key = admin.make("a");
    let path = format!("/v1/keys/{}", key["id"].as_str().unwrap());
    let batch = json!({ "vm": "vm-1", "seq": 1, "keys": [
        { "id": key["id"], "count": 12, "last_used_at": "2026-01-01T00:00:00Z", "permissions": { "records:read": 10, "files:read": 2 } },
        { "id": "key_gone", "count": 1, "last_used_at": "2026-01-01T00:00:00Z" },
    ] });
    assert_eq!(edge.post("/v1/usage", &batch).ok(200), json!({ "seq": 1, "counted": true }));
    assert_eq!(edge.post("/v1/usage", &batch).ok(200), json!({ "seq": 1, "counted": false }));
    let usage = &admin.get(&path).ok(200)["usage"];
    assert_eq!((&usage["count"], &usage["last_used_at"]), (&json!(12), &json!("2026-01-01T00:00:00Z")));
    assert_eq!(
        usage["permissions"],
        json!([
            { "permission": "records:read", "granted": true, "count": 10, "last_used_at": "2026-01-01T00:00:00Z" },
            { "permission": "files:read", "granted": false, "count": 2, "last_used_at": "2026-01-01T00:00:00Z" },
        ])
    );
    assert_eq!(admin.get("/v1/keys").ok(200)["keys"][0]["last_used_at"], "2026-01-01T00:00:00Z");
    let bad = json!({ "vm": "", "seq": -1, "odd": 1, "keys": [{ "id": "a\nb", "count": 1.5, "last_used_at": "now", "permissions": { "x": -1 } }, 5] });
    let problem = edge.post("/v1/usage", &bad).problem(422, "validation_failed");
    let mut told = fields(&problem);
    told.sort_unstable();
    assert_eq!(
        told,
        ["keys[0].count", "keys[0].id", "keys[0].last_used_at", "keys[0].permissions", "keys[1]", "odd", "seq", "vm"]
    );
    let same = json!({ "vm": "vm-1", "seq": 2, "keys": [
        { "id": key["id"], "count": 1, "last_used_at": "2026-01-02T00:00:00Z", "permissions": { "records:read": 1 } },
        { "id": key["id"], "count": 2, "last_used_at": "2026-01-01T00:00:00Z", "permissions": { "records:read": 2 } },
    ] });
    edge.post("/v1/usage", &same).ok(200);
    let usage = &admin.get(&path).ok(200)["usage"];
    assert_eq!((&usage["count"], &usage["last_used_at"]), (&json!(15), &json!("2026-01-02T00:00:00Z")));
}

#[test]
fn usage_is_told_by_day_and_code() {
    let (_folder, service) = service();
    let (admin, edge) = (service.admin(), service.edge());
    let (one, two) = (admin.make("one"), admin.make("two"));
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let (now, day_ms) = (Timestamp::from_unix_ms(i64::try_from(unix_ms).unwrap()), 86_400_000);
    let today = now.to_string()[..10].to_owned();
    let earlier = Timestamp::from_unix_ms(now.unix_ms() - 3 * day_ms).to_string();
    let now = now.to_string();
    let batch = json!({ "vm": "vm-1", "seq": 1, "keys": [
        { "id": one["id"], "count": 4, "last_used_at": earlier },
        { "id": one["id"], "count": 2, "last_used_at": now, "permissions": { "records:read": 2 } },
        { "id": one["id"], "last_denied_at": now, "denials": { "permission_missing": 3, "route_denied": 1, "key_unknown": 5, "odd": 7 } },
        { "id": two["id"], "count": 1, "last_used_at": now, "denials": { "key_disabled": 2 } },
        { "id": two["id"], "last_denied_at": "2001-01-01T00:00:00Z", "denials": { "key_disabled": 11 } },
        { "id": "key_gone", "last_denied_at": now, "denials": { "key_disabled": 9 } },
        { "id": two["id"], "denials": { "key_disabled": 2 } },
    ] });
    let answer = json!({ "seq": 1, "counted": true, "passed_over": 1 });
    assert_eq!(edge.post("/v1/usage", &batch).ok(200), answer);
    assert_eq!(edge.post("/v1/usage", &batch).ok(200)["counted"], false);
    let of = |key: &Value, days: u32| {
        admin.get(&format!("/v1/keys/{}/usage?days={days}", key["id"].as_str().unwrap())).ok(200)
    };
    let (first, denied) = (of(&one, 4), json!({ "permission_missing": 3, "route_denied": 1 }));
    assert_eq!((&first["allowed"], &first["denied"]), (&json!(6), &denied));
    assert_eq!(first["days"].as_array().unwrap().len(), 4);
    assert_eq!(first["days"][0], json!({ "day": &earlier[..10], "allowed": 4, "denied": {} }));
    assert_eq!(first["days"][1]["allowed"], 0);
    assert_eq!(first["days"][3], json!({ "day": today, "allowed": 2, "denied": denied }));
    assert_eq!((&of(&one, 3)["allowed"], &of(&two, 90)["denied"]), (&json!(2), &json!({ "key_disabled": 2 })));
    let all = admin.get("/v1/usage").ok(200);
    assert_eq!((&all["allowed"], all["days"].as_array().unwrap().len()), (&json!(7), 30));
    assert_eq!(all["denied"], json!({ "key_disabled": 2, "permission_missing": 3, "route_denied": 1 }));
    // Invented codes and days.
    let metrics = admin.get("/metrics").text;
    assert!(metrics.contains("\nkeyward_usage_discarded_total 23\n"), "{metrics}");
    let denials: Vec<&str> = metrics.lines().filter(|line| line.starts_with("keyward_key_denials_today{")).collect();
    let line = |key: &Value, count: u64| format!("keyward_key_denials_today{{key={}}} {count}", key["id"]);
    assert_eq!(denials, [line(&one, 4), line(&two, 2)]);
    for wrong in ["days=0", "days=91", "days=x", "day=1"] {
        admin.get(&format!("/v1/usage?{wrong}")).problem(422, "validation_failed");
    }
    admin.get("/v1/keys/key_gone/usage").problem(404, "key_not_found");
    edge.get("/v1/usage").problem(403, "role_forbidden");
}

#[test]
fn an_entry_of_usage_that_is_not_understood_does_not_cost_the_others() {
    let (_folder, service) = service();
    let (admin, edge) = (service.admin(), service.edge());
    let key = admin.make("a");
    let path = format!("/v1/keys/{}", key["id"].as_str().unwrap());
    let good = json!({ "id": key["id"], "count": 3, "last_used_at": "2026-01-01T00:00:00Z",
                       "permissions": { "records:read": 2, "invented:name": 1 } });
    let entry = |id: &str| json!({ "id": id, "count": 1, "last_used_at": "2026-01-01T00:00:00Z" });
    let batch = json!({ "vm": "vm-1", "seq": 1, "keys": [
        // Inline keys have such ids: they are understood, and no key of this service.
        entry("CI Bot"), entry("ключ"), entry(&"x".repeat(100)),
        entry(""), entry(&"x".repeat(101)), entry("a\nb"), 5, { "id": "key_1" },
        { "id": "key_1", "count": -1, "last_used_at": "now" },
        good,
    ] });
    assert_eq!(edge.post("/v1/usage", &batch).ok(200), json!({ "seq": 1, "counted": true, "passed_over": 6 }));
    let usage = &admin.get(&path).ok(200)["usage"];
    assert_eq!(usage["count"], 3);
    let names: Vec<_> = usage["permissions"].as_array().unwrap().iter().map(|entry| &entry["permission"]).collect();
    assert_eq!(names, ["records:read"], "what the catalogue does not have is left out");
    let twice = br#"{"vm":"vm-1","seq":2,"keys":[],"seq":3}"#;
    let json = [("content-type", "application/json")];
    edge.send("POST", "/v1/usage", &json, twice).problem(422, "validation_failed");
    for wrong in ["[]", "5", "null", "\"a\"", "{\"vm\":\"a\",\"seq\":1,\"keys\":{}}"] {
        edge.send("POST", "/v1/usage", &json, wrong.as_bytes()).problem(422, "validation_failed");
    }
    for broken in ["{", "{\"vm\":\"a\",\"seq\":1,\"keys\":[{]}", "{} x"] {
        edge.send("POST", "/v1/usage", &json, broken.as_bytes()).problem(400, "malformed_json");
    }
}

#[test]
fn wrong_tokens_are_slowed_and_right_ones_are_not() {
    let (_folder, service) = service();
    let wrong = service.client("wrong");
    let tries: Vec<_> = (0..60)
        .map(|_| {
            let wrong: Client = wrong.clone();
            thread::spawn(move || wrong.get("/v1/keys").status)
        })
        .collect();
    service.admin().get("/v1/keys").ok(200);
    let statuses: Vec<u16> = tries.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&401) && statuses.contains(&429), "{statuses:?}");
    let reply = service.admin().get("/v1/keys");
    reply.ok(200);
}

//! The `keyward` command: what it prints and how it ends.

mod support;

use keyward_testbed::{wait, workspace};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Output, Stdio};
use support::{Start, service};

fn json(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON on standard output")
}

fn refused(output: &Output, code: i32, says: &str) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(says), "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn keys_are_made_listed_regenerated_and_deleted() {
    let (folder, service) = service();
    let cli = Start::new(folder.path()).with("KEYWARD_URL", &service.url);
    let made = json(&cli.run(&["key", "create", "CI Bot", "--permission", "records:read", "--expires-in", "7d"]));
    assert!(made["key"].as_str().unwrap().starts_with("kw_"));
    let other =
        json(&cli.run(&["key", "create", "--name", "Other", "--permissions", "records:read,files:read", "--json"]));
    assert_eq!(other["permissions"].as_array().unwrap().len(), 2);
    json(&cli.run(&["key", "create", "key_with an odd name", "--permission", "records:read", "files:read"]));

    let listed = json(&cli.run(&["key", "list", "--json"]));
    assert_eq!(listed["keys"].as_array().unwrap().len(), 3);
    assert_eq!(json(&cli.run(&["key", "list", "--q", "bot"]))["keys"][0]["name"], "CI Bot");
    assert_eq!(json(&cli.run(&["key", "list", "--limit", "2"]))["keys"].as_array().unwrap().len(), 2);

    let named = |args: &[&str]| {
        let listed = json(&cli.run(&[&["key", "list"], args].concat()));
        let names: Vec<String> =
            listed["keys"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap().to_owned()).collect();
        names.join(",")
    };
    assert_eq!(named(&["--sort", "-name"]), "Other,key_with an odd name,CI Bot");
    assert_eq!(named(&["--expires-within", "8d", "--never-used", "--status", "active"]), "CI Bot");
    assert_eq!(named(&["--permission", "files:read", "--sort=created"]), "key_with an odd name,Other");
    assert_eq!(named(&["--never-expires"]), "");
    refused(&cli.run(&["key", "list", "--status", "odd"]), 3, "odd");

    let again = json(&cli.run(&["key", "regenerate", "CI Bot", "--json"]));
    assert_ne!(again["key"], made["key"]);
    assert_eq!(again["applied"]["of"], 0);
    let deleted = json(&cli.run(&["key", "delete", other["id"].as_str().unwrap(), "--json"]));
    assert_eq!(deleted["id"], other["id"]);
    json(&cli.run(&["key", "delete", "key_with an odd name"]));

    refused(&cli.run(&["key", "delete", "Other"]), 1, "`Other`");
    refused(&cli.run(&["key", "create", "CI Bot", "--permission", "records:read"]), 1, "name_taken");
    refused(&cli.run(&["key", "create", "x", "--permission", "nothing"]), 3, "permissions[0]");
    refused(&cli.run(&["key", "create", "x"]), 3, "--permission");
    refused(&cli.run(&["key", "create", "x", "--permission", "records:read", "--expires-in", "5d"]), 3, "expires_in");
    refused(&cli.run(&["key", "odd"]), 3, "odd");
    let wrong = Start::new(folder.path()).with("KEYWARD_URL", &service.url).with("KEYWARD_ADMIN_TOKEN", "wrong");
    refused(&wrong.run(&["key", "list"]), 2, "token");
    refused(&wrong.without("KEYWARD_ADMIN_TOKEN").run(&["key", "list"]), 3, "KEYWARD_ADMIN_TOKEN");
    let nowhere = Start::new(folder.path()).with("KEYWARD_URL", "http://127.0.0.1:1");
    refused(&nowhere.run(&["key", "list"]), 1, "cannot be reached");
}

#[test]
fn the_manifest_block_is_a_plugin_configuration() {
    let (folder, service) = service();
    let admin = service.admin();
    let names = ["b", "a: {quote\"} # ' \u{2028} ключ", "- yes"];
    let keys: Vec<Value> = names.iter().map(|name| admin.make(name)).collect();
    let gone = admin.make("gone");
    admin.delete(&format!("/v1/keys/{}", gone["id"].as_str().unwrap())).ok(200);
    let disabled = format!("/v1/keys/{}", keys[0]["id"].as_str().unwrap());
    admin.patch(&disabled, &serde_json::json!({ "disabled": true })).ok(200);

    let both = Start::new(folder.path()).with("KEYWARD_URL", &service.url);
    let admin_only = Start::new(folder.path()).with("KEYWARD_URL", &service.url).without("KEYWARD_EDGE_TOKEN");
    let yaml = both.run(&["manifest"]);
    assert!(yaml.status.success());
    assert_eq!(admin_only.run(&["manifest"]).stdout, yaml.stdout);
    let block: Value = json(&both.run(&["manifest", "--json"]));
    let listed: Vec<&str> =
        block["manifest"]["keys"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(listed, ["- yes", "a: {quote\"} # ' \u{2028} ключ", "b"]);
    assert_eq!(block["manifest"]["keys"][2]["disabled"], true);

    let config = folder.path().join("plugin.yaml");
    let text = format!("{}rules:\n  - {{path: /**, require: [records:read]}}\n", String::from_utf8_lossy(&yaml.stdout));
    std::fs::write(&config, text).unwrap();
    let checked = both.run(&["check", config.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn the_first_start_makes_tokens_once() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path()).without("KEYWARD_ADMIN_TOKEN").without("KEYWARD_EDGE_TOKEN");
    let service = start.serve();
    let file = folder.path().join("keyward.db.tokens");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(folder.path().join("keyward.db")).unwrap().permissions().mode() & 0o077, 0);
    let text = std::fs::read_to_string(&file).unwrap();
    let token = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {name}")).to_owned()
    };
    service.client(&token("KEYWARD_ADMIN_TOKEN")).make("a");
    service.client(&token("KEYWARD_EDGE_TOKEN")).get("/v1/manifest").ok(200);
    assert!(!service.log().contains(&token("KEYWARD_ADMIN_TOKEN")));
    // The first line that a newcomer reads says what to do.
    let log = service.log();
    let welcome = format!("first start: open {}/ and sign in with the admin token", service.url);
    let first = log.lines().find(|line| line.contains("\"INFO\"")).unwrap();
    assert!(first.contains(&welcome) && first.contains("keyward.db.tokens"), "{first}");
    drop(service);
    assert!(!start.serve().log().split_off(log.len()).contains("first start: open"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let listed = json(&start.run(&["token", "list"]));
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 2);
    // Who revokes the last one did mean it.
    assert!(start.run(&["token", "revoke", "edge (first start)"]).status.success());
    start.serve();
    assert_eq!(json(&start.run(&["token", "list"]))["tokens"].as_array().unwrap().len(), 1);
}

#[test]
fn the_first_tokens_go_to_a_folder_that_envoy_and_the_command_read() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path())
        .without("KEYWARD_ADMIN_TOKEN")
        .without("KEYWARD_EDGE_TOKEN")
        .with("KEYWARD_FIRST_TOKENS", "up/tokens");
    // What is left of an older database, open to all.
    let tokens = folder.path().join("up/tokens");
    std::fs::create_dir_all(&tokens).unwrap();
    std::fs::write(tokens.join("edge-token"), "old").unwrap();
    let service = start.serve();
    let read = |role: &str| {
        let file = tokens.join(format!("{role}-token"));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let token = std::fs::read_to_string(file).unwrap();
        assert_eq!(token.trim(), token);
        token
    };
    let (admin, edge) = (read("admin"), read("edge"));
    service.client(&admin).make("a");
    service.client(&edge).get("/v1/manifest").ok(200);
    assert_eq!(service.client(&edge).get("/v1/keys").status, 403);
    assert!(service.log().contains("and sign in with the admin token in `up/tokens/admin-token`"));
    assert!(!service.log().contains(&admin) && !service.log().contains(&edge));
    assert_eq!(std::fs::read_dir(&tokens).unwrap().count(), 2);
    assert!(!folder.path().join("keyward.db.tokens").exists());
    let cli = Start::new(folder.path())
        .without("KEYWARD_ADMIN_TOKEN")
        .with("KEYWARD_URL", &service.url)
        .with("KEYWARD_ADMIN_TOKEN_FILE", "up/tokens/admin-token");
    assert_eq!(json(&cli.run(&["key", "list"]))["keys"].as_array().unwrap().len(), 1);
    drop(service);
    start.serve();
    assert_eq!((read("admin"), read("edge")), (admin, edge));
}

#[test]
fn a_vm_is_forgotten_and_a_list_is_confirmed_by_command() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path());
    drop(start.serve());
    // As after a restore: the store may have lost instances.
    assert!(start.run(&["store", "new-identity"]).status.success());
    let service = start.serve();
    assert!(service.log().contains("filter instances may be missing in the store's list"), "{}", service.log());
    let cli = start.with("KEYWARD_URL", &service.url);
    let metric = || {
        let text = service.client("").get("/metrics").text;
        text.lines().find(|line| line.starts_with("keyward_vms_may_be_missing ")).map(str::to_owned)
    };
    assert_eq!(metric().as_deref(), Some("keyward_vms_may_be_missing 1"));
    let key = service.admin().make("a");
    let mut lost = service.vm("lost");
    lost.max_staleness = "never".to_owned();
    lost.load();
    support::wait_for_states(&service.admin(), (0, 1));
    let told = |args: &[&str]| {
        let output = cli.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    };
    let delete = |name: &str| {
        let id = service.admin().make(name)["id"].as_str().unwrap().to_owned();
        json(&cli.run(&["key", "delete", &id, "--yes", "--json", "--wait", "0s"]))["applied"].clone()
    };
    let reasons = |applied: &serde_json::Value| -> Vec<String> {
        let doubts = applied["unknown_because"].as_array().unwrap().iter();
        doubts.map(|doubt| doubt["reason"].as_str().unwrap().to_owned()).collect()
    };
    let listed = json(&cli.run(&["proxies", "list", "--json"]));
    assert!(listed["may_be_incomplete"] == true && listed.to_string().contains("lost"), "{listed}");
    assert_eq!(reasons(&delete("b")), ["no_staleness_limit", "vms_may_be_missing"]);

    assert_eq!(json(&cli.run(&["proxies", "forget", "lost", "--json"]))["forgotten"], true);
    refused(&cli.run(&["proxies", "forget", "lost"]), 1, "no such instance");
    assert_eq!(reasons(&delete("c")), ["vms_may_be_missing"]);
    refused(&cli.run(&["proxies", "confirm", "--list", "0123456789abcdef"]), 1, "look at it again");
    let list = json(&cli.run(&["proxies", "list", "--json"]))["list"].as_str().unwrap().to_owned();
    assert_eq!(json(&cli.run(&["proxies", "confirm", "--list", &list, "--json"]))["confirmed"], true);
    assert_eq!(metric().as_deref(), Some("keyward_vms_may_be_missing 0"));
    assert!(delete("d")["refused_everywhere_by"].is_string());
    assert!(!told(&["proxies", "list", "--json"]).contains("lost"));
    let audit = told(&["audit", "--json"]);
    assert!(audit.contains("proxy.forget") && audit.contains("proxies.confirm"), "{audit}");
    // An instance that still runs is new when it asks again.
    lost.poll(0, 0, "0s").ok(200);
    let id = key["id"].as_str().unwrap();
    assert_eq!(reasons(&json(&cli.run(&["key", "delete", id, "--yes", "--json"]))["applied"]), ["no_staleness_limit"]);
}

#[test]
fn tokens_end_when_they_should() {
    let (folder, service) = service();
    let cli = Start::new(folder.path());
    let made = json(&cli.run(&["token", "create", "short", "--role", "admin", "--expires-in", "2s"]));
    let client = service.client(made["token"].as_str().unwrap());
    wait::until("the token ends", support::PATIENCE, || (client.get("/v1/keys").status == 401).then_some(()));
    refused(&cli.run(&["token", "create", "short", "--role", "admin"]), 1, "short");
    refused(&cli.run(&["token", "create", "x", "--role", "root"]), 3, "root");
    refused(&cli.run(&["token", "revoke", "nothing"]), 1, "nothing");
}

#[test]
fn one_service_works_on_a_sqlite_file() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path());
    let mut first = start.serve();
    refused(&start.run(&["serve"]), 1, "another `keyward serve`");
    // One that is ending is waited for.
    let mut second = start.command(&["serve"]);
    let log = std::fs::File::create(folder.path().join("second")).unwrap();
    let mut second = second.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let said = || std::fs::read_to_string(folder.path().join("second")).unwrap();
    wait::until("the second waits", support::PATIENCE, || said().contains("waiting for its end").then_some(()));
    first.kill();
    wait::until("the second serves", support::PATIENCE, || said().contains("ready on ").then_some(()));
    let _ = second.kill();
    let _ = second.wait();
}

#[test]
fn tokens_that_cannot_be_written_down_are_not_made() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path()).without("KEYWARD_ADMIN_TOKEN").without("KEYWARD_EDGE_TOKEN");
    let file = folder.path().join("keyward.db.tokens");
    std::fs::create_dir_all(file.join("in the way")).unwrap();
    refused(&start.run(&["serve"]), 1, "keyward.db.tokens");
    assert_eq!(json(&start.run(&["token", "list"]))["tokens"], serde_json::json!([]));
    std::fs::remove_dir_all(&file).unwrap();
    start.serve();
    assert!(std::fs::read_to_string(&file).unwrap().contains("KEYWARD_EDGE_TOKEN="));
}

#[test]
fn what_is_wrong_with_the_environment_is_told_at_once() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path()).with("KEYWARD_LISTEN", "nowhere").with("KEYWARD_KEY_PREFIX", "_");
    let output = start.run(&["serve"]);
    refused(&output, 3, "KEYWARD_LISTEN");
    refused(&output, 3, "KEYWARD_KEY_PREFIX");
    let start = Start::new(folder.path()).with("KEYWARD_DATABASE_URL", "mysql://localhost/x");
    refused(&start.run(&["serve"]), 3, "postgres://");
    let start = Start::new(folder.path()).with("KEYWARD_TLS_CERT", "cert.pem").with("KEYWARD_TLS_KEY", "key.pem");
    refused(&start.run(&["serve"]), 3, "cert.pem");
}

#[test]
fn the_check_of_health_ends_as_the_service_is() {
    let (folder, mut service) = service();
    let (_, address) = service.url.split_once("://").unwrap();
    let cli = Start::new(folder.path()).with("KEYWARD_LISTEN", address);
    // It takes no token: a container's check has none.
    let cli = cli.without("KEYWARD_ADMIN_TOKEN").without("KEYWARD_EDGE_TOKEN");
    assert_eq!(cli.run(&["health"]).status.code(), Some(0));
    assert_eq!(cli.run(&["health", &format!("{}/readyz", service.url)]).status.code(), Some(0));
    refused(&cli.run(&["health", &format!("{}/nothing", service.url)]), 1, "it answers 404");
    refused(&cli.run(&["health", "localhost"]), 3, "`localhost` begins with neither");
    service.process.kill();
    refused(&cli.run(&["health"]), 1, "/readyz: ");
}

/// In a pod whose Secret does not exist yet the service ends, and is started again until it does.
#[test]
fn a_secret_that_is_missing_is_named_and_nothing_is_served() {
    let folder = workspace::scratch("admin");
    for name in ["KEYWARD_DATABASE_URL", "KEYWARD_ADMIN_TOKEN", "KEYWARD_EDGE_TOKEN"] {
        let (variable, file) = (format!("{name}_FILE"), "/etc/keyward/not-there/key");
        let output = Start::new(folder.path()).without(name).with(&variable, file).run(&["serve"]);
        refused(&output, 3, &format!("{variable}: `{file}` cannot be read"));
    }
}

#[test]
fn a_secret_that_cannot_be_written_is_a_failure_that_names_its_owner() {
    let (folder, service) = service();
    let cli = Start::new(folder.path()).with("KEYWARD_URL", &service.url);
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let lost = |args: &[&str], says: &str| {
        let output = cli.command(args).stdout(full()).output().unwrap();
        refused(&output, 1, says);
        String::from_utf8(output.stderr).unwrap()
    };
    let said = lost(&["key", "create", "CI Bot", "--permission", "records:read"], "its secret is lost");
    let id = service.admin().get("/v1/keys").ok(200)["keys"][0]["id"].as_str().unwrap().to_owned();
    assert!(said.contains(&id), "{said}");
    lost(&["key", "regenerate", &id], &id);
    lost(&["token", "create", "x", "--role", "admin"], "its secret is lost");
    // Results that are not secret are reported just the same.
    lost(&["key", "list"], "standard output cannot be written");
}

#[test]
fn a_key_is_shown_changed_disabled_and_enabled_by_its_name() {
    let (folder, service) = service();
    let cli = Start::new(folder.path()).with("KEYWARD_URL", &service.url);
    // The name may follow the permissions.
    let made = json(&cli.run(&["key", "create", "--permissions", "records:read", "CI Bot"]));
    let id = made["id"].as_str().unwrap().to_owned();
    refused(&cli.run(&["key", "create", "--permissions", "records:read", "files:read"]), 3, "NAME is missing");
    refused(&cli.run(&["key", "create", "--permissions", "records:read"]), 3, "NAME is missing");
    let shown = json(&cli.run(&["key", "show", "CI Bot"]));
    assert_eq!((&shown["id"], &shown["usage"]["by_day"]["allowed"]), (&serde_json::json!(id), &0.into()));
    assert_eq!(json(&cli.run(&["usage", "CI Bot", "--days", "7"]))["days"].as_array().unwrap().len(), 7);
    assert_eq!(json(&cli.run(&["usage"]))["days"].as_array().unwrap().len(), 30);
    let entries = |args: &[&str]| json(&cli.run(args))["entries"].as_array().unwrap().len();
    assert!(entries(&["audit", "--since", "2020-01-01"]) > 0);
    assert_eq!(entries(&["audit", "--until", "2020-01-01"]), 0);
    refused(&cli.run(&["audit", "--since", "yesterday"]), 3, "must be a day like 2026-11-01");
    refused(&cli.run(&["usage", "--days", "91"]), 3, "91 is not in 1..=90");
    let edited =
        ["key", "edit", "CI Bot", "--name", "CI Robot", "--permission", "files:read,files:write", "--wait", "0s"];
    let edited = json(&cli.run(&edited));
    assert_eq!(
        (&edited["name"], &edited["permissions"]),
        (&"CI Robot".into(), &serde_json::json!(["files:read", "files:write"]))
    );
    assert_eq!(json(&cli.run(&["key", "disable", "CI Robot", "--wait", "0s"]))["status"], "disabled");
    assert_eq!(json(&cli.run(&["key", "enable", &id, "--wait", "0s"]))["status"], "active");
    refused(&cli.run(&["key", "edit", "CI Robot"]), 3, "--name");
    refused(&cli.run(&["key", "show", "ci robott"]), 1, "did you mean `CI Robot`?");
    refused(&cli.run(&["key", "show", "Deployment"]), 1, "there is no key `Deployment`\n");
    json(&cli.run(&["key", "delete", "CI Robot", "--yes", "--wait", "0s"]));
    let audit = json(&cli.run(&["audit", "--subject", &id]));
    let actions: Vec<&str> = audit["entries"].as_array().unwrap().iter().filter_map(|e| e["action"].as_str()).collect();
    assert_eq!(actions, ["key.delete", "key.update", "key.update", "key.update", "key.create"]);
    assert_eq!(
        json(&cli.run(&["audit", "--limit", "1", "--action", "key.create"]))["entries"].as_array().unwrap().len(),
        1
    );
    let vm = service.vm("vm-1");
    // The first poll alone could be that of a proxy which only tries a configuration.
    let revision = vm.load();
    vm.poll(revision, revision, "0s");
    assert_eq!(json(&cli.run(&["proxies", "list"]))["nodes"][0]["vms"][0]["vm"], "vm-1");
}

#[test]
fn a_group_alone_lists() {
    let (folder, service) = service();
    let cli = Start::new(folder.path()).with("KEYWARD_URL", &service.url);
    service.admin().make("a");
    service.admin().make("b");
    for group in ["key", "proxies", "token"] {
        let listed = json(&cli.run(&[group, "list", "--json"]));
        assert!(listed.is_object());
        assert_eq!(json(&cli.run(&[group])), listed, "{group}");
        assert_eq!(json(&cli.run(&[group, "--json"])), listed, "{group}");
        refused(&cli.run(&[group, "lits"]), 3, "'list'");
        refused(&cli.run(&[group, "--json", "list"]), 3, "cannot be used with");
    }
    assert_eq!(json(&cli.run(&["key", "--limit", "1", "--sort", "name"]))["keys"][0]["name"], "a");
    for args in
        [&["key", "--help"][..], &["key", "create", "--help"], &["audit", "--help"], &["proxies", "forget", "--help"]]
    {
        let help = String::from_utf8(cli.run(args).stdout).unwrap();
        assert!(help.contains("KEYWARD_URL") && help.contains("KEYWARD_ADMIN_TOKEN_FILE"), "{args:?}: {help}");
    }
    // There is nothing to list: it says what there is to do.
    refused(&cli.run(&["store"]), 3, "backup");
}

#[test]
fn a_slip_is_answered_with_what_was_probably_meant() {
    let (folder, service) = service();
    let cli = Start::new(folder.path()).with("KEYWARD_URL", &service.url);
    refused(&cli.run(&["audit", "--action", "key.delte"]), 3, "'key.delete'");
    refused(&cli.run(&["key", "--status", "disbled"]), 3, "'disabled'");
    refused(&cli.run(&["key", "create", "x", "--permission", "record:read"]), 3, "did you mean `records:read`?");
    let none = cli.run(&["key", "--permission", "record:read"]);
    assert!(String::from_utf8_lossy(&none.stderr).contains("did you mean `records:read`?"), "{none:?}");
    assert_eq!(json(&none)["keys"], serde_json::json!([]));
    refused(&cli.run(&["key", "create", "x", "-p", "records:read", "--expires-in", "30"]), 3, "30d");
    json(&cli.run(&["token", "create", "gateway", "--role", "edge"]));
    refused(&cli.run(&["token", "revoke", "gatway"]), 1, "did you mean `gateway`?");
    let vm = service.vm("vm-1");
    let revision = vm.load();
    vm.poll(revision, revision, "0s");
    refused(&cli.run(&["proxies", "forget", "vm_1"]), 1, "did you mean `vm-1`?");
    refused(&cli.run(&["audit", "--since", "2027-03-02", "--until", "2027-03-01"]), 3, "`--until` is before `--since`");
    json(&cli.run(&["audit", "--since", "2027-03-01", "--until", "2027-03-01"]));
}

#[test]
fn a_proxy_of_the_environment_never_sees_the_token() {
    let (folder, service) = service();
    // Nothing listens there: a command that used it would fail.
    let mut cli =
        Start::new(folder.path()).with("KEYWARD_URL", &service.url).with("KEYWARD_PROXY", "http://127.0.0.1:1");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        cli = cli.with(name, "http://127.0.0.1:1");
    }
    json(&cli.run(&["key", "list"]));
    let cli = cli.with("KEYWARD_URL", "http://keyward.invalid:8081");
    refused(&cli.run(&["key", "list"]), 1, "cannot be reached");
}

#[test]
fn what_is_no_gateway_is_told_from_one() {
    let (folder, service) = service();
    let cli = Start::new(folder.path());
    let config = folder.path().join("plugin.yaml");
    std::fs::write(
        &config,
        "manifest: {keys: []}\nreadiness_path: /ready\nrules: [{path: '/v1/{a}', require: [records:read]}]\n",
    )
    .unwrap();
    let config = config.to_str().unwrap();
    // The admin service answers 401 too, and is no gateway.
    let output = cli.run(&["verify", &service.url, "--config", config, "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let findings: Vec<&str> =
        report["checks"].as_array().unwrap().iter().filter_map(|c| c["finding"].as_str()).collect();
    assert!(findings[0].contains("not by Keyward"), "{findings:?}");
    assert!(findings[2].contains("something else"), "{findings:?}");
    refused(&cli.run(&["verify", "http://127.0.0.1:1", "--config", config]), 1, "cannot be reached");
    for url in ["127.0.0.1:1", "gateway", "gateway/v1", "ftp://gateway/v1"] {
        refused(&cli.run(&["verify", url, "--config", config]), 3, "neither http:// nor https://");
    }
    refused(&cli.run(&["verify", &service.url]), 3, "--path");
    // What would ask another host than the URL's.
    for path in [":21009/x", "@127.0.0.1:21003/x", "x"] {
        refused(&cli.run(&["verify", "http://127.0.0.1:1", "--path", path]), 3, "begins with a slash");
    }
    for url in ["http://127.0.0.1:1/?a=b", "http://127.0.0.1:1/#a"] {
        refused(&cli.run(&["verify", url, "--path", "/x"]), 3, "a query or a fragment");
    }
    for url in ["http://127.0.0.1:1/v1", "http://127.0.0.1:1//"] {
        refused(&cli.run(&["verify", url, "--path", "/x"]), 3, "has a path: give only the address");
    }
    for host in ["evil host", "a@b", ""] {
        refused(&cli.run(&["verify", "http://127.0.0.1:1", "--path", "/x", "--host", host]), 3, "is not a host");
    }
    let tls = service.url.replace("http://", "https://");
    refused(&cli.run(&["verify", &tls, "--config", config]), 1, "speaks plain http");
    refused(&cli.with("KEYWARD_URL", &tls).run(&["key", "list"]), 1, "speaks plain http");
}

#[test]
fn counts_and_nouns_agree() {
    let folder = workspace::scratch("counts");
    let cli = Start::new(folder.path());
    let config = folder.path().join("plugin.yaml");
    let config = config.to_str().unwrap();
    for (rules, says) in [
        ("path: '/a', access: public}", "ok: 1 rule, 0 keys, 0 warnings"),
        ("path: '/a', access: public}, {path: '/b', access: public}", "ok: 2 rules, 0 keys, 0 warnings"),
        ("path: '/a', acces: public}", "invalid: 2 errors"),
        ("path: 'a', access: public}", "invalid: 1 error;"),
    ] {
        std::fs::write(config, format!("manifest: {{keys: []}}\nrules: [{{{rules}]\n")).unwrap();
        let output = cli.run(&["check", config]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(says), "{text}");
    }
    std::fs::write(config, "mode: shadow\nmanifest: {keys: []}\nrules: [{path: /a, access: deny}]\n").unwrap();
    let text = String::from_utf8_lossy(&cli.run(&["check", config]).stdout).into_owned();
    assert!(
        text.contains("ok: 1 rule, 0 keys, 1 warning; not safe as given: requests can pass without a key"),
        "{text}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_a_failure_and_one_that_is_not_text_is_invalid() {
    let folder = workspace::scratch("unreadable");
    let cli = Start::new(folder.path());
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("binary"), [0xff, 0xfe, 0]).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let cases = [
        (at("missing"), 1, "No such file"),
        (at(""), 1, "Is a directory"),
        // Nobody ever writes to this one, and the other one has no end.
        (at("pipe"), 1, "not a regular file"),
        ("/dev/zero".to_owned(), 1, "not a regular file"),
        (at("binary"), 3, "not UTF-8"),
    ];
    let commands: [(&[&str], &[&str]); 4] = [
        (&["check"], &[]),
        (&["check", "--catalogue"], &["-"]),
        (&["explain", "--config"], &["--method", "GET", "--path", "/"]),
        (&["verify", "http://127.0.0.1:1", "--config"], &[]),
    ];
    for (before, after) in commands {
        for (file, code, says) in &cases {
            let output = cli.run(&[before, &[file.as_str()], after].concat());
            assert_eq!(output.status.code(), Some(*code), "{before:?} {file}");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains(says) && said.contains(file.as_str()), "{before:?} {file}: {said}");
        }
    }
}

/// What bash offers for a command line whose last word is begun.
fn completed(script: &std::path::Path, words: &[&str]) -> Vec<String> {
    let line = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMP_LINE=\"$*\"; COMP_POINT=${#COMP_LINE}
        _keyward keyward \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let output = std::process::Command::new("bash")
        .args(["--norc", "-c", line, "bash"])
        .arg(script)
        .args(words)
        .output()
        .expect("bash can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{words:?}: {said}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_the_command() {
    let folder = workspace::scratch("completions");
    let cli = Start::new(folder.path());
    let script = cli.run(&["completions", "bash"]);
    assert!(script.status.success());
    let file = folder.path().join("keyward.bash");
    std::fs::write(&file, &script.stdout).unwrap();
    let checked = std::process::Command::new("bash").arg("-n").arg(&file).output().expect("bash can be run");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert_eq!(completed(&file, &["keyward", "key", "cre"]), ["create"]);
    assert_eq!(completed(&file, &["keyward", "key", "create", "--expires"]), ["--expires-in"]);
    assert_eq!(completed(&file, &["keyward", "key", "list", "--status", "d"]), ["disabled"]);
    let groups = completed(&file, &["keyward", ""]);
    for group in ["audit", "check", "explain", "key", "proxies", "serve", "store", "token", "usage", "verify"] {
        assert!(groups.iter().any(|word| word == group), "{group}: {groups:?}");
    }
    refused(&cli.run(&["completions", "tcsh"]), 3, "bash");
}

#[test]
fn manual_pages_are_sound() {
    let folder = workspace::scratch("manual");
    let cli = Start::new(folder.path());
    assert!(cli.run(&["man", "pages"]).status.success());
    let pages: Vec<_> =
        std::fs::read_dir(folder.path().join("pages")).unwrap().map(|file| file.unwrap().path()).collect();
    let name = |name: &str| pages.iter().any(|page| page.ends_with(name));
    assert!(name("keyward.1") && name("keyward-key-create.1"), "{pages:?}");
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap();
        let macros = text.lines().filter_map(|line| line.strip_prefix(".S")).filter_map(|line| line.split_once("H "));
        let sections: Vec<&str> = macros.map(|(_, section)| section).collect();
        assert!(
            text.contains(".TH keyward") && sections.starts_with(&["NAME", "SYNOPSIS", "DESCRIPTION"]),
            "{page:?}: {sections:?}"
        );
    }
    // Every warning of what shows the pages.
    let mut groff = std::process::Command::new("groff");
    let shown = groff.args(["-Kutf8", "-ww", "-z", "-man", "-Tutf8"]).args(&pages).output();
    let shown = shown.expect("groff is there (Debian's package groff-base)");
    assert!(shown.status.success() && shown.stderr.is_empty(), "{}", String::from_utf8_lossy(&shown.stderr));
}

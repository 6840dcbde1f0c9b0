//! Backups and restores as docs/admin.md describes them, word by word, on both stores; and what a restore refuses.

mod support;

use keyward_testbed::postgres::Postgres;
use keyward_testbed::{documents, wait, workspace};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use support::{Client, PATIENCE, Service, Start};

/// Returns the commands of the shell blocks under a heading of docs/admin.md.
fn documented(heading: &str) -> Vec<String> {
    let blocks = documents::blocks("docs/admin.md", heading, "sh");
    blocks.iter().flat_map(|block| block.lines().map(str::to_owned)).collect()
}

/// Runs a command of the documentation in a shell.
fn run(start: &Start, command: &str) -> String {
    let keyward = Path::new(env!("CARGO_BIN_EXE_keyward")).parent().unwrap();
    let mut path = vec![keyward.to_owned()];
    path.extend(Postgres::program_folder());
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let mut shell = Command::new("sh");
    let like = start.command(&[]);
    shell.args(["-euc", command]).current_dir(like.get_current_dir().unwrap());
    shell.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("PATH", std::env::join_paths(path).unwrap());
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{command}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The digests of all live keys, by name.
fn digests(service: &Service) -> Vec<(String, String)> {
    let page = service.edge().get("/v1/manifest?since=0&limit=2000").ok(200);
    let mut keys: Vec<_> = page["keys"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|key| key["deleted"] != true)
        .map(|key| (key["name"].as_str().unwrap().to_owned(), key["sha256"].as_str().unwrap().to_owned()))
        .collect();
    keys.sort();
    keys
}

fn path(key: &Value) -> String {
    format!("/v1/keys/{}", key["id"].as_str().unwrap())
}

/// Keys of every fate, as they are when the backup is made.
fn prepare(admin: &Client) -> Vec<Value> {
    let make = |name: &str| {
        let body = json!({ "name": name, "permissions": ["records:read", "files:read"] });
        admin.post("/v1/keys", &body).ok(201)
    };
    ["kept", "deleted", "regenerated", "disabled", "narrowed"].map(make).into()
}

/// What happens after the backup.
fn go_on(admin: &Client, keys: &[Value]) {
    let [_, deleted, regenerated, disabled, narrowed] = keys else { panic!("five keys") };
    admin.delete(&path(deleted)).ok(200);
    admin.post(&format!("{}/regenerate", path(regenerated)), &json!({})).ok(200);
    admin.patch(&path(disabled), &json!({ "disabled": true })).ok(200);
    admin.patch(&path(narrowed), &json!({ "permissions": ["records:read"] })).ok(200);
    admin.make("later");
}

fn stop(mut service: Service) {
    service.signal("-TERM");
    wait::until("the service ends", PATIENCE, || service.process.process().try_wait().unwrap());
}

fn json_of(said: &str) -> Value {
    serde_json::from_str(said).unwrap_or_else(|_| panic!("not JSON: {said}"))
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|named| named["name"].as_str().unwrap()).collect()
}

#[test]
fn sqlite_is_backed_up_and_restored_as_documented() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path());
    let service = start.serve();
    let admin = service.admin();
    let keys = prepare(&admin);
    let token = json_of(&run(&start, "keyward token create ci --role admin"))["token"].as_str().unwrap().to_owned();
    let store = service.edge().get("/v1/manifest").ok(200)["store"].clone();
    let before = digests(&service);

    let [backup, restore @ ..] = &documented("### SQLite")[..] else { panic!("a backup and a restore") };
    let said = json_of(&run(&start, backup));
    assert_eq!((&said["keys"], &said["revision"], &said["store"]), (&json!(5), &json!(5), &store), "{said}");
    go_on(&admin, &keys);
    run(&start, "keyward token revoke ci");
    // As after a crash: the newest changes are in the write-ahead log.
    let mut service = service;
    service.kill();
    let said: Vec<Value> = restore.iter().map(|command| json_of(&run(&start, command))).collect();
    let came_back = &said[0]["came_back"];
    for (list, name) in [
        ("deleted_keys", "deleted"),
        ("regenerated_keys", "regenerated"),
        ("disabled_keys", "disabled"),
        ("permissions", "narrowed"),
        ("revoked_tokens", "ci"),
        ("lost_keys", "later"),
    ] {
        assert_eq!(names(&came_back[list]), [name], "{list}: {came_back}");
    }
    assert_eq!(said[1]["ok"], true, "{said:?}");

    let service = start.serve();
    assert_eq!(digests(&service), before, "nothing of the old write-ahead log came back");
    service.client(&token).get("/v1/keys").ok(200);
    assert_ne!(service.edge().get("/v1/manifest").ok(200)["store"], store, "filters start over");
    let entry = service.admin().get("/v1/audit?limit=1").ok(200);
    assert_eq!(entry["entries"][0]["action"], "store.new_identity");
    // The database that was there is kept, whole.
    let aside = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let aside: Vec<_> = aside.filter(|path| path.to_string_lossy().contains(".replaced-")).collect();
    let [aside] = &aside[..] else { panic!("{aside:?}") };
    let old = Start::new(folder.path()).with("KEYWARD_DATABASE_URL", &format!("sqlite://{}", aside.display()));
    assert_eq!(json_of(&run(&old, "keyward store check"))["revision"], 10);
}

#[test]
fn postgres_is_backed_up_and_restored_as_documented() {
    let Some(server) = Postgres::start() else { return };
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path()).with("KEYWARD_DATABASE_URL", &server.database());
    let service = start.serve();
    let admin = service.admin();
    let keys = prepare(&admin);
    let store = service.edge().get("/v1/manifest").ok(200)["store"].clone();
    let before = digests(&service);
    let [backup, restore @ ..] = &documented("### PostgreSQL")[..] else { panic!("a backup and a restore") };
    run(&start, backup);
    go_on(&admin, &keys);
    stop(service);
    let said: String = restore.iter().map(|command| run(&start, command)).collect();
    for action in ["key.delete", "key.regenerate", "key.update"] {
        assert!(said.contains(action), "what was done since is listed: {said}");
    }
    let service = start.serve();
    assert_eq!(digests(&service), before);
    assert_ne!(service.edge().get("/v1/manifest").ok(200)["store"], store, "filters start over");
    service.admin().make("again");
}

#[test]
fn the_result_of_a_restore_can_be_read_by_a_program() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path());
    let service = start.serve();
    let keys = prepare(&service.admin());
    run(&start, "keyward store backup copy.db --json");
    go_on(&service.admin(), &keys);
    stop(service);
    let restored = json_of(&run(&start, "keyward store restore copy.db --json"));
    let came_back = &restored["came_back"];
    for list in ["deleted_keys", "regenerated_keys", "disabled_keys"] {
        assert_eq!(names(&came_back[list]), [list.trim_end_matches("_keys")], "{restored}");
    }
    assert_eq!((names(&came_back["permissions"]), names(&came_back["lost_keys"])), (vec!["narrowed"], vec!["later"]));
    // Once more: now nothing comes back.
    let restored = json_of(&run(&start, "keyward store restore copy.db --json"));
    let lists = restored["came_back"].as_object().unwrap();
    assert!(lists.values().all(|list| list == &json!([])), "{restored}");
}

#[test]
fn a_restore_is_refused_while_the_database_is_in_use_and_for_a_damaged_backup() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path());
    let service = start.serve();
    service.admin().make("a");
    run(&start, "keyward store backup copy.db");
    let refused = |args: &[&str], why: &str| {
        let output = start.run(args);
        assert!(!output.status.success() && text(&output).contains(why), "{args:?}: {}", text(&output));
    };
    refused(&["store", "restore", "copy.db"], "in use");
    refused(&["store", "backup", "copy.db"], "copy.db");
    stop(service);

    // Some page in the middle, as a faulty disk leaves it.
    let mut bytes = std::fs::read(folder.path().join("copy.db")).unwrap();
    let keys = bytes.windows(4).rposition(|window| window == b"key_").unwrap();
    let middle = keys / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0x55);
    std::fs::write(folder.path().join("damaged.db"), &bytes).unwrap();
    std::fs::write(folder.path().join("short.db"), &bytes[..8192]).unwrap();
    std::fs::write(folder.path().join("text.db"), "no database").unwrap();
    let before = std::fs::read(folder.path().join("keyward.db")).unwrap();
    for file in ["damaged.db", "short.db", "text.db", "missing.db"] {
        refused(&["store", "restore", file], "error");
        assert_eq!(std::fs::read(folder.path().join("keyward.db")).unwrap(), before, "{file}: nothing changed");
    }
    // A damaged database is neither served nor given to every filter anew.
    std::fs::write(folder.path().join("keyward.db"), &bytes).unwrap();
    refused(&["store", "check"], "damaged");
    refused(&["store", "new-identity"], "damaged");
    refused(&["serve"], "damaged");
    run(&start, "keyward store restore copy.db");
    let service = start.serve();
    assert_eq!(service.admin().get("/v1/keys").ok(200)["keys"].as_array().unwrap().len(), 1);
}

#[test]
fn a_store_that_does_not_add_up_is_not_served() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path());
    let service = start.serve();
    let admin = service.admin();
    admin.make("a");
    admin.make("b");
    stop(service);
    // A key is gone without a change: half of a restore, or somebody's hand.
    let database = folder.path().join("keyward.db");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        use sqlx::Connection as _;
        let url = format!("sqlite://{}", database.display());
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::query("DELETE FROM keys WHERE name = 'a'").execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
    for args in [&["serve"] as &[&str], &["store", "check"], &["store", "new-identity"]] {
        let output = start.run(args);
        assert!(
            !output.status.success() && text(&output).contains("the table has 1 key,"),
            "{args:?}: {}",
            text(&output)
        );
    }
}

#[test]
fn a_database_of_a_newer_version_is_refused_in_words() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path());
    stop(start.serve());
    let database = folder.path().join("keyward.db");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        use sqlx::Connection as _;
        let url = format!("sqlite://{}", database.display());
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                     VALUES (9999, 'newer', TRUE, x'00', 0)";
        sqlx::query(newer).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
    for args in [&["serve"] as &[&str], &["store", "check"], &["token", "list"]] {
        let output = start.run(args);
        assert!(!output.status.success() && text(&output).contains("newer version of Keyward"), "{}", text(&output));
    }
}

//! The disk of a SQLite database fills up, or its files are removed or replaced while the service runs.

mod support;

use keyward_testbed::{wait, workspace};
use serde_json::{Value, json};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{PATIENCE, Service, Start};

/// A small file system of its own, unmounted with the value.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// Makes one of `megabytes`. `None` means that this process may not mount.
    fn new(megabytes: u32) -> Option<Self> {
        let folder = workspace::scratch("disk");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "keyward-test"]).arg(folder.path());
        if mount.output().is_ok_and(|output| output.status.success()) {
            return Some(Self { folder });
        }
        eprintln!("skipped: a small file system can be mounted by root alone");
        None
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file until nothing more fits.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        for size in [65_536, 4_096, 512, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.folder.path()).status();
    }
}

/// On a database in `database`, with the log elsewhere.
fn start(folder: &Path, database: &Path) -> Start {
    Start::new(folder).with("KEYWARD_DATABASE_URL", &format!("sqlite://{}", database.display()))
}

fn writable(service: &Service) -> Option<String> {
    let metrics = service.admin().get("/metrics").text;
    metrics.lines().find_map(|line| line.strip_prefix("keyward_store_writable ")).map(str::to_owned)
}

fn ids(service: &Service) -> Vec<Value> {
    let keys = service.admin().get("/v1/keys?limit=200").ok(200);
    keys["keys"].as_array().unwrap().iter().map(|key| key["id"].clone()).collect()
}

#[test]
fn a_full_disk_is_noticed_and_nothing_is_left_of_it_once_there_is_room() {
    let Some(disk) = SmallDisk::new(6) else { return };
    let folder = workspace::scratch("admin");
    let service = start(folder.path(), &disk.path().join("keyward.db")).serve();
    let admin = service.admin();
    let first = admin.make("first");
    assert_eq!(writable(&service).as_deref(), Some("1"));

    let filler = disk.fill();
    let mut refused = 0;
    for n in 0..60 {
        let reply = admin.post("/v1/keys", &json!({ "name": format!("key {n}"), "permissions": ["records:read"] }));
        match reply.status {
            // The write-ahead log may have room left for some.
            201 => {}
            _ => {
                reply.problem(503, "store_unavailable");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "the disk is full");
    wait::until("the service says that it cannot write", PATIENCE, || {
        (service.admin().get("/readyz").status == 503 && writable(&service).as_deref() == Some("0")).then_some(())
    });
    assert_eq!(admin.get("/v1/keys").status, 200, "reading goes on");
    assert_eq!(service.log().matches("the store cannot be written").count(), 1, "once for all refusals");

    std::fs::remove_file(filler).unwrap();
    wait::until("the service can write again", PATIENCE, || {
        (service.admin().get("/readyz").status == 200 && writable(&service).as_deref() == Some("1")).then_some(())
    });
    let second = admin.make("second");
    admin.delete(&format!("/v1/keys/{}", first["id"].as_str().unwrap())).ok(200);
    let listed = ids(&service);
    assert!(listed.contains(&second["id"]) && !listed.contains(&first["id"]));
}

#[test]
fn nobody_needs_to_write_for_a_full_disk_to_be_noticed() {
    let Some(disk) = SmallDisk::new(6) else { return };
    let folder = workspace::scratch("admin");
    let service = start(folder.path(), &disk.path().join("keyward.db")).serve();
    let filler = disk.fill();
    wait::until("the service is not ready", PATIENCE, || (service.admin().get("/readyz").status == 503).then_some(()));
    // A container's check ends as the store is.
    let (_, address) = service.url.split_once("://").unwrap();
    let health = || Start::new(folder.path()).with("KEYWARD_LISTEN", address).run(&["health"]).status.code();
    assert_eq!(health(), Some(1));
    std::fs::remove_file(filler).unwrap();
    wait::until("the service is ready", PATIENCE, || (service.admin().get("/readyz").status == 200).then_some(()));
    assert_eq!(health(), Some(0));
}

#[test]
fn nothing_is_written_to_files_that_were_removed_or_replaced() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("everything is removed", |database| {
            for suffix in ["", "-wal", "-shm"] {
                std::fs::remove_file(format!("{}{suffix}", database.display())).unwrap();
            }
        }),
        ("the log is removed", |database| std::fs::remove_file(format!("{}-wal", database.display())).unwrap()),
        ("another file is moved over it", |database| {
            let copy = database.with_extension("copy");
            std::fs::copy(database, &copy).unwrap();
            std::fs::rename(copy, database).unwrap();
        }),
        ("it is moved away", |database| std::fs::rename(database, database.with_extension("away")).unwrap()),
    ];
    for (name, harm) in harms {
        let folder = workspace::scratch("admin");
        let database = folder.path().join("keyward.db");
        let service = start(folder.path(), &database).serve();
        let admin = service.admin();
        let key = admin.make("before");
        harm(&database);
        let reply = admin.post("/v1/keys", &json!({ "name": "after", "permissions": ["records:read"] }));
        reply.problem(503, "store_unavailable");
        admin.delete(&format!("/v1/keys/{}", key["id"].as_str().unwrap())).problem(503, "store_unavailable");
        wait::until(&format!("not ready: {name}"), PATIENCE, || {
            (service.admin().get("/readyz").status == 503 && writable(&service).as_deref() == Some("0")).then_some(())
        });
        assert!(service.log().contains("while the service runs"), "{name}");
        if name == "it is moved away" {
            std::fs::rename(database.with_extension("away"), &database).unwrap();
            wait::until("ready again", PATIENCE, || (service.admin().get("/readyz").status == 200).then_some(()));
            admin.make("after");
        }
    }
}

#[test]
fn two_services_cannot_run_on_one_file_whatever_it_is_called() {
    let folder = workspace::scratch("admin");
    let real = folder.path().join("my keys.db");
    symlink("my keys.db", folder.path().join("link.db")).unwrap();
    let service = Start::new(folder.path()).with("KEYWARD_DATABASE_URL", "sqlite://my%20keys.db").serve();
    service.admin().make("a");
    assert!(real.exists() && folder.path().join("my keys.db.lock").exists(), "beside the file itself");
    for url in ["sqlite://link.db", "sqlite:my%20keys.db", "sqlite://./link.db"] {
        let other = Start::new(folder.path()).with("KEYWARD_DATABASE_URL", url);
        let mut command = other.command(&["serve"]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("another `keyward serve`"), "{url}: {said}");
    }
}

#[test]
fn first_tokens_are_written_beside_the_file_itself() {
    let folder = workspace::scratch("admin");
    std::fs::create_dir(folder.path().join("data dir")).unwrap();
    symlink("data dir/keyward.db", folder.path().join("link.db")).unwrap();
    let without = |url: &str| {
        Start::new(folder.path())
            .without("KEYWARD_ADMIN_TOKEN")
            .without("KEYWARD_EDGE_TOKEN")
            .with("KEYWARD_DATABASE_URL", url)
    };
    let service = without("sqlite://link.db").serve();
    let tokens = std::fs::read_to_string(folder.path().join("data dir/keyward.db.tokens")).unwrap();
    let token = tokens.lines().find_map(|line| line.strip_prefix("KEYWARD_ADMIN_TOKEN=")).unwrap();
    service.client(token).get("/v1/keys").ok(200);
    drop(service);
    // A file of tokens in clear is not forgotten.
    let service = without("sqlite://data%20dir/keyward.db").serve();
    assert!(service.log().contains("keyward.db.tokens` holds tokens in clear"), "{}", service.log());
}

#[test]
fn a_command_in_the_wrong_folder_makes_no_database() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path());
    let commands: [&[&str]; 7] = [
        &["token", "create", "ci", "--role", "admin"],
        &["token", "list"],
        &["token", "revoke", "ci"],
        &["store", "new-identity"],
        &["store", "check"],
        &["store", "backup", "copy.db"],
        &["store", "restore", "copy.db"],
    ];
    for empty in [false, true] {
        if empty {
            std::fs::write(folder.path().join("keyward.db"), "").unwrap();
        }
        for args in commands {
            let output = start.run(args);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{args:?}");
            assert!(said.contains("keyward.db`") || said.contains("copy.db`"), "{args:?}: {said}");
            let size = std::fs::metadata(folder.path().join("keyward.db")).map_or(0, |file| file.len());
            assert_eq!((size, folder.path().join("copy.db").exists()), (0, false), "{args:?}");
        }
    }
}

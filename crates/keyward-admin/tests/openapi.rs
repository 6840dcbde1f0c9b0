//! The description of the API held against the running service by schemathesis, which is fetched from PyPI.

mod support;

use keyward_testbed::postgres::Postgres;
use keyward_testbed::workspace;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{ADMIN, EDGE, Service, Start, service};

/// Pinned, so that a new check there does not fail a build here.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// What is right and is none the less refused: a revision that the store has not, or has no longer.
const CONFIG: &str = "[checks.positive_data_acceptance]\n\
    expected-statuses = [\"2xx\", 401, 403, 404, 409, 410, 412, 429, \"5xx\"]\n";

/// Returns the program, which is installed if it is missing. `None` means that it cannot be installed; under `CI` that is a
/// failure.
fn schemathesis() -> Option<PathBuf> {
    let testbed = workspace::target().join("testbed");
    std::fs::create_dir_all(&testbed).expect("the folder of the testbed");
    // Each test is a process of its own, and only one of them may install. The lock ends with the file.
    let lock = File::create(testbed.join("schemathesis.lock")).expect("a lock file");
    lock.lock().expect("the lock");
    let venv = testbed.join("schemathesis-venv");
    let program = venv.join("bin/schemathesis");
    let works = || Command::new(&program).arg("--version").output().is_ok_and(|output| output.status.success());
    if works() {
        return Some(program);
    }
    let run = |program: &Path, args: &[&str]| {
        let output = Command::new(program).args(args).output().map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    };
    let installed = run(Path::new("python3"), &["-m", "venv", &venv.to_string_lossy()])
        .and_then(|()| run(&venv.join("bin/pip"), &["install", "--quiet", SCHEMATHESIS]));
    match installed {
        Ok(()) if works() => Some(program),
        done => {
            assert!(std::env::var_os("CI").is_none(), "schemathesis cannot be installed: {done:?}");
            eprintln!("skipped: schemathesis cannot be installed: {done:?}");
            None
        }
    }
}

fn check(service: &Service, program: &Path, token: &str, only: [&str; 2]) {
    let folder = workspace::scratch("schemathesis");
    let config = folder.path().join("schemathesis.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let output = Command::new(program)
        .current_dir(folder.path())
        .env("NO_COLOR", "1")
        .arg("--config-file")
        .arg(&config)
        .args(["run", &format!("{}/openapi.json", service.url), "--checks", "all", "--max-examples", "25"])
        .args(["-H", &format!("Authorization: Bearer {token}"), "--seed", "1", "--request-timeout", "30"])
        .args(only)
        .output()
        .expect("schemathesis can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Tested: ") && !said.contains("Tested: 0"), "{said}");
}

#[test]
fn the_description_is_true_for_people() {
    let Some(program) = schemathesis() else { return };
    let (_folder, service) = service();
    check(&service, &program, ADMIN, ["--exclude-tag", "filters"]);
}

/// PostgreSQL minds bytes that SQLite does not.
#[test]
fn the_description_is_true_on_postgresql() {
    let Some(program) = schemathesis() else { return };
    let Some(postgres) = Postgres::start() else { return };
    let folder = workspace::scratch("admin");
    let service = Start::new(folder.path()).with("KEYWARD_DATABASE_URL", &postgres.database()).serve();
    check(&service, &program, ADMIN, ["--exclude-tag", "filters"]);
    check(&service, &program, EDGE, ["--include-tag", "filters"]);
}

#[test]
fn the_description_is_true_for_filters() {
    let Some(program) = schemathesis() else { return };
    let (_folder, service) = service();
    for n in 0..3 {
        service.admin().make(&format!("key {n}"));
    }
    check(&service, &program, EDGE, ["--include-tag", "filters"]);
}

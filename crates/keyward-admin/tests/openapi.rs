//! The description of the API held against the running service by schemathesis, which is fetched from PyPI.

mod support;

use keyward_policy::duration;
use keyward_testbed::postgres::Postgres;
use keyward_testbed::workspace;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
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

/// The description of the API, as the service gives it.
fn description(service: &Service) -> Value {
    service.admin().get("/openapi.json").ok(200)
}

/// The parameters of all operations that have this name.
fn parameters<'a>(description: &'a mut Value, name: &str) -> Vec<&'a mut Value> {
    let paths = description["paths"].as_object_mut().expect("paths").values_mut();
    let operations = paths.flat_map(|path| path.as_object_mut().expect("operations").values_mut());
    let all = operations.filter_map(|operation| operation.get_mut("parameters")?.as_array_mut()).flatten();
    all.filter(|parameter| parameter["name"] == name).collect()
}

fn check(service: &Service, program: &Path, token: &str, only: [&str; 2]) {
    let folder = workspace::scratch("schemathesis");
    // A request may be held for a minute; here each is held for a second at most.
    let mut short = description(service);
    for wait in parameters(&mut short, "wait") {
        wait["schema"]["pattern"] = json!("^(0s|[1-9]00ms|1s)$");
    }
    let file = folder.path().join("openapi.json");
    std::fs::write(&file, short.to_string()).unwrap();
    let config = folder.path().join("schemathesis.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let output = Command::new(program)
        .current_dir(folder.path())
        .env("NO_COLOR", "1")
        .arg("--config-file")
        .arg(&config)
        .arg("run")
        .arg(&file)
        .args(["--url", &service.url, "--checks", "all", "--max-examples", "25"])
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

/// What is held short above is a narrower pattern than the service's own, so that one is held against the limit that its
/// description names.
#[test]
fn the_durations_that_are_allowed_are_those_up_to_the_limit() {
    let (_folder, service) = service();
    let mut description = description(&service);
    for (name, count) in [("wait", 4), ("expires_within", 1)] {
        let parameters = parameters(&mut description, name);
        assert_eq!(parameters.len(), count, "{name}");
        for parameter in parameters {
            let says = parameter["description"].as_str().expect("a description");
            let (_, limit) = says.split_once("up to ").expect("a limit");
            let limit = limit.split(';').next().and_then(|limit| duration::parse(limit).ok()).expect("a duration");
            let pattern = parameter["schema"]["pattern"].as_str().expect("a pattern");
            let inner = pattern.strip_prefix('^').and_then(|inner| inner.strip_suffix('$')).expect("the whole value");
            let texts = proptest::string::string_regex(inner).unwrap();
            let mut runner = TestRunner::deterministic();
            let mut longest = Duration::ZERO;
            for _ in 0..5_000 {
                let text = texts.new_tree(&mut runner).unwrap().current();
                let duration = duration::parse(&text);
                let allowed = duration.is_ok_and(|duration| duration <= limit);
                assert!(allowed, "{name}: `{text}` fits {pattern}, and {says}");
                longest = longest.max(duration.unwrap());
            }
            assert!(longest > limit.mul_f64(0.9), "{name}: {pattern} ends at {longest:?}, and {says}");
        }
    }
}

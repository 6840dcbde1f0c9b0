//! The commands of docs/admin.md, as they are written there, on a service and its database.

mod support;

use keyward_testbed::workspace;
use std::process::Output;
use support::{Start, service};

/// The lines of each block of the document that begins with the command.
fn blocks(document: &str) -> Vec<Vec<&str>> {
    let fenced = document.split("```").skip(1).step_by(2);
    let lines = fenced.map(|block| block.lines().skip(1).filter(|line| !line.trim().is_empty()).collect::<Vec<_>>());
    lines.filter(|lines| lines.first().is_some_and(|line| line.starts_with("keyward "))).collect()
}

/// Runs a line of the document in a shell that finds the command.
fn run(start: &Start, line: &str) -> Output {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_keyward"));
    let known = start.command(&[]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", line]).current_dir(known.get_current_dir().expect("a folder"));
    shell.envs(known.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let path = std::env::var("PATH").unwrap_or_default();
    let folder = program.parent().expect("a folder");
    shell.env("PATH", format!("{}:{path}", folder.display())).output().expect("a shell")
}

#[test]
fn the_commands_of_the_document_run_as_they_are_written() {
    let text = std::fs::read_to_string(workspace::root().join("docs/admin.md")).unwrap();
    let (folder, mut service) = service();
    let start = Start::new(folder.path()).with("KEYWARD_URL", &service.url);
    let vm = service.vm("vm_9f86d081884c7d65");
    let revision = vm.load();
    vm.poll(revision, revision, "0s");
    let mut count = 0;
    for block in blocks(&text) {
        for line in block {
            // A database is restored when no service works on it. An instance is forgotten when it is out of contact.
            if line.starts_with("keyward store restore") {
                service.kill();
            }
            if line.starts_with("keyward proxies forget") || line.contains("$KEYWARD_DATABASE_URL") {
                continue;
            }
            let output = run(&start, line);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "`{line}` of docs/admin.md: {said}");
            count += 1;
        }
    }
    assert!(count >= 20, "{count} commands");
}

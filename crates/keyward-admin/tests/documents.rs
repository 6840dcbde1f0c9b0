//! The commands of docs/admin.md, docs/recipes.md and docs/configuration.md, and the example of the last, as they are written
//! there, on a service and its database.

mod support;

use keyward_testbed::{documents, wait, workspace};
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

fn document(name: &str) -> String {
    std::fs::read_to_string(workspace::root().join("docs").join(name)).unwrap()
}

#[track_caller]
fn succeeds(start: &Start, line: &str) -> String {
    let output = run(start, line);
    assert!(output.status.success(), "`{line}`: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_edge_token_is_replaced_as_the_recipe_says() {
    let text = document("recipes.md");
    let (folder, service) = service();
    let start = Start::new(folder.path()).with("KEYWARD_URL", &service.url);
    std::fs::create_dir_all(folder.path().join("target/up")).unwrap();
    // The token that the recipe revokes.
    succeeds(&start, "keyward token create edge-2025 --role edge --json");
    let block =
        blocks(&text).into_iter().find(|lines| lines[0].contains("token create edge-2026")).expect("the recipe");
    assert_eq!(block.len(), 4, "{block:?}");
    for line in block {
        let said = succeeds(&start, line);
        if line == "keyward token list" {
            assert!(said.contains("edge-2025") && said.contains("edge-2026"), "{said}");
        }
    }
    // The file holds the token and no end of line: Envoy sends it as it is.
    let token = std::fs::read_to_string(folder.path().join("target/up/edge-token")).unwrap();
    assert_eq!(token, token.trim());
    wait::until("the new token is known", support::PATIENCE, || {
        (service.client(&token).get("/v1/manifest").status == 200).then_some(())
    });
}

#[test]
fn the_example_of_a_configuration_is_one() {
    let text = document("configuration.md");
    let example = documents::blocks("docs/configuration.md", "# The filter's configuration", "yaml").remove(0);
    let (folder, service) = service();
    std::fs::write(folder.path().join("FILE"), example).unwrap();
    let start = Start::new(folder.path()).with("KEYWARD_URL", &service.url);
    succeeds(&start, "keyward check FILE");
    // The commands that the text names beside it.
    let commands: Vec<&str> = text.split('`').filter(|code| code.starts_with("keyward ")).collect();
    for named in ["keyward hash", "keyward manifest", "keyward check FILE"] {
        assert!(commands.contains(&named), "{commands:?}");
    }
    assert!(succeeds(&start, "printf test | keyward hash").contains("9f86d081884c7d65"));
    service.admin().make("a");
    let block = succeeds(&start, "keyward manifest");
    std::fs::write(folder.path().join("manifest.yaml"), format!("{block}\nrules: []\n")).unwrap();
    succeeds(&start, "keyward check manifest.yaml");
    let explain = commands.iter().find(|code| code.starts_with("keyward explain")).expect("it is named");
    let line = explain.replace("/api/…", "/api/health");
    assert!(succeeds(&start, &line).contains("public"), "{line}");
}

//! What a release consists of is a function of the module's bytes and of the source.

use keyward_testbed::faketime;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Packages `module` into `folder`. `shell` is a prefix of shell commands that change the surroundings, as `environment` does.
fn package(
    module: &Path,
    folder: &Path,
    shell: &str,
    environment: &[(&'static str, String)],
) -> BTreeMap<String, Vec<u8>> {
    let script = format!("{shell} exec \"$@\"");
    let mut command = Command::new("sh");
    command.envs(environment.iter().cloned());
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_xtask"), "dist", "--module"]).arg(module);
    let output = command.arg("--output").arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut files = BTreeMap::new();
    read(folder, folder, &mut files);
    files
}

fn read(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            files.insert(name, fs::read(&path).unwrap());
        }
    }
}

#[test]
fn completions_and_manual_pages_are_those_of_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("module.wasm");
    fs::write(&module, b"\0asm\x01\0\0\0").unwrap();
    let out = folder.path().join("out");
    let keyward = keyward_testbed::artifacts::keyward();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("dist").arg("--module").arg(&module).arg("--command").arg(&keyward).arg("--output").arg(&out);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = |name: &str| fs::read_to_string(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    for name in ["keyward", "_keyward", "keyward.fish", "keyward.elv", "_keyward.ps1"] {
        assert!(text(&format!("completions/{name}")).contains("regenerate"), "{name}");
    }
    // The shell itself takes them.
    let script = "source completions/keyward; COMP_WORDS=(keyward key re); COMP_CWORD=2; \
        complete -p keyward | grep -q _keyward; _keyward keyward re key; echo \"${COMPREPLY[@]}\"";
    let bash = Command::new("bash").args(["-c", script]).current_dir(&out).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&bash.stdout).trim(), "regenerate", "{bash:?}");
    assert!(text("man/keyward.1").contains("keyward\\-key(1)"));
    assert!(text("man/keyward-key-create.1").contains("its secret is shown once"));
    let sums = text("SHA256SUMS");
    assert!(sums.contains("  completions/_keyward\n") && sums.contains("  man/keyward-key-create.1\n"), "{sums}");
    let checked = Command::new("sha256sum").args(["--quiet", "--check", "SHA256SUMS"]).current_dir(&out).status();
    assert!(checked.unwrap().success());
}

#[test]
fn time_user_umask_and_folder_leave_no_trace() {
    let here = tempfile::tempdir().unwrap();
    let there = tempfile::tempdir().unwrap();
    let module = here.path().join("module.wasm");
    fs::write(&module, b"\0asm\x01\0\0\0").unwrap();
    let elsewhere = there.path().join("another name.wasm");
    fs::copy(&module, &elsewhere).unwrap();
    let first = package(&module, &here.path().join("out"), "umask 022; export TZ=UTC;", &[]);
    let second = package(
        &elsewhere,
        &there.path().join("a longer name of a folder"),
        "umask 077; unset HOSTNAME; export TZ=Asia/Tokyo LC_ALL=C USER=somebody LOGNAME=somebody; cd /; \
         date +%Y | grep -qx 2031 || exit 9;",
        &faketime::environment("2031-02-03 04:05:06"),
    );
    let names: Vec<&String> = first.keys().collect();
    assert_eq!(names, second.keys().collect::<Vec<_>>());
    assert!(names.iter().any(|name| name.starts_with("image/blobs/sha256/")), "{names:?}");
    for (name, bytes) in &first {
        assert!(second[name] == *bytes, "{name} differs");
    }
    // The bytes do matter.
    fs::write(&module, b"\0asm\x01\0\0\0\0\x02\x01a").unwrap();
    assert_ne!(package(&module, &here.path().join("out"), "", &[]), second);
}

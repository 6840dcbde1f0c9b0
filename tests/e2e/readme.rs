//! The README's "Use it": its own commands, taken from its text, lead from a built checkout to a request that is allowed.

use keyward_testbed::envoy::binary;
use keyward_testbed::{artifacts, documents, http1, wait, workspace};
use serde_json::Value;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
/// As many as a newcomer is asked to type.
const MAX_COMMANDS: usize = 6;
/// The ports that README and envoy.yaml name: listener, Envoy's admin, upstream, admin service.
const PORTS: [u16; 4] = [10000, 9901, 8090, 8081];

/// Returns the lines of the section's first block of commands.
fn commands() -> Vec<String> {
    let block = documents::blocks("README.md", "## Use it", "").remove(0);
    block.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// A checkout after `cargo xtask build`, with other ports than those that the README names.
struct Checkout {
    folder: workspace::TempDir,
    ports: [u16; 4],
}

impl Checkout {
    fn new() -> Self {
        let folder = workspace::scratch("readme");
        let held: Vec<TcpListener> = PORTS.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = held.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let checkout = Self { folder, ports: ports.try_into().unwrap() };
        let at = |path: &str| checkout.folder.path().join(path);
        fs::create_dir_all(at("target/dist")).unwrap();
        fs::create_dir_all(at("deploy/envoy")).unwrap();
        fs::create_dir_all(at("bin")).unwrap();
        symlink(artifacts::module(), at("target/dist/keyward.wasm")).unwrap();
        symlink(artifacts::keyward(), at("target/dist/keyward")).unwrap();
        symlink(binary(), at("bin/envoy")).unwrap();
        let token = "deploy/envoy/edge-token.yaml";
        fs::copy(workspace::root().join(token), at(token)).unwrap();
        let mut envoy = fs::read_to_string(workspace::root().join("envoy.yaml")).unwrap();
        for (shipped, port) in PORTS.iter().zip(checkout.ports) {
            let shipped = format!("port_value: {shipped}}}");
            assert!(envoy.contains(&shipped), "envoy.yaml has no {shipped}");
            envoy = envoy.replace(&shipped, &format!("port_value: {port}}}"));
        }
        fs::write(at("envoy.yaml"), envoy).unwrap();
        checkout
    }

    /// A command of the README, as a shell runs it.
    fn shell(&self, line: &str) -> Command {
        let [listener, _, upstream, admin] = self.ports;
        // What is built already is not built again; two Envoys on one machine need ids or no hot restart.
        let line = line
            .replace("cargo run --package records-api", &format!("records-api --listen 127.0.0.1:{upstream}"))
            .replace("envoy --config-path", "envoy --disable-hot-restart --concurrency 2 --config-path")
            .replace("http://127.0.0.1:10000/", &format!("http://127.0.0.1:{listener}/"));
        let folder = self.folder.path();
        let path = std::env::var("PATH").unwrap_or_default();
        let programs = artifacts::records_api();
        let programs = programs.parent().unwrap_or(Path::new("."));
        let mut command = Command::new("sh");
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("KEYWARD_")) {
                command.env_remove(name);
            }
        }
        // The shell gives way to the program, so that ending one ends the other.
        command
            .args(["-c", &format!("exec env {line}")])
            .current_dir(folder)
            .env("PATH", format!("{}:{}:{path}", folder.join("bin").display(), programs.display()))
            .env("KEYWARD_LISTEN", format!("127.0.0.1:{admin}"))
            .env("KEYWARD_URL", format!("http://127.0.0.1:{admin}"))
            .stdin(Stdio::null());
        command
    }

    fn start(&self, line: &str, port: usize, ready: &str) -> Running {
        let log = self.folder.path().join(format!("log-{port}"));
        let file = File::create(&log).unwrap();
        let copy = file.try_clone().unwrap();
        let mut running = Running(self.shell(line).stdout(copy).stderr(file).spawn().unwrap());
        let address = SocketAddr::from(([127, 0, 0, 1], self.ports[port]));
        wait::until(line, PATIENCE, || {
            let ended = running.0.try_wait().unwrap();
            assert!(ended.is_none(), "`{line}` ended: {}", fs::read_to_string(&log).unwrap_or_default());
            http1::get(address, ready, &[]).ok().filter(|response| response.status == 200).map(|_| ())
        });
        running
    }

    fn run(&self, line: &str) -> Output {
        let output = self.shell(line).output().unwrap();
        assert!(output.status.success(), "`{line}`: {}", String::from_utf8_lossy(&output.stderr));
        output
    }
}

/// A program that runs until the value is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn use_it_leads_to_a_first_key_through_envoy() {
    let commands = commands();
    assert!(commands.len() <= MAX_COMMANDS, "{commands:#?}");
    let [build, service, upstream, proxy, key, call] = &commands[..] else { panic!("{commands:#?}") };
    assert_eq!(build, "cargo xtask build");
    let checkout = Checkout::new();
    let _service = checkout.start(service, 3, "/readyz");
    let _upstream = checkout.start(upstream, 2, "/api/health");
    let _proxy = checkout.start(proxy, 0, "/keyward/ready");
    let made: Value = serde_json::from_slice(&checkout.run(key).stdout).unwrap();
    assert!(call.contains("kw_…"), "{call}");
    let call = call.replace("kw_…", made["key"].as_str().unwrap());
    // The key reaches each worker some milliseconds after it was made.
    let answer = wait::until("the key is known", PATIENCE, || {
        let answer: Value = serde_json::from_slice(&checkout.run(&call).stdout).unwrap();
        (answer["code"] != "key_unknown").then_some(answer)
    });
    assert!(answer["totalItems"].is_u64(), "{answer}");
}

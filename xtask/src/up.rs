//! `cargo xtask up`: builds and runs all parts on this machine, from a fresh clone to a request that works.

use crate::children::Children;
use crate::{build, demo, envoy, sh, workspace};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// The ports that the shipped envoy.yaml names, in this order: listener, Envoy's admin, upstream, admin service.
const SHIPPED_PORTS: [u16; 4] = [10000, 9901, 8090, 8081];
const DEMO_KEY: &str = "Demo";

#[derive(clap::Args)]
pub struct Arguments {
    /// Port that clients call
    #[arg(long, default_value_t = SHIPPED_PORTS[0])]
    port: u16,
    /// Port of Envoy's own admin interface, with metrics
    #[arg(long, default_value_t = SHIPPED_PORTS[1])]
    envoy_admin_port: u16,
    /// Port of the sample upstream
    #[arg(long, default_value_t = SHIPPED_PORTS[2])]
    upstream_port: u16,
    /// Port of the admin service, with page and API
    #[arg(long, default_value_t = SHIPPED_PORTS[3])]
    admin_port: u16,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    // The ports are checked before the build, because the first build takes minutes.
    demo::port_is_free(arguments.port, "Envoy", "--port")?;
    demo::port_is_free(arguments.envoy_admin_port, "Envoy's admin interface", "--envoy-admin-port")?;
    demo::port_is_free(arguments.upstream_port, "the sample upstream", "--upstream-port")?;
    demo::port_is_free(arguments.admin_port, "the admin service", "--admin-port")?;
    let envoy = envoy::find_or_install()?;
    build::shipped_module()?;
    // These builds are not optimized: optimizing the service takes minutes, and a try-out has one user.
    sh::run(sh::cargo().args(["build", "--package", "keyward-admin", "--package", "records-api"]))?;
    let keyward = workspace::target().join("debug/keyward");

    let folder = workspace::root().join("target/up");
    fs::create_dir_all(&folder)?;
    let admin_token = demo::secret(&folder.join("admin-token"))?;
    demo::secret(&folder.join("edge-token"))?;

    let mut children = Children::new()?;
    let result = start(arguments, &mut children, &Programs { envoy, keyward }, &admin_token, &folder).and_then(|key| {
        announce(arguments, &key, &admin_token, &folder);
        children.wait_for_interrupt()
    });
    eprintln!("\nstopping");
    drop(children);
    result
}

struct Programs {
    envoy: PathBuf,
    keyward: PathBuf,
}

/// Starts the sample upstream, the admin service and Envoy, and returns the demo key.
fn start(
    arguments: &Arguments,
    children: &mut Children,
    programs: &Programs,
    admin_token: &str,
    folder: &Path,
) -> Result<String> {
    let Arguments { port, envoy_admin_port, upstream_port, admin_port } = *arguments;
    let mut upstream = sh::command(workspace::target().join("debug/records-api"));
    upstream.args(["--listen", &demo::address(upstream_port).to_string()]);
    children.start("the sample upstream", &mut upstream, &folder.join("records-api.log"))?;
    children.wait_for("the sample upstream", || answers(upstream_port, "/api/health"))?;

    let mut service = sh::command(&programs.keyward);
    service
        .arg("serve")
        .env("KEYWARD_LISTEN", demo::address(admin_port).to_string())
        .env("KEYWARD_DATABASE_URL", format!("sqlite://{}", folder.join("keyward.db").display()))
        .env("KEYWARD_ADMIN_TOKEN_FILE", folder.join("admin-token"))
        .env("KEYWARD_EDGE_TOKEN_FILE", folder.join("edge-token"));
    children.start("the admin service", &mut service, &folder.join("keyward.log"))?;
    children.wait_for("the admin service", || answers(admin_port, "/readyz"))?;
    let key = demo_key(admin_port, admin_token)?;

    let mut proxy = sh::command(&programs.envoy);
    proxy
        .arg("--config-path")
        .arg(configuration(arguments, folder)?)
        // With two workers, differences between workers are visible.
        .args(["--concurrency", "2", "--disable-hot-restart", "--log-level", "warning"])
        .args(["--file-flush-interval-msec", "1000"])
        .args(["--service-node", "keyward-up"]);
    children.start("Envoy", &mut proxy, &folder.join("envoy.log"))?;
    children.wait_for("Envoy", || answers(envoy_admin_port, "/ready"))?;
    children.wait_for("Envoy's keys", || answers(port, "/keyward/ready"))?;
    children.wait_for("a first request", || {
        let (status, _) = demo::get(port, "/api/collections/posts/records", &[("x-api-key", &key)])?;
        (status == 200).then_some(())
    })?;
    Ok(key)
}

fn answers(port: u16, path: &str) -> Option<()> {
    demo::get(port, path, &[]).filter(|(status, _)| *status == 200).map(|_| ())
}

/// Writes the shipped envoy.yaml with the ports that were asked for, and returns the file.
fn configuration(arguments: &Arguments, folder: &Path) -> Result<PathBuf> {
    let mut text = fs::read_to_string(workspace::root().join("envoy.yaml")).context("cannot read envoy.yaml")?;
    for (place, shipped) in SHIPPED_PORTS.iter().enumerate() {
        let shipped = format!("port_value: {shipped}}}");
        if text.matches(&shipped).count() != 1 {
            bail!("envoy.yaml holds `{shipped}` not exactly once");
        }
        text = text.replace(&shipped, &format!("port_value: <{place}>}}"));
    }
    let Arguments { port, envoy_admin_port, upstream_port, admin_port } = *arguments;
    for (place, wanted) in [port, envoy_admin_port, upstream_port, admin_port].iter().enumerate() {
        text = text.replace(&format!("<{place}>"), &wanted.to_string());
    }
    let file = folder.join("envoy.yaml");
    fs::write(&file, text).with_context(|| format!("cannot write {}", workspace::shown(&file)))?;
    Ok(file)
}

/// Creates a key with all permissions for a week and returns it. The store is kept between runs and the key's text is not,
/// so a key of an earlier run is regenerated.
fn demo_key(admin_port: u16, admin_token: &str) -> Result<String> {
    let authorization = format!("Bearer {admin_token}");
    let headers = [("authorization", &*authorization), ("content-type", "application/json")];
    let ask = |method: &str, path: &str, body: &str| -> Result<(u16, serde_json::Value)> {
        let answer = demo::request(admin_port, method, path, &headers, body);
        let (status, body) = answer.with_context(|| format!("the admin service does not answer {method} {path}"))?;
        let json = serde_json::from_str(&body).with_context(|| format!("{method} {path}: {status} {body}"))?;
        Ok((status, json))
    };
    let wanted = serde_json::json!({
        "name": DEMO_KEY,
        "permissions": ["records:read", "records:write", "records:delete", "files:read", "files:write"],
        "expires_in": "7d",
    });
    let (mut status, mut answer) = ask("POST", "/v1/keys", &wanted.to_string())?;
    if status == 409 {
        let (_, list) = ask("GET", &format!("/v1/keys?q={DEMO_KEY}"), "")?;
        let keys = list.get("keys").and_then(serde_json::Value::as_array);
        let mut keys = keys.into_iter().flatten();
        let id = keys.find(|key| key.get("name").is_some_and(|name| name == DEMO_KEY)).and_then(|key| key.get("id"));
        let id = id.and_then(serde_json::Value::as_str).context("the demo key is in the way and cannot be found")?;
        (status, answer) = ask("POST", &format!("/v1/keys/{id}/regenerate?wait=0s"), "")?;
    }
    let key = answer.get("key").and_then(serde_json::Value::as_str);
    Ok(key.with_context(|| format!("cannot make the demo key: {status} {answer}"))?.to_owned())
}

fn announce(arguments: &Arguments, key: &str, admin_token: &str, folder: &Path) {
    let Arguments { port, envoy_admin_port, admin_port, .. } = arguments;
    println!(
        "
API behind Envoy     http://127.0.0.1:{port}
API keys page        http://127.0.0.1:{admin_port}/
admin token          {admin_token}
Envoy's metrics      http://127.0.0.1:{envoy_admin_port}/stats/prometheus
logs                 {}/*.log
demo key             {key}

Try it:
  curl -s http://127.0.0.1:{port}/api/collections/posts/records -H 'X-Api-Key: {key}' -H 'Accept: application/json'
  curl -s http://127.0.0.1:{port}/api/collections/posts/records
  KEYWARD_ADMIN_TOKEN={admin_token} KEYWARD_URL=http://127.0.0.1:{admin_port} {} key list

Keyward is ready. Ctrl-C stops it.",
        workspace::shown(folder),
        workspace::shown(&workspace::target().join("debug/keyward")),
    );
}

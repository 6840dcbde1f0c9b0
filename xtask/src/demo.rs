//! Helpers of `up`: free ports, secrets, and requests to the parts that it runs.

use anyhow::{Context as _, Result, bail};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

/// Checks that a port on loopback is free.
///
/// # Errors
/// Returns an error when another program uses it. The message names the port, what needs it and the flag that chooses
/// another.
pub fn port_is_free(port: u16, what: &str, flag: &str) -> Result<()> {
    match TcpListener::bind(address(port)) {
        Ok(_) => Ok(()),
        Err(error) => bail!("port {port} for {what}: {error}; stop what uses it, or choose another with {flag} <PORT>"),
    }
}

/// Returns the address of a port on loopback.
pub fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Returns the secret in a file that only its owner can read. A missing file is written with 256 random bits.
///
/// # Errors
/// Returns an error when the file cannot be read or written.
pub fn secret(file: &Path) -> Result<String> {
    if let Ok(secret) = fs::read_to_string(file)
        && !secret.is_empty()
    {
        return Ok(secret);
    }
    let mut random = [0; 32];
    fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random)).context("no random bytes")?;
    let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let made = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file);
    // The file has no line break, because Envoy sends it as it is.
    made.and_then(|mut file| file.write_all(secret.as_bytes()))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(secret)
}

/// The names and values of a request's headers.
pub type Headers<'a> = &'a [(&'a str, &'a str)];

/// Returns the status and the body of a GET. `None` means that nothing answers.
pub fn get(port: u16, path: &str, headers: Headers<'_>) -> Option<(u16, String)> {
    request(port, "GET", path, headers, "")
}

/// Returns the status and the body of a request to loopback. `None` means that nothing answers.
pub fn request(port: u16, method: &str, path: &str, headers: Headers<'_>, body: &str) -> Option<(u16, String)> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        // Requests to loopback never go through the proxy of the environment.
        .proxy(None)
        .timeout_connect(Some(Duration::from_secs(1)))
        .timeout_global(Some(Duration::from_secs(5)));
    let agent: ureq::Agent = config.build().into();
    let uri = format!("http://{}{path}", address(port));
    let head = ureq::http::Request::builder().method(method).uri(uri);
    let head = headers.iter().fold(head, |head, (name, value)| head.header(*name, *value));
    let mut answer = match body {
        "" => agent.run(head.body(()).ok()?),
        body => agent.run(head.body(body).ok()?),
    }
    .ok()?;
    let body = answer.body_mut().read_to_string().ok()?;
    Some((answer.status().as_u16(), body))
}

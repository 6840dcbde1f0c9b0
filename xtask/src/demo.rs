//! Small helpers of `up`: ports, secrets, a GET.

use anyhow::{Context as _, Result, bail};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

/// Says who wants which port, where something else has it.
///
/// # Errors
/// Names the port, what wanted it and the flag that chooses another.
pub fn port_is_free(port: u16, what: &str, flag: &str) -> Result<()> {
    match TcpListener::bind(address(port)) {
        Ok(_) => Ok(()),
        Err(error) => bail!("port {port} for {what}: {error}; stop what uses it, or choose another with {flag} <PORT>"),
    }
}

/// The address on loopback.
pub fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The secret in a file that only its owner can read; made of 256 random bits where it is not there yet.
///
/// # Errors
/// When the file cannot be read or made.
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
    // No line break: Envoy sends the file as it is.
    made.and_then(|mut file| file.write_all(secret.as_bytes()))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(secret)
}

/// The status of a GET, and the body; none while nothing answers.
pub fn get(port: u16, path: &str, header: &str) -> Option<(u16, String)> {
    request(port, "GET", path, header, "")
}

/// The status and the body of a request; none while nothing answers. `header` holds whole lines.
pub fn request(port: u16, method: &str, path: &str, header: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address(port), Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\
         {header}\r\n{body}"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())?;
    Some((status, body))
}

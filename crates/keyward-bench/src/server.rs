//! Small HTTP/1.1 servers behind Envoy, one thread for each connection.

use anyhow::Result;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

/// What the upstream answers: 200 and ten bytes.
pub const UPSTREAM: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 10\r\n\r\n0123456789";

/// What an authorization service answers when it allows.
pub const ALLOWED: &[u8] = b"HTTP/1.1 200 OK\r\nx-api-key-id: key_aaaaaaaaaaaaaaaa\r\nx-api-key-name: name00000000\r\n\
    content-length: 0\r\n\r\n";

/// A request, as far as it counts.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Path and query.
    pub target: &'a str,
}

/// Starts one on a free port of loopback that answers everything with the same bytes, until the process ends.
///
/// # Errors
/// When no port can be had.
pub fn start(answer: &'static [u8]) -> Result<SocketAddr> {
    listen(move |stream| serve_same(stream, answer))
}

/// Starts one that answers with what `handler` gives, until the process ends. Bodies are read and dropped.
///
/// # Errors
/// When no port can be had.
pub fn serve(handler: impl Fn(&Asked<'_>) -> Vec<u8> + Send + Sync + 'static) -> Result<SocketAddr> {
    listen(move |stream| {
        let _ = serve_each(stream, &handler);
    })
}

fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.set_nodelay(true);
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    Ok(address)
}

fn serve_same(mut stream: TcpStream, answer: &[u8]) {
    let mut buffer = [0; 8_192];
    let mut filled = 0;
    loop {
        let Some(free) = buffer.get_mut(filled..) else { return };
        match stream.read(free) {
            Ok(length) if length > 0 => filled += length,
            _ => return,
        }
        // Envoy sends one request at a time on a connection.
        if buffer.get(..filled).is_some_and(|head| head.ends_with(b"\r\n\r\n")) {
            filled = 0;
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }
}

fn serve_each(mut stream: TcpStream, handler: &impl Fn(&Asked<'_>) -> Vec<u8>) -> std::io::Result<()> {
    let mut pending = Vec::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let end = loop {
            if let Some(at) = pending.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            let read = stream.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            pending.extend(buffer.iter().take(read));
        };
        let head = String::from_utf8_lossy(pending.get(..end).unwrap_or_default()).into_owned();
        pending.drain(..end);
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let length: usize = length.unwrap_or(0);
        while pending.len() < length {
            let read = stream.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            pending.extend(buffer.iter().take(read));
        }
        pending.drain(..length);
        let target = head.split(' ').nth(1).unwrap_or_default();
        stream.write_all(&handler(&Asked { target }))?;
    }
}

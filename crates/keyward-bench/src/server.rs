//! Small HTTP/1.1 servers behind Envoy, one thread for each connection.

use anyhow::Result;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// The upstream's answer: 200 and ten bytes.
pub const UPSTREAM: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 10\r\n\r\n0123456789";

/// The answer of an authorization service that allows the request.
pub const ALLOWED: &[u8] = b"HTTP/1.1 200 OK\r\nx-api-key-id: key_aaaaaaaaaaaaaaaa\r\nx-api-key-name: name00000000\r\n\
    content-length: 0\r\n\r\n";

/// Starts a server on a free loopback port that answers every request with the same bytes until the process ends.
///
/// # Errors
/// Returns an error when no port is free.
pub fn start(answer: &'static [u8]) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.set_nodelay(true);
            std::thread::spawn(move || serve(stream, answer));
        }
    });
    Ok(address)
}

fn serve(mut stream: TcpStream, answer: &[u8]) {
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

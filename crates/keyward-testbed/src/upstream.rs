//! An upstream that writes down everything it is asked.
//!
//! It reads HTTP/1.1 with as few assumptions as possible, because a request that an HTTP library would
//! refuse has reached the upstream all the same, and that is what the tests want to know.

use crate::http1::find;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The method's bytes.
    pub method: Vec<u8>,
    /// Path and query.
    pub target: Vec<u8>,
    /// In the order of the wire, names in lower case, `host` among them.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Without transfer coding.
    pub body: Vec<u8>,
    /// The trailers, names in lower case. Only a chunked body has them.
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Received {
    /// All values of a header, as text.
    pub fn header(&self, name: &str) -> Vec<String> {
        let values = self.headers.iter().filter(|(candidate, _)| candidate == name.as_bytes());
        values.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// Path and query as text.
    pub fn target(&self) -> String {
        String::from_utf8_lossy(&self.target).into_owned()
    }
}

/// What an upstream does with a request.
#[derive(Debug)]
pub enum Answer {
    /// These bytes; where they say `connection: close`, it closes.
    Whole(Vec<u8>),
    /// The same, but from this byte on one every tenth of a second, for as long as the peer stays.
    Drip(Vec<u8>, usize),
    /// Closes without a word.
    None,
}

impl From<Vec<u8>> for Answer {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole(bytes)
    }
}

type Responder = dyn Fn(&Received) -> Answer + Send + Sync;

/// A running upstream; it stops taking connections with the value.
pub struct Upstream {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    stopped: Arc<AtomicBool>,
}

impl Upstream {
    /// Answers each request with 200 and a short body.
    pub fn start() -> Self {
        Self::answering(|_| {
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-upstream: reached\r\ncontent-length: 7\r\n\r\nreached"
                .to_vec()
        })
    }

    /// Answers as `responder` says.
    ///
    /// # Panics
    /// Panics when no port can be had.
    pub fn answering<A: Into<Answer>>(responder: impl Fn(&Received) -> A + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|error| panic!("no free port: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("no local address: {error}"));
        let received = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let responder: Arc<Responder> = Arc::new(move |request: &Received| responder(request).into());
        let (log, stop) = (received.clone(), stopped.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), log, responder) = (stream, log.clone(), responder.clone()) else { continue };
                std::thread::spawn(move || serve(stream, &log, &*responder));
            }
        });
        Self { address, received, stopped }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests are written down.
    pub fn count(&self) -> usize {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What came since the last call.
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that waits in accept.
        let _ = TcpStream::connect(self.address);
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("address", &self.address).finish_non_exhaustive()
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<Received>>, responder: &Responder) {
    let _ = stream.set_nodelay(true);
    let mut pending = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut pending) {
        let answer = responder(&request);
        log.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        let stays_open = match answer {
            Answer::Whole(bytes) => {
                // It stands in the head, and a body may be long.
                let head = bytes.get(..4_096).unwrap_or(&bytes);
                stream.write_all(&bytes).is_ok() && find(head, b"\r\nconnection: close\r\n").is_none()
            }
            Answer::Drip(bytes, from) => drip(&mut stream, &bytes, from).is_ok(),
            Answer::None => false,
        };
        if !stays_open {
            return;
        }
    }
}

fn drip(stream: &mut TcpStream, bytes: &[u8], from: usize) -> std::io::Result<()> {
    let (at_once, slowly) = bytes.split_at(from.min(bytes.len()));
    stream.write_all(at_once)?;
    for byte in slowly {
        std::thread::sleep(std::time::Duration::from_millis(100));
        stream.write_all(std::slice::from_ref(byte))?;
    }
    Ok(())
}

fn read_request(stream: &mut TcpStream, pending: &mut Vec<u8>) -> Option<Received> {
    let end = loop {
        match find(pending, b"\r\n\r\n") {
            Some(at) => break at,
            None => fill(stream, pending)?,
        }
    };
    let head: Vec<u8> = pending.drain(..end + 4).take(end).collect();
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    let method = words.next().unwrap_or_default().to_vec();
    let target = words.next().unwrap_or_default().to_vec();
    let headers: Vec<(Vec<u8>, Vec<u8>)> = lines.map(field).collect();
    let mut request = Received { method, target, headers, body: Vec::new(), trailers: Vec::new() };
    if request.header("transfer-encoding").concat().contains("chunked") {
        loop {
            let line = read_line(stream, pending)?;
            let size = usize::from_str_radix(std::str::from_utf8(&line).ok()?.trim(), 16).ok()?;
            if size == 0 {
                break;
            }
            while pending.len() < size + 2 {
                fill(stream, pending)?;
            }
            request.body.extend(pending.drain(..size + 2).take(size));
        }
        loop {
            let line = read_line(stream, pending)?;
            if line.is_empty() {
                break;
            }
            request.trailers.push(field(&line));
        }
    } else if let Some(length) = request.header("content-length").first().and_then(|length| length.parse().ok()) {
        while pending.len() < length {
            fill(stream, pending)?;
        }
        request.body = pending.drain(..length).collect();
    }
    Some(request)
}

/// Reads a line, and returns it without its end.
fn read_line(stream: &mut TcpStream, pending: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        match find(pending, b"\r\n") {
            Some(at) => return Some(pending.drain(..at + 2).take(at).collect()),
            None => fill(stream, pending)?,
        }
    }
}

/// Splits a line into the name and the value of a field.
fn field(line: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
    let (name, value) = line.split_at(colon);
    (name.to_ascii_lowercase(), value.strip_prefix(b":").unwrap_or_default().trim_ascii().to_vec())
}

fn fill(stream: &mut TcpStream, pending: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 16_384];
    match stream.read(&mut buffer) {
        Ok(length) if length > 0 => pending.extend(buffer.iter().take(length)),
        _ => return None,
    }
    Some(())
}

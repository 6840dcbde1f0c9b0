//! An HTTP/1.1 client that sends exactly the bytes it is given.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a read may take before the client gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// Read but not yet used.
    pending: Vec<u8>,
}

/// An answer, its names in lower case, its body without transfer coding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// In the order of the wire.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Empty where there is none.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header, where it is there exactly once and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(candidate, _)| candidate == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => std::str::from_utf8(value).ok(),
            _ => None,
        }
    }

    /// All values of a header, as text.
    pub fn header_values(&self, name: &str) -> Vec<String> {
        let values = self.headers.iter().filter(|(candidate, _)| candidate == name);
        values.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// The body as text, whatever it holds.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Returns the errors of the socket.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, pending: Vec::new() })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Returns the errors of the socket.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)
    }

    /// Changes how long a read may take.
    ///
    /// # Errors
    /// Returns the errors of the socket.
    pub fn set_patience(&mut self, patience: Duration) -> Result<()> {
        self.stream.set_read_timeout(Some(patience))
    }

    /// Reads one answer. `method` is the request's: an answer to HEAD has no body, whatever its headers say.
    /// Interim answers (1xx) other than 101 are passed over.
    ///
    /// # Errors
    /// Returns [`ErrorKind::UnexpectedEof`] where the peer closed instead, [`ErrorKind::InvalidData`] for what is no answer.
    pub fn receive(&mut self, method: &str) -> Result<Response> {
        loop {
            let response = self.receive_one(method)?;
            if !(100..200).contains(&response.status) || response.status == 101 {
                return Ok(response);
            }
        }
    }

    fn receive_one(&mut self, method: &str) -> Result<Response> {
        let end = self.fill_until(|pending| find(pending, b"\r\n\r\n").map(|at| at + 4))?;
        let head: Vec<u8> = self.pending.drain(..end).collect();
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut parsed = httparse::Response::new(&mut fields);
        parsed.parse(&head).map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
        let headers: Vec<(String, Vec<u8>)> =
            parsed.headers.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec())).collect();
        let mut response = Response { status: parsed.code.unwrap_or_default(), headers, body: Vec::new() };
        let bodiless = method == "HEAD" || matches!(response.status, 100..200 | 204 | 304);
        if bodiless || (method == "CONNECT" && response.status == 200) {
            return Ok(response);
        }
        response.body = if response.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
            self.chunks()?
        } else if let Some(length) = response.header("content-length").and_then(|length| length.parse().ok()) {
            self.take(length)?
        } else {
            let mut rest = std::mem::take(&mut self.pending);
            self.stream.read_to_end(&mut rest)?;
            rest
        };
        Ok(response)
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = self.fill_until(|pending| find(pending, b"\r\n"))?;
            let line: Vec<u8> = self.pending.drain(..end + 2).collect();
            let size = std::str::from_utf8(&line).ok().and_then(|line| line.trim().split(';').next());
            let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
            let size = size.ok_or_else(|| Error::new(ErrorKind::InvalidData, "no chunk size"))?;
            if size == 0 {
                // Trailers, if any, and the empty line.
                let end = self.fill_until(|pending| match pending {
                    [b'\r', b'\n', ..] => Some(2),
                    _ => find(pending, b"\r\n\r\n").map(|at| at + 4),
                })?;
                self.pending.drain(..end);
                return Ok(body);
            }
            body.extend(self.take(size)?);
            self.take(2)?;
        }
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        self.fill_until(|pending| (pending.len() >= length).then_some(length))?;
        Ok(self.pending.drain(..length).collect())
    }

    fn fill_until(&mut self, done: impl Fn(&[u8]) -> Option<usize>) -> Result<usize> {
        loop {
            if let Some(at) = done(&self.pending) {
                return Ok(at);
            }
            let mut buffer = [0; 16_384];
            let length = self.stream.read(&mut buffer)?;
            if length == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.pending.extend(buffer.iter().take(length));
        }
    }

    /// Reads whatever comes next, up to one buffer: for streams. Empty at the end.
    ///
    /// # Errors
    /// Returns the errors of the socket.
    pub fn receive_some(&mut self) -> Result<Vec<u8>> {
        if self.pending.is_empty() {
            let mut buffer = vec![0; 16_384];
            let length = self.stream.read(&mut buffer)?;
            buffer.truncate(length);
            return Ok(buffer);
        }
        Ok(std::mem::take(&mut self.pending))
    }
}

/// A request as it goes over the wire, with no check of anything. A `host` is put in front where `headers`
/// holds none, and a `content-length` where there is a body.
pub fn encode(method: &[u8], target: &[u8], headers: &[(Vec<u8>, Vec<u8>)], body: &[u8]) -> Vec<u8> {
    let has = |name: &[u8]| headers.iter().any(|(candidate, _)| candidate.eq_ignore_ascii_case(name));
    let mut out = [method, b" ", target, b" HTTP/1.1\r\n"].concat();
    if !has(b"host") {
        out.extend(b"host: api.example.com\r\n");
    }
    for (name, value) in headers {
        out.extend([name, b": ".as_slice(), value, b"\r\n"].concat());
    }
    if !body.is_empty() && !has(b"content-length") && !has(b"transfer-encoding") {
        out.extend(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    out.extend(b"\r\n");
    out.extend(body);
    out
}

/// One request on a connection of its own.
///
/// # Errors
/// Returns the errors of [`Client`].
pub fn exchange(address: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Response> {
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
    let mut client = Client::connect(address)?;
    client.send(&encode(method.as_bytes(), target.as_bytes(), &headers, b""))?;
    client.receive(method)
}

/// GET on a connection of its own.
///
/// # Errors
/// Returns the errors of [`Client`].
pub fn get(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Result<Response> {
    exchange(address, "GET", target, headers)
}

/// Where `needle` begins.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

//! An HTTP/2 client (prior knowledge, RFC 9113) that sends exactly the header fields it is given.
//!
//! Libraries refuse to send upper-case names, NUL bytes or repeated pseudo-headers. Every field goes out as a
//! literal without indexing (RFC 7541 6.2.2), so that nothing is changed on the way.

use crate::http1::Response;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The largest frame that a peer takes without having said so.
const MAX_FRAME: usize = 16_384;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// One connection, one stream at a time.
pub struct Client {
    stream: TcpStream,
    decoder: loona_hpack::Decoder<'static>,
    next_stream: u32,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Header fields and a body; trailers stand with the headers.
    Response(Response),
    /// The stream was reset, with this error code.
    Reset(u32),
    /// The connection was closed, with this error code where the peer gave one.
    Closed(Option<u32>),
}

impl Answer {
    /// The status; none without a response.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Response(response) => Some(response.status),
            Self::Reset(_) | Self::Closed(_) => None,
        }
    }
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Client {
    /// Connects and sends the preface.
    ///
    /// # Errors
    /// Returns the errors of the socket.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream, decoder: loona_hpack::Decoder::new(), next_stream: 1 };
        client.stream.write_all(PREFACE)?;
        client.write_frame(SETTINGS, 0, 0, &[])?;
        Ok(client)
    }

    /// Sends a request and waits for what becomes of it. `fields` hold the pseudo-headers too.
    ///
    /// # Errors
    /// Returns the errors of the socket, and [`ErrorKind::InvalidData`] for a header block that cannot be read.
    pub fn request(&mut self, fields: &[(Vec<u8>, Vec<u8>)], body: &[u8]) -> Result<Answer> {
        let id = self.next_stream;
        self.next_stream += 2;
        self.write_fields(id, fields, body.is_empty())?;
        if !body.is_empty() {
            self.write_frame(DATA, END_STREAM, id, body)?;
        }
        self.answer(id)
    }

    /// Sends a request with trailers behind its body and waits for what becomes of it.
    ///
    /// # Errors
    /// Returns the errors of [`Self::request`].
    pub fn request_with_trailers(
        &mut self,
        fields: &[(Vec<u8>, Vec<u8>)],
        body: &[u8],
        trailers: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Answer> {
        let id = self.next_stream;
        self.next_stream += 2;
        self.write_fields(id, fields, false)?;
        self.write_frame(DATA, 0, id, body)?;
        self.write_fields(id, trailers, true)?;
        self.answer(id)
    }

    fn write_fields(&mut self, id: u32, fields: &[(Vec<u8>, Vec<u8>)], end_of_stream: bool) -> Result<()> {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            encode_string(name, &mut block);
            encode_string(value, &mut block);
        }
        let end = if end_of_stream { END_STREAM } else { 0 };
        let mut chunks = block.chunks(MAX_FRAME).peekable();
        let mut kind = HEADERS;
        while let Some(chunk) = chunks.next() {
            let last = if chunks.peek().is_none() { END_HEADERS } else { 0 };
            let end = if kind == HEADERS { end } else { 0 };
            // A peer that refuses early closes while this still writes: its answer is in the buffer.
            if self.write_frame(kind, end | last, id, chunk).is_err() {
                break;
            }
            kind = CONTINUATION;
        }
        Ok(())
    }

    fn answer(&mut self, id: u32) -> Result<Answer> {
        let mut response = Response { status: 0, headers: Vec::new(), body: Vec::new() };
        loop {
            let frame = match self.read_frame() {
                Ok(frame) => frame,
                Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                    return Ok(Answer::Closed(None));
                }
                Err(error) => return Err(error),
            };
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => self.write_frame(SETTINGS, ACK, 0, &[])?,
                PING if frame.flags & ACK == 0 => self.write_frame(PING, ACK, 0, &frame.payload)?,
                GOAWAY => return Ok(Answer::Closed(number(frame.payload.get(4..8)))),
                RST_STREAM if frame.stream == id => {
                    return Ok(Answer::Reset(number(frame.payload.get(..4)).unwrap_or_default()));
                }
                HEADERS => {
                    let mut block = unpadded(&frame).to_vec();
                    let mut flags = frame.flags;
                    while flags & END_HEADERS == 0 {
                        let next = self.read_frame()?;
                        block.extend(&next.payload);
                        flags = next.flags;
                    }
                    let fields = self.decoder.decode(&block);
                    let fields = fields.map_err(|error| Error::new(ErrorKind::InvalidData, format!("{error:?}")))?;
                    if frame.stream == id {
                        take_fields(fields, &mut response);
                    }
                }
                DATA => {
                    // Without it the peer stops after 65,535 bytes on this connection (RFC 9113, 6.9).
                    if let Ok(length) = u32::try_from(frame.payload.len())
                        && length > 0
                    {
                        self.write_frame(WINDOW_UPDATE, 0, 0, &length.to_be_bytes())?;
                    }
                    if frame.stream == id {
                        response.body.extend(unpadded(&frame));
                    }
                }
                _ => {}
            }
            let ended = matches!(frame.kind, HEADERS | DATA) && frame.stream == id && frame.flags & END_STREAM != 0;
            if ended {
                return Ok(Answer::Response(response));
            }
        }
    }

    fn write_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(payload.len()).map_err(|error| Error::new(ErrorKind::InvalidInput, error))?;
        let [_, length @ ..] = length.to_be_bytes();
        self.stream.write_all(&[&length, [kind, flags].as_slice(), &stream.to_be_bytes(), payload].concat())
    }

    fn read_frame(&mut self) -> Result<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let [l0, l1, l2, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        self.stream.read_exact(&mut payload)?;
        Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff, payload })
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Fields for [`Client::request`] from text.
pub fn fields(pairs: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

fn take_fields(fields: Vec<(Vec<u8>, Vec<u8>)>, response: &mut Response) {
    for (name, value) in fields {
        let name = String::from_utf8_lossy(&name).into_owned();
        match std::str::from_utf8(&value).ok().and_then(|value| value.parse().ok()) {
            Some(status) if name == ":status" => response.status = status,
            _ => response.headers.push((name, value)),
        }
    }
}

fn unpadded(frame: &Frame) -> &[u8] {
    let mut payload = frame.payload.as_slice();
    let mut padding = 0;
    if frame.flags & PADDED != 0
        && let Some((first, rest)) = payload.split_first()
    {
        (padding, payload) = (usize::from(*first), rest);
    }
    if frame.kind == HEADERS && frame.flags & PRIORITY != 0 {
        payload = payload.get(5..).unwrap_or_default();
    }
    payload.get(..payload.len().saturating_sub(padding)).unwrap_or_default()
}

fn number(bytes: Option<&[u8]>) -> Option<u32> {
    bytes.and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes)
}

/// A string literal without Huffman coding: its length as a 7-bit prefix integer, then its bytes.
fn encode_string(text: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(text.len()) {
        Ok(length) if length < 127 => out.push(length),
        _ => {
            out.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                out.push((rest & 127) as u8 | 128);
                rest >>= 7;
            }
            out.push(rest as u8);
        }
    }
    out.extend(text);
}

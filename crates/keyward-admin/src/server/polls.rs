//! Polls of filters on connections without TLS, served without the HTTP library's connection.
//!
//! Every instance of every proxy holds a poll open nearly all the time, and the library keeps a read and a write buffer
//! of 8 KiB each for every connection, even while nothing is read or written. A request that waits here has no buffer.
//!
//! Only plain polls are read here: a complete head that the library's own parser accepts, without a body and without
//! headers about the connection. Bytes are peeked at before they are taken, so that the library serves any other request
//! from its first byte on, and keeps the connection until it ends.

use super::caller::{Caller, Protocol};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, DATE, EXPECT, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Buf as _;
use std::convert::Infallible;
use std::io;
use std::task::{Poll, ready};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tower::ServiceExt as _;

/// The number of bytes of a request that are peeked at.
const MAX_POLL_BYTES: usize = 4 << 10;
/// The number of headers that a poll may have.
const MAX_HEADERS: usize = 32;
/// The time within which enough bytes must arrive to recognize the protocol.
const MAX_START: Duration = Duration::from_secs(10);
/// The route that is served.
const PATH: &str = "/v1/manifest";
/// Headers about the length of a request or about its connection. Requests with such a header are not served here.
const NOT_HERE: [HeaderName; 7] = [CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// Serves polls until another request arrives, and returns its protocol with the bytes that were taken from the connection
/// to recognize it. `None` means that the connection has ended or was idle for `max_idle`, or that the service stops.
///
/// # Errors
/// Returns an error when the connection is broken.
pub async fn serve(
    stream: &mut TcpStream,
    router: &Router,
    caller: &Caller,
    max_idle: Duration,
    stopping: &mut watch::Receiver<()>,
) -> io::Result<Option<(Protocol, Vec<u8>)>> {
    loop {
        let start = tokio::select! {
            start = tokio::time::timeout(max_idle, Start::of(stream)) => start,
            _ = stopping.changed() => return Ok(None),
        };
        let Ok(start) = start else { return Ok(None) };
        let mut request = match start? {
            Start::Poll { request, .. } => *request,
            Start::Other(protocol) => return Ok(Some((protocol, Vec::new()))),
            Start::Unclear => {
                return tokio::select! {
                    start = tokio::time::timeout(MAX_START, take_start(stream)) => start.unwrap_or(Ok(None)),
                    _ = stopping.changed() => Ok(None),
                };
            }
            Start::End => return Ok(None),
        };
        caller.introduce(&mut request);
        let answer: Result<_, Infallible> = tokio::select! {
            answer = router.clone().oneshot(request) => answer,
            () = gone(stream) => return Ok(None),
        };
        let Ok(answer) = answer;
        let is_last = stopping.has_changed().is_err();
        write(stream, answer, is_last).await?;
        if is_last {
            return Ok(None);
        }
    }
}

/// Waits until the client has closed the connection, or its half of it.
async fn gone(stream: &TcpStream) {
    // Bytes here belong to the next request, which waits for its turn. An end of the connection after them is not seen.
    if matches!(stream.peek(&mut [0]).await, Ok(1..)) {
        std::future::pending().await
    }
}

async fn write(stream: &mut TcpStream, answer: Response<Body>, is_last: bool) -> io::Result<()> {
    let (mut parts, body) = answer.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let date = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now())).map_err(io::Error::other)?;
    parts.headers.insert(CONTENT_LENGTH, body.len().into());
    parts.headers.insert(DATE, date);
    if is_last {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let mut head = Vec::with_capacity(512);
    head.extend(format!("HTTP/1.1 {}\r\n", parts.status).bytes());
    for (name, value) in &parts.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend(part);
        }
    }
    head.extend(b"\r\n");
    stream.write_all_buf(&mut Bytes::from(head).chain(body)).await
}

/// The first bytes of every HTTP/2 connection (RFC 9113, 3.4), as many as distinguish it from HTTP/1.
const HTTP2: &[u8] = b"PRI";

/// Takes bytes from the connection until the protocol is known. Peeking could not wait for more bytes, because the
/// connection stays readable.
async fn take_start(stream: &mut TcpStream) -> io::Result<Option<(Protocol, Vec<u8>)>> {
    let mut start = Vec::with_capacity(HTTP2.len());
    loop {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return Ok(None);
        }
        start.extend(byte);
        if start == HTTP2 {
            return Ok(Some((Protocol::Http2, start)));
        }
        if !HTTP2.starts_with(&start) {
            return Ok(Some((Protocol::Http1, start)));
        }
    }
}

/// The start of a client's next request.
enum Start {
    /// A poll, which is `length` bytes long.
    Poll { request: Box<Request<Body>>, length: usize },
    /// A request that is not served here.
    Other(Protocol),
    /// Too few bytes to recognize the protocol.
    Unclear,
    /// The end of the connection.
    End,
}

impl Start {
    /// Waits for the start of a request, and takes it from the connection if it is a poll.
    async fn of(stream: &TcpStream) -> io::Result<Self> {
        std::future::poll_fn(|context| {
            // The buffer is on the stack and is gone before the task waits.
            let mut bytes = [0; MAX_POLL_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(stream.poll_peek(context, &mut buffer))?;
            let start = Self::read(buffer.filled());
            if let Self::Poll { length, .. } = &start {
                let head = bytes.get_mut(..*length).unwrap_or_default();
                if stream.try_read(head)? != *length {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
            }
            Poll::Ready(Ok(start))
        })
        .await
    }

    fn read(bytes: &[u8]) -> Self {
        match bytes {
            [] => Self::End,
            _ if bytes.starts_with(HTTP2) => Self::Other(Protocol::Http2),
            _ if HTTP2.starts_with(bytes) => Self::Unclear,
            _ => poll(bytes).map_or(Self::Other(Protocol::Http1), |(request, length)| Self::Poll {
                request: Box::new(request),
                length,
            }),
        }
    }
}

/// Returns the request at the start of `bytes` and its length, if it is a poll and complete.
fn poll(bytes: &[u8]) -> Option<(Request<Body>, usize)> {
    // All parts of the request share this allocation.
    let bytes = Bytes::copy_from_slice(bytes);
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(&bytes).ok()? else { return None };
    let target = head.path?;
    let (path, _) = target.split_once('?').unwrap_or((target, ""));
    if head.method != Some("GET") || path != PATH || head.version != Some(1) {
        return None;
    }
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = Uri::from_maybe_shared(bytes.slice_ref(target.as_bytes())).ok()?;
    for header in head.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        if NOT_HERE.contains(&name) {
            return None;
        }
        request.headers_mut().append(name, HeaderValue::from_maybe_shared(bytes.slice_ref(header.value)).ok()?);
    }
    Some((request, length))
}

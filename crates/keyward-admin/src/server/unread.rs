//! Bodies of requests that were answered without being read to the end.
//!
//! Over HTTP/1.1 the next request comes after the body of this one, so a connection on which a body was left can not be
//! used again. A client that is not told so sends its next request into a connection that is about to close, and does not
//! know whether that request had an effect. A connection that closes while bytes of the client are unread is also reset,
//! and the reset takes away an answer that the client has not read yet (RFC 9112, 9.6).

use crate::app::Trust;
use axum::body::{Bytes, HttpBody};
use axum::http::header::{CONNECTION, EXPECT};
use axum::http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

/// The number of bytes that are read and dropped before the answer, so that the connection can be used again.
const MAX_BYTES: u64 = 64 << 10;
/// The time within which those bytes must arrive.
const MAX_TIME: Duration = Duration::from_secs(1);
/// The number of connections from which bytes are read and dropped at once. Each may fill its read buffer.
const MAX_AT_ONCE: usize = 128;
/// The number of bytes that are read and dropped after the last answer of a connection, so that the client can read it.
const MAX_LAST_BYTES: u64 = 16 << 20;
/// The time for which bytes are read and dropped after the last answer.
const MAX_LAST_TIME: Duration = Duration::from_secs(5);

/// Places for bodies of callers that have proved themselves, and for those of all others.
static TRUSTED: Semaphore = Semaphore::const_new(MAX_AT_ONCE);
static STRANGERS: Semaphore = Semaphore::const_new(MAX_AT_ONCE);

/// The body of a request. It comes back through [`Rest`] if it is dropped before its end.
pub(super) struct Returned {
    /// `None` once the body was given back.
    body: Option<Incoming>,
    back: Option<oneshot::Sender<Incoming>>,
}

/// Where a body that was not read to the end comes back.
pub(super) struct Rest {
    back: oneshot::Receiver<Incoming>,
    is_asked_for: bool,
}

/// Joins a body to the place where it comes back.
pub(super) fn returned(body: Incoming, headers: &HeaderMap) -> (Returned, Rest) {
    let (sender, back) = oneshot::channel();
    (Returned { body: Some(body), back: Some(sender) }, Rest { back, is_asked_for: headers.contains_key(EXPECT) })
}

impl Rest {
    /// Takes what is left of the body from the connection before `response` is sent. If that does not end soon, the
    /// response says that the connection will close, and more is taken while it is sent.
    ///
    /// Nothing is taken when too many bodies are being taken: then the client may lose the answer.
    pub async fn clear<B>(mut self, trust: &Trust, response: &mut Response<B>) {
        // A handler that has not dropped the body still reads it.
        let Ok(mut body) = self.back.try_recv() else { return };
        // A client that waits for permission to send the body (RFC 9110, 10.1.1) has not sent it, and reading would ask for
        // it.
        let places = if trust.is_given() { &TRUSTED } else { &STRANGERS };
        let place = if self.is_asked_for { None } else { places.try_acquire().ok() };
        let is_short = place.is_some() && body.size_hint().lower() <= MAX_BYTES;
        if is_short && matches!(tokio::time::timeout(MAX_TIME, drop_bytes(&mut body, MAX_BYTES)).await, Ok(true)) {
            return;
        }
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        if let Some(place) = place {
            tokio::spawn(async move {
                let _ = tokio::time::timeout(MAX_LAST_TIME, drop_bytes(&mut body, MAX_LAST_BYTES)).await;
                drop(place);
            });
        }
    }
}

/// Sends `answer` to a connection that is not served, closes it, and reads and drops for a while what the client sends.
/// The client may lose the answer when too many bodies are being taken.
pub(super) fn refuse(mut stream: TcpStream, answer: &'static [u8]) {
    if stream.try_write(answer).is_err() {
        return;
    }
    if let Ok(place) = STRANGERS.try_acquire() {
        tokio::spawn(async move {
            let _ = stream.shutdown().await;
            let mut rest = stream.take(MAX_BYTES);
            let _ = tokio::time::timeout(MAX_TIME, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
            drop(place);
        });
    }
}

/// Reads and drops at most about `max_bytes`, and returns whether the body has ended by then.
async fn drop_bytes(body: &mut Incoming, max_bytes: u64) -> bool {
    let mut dropped = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        dropped += frame.data_ref().map_or(0, |data| data.len() as u64);
        if dropped > max_bytes {
            return false;
        }
    }
    true
}

impl HttpBody for Returned {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.body.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl Drop for Returned {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take())
            && !body.is_end_stream()
        {
            let _ = back.send(body);
        }
    }
}

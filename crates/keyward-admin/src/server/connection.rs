//! One connection: the choice of its protocol, and serving it until its end.

use super::activity::{Activity, CountedBody};
use super::caller::{Caller, Protocol};
use super::polls;
use super::prefixed::Prefixed;
use super::strangers::Place;
use super::tls::Tls;
use super::unread;
use crate::app::MAX_HEAD_BYTES;
use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tower::ServiceExt as _;

/// A connection that is cut without notice is detected after [`SILENCE`] and [`PROBE`]; its instance then leaves the
/// receipts.
const SILENCE: Duration = Duration::from_secs(3);
const PROBE: Duration = Duration::from_secs(1);
/// A connection on which sent bytes are not acknowledged for this long is closed.
const UNACKNOWLEDGED: Duration = Duration::from_millis(4_500);
/// The time within which a head must arrive, and for which a connection may be without a request.
const MAX_IDLE: Duration = Duration::from_secs(90);
/// The time within which a TLS handshake must end.
const MAX_HANDSHAKE: Duration = Duration::from_secs(10);
/// The interval between pings on an HTTP/2 connection, and the time within which a ping must be answered.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// The time within which an idle HTTP/2 connection must close after the service has asked for it.
const MAX_FAREWELL: Duration = Duration::from_secs(10);
/// The largest head that is read. The API refuses heads above a smaller limit with a description of the problem.
const MAX_READ_HEAD_BYTES: usize = 2 * MAX_HEAD_BYTES;
/// The number of open requests that an HTTP/2 connection may have.
const MAX_STREAMS: u32 = 100;
/// The number of open requests that an HTTP/2 connection may have before its caller has authenticated.
const MAX_STREAMS_OF_STRANGERS: usize = 8;
/// The number of bytes of bodies that an HTTP/2 connection may send before they are read.
const WINDOW_BYTES: u32 = 64 << 10;

/// Serves connections.
pub(super) struct Server {
    router: Router,
    tls: Option<Tls>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Server {
    /// Creates a server for `router`, over TLS if there is a certificate.
    pub fn new(router: Router, tls: Option<Tls>) -> Self {
        let (mut http1, mut http2) = (http1::Builder::new(), http2::Builder::new(TokioExecutor::new()));
        http1.timer(TokioTimer::new()).header_read_timeout(MAX_IDLE).max_buf_size(MAX_READ_HEAD_BYTES);
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_READ_HEAD_BYTES as u32)
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        Self { router, tls, http1, http2 }
    }

    /// Returns whether connections are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves a connection until it ends, until it has to make room for another one, or until the service stops.
    pub async fn serve(self: Arc<Self>, stream: TcpStream, address: IpAddr, place: Place, stop: watch::Receiver<()>) {
        watch_for_silence(&stream);
        let caller = Caller { address, trust: place.trust().clone() };
        tokio::select! {
            () = self.serve_stream(stream, caller, &place, stop) => {}
            () = place.evicted() => tracing::debug!(peer = %address, "closed an idle connection for another one"),
        }
    }

    async fn serve_stream(&self, mut stream: TcpStream, caller: Caller, place: &Place, mut stop: watch::Receiver<()>) {
        match &self.tls {
            None => {
                let begun = polls::serve(&mut stream, &self.router, &caller, MAX_IDLE, &mut stop).await;
                // An error means that the client went away, which needs no line in the log.
                if let Ok(Some((protocol, prefix))) = begun {
                    place.grow();
                    let stream = Prefixed::new(prefix, stream);
                    Box::pin(self.serve_requests(stream, protocol, caller, stop)).await;
                }
            }
            // The future is boxed, so that connections without TLS do not reserve memory for it.
            Some(tls) => Box::pin(self.serve_encrypted(tls, stream, caller, stop)).await,
        }
    }

    async fn serve_encrypted(&self, tls: &Tls, stream: TcpStream, caller: Caller, mut stop: watch::Receiver<()>) {
        let accepted = tokio::select! {
            accepted = tokio::time::timeout(MAX_HANDSHAKE, Box::pin(tls.accept(stream))) => accepted,
            _ = stop.changed() => return,
        };
        let peer = caller.address;
        match accepted {
            Ok(Ok(stream)) => {
                let chosen = stream.get_ref().1.alpn_protocol();
                let protocol = if chosen == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
                Box::pin(self.serve_requests(stream, protocol, caller, stop)).await;
            }
            Ok(Err(error)) => tracing::debug!(%peer, %error, "the TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
        }
    }

    async fn serve_requests<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        protocol: Protocol,
        caller: Caller,
        mut stop: watch::Receiver<()>,
    ) {
        let activity = Activity::new();
        let (router, counted) = (self.router.clone(), activity.clone());
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let is_too_much = !caller.trust.is_given() && counted.open() >= MAX_STREAMS_OF_STRANGERS;
            let answering = counted.begin();
            caller.introduce(&mut request);
            let (router, trust) = (router.clone(), caller.trust.clone());
            async move {
                let response = if is_too_much {
                    let mut response = Response::new(Body::empty());
                    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                    response
                } else if protocol == Protocol::Http1 && !request.body().is_end_stream() {
                    let (head, body) = request.into_parts();
                    let (body, rest) = unread::returned(body, &head.headers);
                    let mut response = router.oneshot(Request::from_parts(head, Body::new(body))).await?;
                    rest.clear(&trust, &mut response).await;
                    response
                } else {
                    router.oneshot(request.map(Body::new)).await?
                };
                Ok::<_, Infallible>(response.map(|body| CountedBody::new(body, answering)))
            }
        });
        let stream = TokioIo::new(stream);
        // An error at the end of a connection concerns only the client.
        match protocol {
            Protocol::Http1 => {
                let mut connection = pin!(self.http1.serve_connection(stream, service));
                tokio::select! {
                    _ = connection.as_mut() => return,
                    _ = stop.changed() => {}
                }
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
            Protocol::Http2 => {
                let mut connection = Box::pin(self.http2.serve_connection(stream, service));
                let is_idle = tokio::select! {
                    _ = connection.as_mut() => return,
                    _ = stop.changed() => false,
                    () = activity.idle_for(MAX_IDLE) => true,
                };
                connection.as_mut().graceful_shutdown();
                if is_idle {
                    let _ = tokio::time::timeout(MAX_FAREWELL, connection).await;
                } else {
                    let _ = connection.await;
                }
            }
        }
    }
}

fn watch_for_silence(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(PROBE).with_retries(1);
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
}

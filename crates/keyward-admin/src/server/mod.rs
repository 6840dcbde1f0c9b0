//! Connections: accepted, encrypted where wanted, watched for silence, and ended with grace.

mod polls;
mod tls;

pub use tls::{InvalidTls, Tls};

use crate::app::{MAX_HEAD_BYTES, Peer};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

/// A connection cut off without a word is noticed after [`SILENCE`] and [`PROBE`]: its VM then leaves the receipts.
const SILENCE: Duration = Duration::from_secs(3);
const PROBE: Duration = Duration::from_secs(1);
/// What was sent and not acknowledged for this long ends the connection.
const UNACKNOWLEDGED: Duration = Duration::from_millis(4_500);
/// How long a head may take to arrive, and a connection may be idle.
const IDLE: Duration = Duration::from_secs(90);
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Largest head of a request that is read, in bytes; the API refuses smaller ones in words.
const HEAD: usize = 2 * MAX_HEAD_BYTES;
/// What is said where as many connections are open as may.
const FULL: &str = concat!(
    "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\n",
    "retry-after: 5\r\nconnection: close\r\n\r\n",
    r#"{"type":"urn:keyward:too_many_connections","title":"Too many connections","status":503,"#,
    r#""detail":"as many connections are open as may; see KEYWARD_MAX_CONNECTIONS","code":"too_many_connections"}"#
);
/// How long requests that are being served may take when the service stops.
const FAREWELL: Duration = Duration::from_secs(10);

/// Serves until `stop` is done, then lets what is being served end.
///
/// # Errors
/// When nothing can be accepted any more.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    most_connections: usize,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(most_connections));
    let graceful = GracefulShutdown::new();
    let builders = Arc::new(Builders::new());
    // Whoever has not asked for anything yet is not waited for.
    let (serving, ended) = watch::channel(());
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or the client was faster: neither ends the service.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!("{most_connections} connections are open: another was closed at once");
            if tls.is_none() {
                let _ = stream.try_write(FULL.as_bytes());
            }
            continue;
        };
        watch_for_silence(&stream);
        let (router, builders, tls) = (router.clone(), Arc::clone(&builders), tls.clone());
        let watcher = graceful.watcher();
        let mut ended = ended.clone();
        tokio::spawn(async move {
            let _place = place;
            let peer = peer.ip();
            match tls {
                None => {
                    let mut stream = stream;
                    let protocol = polls::serve(&mut stream, &router, peer, IDLE, &mut ended).await;
                    // Otherwise the client went away: no news.
                    if let Ok(Some(protocol)) = protocol {
                        Box::pin(builders.serve(stream, protocol, router, peer, watcher)).await;
                    }
                }
                // In a box, so that connections without TLS have no room for it.
                Some(tls) => Box::pin(builders.serve_encrypted(tls, stream, router, peer, watcher)).await,
            }
        });
    }
    drop((listener, serving));
    if tokio::time::timeout(FAREWELL, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests that took longer than {FAREWELL:?} were cut off");
    }
    Ok(())
}

/// What a connection speaks.
///
/// Told apart before anything is read, and not by a server that takes either: that one hands the first bytes over again,
/// and doubles the buffer of each connection by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

struct Builders {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Builders {
    fn new() -> Self {
        let (mut http1, mut http2) = (http1::Builder::new(), http2::Builder::new(TokioExecutor::new()));
        http1.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(HEAD);
        http2.timer(TokioTimer::new()).max_header_list_size(HEAD as u32).max_concurrent_streams(250);
        Self { http1, http2 }
    }

    async fn serve_encrypted(&self, tls: Tls, stream: TcpStream, router: Router, peer: IpAddr, watcher: Watcher) {
        match tokio::time::timeout(HANDSHAKE, Box::pin(tls.accept(stream))).await {
            Ok(Ok(stream)) => {
                let chosen = stream.get_ref().1.alpn_protocol();
                let protocol = if chosen == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
                Box::pin(self.serve(stream, protocol, router, peer, watcher)).await;
            }
            Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS"),
            Err(_) => tracing::debug!(%peer, "no TLS in time"),
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        protocol: Protocol,
        router: Router,
        peer: IpAddr,
        watcher: Watcher,
    ) {
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            router.clone().oneshot(request.map(Body::new))
        });
        let stream = TokioIo::new(stream);
        // A client that goes away is no news.
        let _ = match protocol {
            Protocol::Http1 => watcher.watch(self.http1.serve_connection(stream, service)).await,
            Protocol::Http2 => Box::pin(watcher.watch(self.http2.serve_connection(stream, service))).await,
        };
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

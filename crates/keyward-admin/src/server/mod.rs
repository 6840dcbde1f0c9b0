//! Connections: they are accepted, encrypted if configured, limited in number, closed when silent, and ended gracefully.

mod activity;
mod caller;
mod connection;
mod polls;
mod prefixed;
mod strangers;
mod tls;
mod unread;

pub use tls::{InvalidTls, Tls};

use crate::app::Summary;
use axum::Router;
use connection::Server;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use strangers::Strangers;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// The answer to a connection when as many as allowed are open.
const FULL: &str = concat!(
    "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\n",
    "retry-after: 5\r\nconnection: close\r\n\r\n",
    r#"{"type":"urn:keyward:too_many_connections","title":"Too many connections","status":503,"#,
    r#""detail":"limit of open connections reached; see KEYWARD_MAX_CONNECTIONS","code":"too_many_connections"}"#
);
/// The time within which requests that are being answered must end when the service stops.
const MAX_FAREWELL: Duration = Duration::from_secs(10);
/// The pause after a failure to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` completes, and then until the requests that are being answered end.
///
/// # Errors
/// Returns an error when nothing can be accepted any more.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    max_connections: usize,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let strangers = Strangers::new(max_connections);
    let refused = Summary::new(|count| tracing::warn!(count, "connections were closed at once in the last minute"));
    let server = Arc::new(Server::new(router, tls));
    let (stopping, stopped) = watch::channel(());
    // The channel closes when the last connection has ended.
    let (open, mut all_over) = mpsc::channel::<()>(1);
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // The process has no free descriptor, or the client has gone away. Neither ends the service.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = strangers.enter(peer.ip()) else {
            refused.note(|| {
                tracing::warn!("limit of {max_connections} open connections reached: another one was closed at once");
            });
            if !server.is_encrypted() {
                unread::refuse(stream, FULL.as_bytes());
            }
            continue;
        };
        if server.is_encrypted() {
            // A handshake needs buffers and CPU time, so new connections wait here, where they need neither.
            place.grow_in_turn().await;
        }
        let (server, stopped, open) = (Arc::clone(&server), stopped.clone(), open.clone());
        tokio::spawn(async move {
            server.serve(stream, peer.ip(), place, stopped).await;
            drop(open);
        });
    }
    drop((listener, stopping, open));
    if tokio::time::timeout(MAX_FAREWELL, all_over.recv()).await.is_err() {
        tracing::warn!("requests that took longer than {MAX_FAREWELL:?} were cut off");
    }
    Ok(())
}

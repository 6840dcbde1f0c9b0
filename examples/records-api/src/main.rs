//! A small records-and-files API behind the URLs of a Databases API (PocketBase-shaped), to try Keyward out with.
//!
//! It keeps everything in memory and checks no access, which is the task of the proxy in front. It reads the caller
//! from the identity headers that the proxy sets, and shows it in each log line, in the response headers `x-caller-id`
//! and `x-caller-name`, and in the field `caller` of a list.

mod batch;
mod caller;
mod error;
mod files;
mod input;
mod realtime;
mod records;
mod store;
#[cfg(test)]
mod tests;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use caller::Caller;
use clap::Parser;
use serde_json::json;
use std::net::SocketAddr;
use store::Store;

/// The largest body, in bytes.
const BODY_MAX: usize = 32 << 20;

#[derive(Parser)]
#[command(version, about = "A small records-and-files upstream, in memory")]
struct Arguments {
    /// Address to listen on. Every client that reaches it can read and change everything
    #[arg(long, env = "RECORDS_API_LISTEN", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Ask a running server for its health and exit with 0 or 1, for health checks of containers
    #[arg(long)]
    check: bool,
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    let result = if arguments.check { check(arguments.listen).await } else { serve(arguments.listen).await };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}: {error}", arguments.listen);
            std::process::ExitCode::FAILURE
        }
    }
}

async fn serve(listen: SocketAddr) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    println!("records-api listens on {}", listener.local_addr()?);
    axum::serve(listener, router(Store::seeded())).with_graceful_shutdown(stopped()).await
}

fn router(store: Store) -> Router {
    Router::new()
        .route("/api/health", get(health))
        .route("/api/collections/{collection}/records", get(records::list).post(records::create))
        .route(
            "/api/collections/{collection}/records/{id}",
            get(records::view).patch(records::update).delete(records::delete),
        )
        .route("/api/files/{collection}/{record}/{filename}", get(files::download))
        .route("/api/batch", post(batch::run))
        .route("/api/realtime", get(realtime::connect).post(realtime::subscribe))
        .fallback(|| async { error::not_found() })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn(caller::show))
        .with_state(store)
}

async fn health(caller: Caller) -> axum::Json<serde_json::Value> {
    axum::Json(json!({"code": 200, "message": "API is healthy.", "data": {}, "caller": caller}))
}

async fn check(listen: SocketAddr) -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, listen.port())).await?;
    stream.write_all(b"GET /api/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if answer.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(std::io::Error::other("not healthy")) }
}

/// Waits for Ctrl-C, or for SIGTERM, which a container receives.
async fn stopped() {
    let terminated = async {
        if let Ok(mut signal) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            signal.recv().await;
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

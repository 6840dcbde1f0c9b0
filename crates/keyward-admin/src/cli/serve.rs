//! `keyward serve`: opens database and listener, runs the service, and closes them in the reverse order.

use super::error::{CommandError, block_on, end};
use super::exit::Exit;
use super::first_start::make_tokens;
use super::token::store_failed;
use crate::address::PublicUrl;
use crate::api;
use crate::app::App;
use crate::clock::Clock;
use crate::config::{Config, VARIABLES};
use crate::server::{self, Tls};
use crate::service::Service;
use crate::store::Store;
use crate::store::check::Depth;
use crate::store::sqlite_file::{Lock, sqlite_path};
use crate::web;
use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

/// How long another service on the same file may take to end.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the end of the service may take, whatever the database and the clients do.
const MAX_STOP: Duration = Duration::from_secs(22);

/// Run the admin service
#[derive(Debug, clap::Args)]
#[command(after_help = environment())]
pub struct ServeArgs {}

/// Runs the command until a signal stops it.
pub fn run(_: &ServeArgs) -> Exit {
    end(start())
}

/// Returns the variables, for `--help`.
fn environment() -> String {
    let lines: Vec<String> = VARIABLES.iter().map(|(name, what)| format!("  {name:<26} {what}")).collect();
    format!("Environment:\n{}", lines.join("\n"))
}

fn start() -> Result<(), CommandError> {
    let config = Config::read(|name| std::env::var(name).ok()).map_err(CommandError::invalid)?;
    start_log()?;
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("KEYWARD_")) else { continue };
        if !VARIABLES.iter().any(|(known, _)| *known == name) {
            tracing::warn!("the variable {name} means nothing to keyward");
        }
    }
    if config.is_in_clear() {
        tracing::warn!("listening beyond this machine without TLS: keys and tokens can be read on their way");
    }
    // Each waiting filter holds a connection; the usual soft limit is 1,024.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the number of open files could not be raised");
    }
    block_on(serve(config))
}

async fn serve(config: Config) -> Result<(), CommandError> {
    let file = sqlite_path(&config.database_url).map_err(store_failed)?;
    let _lock = match &file {
        Some(file) => Some(be_alone(file).await?),
        None => None,
    };
    let store = Store::open(&config.database_url).await.map_err(store_failed)?;
    store.check(Depth::Quick).await.map_err(|error| {
        CommandError::failed(format!(
            "{error}; `keyward store check` says more, and `keyward store restore` puts a backup back"
        ))
    })?;
    let clock = Clock::system();
    let service =
        Service::new(store.clone(), config.settings.clone(), clock.clone()).await.map_err(CommandError::failed)?;
    let tls = config.tls.clone().map(Tls::open).transpose().map_err(CommandError::invalid)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|error| CommandError::failed(format!("cannot listen on {}: {error}", config.listen)))?;
    let address = listener.local_addr().map_err(CommandError::failed)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let public = config.settings.public_url.as_ref();
    let page = public.map_or_else(|| page_address(scheme, address), PublicUrl::text);
    make_tokens(&service, &store, &config, file.as_deref(), &page).await?;
    let mut tasks = service.run();
    if let Some(tls) = &tls {
        tasks.spawn(tls.clone().watch());
    }
    let app = App::new(service.clone());
    tracing::info!("ready on {scheme}://{address}");
    tracing::info!("settings: {config}");
    let (told, stopping) = tokio::sync::oneshot::channel();
    let stop = async {
        wait_for_signal().await;
        tracing::info!("stopping: waiting polls are answered first");
        let _ = told.send(());
        service.close().await;
    };
    let secure = public.map_or(tls.is_some(), |url| url.secure);
    let base = public.map(|url| url.base.clone()).unwrap_or_default();
    let description = api::openapi(&config.settings.catalogue);
    let shown = serde_json::to_value(&description).map_err(CommandError::failed)?;
    let router = web::below(&base, api::router(app.clone(), &description).merge(web::router(app, secure, &shown)));
    let served = async {
        server::serve(listener, tls, router, config.max_connections, stop).await.map_err(CommandError::failed)?;
        tasks.shutdown().await;
        store.close().await;
        tracing::info!("stopped");
        Ok(())
    };
    let overdue = async {
        // An error means that the service ended without a signal.
        if stopping.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(MAX_STOP).await;
    };
    tokio::select! {
        served = served => served,
        () = overdue => {
            tracing::warn!("the service did not end within {MAX_STOP:?}: what is left is given up");
            Ok(())
        }
    }
}

/// Returns where a browser on this machine finds the page.
fn page_address(scheme: &str, listen: SocketAddr) -> String {
    let mut address = listen;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    format!("{scheme}://{address}/")
}

async fn wait_for_signal() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn start_log() -> Result<(), CommandError> {
    let level: LevelFilter = match std::env::var("KEYWARD_LOG").ok().filter(|text| !text.is_empty()) {
        None => LevelFilter::INFO,
        Some(text) => text.parse().map_err(|_| {
            CommandError::invalid(format!("KEYWARD_LOG: `{text}` is none of error, warn, info, debug, trace"))
        })?,
    };
    let terminal = std::io::stderr().is_terminal();
    let json = match std::env::var("KEYWARD_LOG_FORMAT").ok().as_deref() {
        None | Some("") => !terminal,
        Some("json") => true,
        Some("text") => false,
        Some(other) => {
            return Err(CommandError::invalid(format!("KEYWARD_LOG_FORMAT: `{other}` is neither text nor json")));
        }
    };
    // What libraries say at debug may quote requests and statements: theirs starts at warn.
    let filter = Targets::new().with_default(LevelFilter::WARN.min(level)).with_target("keyward_admin", level);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = if json { layer.json().boxed() } else { layer.with_ansi(terminal).with_target(false).boxed() };
    // The filter is of all layers, and lines of the crate `log` are not taken: with a filter of one layer, each of them that is
    // only asked about would cost the next line of ours.
    let subscriber = tracing_subscriber::registry().with(filter).with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(CommandError::failed)
}

/// Waits until no other service works on a SQLite file: the receipts of two would not know of each other's filters.
async fn be_alone(database: &Path) -> Result<Lock, CommandError> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut is_told = false;
    loop {
        if let Some(lock) = Lock::try_new(database).map_err(store_failed)? {
            return Ok(lock);
        }
        if tokio::time::Instant::now() >= deadline {
            let database = database.display();
            return Err(CommandError::failed(format!(
                "another `keyward serve` works on `{database}`; several services on one store need PostgreSQL"
            )));
        }
        if !std::mem::replace(&mut is_told, true) {
            tracing::info!("another `keyward serve` works on this database: waiting for its end");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_does_not_open_every_address() {
        let page = |listen: &str| page_address("http", listen.parse().unwrap());
        assert_eq!(page("127.0.0.1:8081"), "http://127.0.0.1:8081/");
        assert_eq!(page("0.0.0.0:80"), "http://127.0.0.1:80/");
        assert_eq!(page("[::]:80"), "http://[::1]:80/");
    }
}

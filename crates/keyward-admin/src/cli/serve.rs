//! `keyward serve`: opens everything, runs it, and closes it in the other order.

use super::exit::Exit;
use super::failure::{Failure, block_on, end};
use crate::api::{App, router};
use crate::clock::Clock;
use crate::config::{Config, VARIABLES};
use crate::server::{self, Tls};
use crate::service::Service;
use crate::service::tokens::create_token;
use crate::store::keys::By;
use crate::store::tokens::Role;
use crate::store::{self, Store};
use crate::web;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Run the admin service
#[derive(Debug, clap::Args)]
#[command(after_help = environment())]
pub struct ServeArgs {}

/// Runs the command: until it is told to stop.
pub fn run(_: &ServeArgs) -> Exit {
    end(start())
}

/// The variables, for `--help`.
fn environment() -> String {
    let lines: Vec<String> = VARIABLES.iter().map(|(name, what)| format!("  {name:<26} {what}")).collect();
    format!("Environment:\n{}", lines.join("\n"))
}

fn start() -> Result<(), Failure> {
    let config = Config::read(|name| std::env::var(name).ok()).map_err(Failure::invalid)?;
    start_log()?;
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("KEYWARD_")) else { continue };
        if !VARIABLES.iter().any(|(known, _)| *known == name) {
            tracing::warn!("the variable {name} means nothing to keyward");
        }
    }
    tracing::info!("{config}");
    if config.is_in_clear() {
        tracing::warn!("listening beyond this machine without TLS: keys and tokens can be read on their way");
    }
    // Each waiting filter holds a connection; the usual soft limit is 1,024.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the number of open files could not be raised");
    }
    block_on(serve(config))
}

async fn serve(config: Config) -> Result<(), Failure> {
    let store = Store::open(&config.database_url).await.map_err(|error| match error {
        store::Error::Url(_) => Failure::invalid(error),
        error => Failure::failed(error),
    })?;
    let clock = Clock::system();
    let service = Service::new(store.clone(), config.settings.clone(), clock.clone()).await.map_err(Failure::failed)?;
    first_tokens(&service, &store, &config, &clock).await?;
    let tls = config.tls.clone().map(Tls::open).transpose().map_err(Failure::invalid)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|error| Failure::failed(format!("cannot listen on {}: {error}", config.listen)))?;
    let address = listener.local_addr().map_err(Failure::failed)?;
    let mut tasks = service.run();
    if let Some(tls) = &tls {
        tasks.spawn(tls.clone().watch());
    }
    let app = App::new(service.clone());
    let scheme = if tls.is_some() { "https" } else { "http" };
    tracing::info!("ready on {scheme}://{address}");
    let stop = async {
        wait_for_signal().await;
        tracing::info!("stopping: waiting polls are answered first");
        service.close().await;
    };
    let router = router(app.clone()).merge(web::router(app, tls.is_some()));
    server::serve(listener, tls, router, config.most_connections, stop).await.map_err(Failure::failed)?;
    tasks.shutdown().await;
    store.close().await;
    tracing::info!("stopped");
    Ok(())
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

fn start_log() -> Result<(), Failure> {
    let level: LevelFilter = match std::env::var("KEYWARD_LOG").ok().filter(|text| !text.is_empty()) {
        None => LevelFilter::INFO,
        Some(text) => text.parse().map_err(|_| {
            Failure::invalid(format!("KEYWARD_LOG: `{text}` is none of error, warn, info, debug, trace"))
        })?,
    };
    let terminal = std::io::stderr().is_terminal();
    let json = match std::env::var("KEYWARD_LOG_FORMAT").ok().as_deref() {
        None | Some("") => !terminal,
        Some("json") => true,
        Some("text") => false,
        Some(other) => return Err(Failure::invalid(format!("KEYWARD_LOG_FORMAT: `{other}` is neither text nor json"))),
    };
    // What libraries say at debug may quote requests and statements: theirs starts at warn.
    let filter = Targets::new().with_default(LevelFilter::WARN.min(level)).with_target("keyward_admin", level);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = if json { layer.json().boxed() } else { layer.with_ansi(terminal).with_target(false).boxed() };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    Ok(())
}

/// Without a token nobody can call. On SQLite the missing ones are made at first start; on PostgreSQL, where several
/// replicas would each make their own, they must be given.
async fn first_tokens(service: &Service, store: &Store, config: &Config, clock: &Clock) -> Result<(), Failure> {
    let mut missing = Vec::new();
    for role in [Role::Admin, Role::Edge] {
        if service.tokens.has(role) {
            continue;
        }
        if store.ever_had_token(role).await.map_err(Failure::failed)? {
            tracing::warn!(
                "there is no valid token of the role {role}: `keyward token create --role {role} NAME` makes one"
            );
        } else {
            missing.push(role);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    if store.is_shared() {
        let variables: Vec<String> =
            missing.iter().map(|role| format!("KEYWARD_{}_TOKEN", role.as_str().to_uppercase())).collect();
        return Err(Failure::invalid(format!(
            "on PostgreSQL tokens must be given: set {} (or …_FILE), or make them with `keyward token create`",
            variables.join(" and ")
        )));
    }
    let mut lines = String::new();
    for role in missing {
        let by = By { actor: "keyward", at: clock.now() };
        let name = format!("{role} (first start)");
        let (_, secret) = create_token(store, &name, role, None, by).await.map_err(Failure::failed)?;
        lines.push_str(&format!("KEYWARD_{}_TOKEN={}\n", role.as_str().to_uppercase(), secret.reveal()));
    }
    if std::io::stderr().is_terminal() {
        eprint!("\nFirst start. These tokens are shown once:\n\n{lines}\n");
    } else {
        let path = tokens_file(&config.database_url);
        write_private(&path, &lines).map_err(|error| Failure::failed(format!("`{}`: {error}", path.display())))?;
        tracing::info!("first start: tokens were written to `{}`", path.display());
    }
    service.refresh().await.map_err(Failure::failed)
}

/// Beside the database: `keyward.db.tokens`.
fn tokens_file(database_url: &str) -> PathBuf {
    let path = database_url.trim_start_matches("sqlite:").trim_start_matches("//");
    let path = path.split('?').next().unwrap_or_default();
    let path = if path.is_empty() || path == ":memory:" { "keyward" } else { path };
    PathBuf::from(format!("{path}.tokens"))
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    // One that is there belongs to a database that is gone; its mode might be open.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    options.create_new(true).write(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
